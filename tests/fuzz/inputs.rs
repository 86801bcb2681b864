//! The kinds of inputs, and what must hold for each.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use drillmaster::control::programs::Workers;
use drillmaster::control::specs::sources::ProgramFileAccess;
use drillmaster::desired::Desired;
use drillmaster::desired::resolve::{ResolveContext, resolve};
use drillmaster::engine::target;
use drillmaster::identity::Identity;
use drillmaster::observed::{Container, Observed};
use drillmaster::plan::{Memory, forecast, plan};
use drillmaster::render::{self, diagnostics};
use drillmaster::spec::model::Build;
use drillmaster::spec::starlark::{Interpreter, NoPrograms};
use drillmaster::spec::{Content, Diagnostic, Input, SourceFile, Specs, Tree, TreeError, load};
use tempfile::TempDir;

use crate::builders::agreeing;
use crate::mutate::{mutated, pick};
use crate::rng::Rng;

/// The program under test.
const DRILLMASTER: &str = env!("CARGO_BIN_EXE_drillmaster");
/// Exit codes that docs/commands.md lists.
const EXIT_CODES: [i32; 6] = [0, 1, 2, 3, 4, 130];
/// Errors that are about no place in a file.
const WITHOUT_PLACE: [&str; 3] = ["no document found in", "more errors in", "file found in"];

/// Texts to mutate, and a directory to write them to.
pub struct Inputs {
    yaml: Vec<String>,
    programs: Vec<String>,
    dotenv: Vec<String>,
    docker: Vec<String>,
    /// A group, and what the engine has if it agrees.
    agreeing: (Desired, Observed),
    directory: TempDir,
    workers: Workers,
}

/// Kind of an input.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Yaml,
    Dotenv,
    Labels,
    DockerConfiguration,
    Programs,
    Command,
}

impl Kind {
    /// Draws a kind; those that start a process are rarer.
    pub fn draw(rng: &mut Rng) -> Kind {
        match rng.below(1000) {
            0..500 => Kind::Yaml,
            500..650 => Kind::Dotenv,
            650..900 => Kind::Labels,
            900..960 => Kind::DockerConfiguration,
            960..990 => Kind::Programs,
            _ => Kind::Command,
        }
    }
}

impl Inputs {
    pub fn new() -> Inputs {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        let (mut yaml, mut programs) = (Vec::new(), Vec::new());
        for example in fs::read_dir(examples).unwrap() {
            let Ok(specs) = fs::read_dir(example.unwrap().path()) else { continue };
            for file in specs.map(|file| file.unwrap().path()) {
                match file.extension().and_then(|extension| extension.to_str()) {
                    Some("yaml") => yaml.push(fs::read_to_string(file).unwrap()),
                    Some("star") => programs.push(fs::read_to_string(file).unwrap()),
                    _ => {}
                }
            }
        }
        assert!(yaml.len() > 5 && programs.len() > 2, "{} and {} examples", yaml.len(), programs.len());
        let dotenv = [
            "A=1\nB=\"two words\"\nC='$A'\n# comment\nexport D=${A:-x}\n",
            "LONG=\"first\nsecond\"\nESCAPED=\"a\\nb\\u00e9\"\nEMPTY=\n",
        ];
        let docker = [
            r#"{"auths": {"registry.example": {"auth": "YW5uOnNlY3JldA=="}}, "credsStore": "none", "currentContext": "far"}"#,
            r#"{"Name": "far", "Metadata": {}, "Endpoints": {"docker": {"Host": "tcp://127.0.0.1:1", "SkipTLSVerify": false}}}"#,
        ];
        let group = "name: a\nimage: x\nenv: {A: b}\nports: [\"80\"]\n---\nname: b\nimage: y\ndependencies: [a]\n";
        let group = desired(&load_specs(&[spec("app.yaml", group.into())], None, &NoPrograms).unwrap());
        let observed = agreeing(&group);
        Inputs {
            yaml,
            programs,
            dotenv: dotenv.map(str::to_owned).to_vec(),
            docker: docker.map(str::to_owned).to_vec(),
            agreeing: (group, observed),
            directory: tempfile::tempdir().unwrap(),
            workers: Workers::new(DRILLMASTER.into()).timeout(Duration::from_secs(3)),
        }
    }

