//! Hints for common mistakes: what to write instead of a value or a key that was refused.
//!
//! It judges nothing: it only adds to what the types say. What belongs where comes from the JSON Schema, so a new key
//! needs no line here.

use std::sync::OnceLock;

use serde_json::Value;

use super::foreign_words;
use super::json_schema;
use super::node::{DocumentPath, Node, NodeKind, PathStep};
use super::value_hints;
use super::values::{Period, Size};

/// The key that a single value means, for sections that people write as one value: `retry: 3`.
const MEANT: [(&str, &str); 18] = [
    ("listeners", "address"),
    ("backends", "address"),
    ("admin", "address"),
    ("retry", "attempts"),
    ("match", "path_prefix"),
    ("redirect", "to"),
    ("respond", "status"),
    ("queue", "size"),
    ("sticky", "cookie"),
    ("log", "level"),
    ("access_log", "path"),
    ("discover", "dns"),
    ("rewrite", "strip_prefix"),
    ("split", "upstream"),
    ("client_auth", "ca"),
    ("hsts", "max_age"),
    ("http", "path"),
    ("server", "threads"),
];

/// A better hint than that of the type, if the mistake is a common one. `what` is what the type said of the value.
pub(super) fn better(place: &DocumentPath, on_key: bool, value: Option<&Node>, what: &str) -> Option<String> {
    if on_key && what.starts_with("unknown key") {
        let Some(PathStep::Key(key)) = place.0.last() else { return None };
        let here = || in_a_section_beside(place, on_key, None).or_else(|| belongs_elsewhere(place, key));
        return value_hints::of_key(place).or_else(here);
    }
    let value = value?;
    if let Some(hint) = value_hints::of(place, value, what) {
        return Some(hint);
    }
    if let Some(expected) = what.split_once(" where ").map(|(_, expected)| expected) {
        return match &value.kind {
            NodeKind::Text(_) | NodeKind::Bool(_) if expected.starts_with("a mapping or") => None,
            _ if expected.starts_with("an address such as `0.0.0.0") => {
                Some(format!("Write `{}`", to_listen_on(&scalar(value)?, place)?))
            }
            _ if expected.starts_with("a duration") => Some(format!("Write `{}`", duration(&scalar(value)?)?)),
            NodeKind::List(items) if expected.starts_with("a mapping") => Some(not_a_list(place, items)),
            NodeKind::Map(_) if expected.starts_with("a list") => {
                Some("Write each element behind `- `, with its keys indented".to_owned())
            }
            _ if expected.starts_with("a mapping") => not_one_value(place, &scalar(value)?),
            _ => None,
        };
    }
    let text = scalar(value)?;
    match () {
        () if what.contains("is not a duration") => Some(format!("Write `{}`", duration(&text)?)),
        () if what.contains("is not a size") => Some(format!("Write `{}`", size(&text)?)),
        () if what.contains("is not an address to listen on") => {
            Some(format!("Write `{}`", to_listen_on(&text, place)?))
        }
        () if what.contains("is not an address") => without_scheme(&text),
        () => None,
    }
}

fn scalar(node: &Node) -> Option<String> {
    match &node.kind {
        NodeKind::Text(text) => Some(text.clone()),
        NodeKind::Int(number) => Some(number.to_string()),
        NodeKind::Float(number) => Some(number.to_string()),
        NodeKind::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

/// For an unknown key: the section beside it that has this key. `nearly`: the hint that names the key which it nearly is.
pub(super) fn in_a_section_beside(place: &DocumentPath, on_key: bool, nearly: Option<&str>) -> Option<String> {
    let Some(PathStep::Key(key)) = place.0.last().filter(|_| on_key) else { return None };
    let inside = schema_at(&place.parent()).map(|schema| children_with(schema, key)).unwrap_or_default();
    let (child, in_list) = inside.first()?;
    // `upstream` is nearer to `upstreams` than to a route, while `cert` is nearly `certificates` and belongs in there.
    if *in_list && nearly.is_some_and(|hint| !hint.contains(&format!("`{child}`"))) {
        return None;
    }
    // A section with the plural is what `timeout` means, although `mirror` has a `timeout` too.
    if nearly.is_some_and(|hint| hint.contains(&format!("`{key}s`"))) {
        return None;
    }
    let names: Vec<_> = inside.iter().map(|(name, _)| format!("`{name}`")).collect();
    let example = if *in_list { format!("[{{ {key}: … }}]") } else { format!("{{ {key}: … }}") };
    Some(format!("`{key}` belongs in {}: write `{child}: {example}`", names.join(" or ")))
}

/// For a key that is known somewhere else: in another program, or elsewhere in the document.
fn belongs_elsewhere(place: &DocumentPath, key: &str) -> Option<String> {
    foreign_words::of(key).map(|ours| format!("`{key}` is {ours} here")).or_else(|| {
        let home = only_place_of(key)?;
        // The same key of another section of the document is another thing.
        let is_near = match place.0.first() {
            Some(PathStep::Key(top)) => place.0.len() == 1 || home.split(['.', '[']).next() == Some(top),
            _ => false,
        };
        is_near.then(|| format!("`{key}` belongs in `{home}`"))
    })
}

/// The keys of an object that hold an object, or a list of objects, with this key.
fn children_with(object: &'static Value, key: &str) -> Vec<(&'static str, bool)> {
    let children = properties(object).filter_map(|(name, child)| {
        let item = child.get("items").map(resolved);
        let has = |object: &Value| object["properties"].get(key).is_some();
        if has(child) { Some((name, false)) } else { item.filter(|item| has(item)).map(|_| (name, true)) }
    });
    children.collect()
}

/// Where in the document a key is known, if that is one place.
fn only_place_of(key: &str) -> Option<String> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), resolved(root()), 0)];
    while let Some((path, object, depth)) = open.pop() {
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        for (name, child) in properties(object) {
            if name == key {
                found.push(path.clone());
            }
            let item = child.get("items").map(|item| (format!("{}[]", below(name)), resolved(item)));
            let named = named_values(child).map(|value| (format!("{}.NAME", below(name)), resolved(value)));
            let next = [Some((below(name), child)), item, named].into_iter().flatten();
            open.extend(next.filter(|_| depth < 5).map(|(path, schema)| (path, schema, depth + 1)));
        }
    }
    match found.as_slice() {
        [place] if !place.is_empty() => Some(place.clone()),
        _ => None,
    }
}

