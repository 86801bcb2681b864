//! Mutated compose files: a reading or errors with their places, and no panic. `dev/compose-compare.sh` also runs
//! docker compose on them.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::compare::{docker_compose_with, is_explained, without_extensions};
use crate::config;
use crate::disk::Disk;
use crate::facts::{CASES, load_files, load_from, write_files};
use crate::mutate::mutated;
use crate::rng::Rng;

/// Number of mutated files; `DRILLMASTER_SEEDS` sets another.
pub fn seeds() -> u64 {
    std::env::var("DRILLMASTER_SEEDS").map_or(300, |text| text.parse().unwrap())
}

/// Differences that are meant, by a part of them, with the reason.
const EXPLAINED: [(&str, &str); 12] = [
    ("the name of the variable is missing before", "a variable without a name is a mistake"),
    (".environment.: nothing instead of", "without a line break, the last name of an env file became a value"),
    (".environment: nothing instead of {\"\":", "without a line break, the last name of an env file became a value"),
    ("environment.#extensions", "a variable is no extension, whatever its name"),
    ("unsupported tag", "unknown tags mean nothing"),
    ("NUL character", "not in text"),
    ("expected `KEY=value`", "control characters are in no name"),
    ("did not find expected tag URI", "not YAML 1.2"),
    ("unclosed reference to a variable", "compose ends it at the last brace of the line"),
    ("conflicts with imported resource", "merged since compose-go 2.10"),
    ("cannot extend service", "includes are read before extends since compose-go 2.10.2"),
    ("services.a.image: \"{}", "compose takes the `}` of `{}` for text"),
];

/// Errors that are about no place in a file.
const WITHOUT_PLACE: [&str; 2] = ["more errors in the compose files", "no name for the project can be made of"];

/// Returns a text with one word replaced by a word of another, or a line moved: most are still valid.
fn reworded(rng: &mut Rng, text: &str, texts: &[String]) -> String {
    let below = |rng: &mut Rng, length: usize| usize::try_from(rng.below(length.max(1) as u64)).unwrap();
    let words = |text: &str| -> Vec<(usize, usize)> {
        let is_word = |c: char| c.is_alphanumeric() || "_$.-/".contains(c);
        let mut words = Vec::new();
        let mut start = None;
        for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
            match (is_word(c), start) {
                (true, None) => start = Some(at),
                (false, Some(from)) => {
                    words.push((from, at));
                    start = None;
                }
                _ => {}
            }
        }
        words
    };
    let other = &texts[below(rng, texts.len())];
    let (own, others) = (words(text), words(other));
    if own.is_empty() || others.is_empty() {
        return text.to_owned();
    }
    let (start, end) = own[below(rng, own.len())];
    let (from, to) = others[below(rng, others.len())];
    format!("{}{}{}", &text[..start], &other[from..to], &text[end..])
}

/// Returns the files of a case, one of them changed.
pub fn files(rng: &mut Rng) -> BTreeMap<String, String> {
    let texts: Vec<String> = CASES.iter().flat_map(|case| case.files).map(|(_, text)| (*text).to_owned()).collect();
    let is_small = rng.once_in(2);
    let case = CASES[usize::try_from(rng.below(CASES.len() as u64)).unwrap()];
    let changed = usize::try_from(rng.below(case.files.len() as u64)).unwrap();
    let text = |(index, (path, text)): (usize, &(&str, &str))| {
        let text = match (index == changed, is_small) {
            (false, _) => (*text).to_owned(),
            (true, true) => reworded(rng, text, &texts),
            (true, false) => String::from_utf8_lossy(&mutated(rng, &[(*text).to_owned()])).into_owned(),
        };
        ((*path).to_owned(), text)
    };
    case.files.iter().enumerate().map(text).collect()
}

#[test]
fn mutated_files_are_read_or_refused_with_a_place() {
    let mut wrong = Vec::new();
    let (mut read, mut refused) = (0, 0);
    for seed in 1..=seeds() {
        let files = files(&mut Rng::new(seed));
        match catch_unwind(AssertUnwindSafe(|| load_files(&files).project)) {
            Err(_) => wrong.push(format!("seed {seed}: panicked")),
            Ok(None | Some(Ok(_))) => read += 1,
            Ok(Some(Err(errors))) => {
                refused += 1;
                let has_place = |text: &str| WITHOUT_PLACE.iter().any(|known| text.contains(known));
                let lost = errors.iter().find(|error| error.location.is_none() && !has_place(&error.message));
                wrong.extend(lost.map(|error| format!("seed {seed}: without a place: {error}")));
            }
        }
    }
    println!("{read} read, {refused} refused");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(read > 30 && refused > 30, "{read} read, {refused} refused");
}

/// Runs docker compose on each, and prints how often both agree.
#[test]
#[ignore = "dev/compose-compare.sh runs it"]
fn mutated_files_agree_with_docker_compose() {
    let binary = std::env::var("DRILLMASTER_COMPOSE").unwrap();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut unexplained = Vec::new();
    for seed in 1..=seeds() {
        let files = files(&mut Rng::new(seed));
        let root = tempfile::tempdir().unwrap();
        let directory = write_files(root.path(), &files);
        let theirs = docker_compose_with(&binary, &directory, &[], &BTreeMap::new());
        let ours = load_from(&Disk, directory.to_str().unwrap()).project;
        let (class, detail) = match (ours, theirs) {
            (None | Some(Err(_)), Err(_)) => ("both refuse", String::new()),
            (None, Ok(_)) => ("refused here only", "no file".to_owned()),
            (Some(Err(errors)), Ok(_)) => ("refused here only", errors[0].to_string()),
            (Some(Ok(_)), Err(error)) => ("refused there only", error.trim().to_owned()),
            (Some(Ok(project)), Ok(theirs)) => {
                let mut found = Vec::new();
                let theirs = config::pruned(without_extensions(theirs), "");
                config::differences(&config::print(&project), &theirs, "", &mut found);
                found.retain(|it| !is_explained(it));
                match found.is_empty() {
                    true => ("same", String::new()),
                    false => ("read differently", found.join("; ")),
                }
            }
        };
        *counts.entry(class).or_default() += 1;
        if !detail.is_empty() {
            let reason = EXPLAINED.iter().find(|(pattern, _)| detail.contains(pattern)).map(|(_, reason)| *reason);
            println!("seed {seed}: {class}: {detail} ({})", reason.unwrap_or("unexplained"));
            if reason.is_none() {
                files.iter().for_each(|(path, text)| println!("{path}: {text:?}"));
                unexplained.push(seed);
            }
        }
    }
    println!("{counts:?}");
    assert_eq!(unexplained, Vec::<u64>::new(), "seeds of unexplained differences");
}
