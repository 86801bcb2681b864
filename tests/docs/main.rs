//! Documentation: generated pages are up to date, specs are valid, links have targets.

#![allow(clippy::unwrap_used)] // a panic fails the test

mod reference;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use drillmaster::spec::model::Build;
use drillmaster::spec::starlark::NoPrograms;
use drillmaster::spec::{Content, Input, SourceFile, Tree, load};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the Markdown files for users, relative to the repository root.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![PathBuf::from("README.md")];
    for directory in ["docs", "findings"] {
        for entry in fs::read_dir(root().join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    pages.sort();
    assert!(pages.len() >= 15, "{pages:?}");
    pages
}

fn read(page: &Path) -> String {
    fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{}: {error}", page.display()))
}

/// Returns the fenced blocks of a page: line number, info string, text.
fn blocks(text: &str) -> Vec<(usize, String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String, String)> = None;
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some((number + 1, info.trim().to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, _, block)), None) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// Refresh with `UPDATE_REFERENCE=1 cargo test --test docs`.
#[test]
fn reference_is_up_to_date() {
    let path = root().join("docs/reference.md");
    let reference = reference::reference();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(&path, &reference).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == reference, "docs/reference.md is outdated: UPDATE_REFERENCE=1 cargo test --test docs");
}

/// Blocks that begin with ```` ```yaml ```` are complete spec files; excerpts are marked `yaml excerpt`.
#[test]
fn specs_in_documents_are_valid() {
    let mut seen = 0;
    for page in pages() {
        for (line, info, text) in blocks(&read(&page)) {
            let info: Vec<&str> = info.split_whitespace().collect();
            match info[..] {
                ["yaml"] => {}
                ["yaml", "excerpt"] | [] => continue,
                [language, ..] => {
                    assert!(
                        ["console", "json", "python", "rust", "sh", "text", "yaml"].contains(&language),
                        "{}:{line}: unknown block `{language}`",
                        page.display()
                    );
                    continue;
                }
            }
            if let Err(errors) = validate(&text) {
                panic!("{}:{line}: {errors}", page.display());
            }
            seen += 1;
        }
    }
    assert!(seen >= 9, "{seen} specs");
}

/// Loads a spec file; builds and env files are assumed to exist.
fn validate(text: &str) -> Result<(), String> {
    let files = [SourceFile { path: "app.yaml".into(), content: Content::Bytes(text.as_bytes().into()) }];
    let environment = BTreeMap::from([("DB_PASSWORD".to_owned(), "secret".to_owned())]);
    let tree = |build: &Build| {
        Ok(Tree {
            context: build.context.clone(),
            dockerfile: Default::default(),
            digest: "00ff".into(),
            files: Default::default(),
        })
    };
    let input = Input {
        dir: "specs",
        files: &files,
        dotenv: &[],
        environment: &environment,
        lenient: false,
        profiles: &Default::default(),
        context: &BTreeMap::new(),
        read: &|_| Ok(Vec::new()),
        tree: &tree,
        interpreter: &NoPrograms,
    };
    match load(&input) {
        Ok(_) => Ok(()),
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

#[test]
fn relative_links_have_targets() {
    let mut seen = 0;
    for page in pages() {
        for target in links(&read(&page)) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            assert!(root().join(&file).exists(), "{}: link target {target} does not exist", page.display());
            if !anchor.is_empty() {
                let headings = headings(&read(&file));
                assert!(headings.iter().any(|one| one == anchor), "{}: no heading {target}", page.display());
            }
            seen += 1;
        }
    }
    assert!(seen >= 40, "{seen} links");
}

/// Returns the link targets of a page, outside code.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for line in prose(text) {
        for rest in line.split("](").skip(1) {
            links.extend(rest.split(')').next().map(str::to_owned));
        }
    }
    links
}

/// Returns the lines of a page outside fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        let fence = line.starts_with("```");
        inside ^= fence;
        !inside && !fence
    })
}

/// Returns the heading anchors of a page, as derived by GitHub and mdbook.
fn headings(text: &str) -> Vec<String> {
    let anchor = |title: &str| -> String {
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    };
    prose(text).filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

#[test]
fn summary_lists_every_page() {
    let summary = links(&read(Path::new("docs/SUMMARY.md")));
    for page in pages().iter().filter(|page| page.starts_with("docs")) {
        let name = page.file_name().unwrap().to_string_lossy();
        assert!(name == "SUMMARY.md" || summary.iter().any(|one| *one == name), "docs/SUMMARY.md lacks {name}");
    }
}

#[test]
fn readme_is_short() {
    assert!(read(Path::new("README.md")).lines().count() <= 200);
}
