//! Programs in an in-memory directory.

use std::collections::BTreeMap;
use std::sync::Mutex;

use drillmaster::control::programs::Workers;
use drillmaster::desired::resolve::{ResolveContext, resolve};
use drillmaster::desired::{Desired, Service};
use drillmaster::render::diagnostics;
use drillmaster::spec::build::Dockerfile;
use drillmaster::spec::model;
use drillmaster::spec::{Content, Diagnostic, FileAccess, Input, SourceFile, Specs, Tree, load};

/// A spec directory in memory: `*.star` and `*.yaml` are specs, `env:NAME` sets a variable; other files can be read.
#[derive(Default)]
pub struct Directory {
    pub files: BTreeMap<String, String>,
    /// Paths that were read.
    pub asked: Mutex<Vec<String>>,
}

impl Directory {
    pub fn of(files: &[(&str, &str)]) -> Directory {
        let files = files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
        Directory { files, ..Directory::default() }
    }

    pub fn load(&self) -> Result<Specs, Vec<Diagnostic>> {
        self.load_with(workers())
    }

    pub fn load_with(&self, workers: Workers) -> Result<Specs, Vec<Diagnostic>> {
        let is_spec = |path: &str| path.ends_with(".star") || path.ends_with(".yaml");
        let file = |(path, text): (&String, &String)| SourceFile {
            path: path.clone(),
            content: Content::Bytes(text.clone().into_bytes()),
        };
        let files: Vec<SourceFile> = self.files.iter().filter(|(path, _)| is_spec(path)).map(file).collect();
        let variable = |(path, text): (&String, &String)| Some((path.strip_prefix("env:")?.to_owned(), text.clone()));
        let environment = self.files.iter().filter_map(variable).collect();
        let read = |path: &str| self.read(path);
        let (environment, context) = (&environment, &BTreeMap::new());
        let tree = |build: &model::Build| {
            let context = build.context.clone();
            Ok(Tree {
                dockerfile: Dockerfile::File(format!("{context}/Dockerfile")),
                context,
                digest: "00ff".into(),
                files: Default::default(),
            })
        };
        let interpreter = workers.interpreter(self);
        let input = Input {
            dir: "specs",
            files: &files,
            dotenv: &[],
            environment,
            lenient: false,
            profiles: &Default::default(),
            context,
            read: &read,
            tree: &tree,
            interpreter: &interpreter,
        };
        load(&input)
    }
}

/// Workers that run the `drillmaster` of this build.
pub fn workers() -> Workers {
    Workers::new(env!("CARGO_BIN_EXE_drillmaster").into())
}

impl FileAccess for Directory {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        self.asked.lock().unwrap().push(path.to_owned());
        let found = self.files.get(path).map(|text| text.clone().into_bytes());
        found.ok_or_else(|| "no such file".to_owned())
    }

    fn list(&self, path: &str) -> Result<Vec<(String, bool)>, String> {
        self.asked.lock().unwrap().push(format!("{path}/"));
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let inside = self.files.keys().filter_map(|file| file.strip_prefix(&prefix));
        let names = inside.map(|rest| match rest.split_once('/') {
            Some((directory, _)) => (directory.to_owned(), true),
            None => (rest.to_owned(), false),
        });
        Ok(names.collect::<std::collections::BTreeSet<_>>().into_iter().collect())
    }
}

pub fn rendered(errors: &[Diagnostic]) -> String {
    diagnostics::render(errors, false)
}

#[track_caller]
pub fn specs(files: &[(&str, &str)]) -> Specs {
    Directory::of(files).load().unwrap_or_else(|errors| panic!("{}", rendered(&errors)))
}

#[track_caller]
pub fn errors(files: &[(&str, &str)]) -> String {
    match Directory::of(files).load() {
        Ok(specs) => panic!("no error: {specs:#?}"),
        Err(errors) => rendered(&errors),
    }
}

/// Returns the error messages of a program with their locations.
#[track_caller]
pub fn messages(program: &str, workers: Workers) -> Vec<String> {
    let errors = Directory::of(&[("app.star", program)]).load_with(workers).err().unwrap_or_default();
    errors.iter().map(ToString::to_string).collect()
}

#[track_caller]
pub fn desired(files: &[(&str, &str)]) -> Desired {
    resolve(&specs(files), ResolveContext { group: Some("shop"), directory: "/srv/shop/specs", home: None })
}

/// Returns the service without its location.
pub fn without_location(service: &Service) -> Service {
    Service { location: String::new(), ..service.clone() }
}

#[track_caller]
pub fn assert_same(yaml: &str, star: &str) {
    let (yaml, star) = (desired(&[("app.yaml", yaml)]), desired(&[("app.star", star)]));
    let services = |desired: &Desired| -> Vec<Service> { desired.services.values().map(without_location).collect() };
    assert_eq!(services(&yaml), services(&star));
    assert_eq!((yaml.group, yaml.network, yaml.on), (star.group, star.network, star.on));
}

// Helpers for the comparison with YAML.
