//! Generates the tables of docs/configuration.md from the schema, and tests that the file is up to date. Test builds
//! only.
//!
//! The text above the marker is written by hand. `WEIR_BLESS=1` rewrites the tables below it.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value};

use super::json_schema;

const MARKER: &str = "<!-- Below here the tables are made from src/config/schema.rs by its tests. -->\n";

/// All sections in the order of the document.
fn tables() -> String {
    let root = json_schema::plain().to_value();
    let defs = root["$defs"].as_object().unwrap().clone();
    let mut out = String::new();
    section(&defs, "", &root, &mut out);
    out
}

/// The table of one section, followed by the tables of the sections inside it.
fn section(defs: &Map<String, Value>, path: &str, schema: &Value, out: &mut String) {
    let title = if path.is_empty() { "The file".to_owned() } else { format!("`{path}`") };
    let _ = writeln!(out, "\n## {title}\n");
    let about = schema["description"].as_str().unwrap_or_default();
    let about = about.split_once("`: ").map_or(about, |(_, rest)| rest).replace('\n', " ");
    let upper = about.chars().next().map(|c| c.to_uppercase().chain(about.chars().skip(1)).collect::<String>());
    match upper {
        Some(upper) if !upper.starts_with('`') => drop(writeln!(out, "{upper}\n")),
        _ => {}
    }
    let none = Map::new();
    let keys = schema["properties"].as_object().unwrap_or(&none);
    if keys.is_empty() {
        return;
    }
    let _ = writeln!(out, "| key | type | default | meaning |\n|---|---|---|---|");
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut below = Vec::new();
    for (key, property) in keys {
        let kind = kind(defs, property);
        let mut default = default(property, required.contains(&key.as_str()), kind.section.is_some());
        if kind.words.starts_with("`\"") {
            // The value needs quotes in YAML, otherwise it is a number.
            default = format!("`\"{}\"`", default.trim_matches('`'));
        }
        let meaning = property["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|");
        let _ = writeln!(out, "| `{key}` | {} | {default} | {meaning} |", kind.words);
        if let Some((inner, suffix)) = kind.section {
            let dot = if path.is_empty() { "" } else { "." };
            below.push((format!("{path}{dot}{key}{suffix}"), inner));
        }
    }
    for (path, inner) in below {
        section(defs, &path, &inner, out);
    }
}

struct Kind {
    words: String,
    /// The section that a value is or contains, and the suffix of its path.
    section: Option<(Value, &'static str)>,
}

fn plain(words: impl Into<String>) -> Kind {
    Kind { words: words.into(), section: None }
}

fn kind(defs: &Map<String, Value>, schema: &Value) -> Kind {
    if let Some(name) = schema["$ref"].as_str() {
        return named(name.trim_start_matches("#/$defs/"), defs);
    }
    let choices = schema["anyOf"].as_array();
    if let Some(choice) = choices.and_then(|a| a.iter().find(|c| c["type"] != "null")) {
        let Kind { words, section } = kind(defs, choice);
        // A section that can be replaced by a single word.
        let word = choices.and_then(|a| a.iter().find_map(|c| c["const"].as_str()));
        let is_list = choices.is_some_and(|a| a.iter().any(|c| c["type"] == "array"));
        let words = if is_list && section.is_some() && words == "section" { "section or list".into() } else { words };
        return Kind { words: word.map_or(words.clone(), |word| format!("{words} or `{word}`")), section };
    }
    let types = match &schema["type"] {
        Value::Array(names) => names.iter().find(|n| *n != "null").cloned().unwrap_or_default(),
        name => name.clone(),
    };
    match types.as_str() {
        Some("array") => {
            let inner = kind(defs, &schema["items"]);
            let section = inner.section.map(|(schema, _)| (schema, "[]"));
            Kind { words: format!("list: {}", inner.words), section }
        }
        Some("object") => {
            let values = [&schema["additionalProperties"], &schema["patternProperties"]];
            let inner = values[1].as_object().and_then(|p| p.values().next()).unwrap_or(values[0]);
            let inner = kind(defs, inner);
            let section = inner.section.map(|(schema, _)| (schema, ".*"));
            Kind { words: format!("by name: {}", inner.words), section }
        }
        Some("integer") => plain(match (schema["minimum"].as_u64(), schema["maximum"].as_u64()) {
            (Some(least), Some(most)) => format!("number, {least} to {most}"),
            _ => "number".into(),
        }),
        Some("number") => plain("number"),
        Some("boolean") => plain("`true` or `false`"),
        _ => plain("text"),
    }
}

fn named(name: &str, defs: &Map<String, Value>) -> Kind {
    let words = match name {
        "Period" => "duration",
        "HttpUrl" => "URL",
        "ClaimValue" => "text, number, `true` or `false`",
        "Size" => "size",
        "Percent" => "share",
        "Name" => "name",
        "AdminAddress" => "`ip:port` or `unix:/path`",
        "BackendAddress" => "address",
        "Cidr" => "network",
        "ValueMatch" => "text or condition",
        "DnsName" => "name in DNS",
        "NameServer" => "`ip` or `ip:port`",
        "HostPattern" => "host",
        "OriginPattern" => "origin or `{ regex: … }`",
        "Method" => "method",
        "HostRule" => "`keep`, `backend` or a name",
        "Pattern" => "regular expression",
        "StatusRange" => "status or range",
        "RetryWhen" => "reason",
        "Target" => "`stdout`, `off` or a path",
        "TlsVersion" => "`\"1.2\"` or `\"1.3\"`",
        "Suite" => "cipher suite",
        "RedirectHttps" => "`true`, `false` or a port",
        _ => {
            let schema = &defs[name];
            let choices = schema["oneOf"].as_array().or(schema["anyOf"].as_array()).into_iter().flatten();
            let values: Vec<String> = choices.map(|c| format!("`{}`", c["const"].as_str().unwrap_or("?"))).collect();
            return match values.is_empty() {
                true => Kind { words: "section".into(), section: Some((schema.clone(), "")) },
                false => plain(values.join(", ")),
            };
        }
    };
    plain(words)
}

fn default(property: &Value, required: bool, section: bool) -> String {
    match &property["default"] {
        _ if required => "required".into(),
        Value::Null => "–".into(),
        Value::Object(_) if section => "–".into(),
        Value::Array(items) if items.is_empty() => "–".into(),
        Value::Object(fields) if fields.is_empty() => "–".into(),
        Value::String(text) if text.is_empty() => "empty".into(),
        Value::String(text) => format!("`{text}`"),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|i| i.as_str().map_or(i.to_string(), str::to_owned)).collect();
            format!("`[{}]`", items.join(", "))
        }
        other => format!("`{other}`"),
    }
}

#[test]
fn the_configuration_reference_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let written = std::fs::read_to_string(&path).unwrap();
    let (by_hand, _) = written.split_once(MARKER).expect("the marker");
    let made = format!("{by_hand}{MARKER}{}", tables());
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(&path, made).unwrap();
    } else {
        assert_eq!(written, made, "docs/configuration.md: run the tests with WEIR_BLESS=1");
    }
}