    /// Checks one input, or says what was wrong.
    pub fn check(&self, kind: Kind, rng: &mut Rng) -> Result<(), String> {
        match kind {
            Kind::Yaml => self.check_yaml(rng),
            Kind::Dotenv => self.check_dotenv(rng),
            Kind::Labels => self.check_labels(rng),
            Kind::DockerConfiguration => self.check_docker_configuration(rng),
            Kind::Programs => self.check_programs(rng),
            Kind::Command => self.check_command(rng),
        }
    }

    fn check_yaml(&self, rng: &mut Rng) -> Result<(), String> {
        let files = [spec("app.yaml", mutated(rng, &self.yaml))];
        check_loaded(&load_specs(&files, None, &NoPrograms))
    }

    fn check_dotenv(&self, rng: &mut Rng) -> Result<(), String> {
        let yaml = "name: a\nimage: x\nenv: {A: \"${A}\", B: \"${B:-b}\"}\nenv_file: a.env\n";
        let dotenv = spec(".env", mutated(rng, &self.dotenv));
        check_loaded(&load_specs(&[spec("app.yaml", yaml.into())], Some(&dotenv), &NoPrograms))
    }

    fn check_programs(&self, rng: &mut Rng) -> Result<(), String> {
        let files = [spec("app.star", mutated(rng, &self.programs)), spec("lib.star", b"a = 1\n".to_vec())];
        let access = ProgramFileAccess(self.directory.path());
        check_loaded(&load_specs(&files, None, &self.workers.interpreter(&access)))
    }

    /// Labels of containers as others could have set them.
    fn check_labels(&self, rng: &mut Rng) -> Result<(), String> {
        let (desired, mut observed) = self.agreeing.clone();
        // Those of a container that is not managed any more are lost.
        let labels = |container: &Container| container.identity.clone().unwrap_or_default().to_labels();
        let texts: Vec<String> = observed.containers.values().flat_map(|it| labels(it).into_values()).collect();
        for _ in 0..=rng.below(3) {
            let containers: Vec<&Container> = observed.containers.values().collect();
            let mut container = (*rng.pick(&containers)).clone();
            let mut labels = labels(&container);
            let names: Vec<String> = labels.keys().cloned().collect();
            labels.insert(pick(rng, &names), String::from_utf8_lossy(&mutated(rng, &texts)).into_owned());
            container.identity = Identity::from_labels(&labels.into_iter().collect());
            observed.insert(container);
        }
        check_plan(&desired, &observed)
    }

    fn check_docker_configuration(&self, rng: &mut Rng) -> Result<(), String> {
        let directory = self.directory.path();
        fs::write(directory.join("config.json"), mutated(rng, &self.docker)).unwrap();
        let text = String::from_utf8_lossy(&mutated(rng, &self.docker)).into_owned();
        let mut environment = BTreeMap::from([("DOCKER_CONFIG".to_owned(), directory.to_str().unwrap().to_owned())]);
        if rng.once_in(3) {
            let name = rng.pick(&["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_BUILDKIT"]);
            environment.insert(name.to_owned(), text.clone());
        }
        let host = rng.once_in(4).then_some(&*text);
        match target::target(host, &environment) {
            Err(error) if error.to_string().is_empty() => Err("an error without a message".into()),
            _ => Ok(()),
        }
    }

