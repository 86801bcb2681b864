//! The reference of everything that a program can call, made from what there is.

use std::fmt::Write;

use starlark::docs::{DocFunction, DocItem, DocMember, DocParam, DocString};
use starlark::environment::{GlobalsBuilder, Methods, MethodsBuilder};
use starlark::typing::Ty;

use super::{builtins, function, limits, resource};

const HEAD: &str = "\
# Reference of programs

<!-- Generated from the code. Refresh: UPDATE_REFERENCE=1 cargo test --test starlark reference -->

Everything that a `*.star` file can call. [Programs](programs.md) introduces it.
";

/// A title, a sentence, and what adds what it is about.
type Section<B> = (&'static str, &'static str, fn(&mut B));

/// Sections of functions.
const SECTIONS: [Section<GlobalsBuilder>; 3] = [
    ("Kinds", "Each makes a document.", builtins::kinds),
    (
        "Helpers",
        "Short for what YAML writes as a map; each gives a dictionary, and takes what else may stand in it by name.",
        builtins::helpers,
    ),
    (
        "The world",
        "What can be seen of it while specs are read. Paths are relative to the spec directory and stay in it; what was \
         read is followed while watching.",
        builtins::world,
    ),
];

/// Sections of what values can do.
const VALUES: [Section<MethodsBuilder>; 3] = [
    (
        "A service or a job",
        "What `service(...)` and `job(...)` give. In a field it stands for its name.",
        resource::methods,
    ),
    (
        "ctx",
        "The argument of a function that is a ping or a hook. Every call ends when the time of the function is over.",
        function::methods,
    ),
    (
        "ctx.context",
        "Outputs of hooks and jobs; what is set is kept when the function has returned.",
        function::output_methods,
    ),
];

/// The reference, as Markdown.
pub fn reference() -> String {
    let mut out = HEAD.to_owned();
    for (title, about, section) in SECTIONS {
        let _ = write!(out, "\n## {title}\n\n{about}\n");
        for (name, item) in GlobalsBuilder::new().with(section).build().documentation().members {
            if let DocItem::Member(DocMember::Function(function)) = item {
                self::function(&mut out, &name, &function);
            }
        }
        if title == "Kinds" {
            fields(&mut out);
        }
    }
    for (title, about, section) in VALUES {
        let _ = write!(out, "\n## {title}\n\n{about}\n");
        for (name, member) in methods(section).documentation(Ty::any()).members {
            match member {
                DocMember::Function(function) => self::function(&mut out, &name, &function),
                DocMember::Property(property) => {
                    let _ = write!(out, "\n### `{name}`\n\n{}\n", text(property.docs.as_ref()));
                }
            }
        }
    }
    language(&mut out);
    limits(&mut out);
    out
}

fn methods(section: fn(&mut MethodsBuilder)) -> Methods {
    let mut builder = MethodsBuilder::new();
    section(&mut builder);
    builder.build()
}

/// A comment in one paragraph.
fn text(docs: Option<&DocString>) -> String {
    let Some(docs) = docs else { return String::new() };
    let whole = format!("{}\n{}", docs.summary, docs.details.as_deref().unwrap_or_default());
    whole.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn function(out: &mut String, name: &str, function: &DocFunction) {
    let params = &function.params;
    let one = |param: &DocParam| match &param.default_value {
        Some(_) => format!("{}=…", param.name),
        None => param.name.clone(),
    };
    let positional = params.pos_only.iter().chain(&params.pos_or_named).map(one);
    let rest = params.args.iter().map(|param| format!("*{}", param.name));
    let named = params.named_only.iter().map(one);
    let more = params.kwargs.iter().map(|param| format!("**{}", param.name));
    let all: Vec<String> = positional.chain(rest).chain(named).chain(more).collect();
    let _ = write!(out, "\n### `{name}({})`\n\n{}\n", all.join(", "), text(function.docs.as_ref()));
}

/// The fields of the kinds, from the schema.
fn fields(out: &mut String) {
    let schema = crate::spec::schema();
    for (kind, name) in [("Service", "service"), ("Job", "job"), ("Group", "group")] {
        let _ = write!(out, "\n### Fields of `{name}`\n\n| field | |\n|---|---|\n");
        let properties = schema["$defs"][kind]["properties"].as_object();
        for (field, property) in properties.into_iter().flatten().filter(|(field, _)| *field != "kind") {
            let about = property["description"].as_str().unwrap_or_default();
            let about = about.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
            let _ = writeln!(out, "| `{field}` | {about} |");
        }
    }
    let hooks = "A function may stand for `ping`, `pre_start`, `post_start`, `pre_stop`, `post_stop`, for each occasion of \
                 `on`, and in lists of these.";
    let _ = write!(out, "\n{hooks}\n");
}

/// What comes with the language.
fn language(out: &mut String) {
    let ours: Vec<String> = SECTIONS
        .iter()
        .flat_map(|(_, _, section)| GlobalsBuilder::new().with(section).build().documentation().members.into_keys())
        .collect();
    let globals = builtins::globals();
    let is_word = |name: &str| name.starts_with(|c: char| c.is_ascii_alphabetic());
    let names = globals.names().map(|name| name.as_str().to_owned());
    let names = names.filter(|name| is_word(name) && !ours.contains(name)).map(|name| format!("`{name}`"));
    let _ = write!(
        out,
        "\n## The language\n\nStarlark's own, as Python's: {}. `json` has `encode` and `decode`. `print` is shown by \
         `validate` and `render`, and line by line where a hook calls it. f-strings, type annotations and `load` are \
         there; classes, `while`, `try`, `import`, `*=`, `%=` and `<<=` are not.\n",
        names.collect::<Vec<_>>().join(", ")
    );
}

fn limits(out: &mut String) {
    let _ = write!(out, "\n## Limits\n\nMore is an error with its place.\n\n| | at most |\n|---|---|\n");
    for (what, most) in limits::table() {
        let _ = writeln!(out, "| {what} | {most} |");
    }
}
