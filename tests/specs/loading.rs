//! Loading of specs from memory.

use std::collections::BTreeMap;

use drillmaster::render::diagnostics;
use drillmaster::spec::model::{self, Service};
use drillmaster::spec::starlark::NoPrograms;
use drillmaster::spec::{Content, Diagnostic, Input, Profiles, SourceFile, Specs, Tree, TreeError, load};

/// Loads files given by path: `*.yaml` are specs, `env:NAME` sets a variable, `output:KEY` an output; other files are
/// env files.
pub fn load_bytes(files: &[(&str, &[u8])]) -> Result<Specs, Vec<Diagnostic>> {
    load_active(files, &Profiles::default())
}

pub fn load_with_profiles(files: &[(&str, &str)], profiles: &Profiles) -> Result<Specs, Vec<Diagnostic>> {
    load_active(&files.iter().map(|(path, text)| (*path, text.as_bytes())).collect::<Vec<_>>(), profiles)
}

fn load_active(files: &[(&str, &[u8])], profiles: &Profiles) -> Result<Specs, Vec<Diagnostic>> {
    let file = |path: &str, bytes: &[u8]| SourceFile { path: path.into(), content: Content::Bytes(bytes.into()) };
    let specs: Vec<SourceFile> =
        files.iter().filter(|(path, _)| path.ends_with(".yaml")).map(|(path, bytes)| file(path, bytes)).collect();
    let environment: BTreeMap<String, String> = files
        .iter()
        .filter_map(|(path, bytes)| {
            Some((path.strip_prefix("env:")?.to_owned(), String::from_utf8_lossy(bytes).into_owned()))
        })
        .collect();
    let dotenv = files.iter().find(|(path, _)| *path == ".env").map(|(path, bytes)| file(path, bytes));
    let read = |wanted: &str| {
        let found = files.iter().find(|(path, _)| *path == wanted);
        found.map(|(_, bytes)| bytes.to_vec()).ok_or_else(|| "no such file".to_owned())
    };
    let outputs = files.iter().filter_map(|(path, bytes)| {
        Some((path.strip_prefix("output:")?.to_owned(), String::from_utf8_lossy(bytes).into_owned()))
    });
    let context = outputs.collect();
    // A build context is a directory that contains a file.
    let tree = |build: &model::Build| {
        let holds = |path: &str| files.iter().any(|(file, _)| file.starts_with(path));
        let dockerfile = build.dockerfile.clone().map(|path| format!("{}/{path}", build.context));
        let is_there = dockerfile.file().is_none_or(|path| holds(path));
        match (holds(&format!("{}/", build.context)), is_there) {
            (true, true) => Ok(Tree {
                context: build.context.clone(),
                dockerfile,
                digest: "00ff".into(),
                files: Default::default(),
            }),
            (true, false) => Err(TreeError::Dockerfile("no such file or directory".into())),
            (false, _) => Err(TreeError::Context("no such file or directory".into())),
        }
    };
    load(&Input {
        dir: "specs",
        files: &specs,
        dotenv: dotenv.as_slice(),
        environment: &environment,
        lenient: false,
        profiles,
        context: &context,
        read: &read,
        tree: &tree,
        interpreter: &NoPrograms,
    })
}

pub fn load_dir(files: &[(&str, &str)]) -> Result<Specs, Vec<Diagnostic>> {
    load_bytes(&files.iter().map(|(path, text)| (*path, text.as_bytes())).collect::<Vec<_>>())
}

pub fn rendered(errors: &[Diagnostic]) -> String {
    diagnostics::render(errors, false)
}

pub fn one(text: &str) -> Service {
    match load_dir(&[("app.yaml", text)]) {
        Ok(specs) => specs.services.into_iter().next().unwrap().spec,
        Err(errors) => panic!("{}", rendered(&errors)),
    }
}

pub fn messages(text: &str) -> Vec<String> {
    let errors = load_dir(&[("app.yaml", text)]).err().unwrap_or_default();
    errors.into_iter().map(|error| error.message).collect()
}