fn root() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| json_schema::plain().to_value())
}

/// What a schema refers to; of several choices the first that is an object or a list.
fn resolved(schema: &'static Value) -> &'static Value {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
        return resolved(&root()["$defs"][name]);
    }
    let choices = ["anyOf", "oneOf"].iter().find_map(|key| schema[*key].as_array());
    let kinds = ["properties", "items", "additionalProperties", "patternProperties"];
    let structured = |choice: &&Value| kinds.iter().any(|kind| choice.get(*kind).is_some());
    choices.and_then(|choices| choices.iter().map(resolved).find(structured)).unwrap_or(schema)
}

fn properties(object: &'static Value) -> impl Iterator<Item = (&'static str, &'static Value)> {
    object["properties"].as_object().into_iter().flatten().map(|(name, schema)| (name.as_str(), resolved(schema)))
}

/// The schema of the values of a mapping whose keys are names.
fn named_values(schema: &'static Value) -> Option<&'static Value> {
    let by_pattern = || schema["patternProperties"].as_object()?.values().next();
    schema.get("additionalProperties").filter(|value| value.is_object()).or_else(by_pattern)
}

/// The schema of a place.
fn schema_at(place: &DocumentPath) -> Option<&'static Value> {
    place.0.iter().try_fold(resolved(root()), |schema, step| {
        let next = match step {
            PathStep::Index(_) => schema.get("items"),
            PathStep::Key(key) => schema["properties"].get(key).or_else(|| named_values(schema)),
        };
        // One value may stand for a list of one.
        let of_item = || match step {
            PathStep::Key(key) => schema.get("items").map(resolved).and_then(|item| item["properties"].get(key)),
            PathStep::Index(_) => None,
        };
        next.filter(|schema| schema.is_object()).or_else(of_item).map(resolved)
    })
}

/// For a list where named entries belong, or one section.
fn not_a_list(place: &DocumentPath, items: &[Node]) -> String {
    let name = items.iter().find_map(|item| item.entry("name").and_then(|name| scalar(&name.value)));
    let names_are_keys = schema_at(place).is_some_and(|schema| named_values(schema).is_some());
    match name {
        Some(name) if names_are_keys => format!("Write `{name}:` instead of `- name: {name}`"),
        None if names_are_keys => "Write `NAME:` instead of `-`".to_owned(),
        _ => "Leave out the `-`".to_owned(),
    }
}

/// For one value where a section belongs.
fn not_one_value(place: &DocumentPath, text: &str) -> Option<String> {
    let known = |key: &str| schema_at(place).is_some_and(|schema| schema["properties"].get(key).is_some());
    if let Some((key, _)) = text.split_once(':').filter(|(key, _)| known(key)) {
        return Some(format!("A space is missing after `{key}:`"));
    }
    let mut keys = place.0.iter().rev().filter_map(|step| match step {
        PathStep::Key(key) => Some(key.as_str()),
        PathStep::Index(_) => None,
    });
    let (section, in_list) = (keys.next()?, matches!(place.0.last(), Some(PathStep::Index(_))));
    let in_upstreams = place.0.len() == 2 && keys.next() == Some("upstreams") && !in_list;
    let quoted = if text.contains([':', '#', '{', '[']) { format!("\"{text}\"") } else { text.to_owned() };
    if in_upstreams {
        return Some(format!("Write `{section}: {{ backends: [{{ address: {quoted} }}] }}`"));
    }
    if section == "health_check" && ["http", "tcp", "grpc"].contains(&text) {
        return Some(format!("Write `health_check: {{ {text}: {{}} }}`"));
    }
    let (_, meant) = MEANT.iter().find(|(name, _)| *name == section)?;
    Some(match in_list {
        true => format!("Write `{{ {meant}: {quoted} }}`"),
        false => format!("Write `{section}: {{ {meant}: {quoted} }}`"),
    })
}

