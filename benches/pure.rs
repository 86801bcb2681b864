//! Benchmarks of the pure modules for many services: loading specs in both formats, resolving, planning. No engine is
//! needed, and nothing is asserted.
//!
//!     cargo bench

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints its results")]

#[path = "../tests/builders/mod.rs"]
mod builders;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use builders::{agreeing, desired, empty, inspect, service};
use drillmaster::control::programs::Workers;
use drillmaster::control::specs::sources::ProgramFileAccess;
use drillmaster::desired::resolve::{ResolveContext, resolve};
use drillmaster::plan::{Memory, forecast, plan};
use drillmaster::spec::build::Dockerfile;
use drillmaster::spec::model::Build;
use drillmaster::spec::{Content, Input, SourceFile, Specs, Tree, load};

/// Number of runs per measurement.
const RUNS: usize = 11;

/// Runs a measurement and prints the minimum, median and maximum time.
fn measure<T>(what: &str, mut run: impl FnMut() -> T) {
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            black_box(run());
            start.elapsed()
        })
        .collect();
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!("{what:<44} {:>9.2} {:>9.2} {:>9.2}", ms(times[0]), ms(times[RUNS / 2]), ms(times[RUNS - 1]));
}

fn read(texts: &[(String, String)]) -> Specs {
    let file = |(path, text): &(String, String)| SourceFile {
        path: path.clone(),
        content: Content::Bytes(text.clone().into_bytes()),
    };
    let files: Vec<SourceFile> = texts.iter().map(file).collect();
    let (environment, context) = (BTreeMap::new(), BTreeMap::new());
    let (workers, no_files) =
        (Workers::new(env!("CARGO_BIN_EXE_drillmaster").into()), ProgramFileAccess(Path::new("/nonexistent")));
    let interpreter = workers.interpreter(&no_files);
    let input = Input {
        dir: "specs",
        files: &files,
        dotenv: &[],
        environment: &environment,
        lenient: false,
        profiles: &Default::default(),
        context: &context,
        read: &|_| Err("no such file".into()),
        tree: &|build: &Build| {
            let context = build.context.clone();
            Ok(Tree {
                dockerfile: Dockerfile::File(format!("{context}/Dockerfile")),
                context,
                digest: String::new(),
                files: Default::default(),
            })
        },
        interpreter: &interpreter,
    };
    load(&input).unwrap()
}

/// A chain of services with a few fields each, 100 per file.
fn yaml(services: usize) -> Vec<(String, String)> {
    let document = |n: usize| {
        let needs = n.checked_sub(1).map(|before| format!("dependencies: [a{before}]\n")).unwrap_or_default();
        format!(
            "name: a{n}\nimage: shop/api:1\nenv: {{N: \"{n}\", LOG: info}}\nports: [\"80\"]\nping: {{tcp: 80}}\n{needs}---\n"
        )
    };
    let numbers: Vec<usize> = (0..services).collect();
    let file = |part: &[usize]| (format!("{}.yaml", part[0]), part.iter().copied().map(document).collect());
    numbers.chunks(100).map(file).collect()
}

/// The same services as a program.
fn program(services: usize) -> Vec<(String, String)> {
    let text = format!(
        "for n in range({services}):\n    service(name=\"a%d\" % n, image=\"shop/api:1\", env={{\"N\": str(n), \"LOG\": \"info\"}}, \
         ports=[\"80\"], ping=tcp(80), dependencies=[\"a%d\" % (n - 1)] if n else [])\n"
    );
    vec![("app.star".into(), text)]
}

fn main() {
    println!("{:<44} {:>9} {:>9} {:>9}", "milliseconds", "least", "median", "greatest");
    let (documents, loops) = (yaml(5000), program(5000));
    measure("read and check 5,000 services in YAML", || read(&documents));
    measure("evaluate and check 5,000 services", || read(&loops));
    let specs = read(&documents);
    let surroundings = ResolveContext { group: Some("shop"), directory: "/home/ann/shop/specs", home: None };
    measure("resolve 5,000 services", || resolve(&specs, surroundings));

    let chain = |services: usize| {
        desired((0..services).map(|n| {
            let service = service(&format!("a{n:04}"));
            if n % 10 == 0 { service } else { service.needs(&format!("a{:04}", n - 1)) }
        }))
    };
    let hundred = chain(100);
    let nothing = empty(&hundred);
    measure("forecast 100 services from nothing", || forecast(&hundred, &nothing, &Memory::default()));
    let agreed = agreeing(&hundred);
    measure("plan 100 unchanged services", || plan(&hundred, &agreed, &Memory::default(), Duration::ZERO));
    let thousand = chain(1000);
    let ready = agreeing(&thousand);
    measure("plan 1,000 unchanged services", || plan(&thousand, &ready, &Memory::default(), Duration::ZERO));

    let variables =
        |value: &str| desired([(0..12_000).fold(service("api"), |service, n| service.env(&format!("N{n}"), value))]);
    let (before, after) = (variables("one"), variables("two"));
    let mut changed = agreeing(&before);
    inspect(&mut changed, &before.services["api"]);
    measure("forecast 12,000 changed variables", || forecast(&after, &changed, &Memory::default()));
}
