//! Words of Python that Starlark does not have, with what it has instead.

use super::super::locate::closest;
use super::super::value::{Invalid, quoted};

const NO_MODULES: &str =
    "there are no modules; `load(\"lib.star\", \"name\")` loads from another program of the spec directory";
const NO_EXCEPTIONS: &str = "there are no exceptions; test with `if` before, and end with `fail(\"message\")`";
const BOUNDED: &str = "loops are bounded; write `for i in range(100):` with `break`";
const FILES: &str =
    "files of the spec directory are read with `read_file(\"path\")` and listed with `glob(\"*.json\")`";
const IDENTITY: &str = "write `==`, or `!=` instead of `is not`";
const NO_SCOPE: &str = "return the value from the function, or change a list or dictionary";
const NO_CLASSES: &str = "write `struct(name = value)`, or a function that returns one";
const REPEATABLE: &str =
    "a program has no clock and no randomness: the same files and variables produce the same specs";
const NO_COROUTINES: &str = "functions run to their end; return a list instead";

/// Keywords and names of Python, with hints.
const WORDS: [(&str, &str); 33] = [
    ("import", NO_MODULES),
    ("from", NO_MODULES),
    ("while", BOUNDED),
    ("try", NO_EXCEPTIONS),
    ("except", NO_EXCEPTIONS),
    ("finally", NO_EXCEPTIONS),
    ("raise", NO_EXCEPTIONS),
    ("is", IDENTITY),
    ("class", NO_CLASSES),
    ("with", FILES),
    ("open", FILES),
    ("global", NO_SCOPE),
    ("nonlocal", NO_SCOPE),
    ("yield", NO_COROUTINES),
    ("async", NO_COROUTINES),
    ("await", NO_COROUTINES),
    ("assert", "write `if not condition: fail(\"message\")`"),
    ("del", "write `values.pop(key)`"),
    ("sum", "write a loop: `for n in numbers: total += n`"),
    ("round", "write `int(x + 0.5)`"),
    ("pow", "multiply in a loop"),
    ("isinstance", "write `type(x) == \"string\"`"),
    ("input", "values come from variables: `env(\"NAME\", \"default\")`"),
    ("os", "variables are read with `env(\"NAME\", \"default\")`, files with `read_file(\"path\")`"),
    ("sys", NO_MODULES),
    ("subprocess", "commands run in hooks: `post_start=run([\"command\"])`, or `ctx.run([...])` in a function"),
    ("requests", "requests are sent in hooks: `ctx.http_get(\"http://...\")` in a function"),
    ("yaml", "write YAML files beside the program; JSON is read with `json.decode(read_file(\"path\"))`"),
    ("exit", "write `fail(\"message\")`"),
    ("random", REPEATABLE),
    ("time", REPEATABLE),
    ("datetime", REPEATABLE),
    ("format", "write `\"{}\".format(x)` or an f-string"),
];

/// Explains a message of the library about a word that it does not know. `None` for other messages.
pub(super) fn explain(message: &str) -> Option<Invalid> {
    if message.contains("unexpected symbol '**'") {
        return Some(Invalid::new("`**` is not supported").hint("write `x * x`; `**` only unpacks arguments of calls"));
    }
    if let Some(word) = between(message, "cannot use reserved keyword `", "`") {
        let invalid = Invalid::new(format!("{} is not part of Starlark", quoted(word)));
        return Some(match hint_for(word) {
            Some(hint) => invalid.hint(hint),
            None => invalid,
        });
    }
    let rest = message.find("ariable `").map(|at| &message[at..])?;
    let word = between(rest, "ariable `", "` not found")?;
    let invalid = Invalid::new(format!("variable {} not found", quoted(word)));
    let near = between(rest, "did you mean `", "`").and_then(|near| closest(word, [near]));
    Some(match (hint_for(word), near) {
        (Some(hint), _) => invalid.hint(hint),
        (None, Some(near)) => invalid.hint(format!("did you mean `{near}`?")),
        (None, None) => invalid,
    })
}

fn hint_for(word: &str) -> Option<&'static str> {
    WORDS.iter().find(|(known, _)| *known == word).map(|(_, hint)| *hint)
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(word, _)| word)
}
