//! Reference of the functions and values available to programs, generated from their definitions.

use std::fmt::Write;

use starlark::docs::{DocFunction, DocItem, DocMember, DocParam, DocString};
use starlark::environment::{GlobalsBuilder, Methods, MethodsBuilder};
use starlark::typing::Ty;

use super::{builtins, function, limits, resource};

const HEAD: &str = "\
# Reference of programs

<!-- Generated from the code. Refresh: UPDATE_REFERENCE=1 cargo test --test starlark reference -->

The functions and values available in `*.star` files. See [Programs](programs.md) for an introduction.
";

/// Title, introduction, and the function that registers the documented items.
type Section<B> = (&'static str, &'static str, fn(&mut B));

/// Sections on global functions.
const SECTIONS: [Section<GlobalsBuilder>; 3] = [
    ("Kinds", "Each call defines one document of the given kind.", builtins::kinds),
    (
        "Helpers",
        "Shorthands for maps in YAML. Each returns a dictionary; its further fields are set with keyword arguments.",
        builtins::helpers,
    ),
    (
        "Environment and files",
        "Available while specs are loaded, not in hooks and pings. Paths are relative to the spec directory and cannot \
         leave it. With `--watch`, the files and directories that were read are watched too.",
        builtins::inputs,
    ),
];

/// Sections on attributes and methods of values.
const VALUES: [Section<MethodsBuilder>; 3] = [
    (
        "A service or a job",
        "The value that `service(...)` and `job(...)` return. In a field, it is replaced by its name.",
        resource::methods,
    ),
    (
        "ctx",
        "The argument of functions used as pings and hooks. Calls end at the latest when the function times out.",
        function::methods,
    ),
    (
        "ctx.context",
        "Outputs of hooks and jobs. Values that a function sets are stored when it returns.",
        function::output_methods,
    ),
];

/// Returns the reference as Markdown.
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

/// Joins a doc comment into one paragraph.
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

/// Writes the fields of each kind, from the schema.
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
    let hooks = "A function can be used as `ping`. Hooks can be functions, alone or in a list: `pre_start`, `post_start`, \
                 `pre_stop`, `post_stop` and each event of `on`.";
    let _ = write!(out, "\n{hooks}\n");
}

/// Writes the names that the language itself provides.
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
        "\n## The language\n\nBuilt-in names of Starlark, as in Python: {}. `json` has `encode` and `decode`. Output of \
         `print` is shown by `validate` and `render`, and reported line by line in hooks. f-strings, type annotations \
         and `load` are supported; classes, `while`, `try` and `import` are not.\n",
        names.collect::<Vec<_>>().join(", ")
    );
}

fn limits(out: &mut String) {
    let _ = write!(out, "\n## Limits\n\nExceeding a limit is an error.\n\n| limit | maximum |\n|---|---|\n");
    for (limit, maximum) in limits::table() {
        let _ = writeln!(out, "| {limit} | {maximum} |");
    }
}