    /// Runs the program itself.
    fn check_command(&self, rng: &mut Rng) -> Result<(), String> {
        let directory = TempDir::new_in(self.directory.path()).unwrap();
        let specs = directory.path().join("specs");
        fs::create_dir(&specs).unwrap();
        fs::write(specs.join("app.yaml"), mutated(rng, &self.yaml)).unwrap();
        fs::write(specs.join(".env"), mutated(rng, &self.dotenv)).unwrap();
        if rng.once_in(2) {
            fs::write(specs.join("app.star"), mutated(rng, &self.programs)).unwrap();
        }
        fs::write(directory.path().join("config.json"), pick(rng, &self.docker)).unwrap();
        let command = rng.pick(&["validate", "render", "graph", "diff", "status", "up", "down"]);
        let output = Command::new(DRILLMASTER)
            .arg(command)
            .args(["--host", "unix:///nonexistent/docker.sock"])
            .args(["--output", rng.pick(&["text", "json"])])
            .current_dir(directory.path())
            .env("DOCKER_CONFIG", directory.path())
            .env("XDG_STATE_HOME", directory.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let code = output.status.code();
        if code.is_some_and(|code| EXIT_CODES.contains(&code)) {
            Ok(())
        } else {
            Err(format!("{command} ended with {code:?}: {}", String::from_utf8_lossy(&output.stderr)))
        }
    }
}

/// Loads specs. `.env` is read for each `env_file` too; half of the build contexts exist.
fn load_specs(
    files: &[SourceFile],
    dotenv: Option<&SourceFile>,
    interpreter: &dyn Interpreter,
) -> Result<Specs, Vec<Diagnostic>> {
    let environment = BTreeMap::from([("HOME".to_owned(), "/home/ann".to_owned())]);
    load(&Input {
        dir: "specs",
        files,
        dotenv: dotenv.map_or(&[], std::slice::from_ref),
        environment: &environment,
        lenient: false,
        profiles: &Default::default(),
        context: &BTreeMap::new(),
        read: &|_| match dotenv.map(|file| &file.content) {
            Some(Content::Bytes(bytes)) => Ok(bytes.clone()),
            _ => Err("no such file".into()),
        },
        tree: &|build: &Build| match build.context.len() % 2 {
            0 => Err(TreeError::Context("no such directory".into())),
            _ => Ok(Tree {
                context: build.context.clone(),
                dockerfile: Default::default(),
                digest: "00".into(),
                files: Default::default(),
            }),
        },
        interpreter,
    })
}

fn spec(path: &str, bytes: Vec<u8>) -> SourceFile {
    SourceFile { path: path.into(), content: Content::Bytes(bytes) }
}

fn desired(specs: &Specs) -> Desired {
    resolve(specs, ResolveContext { group: Some("shop"), directory: "/srv/shop/specs", home: Some("/home/ann") })
}

/// Errors must have their place. Valid specs must resolve, print and plan.
fn check_loaded(loaded: &Result<Specs, Vec<Diagnostic>>) -> Result<(), String> {
    match loaded {
        Ok(specs) => {
            let desired = desired(specs);
            let _ = render::specs::yaml(specs, &[], false);
            check_plan(&desired, &Observed::default())
        }
        Err(errors) => {
            check_text(&diagnostics::render(errors, false))?;
            let _ = diagnostics::to_json(errors);
            let is_placed = |error: &&Diagnostic| {
                error.location.is_some() || WITHOUT_PLACE.iter().any(|known| error.message.contains(known))
            };
            match errors.iter().find(|error| !is_placed(error)) {
                _ if errors.is_empty() => Err("invalid without an error".into()),
                Some(error) => Err(format!("an error without its place: {error}")),
                None => Ok(()),
            }
        }
    }
}

/// A plan must not touch what is not ours, and must be printable.
fn check_plan(desired: &Desired, observed: &Observed) -> Result<(), String> {
    let steps = plan(desired, observed, &Memory::default(), Duration::ZERO).steps;
    for container in steps.iter().filter_map(|step| step.verb.container()) {
        let identity = observed.containers.get(&container.id).and_then(|it| it.identity.as_ref());
        if identity.is_none_or(|it| (&it.group, &it.source) != (&desired.group, &desired.source)) {
            return Err(format!("a step on {}, which is not managed", container.name));
        }
    }
    check_text(&render::plan::forecast(&forecast(desired, observed, &Memory::default()), false).print(false))
}

/// Printed text must not control the terminal.
fn check_text(text: &str) -> Result<(), String> {
    let controls = |c: char| {
        c.is_control() && !matches!(c, '\n' | '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    match text.contains(controls) {
        true => Err(format!("printed control characters: {text:?}")),
        false => Ok(()),
    }
}
