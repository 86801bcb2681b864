//! Hostile and large specs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use drillmaster::render::diagnostics;
use drillmaster::spec::{MAX_FILE_SIZE, env_file};
use proptest::prelude::*;

use crate::fields::{ALL_FIELDS, ALL_FIELDS_OF_A_JOB, OTHERS};
use crate::loading::*;

/// Runs a function within a generous time limit, which only unbounded growth exceeds. Benchmarks measure speed.
fn bounded<T>(run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = run();
    assert!(start.elapsed() < Duration::from_secs(60), "takes too long");
    result
}

#[test]
fn alias_bombs_are_rejected() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..30 {
        let _ = writeln!(bomb, "a{n}: &a{n} [{}]", vec![format!("*a{}", n - 1); 10].join(", "));
    }
    let errors = bounded(|| messages(&bomb));
    assert_eq!(errors, ["the file contains more than 100,000 values, with aliases expanded"]);

    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), "*a, ".repeat(10_000));
    let errors = bounded(|| messages(&text));
    assert_eq!(errors, ["the file contains more than 8 MiB of text, with aliases expanded"]);

    let mut merges = "x0: &x0 {k0: 1, l0: 1}\n".to_owned();
    for n in 1..60 {
        let _ = writeln!(merges, "x{n}: &x{n} {{<<: [*x{0}, *x{0}], k{n}: 1}}", n - 1);
    }
    bounded(|| messages(&merges));
    assert_eq!(messages("name: a\nimage: &x [*x]\n")[0], "undefined alias `*x`");
    assert_eq!(messages("name: &n a\nimage: b\n---\nname: *n\nimage: b\n")[0], "undefined alias `*n`");
}

#[test]
fn endless_nesting_is_rejected() {
    let deep = "nested more than 64 levels deep";
    for text in
        ["[".repeat(100_000), "{a: ".repeat(60_000), "- ".repeat(100_000), "? ".repeat(100_000), "a: [".repeat(65)]
    {
        let errors = bounded(|| messages(&text));
        assert!(errors.iter().any(|e| e == deep || e.contains("YAML")), "{errors:?}");
    }
    let indented: String = (0..200).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    assert_eq!(messages(&indented), [deep]);
    // Aliases must not exceed the nesting limit either.
    let mut text = "x0: &x0 [x]\n".to_owned();
    for n in 1..70 {
        let _ = writeln!(text, "x{n}: &x{n} [*x{}]", n - 1);
    }
    assert_eq!(messages(&text), [deep]);
    assert!(
        messages(&format!("name: a\nimage: b\ncommand: {}{}", "[".repeat(60), "]".repeat(60)))[0]
            .contains("found a list")
    );
}

#[test]
fn large_files_of_any_shape_are_read_or_rejected() {
    let fill = |unit: &str| unit.repeat((MAX_FILE_SIZE as usize - 100) / unit.len());
    for text in [
        fill("a"),
        fill("[a, "),
        fill("{a: b}, "),
        fill("- a\n"),
        fill("'a' "),
        fill("\"\\x41"),
        fill("a: b\n"),
        fill("---\n"),
        fill("&a "),
        fill("${A:-"),
        fill("x\n\n\n"),
        fill("# c\n"),
        fill("é: "),
        format!("[{}]", fill("a, ")),
        format!("[{}", fill("{a: b}, ")),
        format!("name: a\nimage: b\ncommand: |\n{}", fill("  ${A}\n")),
        format!("name: a\nimage: b\nenv:\n{}", (0..80_000).map(|n| format!(" A{n}: x\n")).collect::<String>()),
        (0..20_000).map(|n| format!("name: s{n}\n@\n---\n")).collect(),
    ] {
        bounded(|| messages(&text));
    }
}

#[test]
fn five_thousand_services_load() {
    let texts: Vec<(String, String)> = (0..5000)
        .map(|n| {
            let dependency = if n == 0 { String::new() } else { format!("s{}", n - 1) };
            let port = 10_000 + n;
            let text = format!(
                "name: s{n}\nimage: shop/api:1\nports: [\"{port}:80\"]\nenv: {{A: b, N: {n}}}\ndependencies: [{dependency}]\n"
            );
            (format!("{n}.yaml"), text)
        })
        .collect();
    let files: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let specs = bounded(|| load_dir(&files));
    assert_eq!(specs.map(|specs| specs.services.len()).map_err(|errors| rendered(&errors)), Ok(5000));

    // A cycle of all services is reported in one line.
    let ring = [&files[1..], &[("0.yaml", "name: s0\nimage: a\ndependencies: [s4999]\n")]].concat();
    let errors = bounded(|| load_dir(&ring)).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].message.starts_with("dependency cycle of 5000 services: s0 -> s4999 -> "),
        "{}",
        errors[0].message
    );
}

/// Generates YAML fragments that are likely to conflict.
fn yaml_soup() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "name",
        "image",
        "ports",
        "env",
        "kind",
        "ping",
        "volumes",
        "Group",
        "Job",
        "on",
        "run",
        "http",
        ": ",
        ":",
        " ",
        "\n",
        "\n  ",
        "\n- ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "'",
        "\"",
        "|",
        ">",
        "&a ",
        "*a",
        "<<",
        "!t ",
        "!!str ",
        "!!int ",
        "#",
        "---\n",
        "...\n",
        "\t",
        "\r\n",
        "é",
        "\u{feff}",
        "\0",
        "${",
        "${A}",
        "${A:-",
        "}",
        "$",
        "$$",
        "? ",
        "%YAML 1.2\n",
        "80",
        "8080:80",
        "~",
        "true",
        "1e400",
        "0x",
        "-",
        "\\",
        "\u{85}",
        "\u{2028}",
        "tcp",
        "container",
        "x-",
        "null",
        ".",
        "/",
        "@",
    ]);
    prop::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat())
}

/// Generates a valid file with some characters replaced, removed or doubled.
fn mutated() -> impl Strategy<Value = String> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..4usize, yaml_soup()), 1..6);
    edits.prop_map(|edits| {
        let mut text: Vec<char> = format!("{ALL_FIELDS}---\n{ALL_FIELDS_OF_A_JOB}---\n{OTHERS}").chars().collect();
        for (index, kind, soup) in edits {
            let at = index.index(text.len());
            let end = (at + kind * 3).min(text.len());
            text.splice(at..end, soup.chars().take(4));
            if text.is_empty() {
                text.push('x');
            }
        }
        text.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics_and_every_error_has_a_location(text in prop_oneof![yaml_soup(), mutated()]) {
        if let Err(errors) = load_dir(&[("a.yaml", &text), ("env:A", "x"), ("common.env", "A=1")]) {
            prop_assert!(!errors.is_empty());
            for error in &errors {
                if let Some(place) = &error.location {
                    prop_assert!(place.file.text().get(place.span.clone()).is_some());
                    prop_assert!(place.line() >= 1 && place.column() >= 1);
                }
            }
            let shown = rendered(&errors);
            prop_assert!(!shown.contains(|c: char| c.is_control() && c != '\n'));
            diagnostics::render(&errors, true);
            diagnostics::to_json(&errors);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = load_bytes(&[("a.yaml", &bytes), (".env", &bytes)]).map_err(|errors| rendered(&errors));
        let _ = env_file::parse(&String::from_utf8_lossy(&bytes), &BTreeMap::new(), env_file::EnvFile::default());
    }
}
