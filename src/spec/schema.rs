//! JSON Schema of a spec document, for editors.
//!
//! Derived from the spec types. This module adds what types cannot express: the choice between kinds, variable
//! references in values that are not plain text, and empty fields.

use std::collections::BTreeSet;

use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::model::{Group, JobDocument, ServiceDocument};

/// Pattern of a variable reference.
const REFERENCE: &str = "\\$\\{";

/// Returns the JSON Schema (draft 2020-12) of a spec document.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let service = kind::<ServiceDocument>(&mut generator, "Service", false);
    let job = kind::<JobDocument>(&mut generator, "Job", true);
    let group = kind::<Group>(&mut generator, "Group", true);
    let mut definitions = generator.take_definitions(true);
    definitions.insert("Service".into(), service);
    definitions.insert("Job".into(), job);
    definitions.insert("Group".into(), group);
    let mut root = Schema::from(object(json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "drillmaster spec",
        "description": "One document of a spec file: a service (the default kind), a job or the group.",
        "type": "object",
        "if": has_kind("Job"),
        "then": {"$ref": "#/$defs/Job"},
        "else": {
            "if": has_kind("Group"),
            "then": {"$ref": "#/$defs/Group"},
            "else": {"$ref": "#/$defs/Service"}
        },
        "$defs": definitions
    })));
    allow_references(&mut root);
    root.to_value()
}

/// Returns the condition that a document has a kind.
fn has_kind(kind: &str) -> Value {
    json!({"properties": {"kind": {"const": kind}}, "required": ["kind"]})
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Returns the schema of a kind, with the field `kind` and `x-` keys.
fn kind<T: JsonSchema>(generator: &mut SchemaGenerator, name: &str, required: bool) -> Value {
    let mut schema = T::json_schema(generator);
    schema.insert("title".into(), name.into());
    let mut patterns = json!({"^x-": {"description": "Ignored; can hold YAML anchors."}});
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(allow_empty);
        allow_spellings(properties);
        if properties.contains_key("resources") {
            patterns["^deploy$"] = deploy();
        }
        let description = if required { "Kind of this document." } else { "Kind of this document; may be left out." };
        properties.insert("kind".into(), json!({"const": name, "description": description}));
    }
    schema.insert("patternProperties".into(), patterns);
    if required && let Value::Array(fields) = schema.ensure_object().entry("required").or_insert(json!([])) {
        fields.push("kind".into());
    }
    schema.to_value()
}

/// Accepts null for lists and maps: a field whose entries are all commented out is empty.
fn allow_empty(property: &mut Value) {
    if let Some(kind) = property.get_mut("type")
        && (*kind == "array" || *kind == "object")
    {
        *kind = json!([kind.take(), "null"]);
    }
}

/// Accepts what [`super::spellings`] replaces.
fn allow_spellings(properties: &mut Map<String, Value>) {
    for field in ["env", "labels"] {
        let Some(property) = properties.get_mut(field) else { continue };
        property["type"] = json!(["object", "array", "null"]);
        property["items"] = json!({"type": "string"});
    }
    if let Some(Value::Object(patterns)) = properties.get_mut("env").map(|env| &mut env["patternProperties"]) {
        patterns.values_mut().for_each(|value| *value = json!({"anyOf": [value.take(), {"type": "null"}]}));
    }
    if let Some(dependencies) = properties.get_mut("dependencies") {
        dependencies["type"] = json!(["array", "object", "null"]);
        dependencies["additionalProperties"] = json!({"type": ["object", "null"]});
    }
}

/// Returns the schema of `deploy`, which is no field of its own.
fn deploy() -> Value {
    let limits = json!({"type": "object", "properties": {"limits": {"$ref": "#/$defs/Resources"}}});
    json!({
        "description": "As in compose files: `replicas`, and `resources` as `resources.limits`.",
        "type": "object",
        "properties": {"replicas": {"type": "integer", "minimum": 0}, "resources": limits},
        "additionalProperties": false
    })
}

/// Accepts variable references for numbers, booleans, enums and text with a pattern.
fn allow_references(schema: &mut Schema) {
    // Transform subschemas first, so that the alternatives added below are not transformed again.
    transform_subschemas(&mut allow_references, schema);
    let Some(map) = schema.as_object_mut() else { return };
    if map.get("default") == Some(&Value::Null) {
        map.remove("default"); // editors would suggest `null`
    }
    if let Some(Value::String(pattern)) = map.get_mut("pattern") {
        if pattern.as_str() != REFERENCE {
            *pattern = format!("{pattern}|{REFERENCE}");
        }
        return;
    }
    let kinds: BTreeSet<&str> = match map.get("type") {
        Some(Value::String(kind)) => [kind.as_str()].into(),
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => BTreeSet::new(),
    };
    let is_scalar =
        ["integer", "number", "boolean"].iter().any(|kind| kinds.contains(kind)) && !kinds.contains("string");
    let is_enum = map.contains_key("enum") || map.contains_key("oneOf") && !kinds.contains("object");
    if !is_scalar && !is_enum {
        return;
    }
    // Annotations stay at the top; constraints move to the first alternative.
    let annotations = ["title", "description", "default", "examples"];
    let (keep, constraint): (Map<_, _>, Map<_, _>) =
        std::mem::take(map).into_iter().partition(|(key, _)| annotations.contains(&key.as_str()));
    *map = keep;
    map.insert("anyOf".into(), json!([constraint, {"type": "string", "pattern": REFERENCE}]));
}