/// A number and the unit behind it, in lower case.
fn number_and_unit(text: &str) -> Option<(f64, String)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim().to_ascii_lowercase()))
}

/// The duration that a text means, as Weir writes it.
fn duration(text: &str) -> Option<String> {
    let (number, unit) = number_and_unit(text)?;
    let millis = match unit.as_str() {
        "ms" | "msec" | "millis" => 1.0,
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 1e3,
        "m" | "min" | "mins" | "minute" | "minutes" => 60e3,
        "h" | "hr" | "hour" | "hours" => 3_600e3,
        "d" | "day" | "days" => 86_400e3,
        "w" | "week" | "weeks" => 7.0 * 86_400e3,
        _ => return None,
    };
    let period: Period = format!("{}ms", (number * millis).round()).parse().ok()?;
    Some(period.to_string())
}

/// The size that a text means, as Weir writes it.
fn size(text: &str) -> Option<String> {
    let (number, unit) = number_and_unit(text)?;
    let shift = match unit.as_str() {
        "" | "b" | "bytes" => 0,
        "k" | "kb" | "kib" | "kbytes" | "kilobytes" => 10,
        "m" | "mb" | "mib" | "megabytes" => 20,
        "g" | "gb" | "gib" | "gigabytes" => 30,
        _ => return None,
    };
    let size: Size = format!("{}B", (number * f64::from(1_u32 << shift)).round()).parse().ok()?;
    Some(size.to_string())
}

/// The host and the port of an address that may have a scheme and a path.
fn parts(text: &str) -> (Option<&str>, &str, Option<u16>) {
    let (scheme, rest) = text.split_once("://").map_or((None, text), |(scheme, rest)| (Some(scheme), rest));
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?))) {
        Some((host, port)) => (scheme, host, Some(port)),
        None => (scheme, authority, None),
    }
}

/// The address to listen on that a text means: `:80`, `*:80`, `localhost:80`, `80`, `http://127.0.0.1:80`.
fn to_listen_on(text: &str, place: &DocumentPath) -> Option<String> {
    if let Ok(port) = text.parse::<u16>() {
        return Some(format!("0.0.0.0:{port}"));
    }
    let (scheme, host, port) = parts(text);
    let host = match host {
        "" | "*" => "0.0.0.0",
        "localhost" => "127.0.0.1",
        host => host,
    };
    let port = port.unwrap_or(match scheme {
        Some("https") => 443,
        Some(_) => 80,
        None if place.0.first() == DocumentPath::of("admin").0.first() => 9180,
        None => 8080,
    });
    let address = format!("{host}:{port}");
    address.parse::<std::net::SocketAddr>().is_ok().then_some(address)
}

/// A backend's address without scheme and path.
fn without_scheme(text: &str) -> Option<String> {
    let (scheme, host, port) = parts(text);
    let scheme = scheme.filter(|scheme| ["http", "https", "h2c", "tcp"].contains(scheme))?;
    let address = format!("{host}:{}", port.unwrap_or(if scheme == "https" { 443 } else { 80 }));
    let tls = format!(", and add `tls: {{ server_name: {host} }}` to the upstream");
    Some(format!("Leave out `{scheme}://`: write `{address}`{}", if scheme == "https" { &tls } else { "" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_converted() {
        for (text, meant) in
            [("1.5s", "1500ms"), ("1d", "24h"), ("75", "75s"), ("30 s", "30s"), ("2min", "2m"), ("1w", "168h")]
        {
            assert_eq!(duration(text).as_deref(), Some(meant), "{text}");
        }
        for (text, meant) in [("10M", "10MiB"), ("64k", "64KiB"), ("1.5GB", "1536MiB"), ("10 mb", "10MiB")] {
            assert_eq!(size(text).as_deref(), Some(meant), "{text}");
        }
        assert_eq!((duration("soon"), size("big"), duration("99999d")), (None, None, None));
    }

    #[test]
    fn addresses_are_corrected() {
        let web = DocumentPath::of("listeners").index(0);
        for (text, meant) in [
            (":9090", "0.0.0.0:9090"),
            ("*:80", "0.0.0.0:80"),
            ("localhost:81", "127.0.0.1:81"),
            ("8082", "0.0.0.0:8082"),
            ("http://127.0.0.1:8080/", "127.0.0.1:8080"),
            ("127.0.0.1", "127.0.0.1:8080"),
        ] {
            assert_eq!(to_listen_on(text, &web).as_deref(), Some(meant), "{text}");
        }
        assert_eq!(to_listen_on("example.org:80", &web), None);
        assert_eq!(to_listen_on("127.0.0.1", &DocumentPath::of("admin")).as_deref(), Some("127.0.0.1:9180"));
    }
}
