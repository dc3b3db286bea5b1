//! JSON Schema of the configuration, generated from the types that parse it, for editors and pipelines.
//!
//! It covers types, ranges and keys. Rules that involve two keys or a file are checked by `weir check` only.

use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use schemars::{Schema, json_schema};
use serde_json::{Value, json};

use super::schema::Document;

/// The schema. Every scalar may also be a text with `${…}`.
pub fn json_schema() -> Value {
    let mut schema = plain();
    admit_single_values(&mut schema);
    admit_variables(&mut schema);
    schema.insert("title".into(), "Weir".into());
    schema.insert("description".into(), "The configuration of Weir, an edge proxy and load balancer.".into());
    schema.to_value()
}

/// The schema of the document after variables are replaced.
pub(super) fn plain() -> Schema {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Document>()
}

/// Annotations. They stay at the outer level when the value is wrapped into `anyOf`.
const ABOUT: [&str; 3] = ["title", "description", "default"];

fn admit_single_values(schema: &mut Schema) {
    transform_subschemas(&mut admit_single_values, schema);
    let is_list = schema.get("type").is_some_and(|kind| kind == "array");
    let Some(item) = schema.get("items").filter(|_| is_list).cloned() else { return };
    let mut list = std::mem::take(schema);
    let mut outer = json_schema!({});
    for key in ABOUT {
        if let Some(words) = list.remove(key) {
            outer.insert(key.into(), words);
        }
    }
    outer.insert("anyOf".into(), json!([list, item]));
    *schema = outer;
}

fn admit_variables(schema: &mut Schema) {
    if !schema.as_object().is_some_and(is_narrow_scalar) {
        return transform_subschemas(&mut admit_variables, schema);
    }
    let mut inner = std::mem::take(schema);
    let mut outer = json_schema!({});
    for key in ABOUT {
        if let Some(words) = inner.remove(key) {
            outer.insert(key.into(), words);
        }
    }
    outer.insert("anyOf".into(), json!([inner, { "type": "string", "pattern": r"\$\{" }]));
    *schema = outer;
}

fn is_narrow_scalar(schema: &serde_json::Map<String, Value>) -> bool {
    let scalar = |name: &Value| matches!(name.as_str(), Some("integer" | "number" | "boolean"));
    let typed = match schema.get("type") {
        Some(Value::Array(names)) => names.iter().any(scalar),
        Some(name) => scalar(name),
        None => false,
    };
    let narrow = ["pattern", "enum", "const", "format"].iter().any(|key| schema.contains_key(*key));
    let choice = ["oneOf", "anyOf"].iter().any(|key| schema.get(*key).is_some_and(only_scalars));
    typed || narrow || choice
}

fn only_scalars(choices: &Value) -> bool {
    let section = |choice: &Value| choice.get("properties").is_some() || choice.get("$ref").is_some();
    choices.as_array().is_some_and(|choices| !choices.iter().any(section))
}
