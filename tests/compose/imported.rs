//! Specs that are made of a project say the same, and look as a person would write them.

use std::collections::BTreeMap;
use std::ops::Range;

use drillmaster::desired::resolve::{ResolveContext, resolve};
use drillmaster::desired::{Desired, differences};
use drillmaster::render::diagnostics;
use drillmaster::spec::compose::import::{Imported, Services, import};
use drillmaster::spec::compose::{Files as _, Project};
use drillmaster::spec::node::{Node, Value};
use drillmaster::spec::starlark::NoPrograms;
use drillmaster::spec::yaml::parse;
use drillmaster::spec::{self, Content, Diagnostic, Profiles, SourceFile, Specs, Tree};

use crate::disk::Memory;
use crate::facts::{CASES, DIRECTORY, load_case, load_from, memory};
use crate::mutated::{files, seeds};
use crate::rng::Rng;
use crate::translated::FIELDS;

const HOME: &str = "/home/ann";

fn absolute(directory: &str, path: &str) -> String {
    let mut parts: Vec<&str> = if path.starts_with('/') { Vec::new() } else { directory.split('/').collect() };
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    format!("/{}", parts.join("/"))
}

/// Loads specs with the environment of a project.
fn desired(
    project: &Project,
    directory: &str,
    access: &Memory,
    files: &[SourceFile],
    load: impl Fn(&spec::Input<'_>) -> Result<Specs, Vec<Diagnostic>>,
) -> Reading {
    let mut environment = project.environment.clone();
    environment.insert("HOME".to_owned(), HOME.to_owned());
    let specs = load(&spec::Input {
        dir: directory,
        files,
        dotenv: &[],
        environment: &environment,
        lenient: false,
        profiles: &Profiles::new(&project.profiles, &[]),
        context: &BTreeMap::new(),
        read: &|path| access.read(&absolute(directory, path)),
        tree: &|build| {
            let context = absolute(directory, &build.context);
            let dockerfile = build.dockerfile.clone().map(|path| absolute(&context, &path));
            Ok(Tree { context, dockerfile, digest: "00ff".into(), files: Default::default() })
        },
        interpreter: &NoPrograms,
    })?;
    Ok(resolve(&specs, ResolveContext { group: None, directory, home: Some(HOME) }))
}

type Reading = Result<Desired, Vec<Diagnostic>>;

/// What a project means when it is read directly, and what the specs mean that are made of it.
fn both(project: &Project, access: &Memory) -> (Reading, Imported, Reading) {
    let into = format!("{}/specs", project.directory);
    let imported = import(project, &into, access, Services::All);
    let files: Vec<SourceFile> = imported
        .files
        .iter()
        .map(|file| SourceFile { path: file.file.clone(), content: Content::Bytes(file.text.clone().into_bytes()) })
        .collect();
    let direct = desired(project, &project.directory, access, &[], |input| spec::load_compose(input, project));
    let specs = desired(project, &into, access, &files, spec::load);
    (direct, imported, specs)
}

/// Returns what differs and is not said.
fn check(project: &Project, access: &Memory) -> Vec<String> {
    let (direct, imported, specs) = both(project, access);
    let is_said = |note: &Diagnostic| note.message.contains("may have another value");
    if !imported.left_out.is_empty() || imported.notes.iter().any(is_said) {
        return Vec::new();
    }
    let shown = |errors: &[Diagnostic]| diagnostics::render(errors, false);
    match (direct, specs) {
        (Ok(direct), Ok(specs)) => differences(&direct, &specs),
        (Ok(_), Err(errors)) => {
            let errors: Vec<Diagnostic> = errors.into_iter().filter(|error| !is_of_env_file(error)).collect();
            if errors.is_empty() { Vec::new() } else { vec![format!("the specs are invalid:\n{}", shown(&errors))] }
        }
        (Err(_), Err(_)) => Vec::new(),
        (Err(errors), Ok(_)) => vec![format!("only the specs are valid:\n{}", shown(&errors))],
    }
}

/// In the env files of specs, a variable that is not set is an error.
fn is_of_env_file(error: &Diagnostic) -> bool {
    let file = error.location.as_ref().map(|location| location.file.path());
    file.is_some_and(|file| file.ends_with(".env"))
}

#[test]
fn specs_of_the_facts_say_the_same() {
    let mut wrong = Vec::new();
    let mut same = 0;
    for case in CASES.iter() {
        let access = memory(case.files.iter().copied());
        let Some(Ok(project)) = load_case(case, &access, DIRECTORY).project else { continue };
        let found = check(&project, &access);
        same += usize::from(found.is_empty());
        if !found.is_empty() {
            wrong.push(format!("{}: {}", case.name, found.join("; ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(same > 40, "{same} cases");
}

#[test]
fn specs_of_mutated_files_say_the_same() {
    let mut wrong = Vec::new();
    let mut same = 0;
    for seed in 1..=seeds() {
        let files = files(&mut Rng::new(seed));
        let access = memory(files.iter().map(|(path, text)| (path.as_str(), text.as_str())));
        let Some(Ok(project)) = load_from(&access, DIRECTORY).project else { continue };
        let found = check(&project, &access);
        same += usize::from(found.is_empty());
        if !found.is_empty() {
            wrong.push(format!("seed {seed}: {}\n{files:?}", found.join("; ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(same > 30, "{same} files");
}

/// Every field that is translated is written, too.
#[test]
fn specs_of_all_fields_say_the_same() {
    let mut wrong = Vec::new();
    for (fields, _) in FIELDS {
        let text = format!("services:\n  a: {{image: x, {fields}}}\n");
        let access = memory([("compose.yaml", text.as_str())].into_iter());
        let project = match load_from(&access, DIRECTORY).project {
            Some(Ok(project)) => project,
            _ => panic!("{text}"),
        };
        let (direct, ..) = both(&project, &access);
        let found = if direct.is_ok() { check(&project, &access) } else { Vec::new() };
        wrong.extend(found.iter().map(|found| format!("{fields}: {found}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn scalars(node: &Node, spans: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::Map(entries) => entries.iter().for_each(|entry| scalars(&entry.value, spans)),
        Value::Seq(items) => items.iter().for_each(|item| scalars(item, spans)),
        _ => spans.push(node.span.clone()),
    }
}

/// A value that comes from a variable is written with the variable.
#[test]
fn variables_are_kept_in_all_fields() {
    let (mut wrong, mut kept) = (Vec::new(), 0);
    for (fields, _) in FIELDS {
        let text = format!("services:\n  a: {{image: x, {fields}}}\n");
        let mut spans = Vec::new();
        parse(&text).0.iter().for_each(|root| scalars(root, &mut spans));
        for span in spans.into_iter().skip(1) {
            let value = text[span.clone()].trim_matches(['\'', '"']);
            if value.is_empty() || value.contains(['\'', '$', '\\', '#']) {
                continue;
            }
            let varied = format!("{}\"${{V}}\"{}", &text[..span.start], &text[span.end..]);
            let dotenv = format!("V='{value}'\n");
            let access = memory([("compose.yaml", varied.as_str()), (".env", &dotenv)].into_iter());
            let Some(Ok(project)) = load_from(&access, DIRECTORY).project else { continue };
            let (direct, imported, _) = both(&project, &access);
            if direct.is_err() {
                continue;
            }
            wrong.extend(check(&project, &access).iter().map(|found| format!("{varied}{found}")));
            let is_kept = imported.files.iter().any(|file| file.text.contains("${V"));
            let is_said = imported.notes.iter().any(|note| note.message.contains("the variable `V`"));
            kept += usize::from(is_kept);
            if is_kept == is_said {
                wrong.push(format!("{varied}kept: {is_kept}, said: {is_said}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(kept > 50, "{kept} kept");
}

/// What a person finds after `import`.
#[test]
fn specs_are_as_a_person_would_write_them() {
    let files = [("compose.yaml", include_str!("shop/compose.yaml")), (".env", "DB_PASSWORD=not-written\nTAG=2\n")];
    let access = memory(files.into_iter().chain([("web.env", "A=${TAG}\n"), ("conf/app.conf", "x")]));
    let Some(Ok(project)) = load_from(&access, DIRECTORY).project else { panic!("not read") };
    let (.., imported, _) = both(&project, &access);
    assert_eq!(check(&project, &access), Vec::<String>::new());
    let mut text = String::new();
    for file in &imported.files {
        text += &format!("--- {}\n{}", file.file, file.text);
    }
    for note in imported.notes.iter().chain(&imported.left_out) {
        text += &format!("{note}\n");
    }
    assert!(!text.contains("not-written"));
    insta::assert_snapshot!(text);
}
