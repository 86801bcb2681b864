//! Generator of `docs/reference.md`: all spec fields, from the JSON Schema.

use std::fmt::Write;

use drillmaster::spec::schema;
use serde_json::Value;

const HEAD: &str = "\
# Reference of every field

<!-- Generated from the JSON Schema. Refresh: UPDATE_REFERENCE=1 cargo test --test docs -->

Every field of a spec, with its type and default. [Writing specs](specs.md) introduces the most important ones;
`drillmaster schema` prints the same for editors. A value may contain `${VAR}` wherever plain text is expected.
";

/// Document kinds in the order of the page.
const KINDS: [&str; 3] = ["Service", "Job", "Group"];

/// Returns the page as Markdown.
pub fn reference() -> String {
    let schema = schema();
    let mut page = HEAD.to_owned();
    for kind in KINDS {
        let definition = &schema["$defs"][kind];
        let _ = write!(page, "\n## {kind}\n\n{}.\n", description(definition).trim_end_matches('.'));
        fields(&mut page, definition);
    }
    page.push_str("\n## Values\n\nTypes that the tables above refer to.\n");
    for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
        if !KINDS.contains(&name.as_str()) {
            value(&mut page, name, definition);
        }
    }
    page
}

/// Appends a type to the section on values.
fn value(page: &mut String, name: &str, definition: &Value) {
    let _ = write!(page, "\n### {name}\n\n{}\n", description(definition));
    let examples: Vec<String> =
        definition["examples"].as_array().into_iter().flatten().map(|example| format!("`{}`", flow(example))).collect();
    if !examples.is_empty() {
        let _ = write!(page, "\nExamples: {}\n", examples.join(", "));
    }
    forms(page, definition);
}

/// Appends the words and fields of a type and of its alternatives.
fn forms(page: &mut String, form: &Value) {
    choices(page, form);
    fields(page, form);
    let alternatives = [&form["anyOf"], &form["oneOf"]];
    for alternative in alternatives.into_iter().filter_map(Value::as_array).flatten() {
        forms(page, alternative);
    }
}

/// Appends the possible words of an enumeration.
fn choices(page: &mut String, form: &Value) {
    let choices: Vec<&Value> =
        form["oneOf"].as_array().into_iter().flatten().filter(|one| one["const"].is_string()).collect();
    if choices.is_empty() {
        return;
    }
    page.push_str("\n| Value | Description |\n|---|---|\n");
    for choice in choices {
        let _ =
            writeln!(page, "| `{}` | {} |", choice["const"].as_str().unwrap_or_default(), cell(&description(choice)));
    }
}

/// Appends the fields of a map.
fn fields(page: &mut String, form: &Value) {
    let Some(properties) = form["properties"].as_object() else { return };
    page.push_str("\n| Field | Type | Default | Description |\n|---|---|---|---|\n");
    let is_required = |field: &str| form["required"].as_array().is_some_and(|all| all.iter().any(|one| one == field));
    for (field, property) in properties {
        let default = match &property["default"] {
            _ if is_required(field) => "required".to_owned(),
            default if is_empty(default) => String::new(),
            default => format!("`{}`", flow(default)),
        };
        let type_name = property["const"].as_str().map_or_else(|| type_name(property), |word| format!("`{word}`"));
        let own = description(property);
        // The form `{field: value}` of an enumeration is described as a whole.
        let text = if own.is_empty() && properties.len() == 1 { description(form) } else { own };
        let _ = writeln!(page, "| `{field}` | {type_name} | {default} | {} |", cell(&text));
    }
}

/// Returns true if a default equals an omitted field.
fn is_empty(default: &Value) -> bool {
    match default {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Formats a type, with links to the types of this page.
fn type_name(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(alternatives) = schema["anyOf"].as_array() {
        // Every value may be a variable reference; the head of the page states it once.
        let is_shown = |one: &&Value| one["type"] != "null" && one["pattern"] != "\\$\\{";
        let mut names: Vec<String> = alternatives.iter().filter(is_shown).map(type_name).collect();
        names.dedup();
        return names.join(" or ");
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect(),
        _ => Vec::new(),
    };
    let one = |name: &&str| match *name {
        "array" => format!("list of {}", type_name(&schema["items"])),
        "object" => {
            let values = schema["patternProperties"].as_object().and_then(|patterns| patterns.values().next());
            match type_name(values.unwrap_or(&schema["additionalProperties"])) {
                values if values.is_empty() => "map".to_owned(),
                values => format!("map of {values}"),
            }
        }
        name => name.to_owned(),
    };
    types.iter().map(one).collect::<Vec<_>>().join(" or ")
}

fn description(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// Formats a value in YAML flow style.
fn flow(value: &Value) -> String {
    let is_plain = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '.' || c == '/')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._/:+".contains(c))
            && !["true", "false", "null", "yes", "no", "on", "off"].contains(&text)
    };
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let entries: Vec<String> = map.iter().map(|(key, value)| format!("{key}: {}", flow(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        other => other.to_string(),
    }
}
