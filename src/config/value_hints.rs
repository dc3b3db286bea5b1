//! Hints for values that come from the habits of other programs: what to write instead.
//!
//! It judges nothing: it only adds to what the types say.

use super::foreign_words;
use super::node::{DocumentPath, Node, NodeKind, PathStep};

/// For a file in the format of another program.
pub(super) const OTHER_FORMAT: &str =
    "A configuration of Weir is YAML with the keys `listeners`, `routes` and `upstreams`; conf/weir.yaml is an example";

/// Names of balancing algorithms in other programs.
const BALANCERS: [(&str, &str); 13] = [
    ("ip_hash", "`consistent_hash`, and `hash: { client: {} }` beside it"),
    ("source", "`consistent_hash`, and `hash: { client: {} }` beside it"),
    ("uri", "`consistent_hash`, and `hash: { path: {} }` beside it"),
    ("hash", "`consistent_hash`, and `hash` beside it"),
    ("ring_hash", "`consistent_hash`, and `hash` beside it"),
    ("maglev", "`consistent_hash`, and `hash` beside it"),
    ("leastconn", "`least_connections`"),
    ("least_conn", "`least_connections`"),
    ("least_request", "`least_connections`"),
    ("wrr", "`weighted_round_robin`"),
    ("static-rr", "`weighted_round_robin`"),
    ("random_choose", "`p2c`"),
    ("ewma", "`peak_ewma`"),
];

/// The hint for a value at this place. `what` is what the type said of it.
pub(super) fn of(place: &DocumentPath, value: &Node, what: &str) -> Option<String> {
    let text = match &value.kind {
        NodeKind::Text(text) => text.as_str(),
        NodeKind::Bool(_) => "true",
        _ => "",
    };
    let shape = shape(place);
    match what.split_once(" where ").map(|(_, expected)| expected.trim_end_matches(" belongs")) {
        Some("`true` or `false`") => boolean(text),
        Some("a string") if matches!(value.kind, NodeKind::List(_)) => Some(if shape.starts_with("routes[].match") {
            "Write one value, and one route for each other value".to_owned()
        } else {
            "Write one value".to_owned()
        }),
        Some(expected) if expected.starts_with("a share") => number(value).map(|share| format!("Write `{share}%`")),
        Some(expected) if expected.contains("number") && text.parse::<u64>().is_ok() => {
            Some(format!("Leave out the quotes: write `{text}`"))
        }
        Some(expected) if expected.contains("number") && !text.is_empty() => {
            Some("Write a number, or leave the key out for the default".to_owned())
        }
        Some(expected) if expected.starts_with("a duration") && is_negative(value) => {
            Some("A duration cannot be negative".to_owned())
        }
        Some("a list") if shape == "upstreams.NAME.backends" && matches!(value.kind, NodeKind::Null) => {
            Some("Write at least one backend: `- address: 127.0.0.1:3001`".to_owned())
        }
        Some(expected) if expected.starts_with("a mapping") => in_place_of_mapping(&shape, place, value, text),
        Some(_) => None,
        None => unfit(&shape, text, what),
    }
}

/// For an unknown key that other programs have at this place.
pub(super) fn of_key(place: &DocumentPath) -> Option<String> {
    let PathStep::Key(key) = place.0.last()? else { return None };
    if let Some((name, _)) = key.split_once(':').filter(|(_, rest)| !rest.is_empty()) {
        return Some(format!("A space is missing after `{name}:`"));
    }
    if key.contains('\u{a0}') {
        return Some("Indent with spaces: this line has non-breaking spaces".to_owned());
    }
    Some(match (shape(&place.parent()).as_str(), key.as_str()) {
        ("listeners[]", "port" | "host" | "ip") => format!("`{key}` is part of `address`: write `address: 0.0.0.0:80`"),
        ("upstreams.NAME.backends[]", "port" | "host" | "ip" | "hostname") => {
            format!("`{key}` is part of `address`: write `address: localhost:3001`")
        }
        ("", "http" | "stream" | "global" | "defaults" | "static_resources") => {
            format!("Leave out `{key}`: `listeners`, `routes` and `upstreams` begin at the left margin")
        }
        ("", "include" | "import") => "Weir reads one file: write everything in it".to_owned(),
        ("routes[].redirect", "url" | "location" | "target") => format!("`{key}` is `to` here"),
        ("routes[].redirect" | "routes[].respond", "code" | "status_code") => format!("`{key}` is `status` here"),
        ("routes[]", "retries") => "`retries` is `retry: { attempts: … }` here".to_owned(),
        ("upstreams.NAME", "timeouts" | "retry") => format!("`{key}` belongs in `routes[]`"),
        ("upstreams.NAME.tls", "sni" | "host") => format!("`{key}` is `server_name` here"),
        (section, "domains" | "domain") if section.ends_with(".acme") => format!("`{key}` is `names` here"),
        ("listeners[].tls", "cert_file" | "certificate" | "cert_path") => {
            format!("`{key}` is `cert` in `certificates` here: write `certificates: [{{ cert: FILE, key: FILE }}]`")
        }
        ("listeners[].tls", "key_file" | "private_key" | "key_path") => {
            format!("`{key}` is `key` in `certificates` here: write `certificates: [{{ cert: FILE, key: FILE }}]`")
        }
        // The name of a field has a hyphen or a capital letter, and a misspelt key has none.
        ("routes[].request_headers" | "routes[].response_headers", name)
            if name.contains(|c: char| c == '-' || c.is_ascii_uppercase()) =>
        {
            format!("Write `set: {{ {key}: … }}`, or `add` instead of `set`")
        }
        _ => return None,
    })
}

/// A place without its indexes and names: `listeners[].tls`, `upstreams.NAME.backends[]`.
fn shape(place: &DocumentPath) -> String {
    let mut shape = String::new();
    for (at, step) in place.0.iter().enumerate() {
        match step {
            PathStep::Index(_) => shape.push_str("[]"),
            PathStep::Key(_) if at == 1 && shape == "upstreams" => shape.push_str(".NAME"),
            PathStep::Key(key) if at == 0 => shape.push_str(key),
            PathStep::Key(key) => shape.extend([".", key]),
        }
    }
    // One value may stand for a list of one.
    ["listeners", "routes"]
        .iter()
        .find_map(|list| Some(format!("{list}[].{}", shape.strip_prefix(list)?.strip_prefix('.')?)))
        .unwrap_or(shape)
}

fn boolean(text: &str) -> Option<String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "on" | "1" | "enabled" | "true" => Some("Write `true`".to_owned()),
        "no" | "off" | "0" | "disabled" | "false" => Some("Write `false`".to_owned()),
        _ => None,
    }
}

fn number(value: &Node) -> Option<String> {
    match &value.kind {
        NodeKind::Int(number) if (0..=100).contains(number) => Some(number.to_string()),
        NodeKind::Float(share) if (0.0..=1.0).contains(share) => Some((share * 100.0).round().to_string()),
        _ => None,
    }
}

fn is_negative(value: &Node) -> bool {
    match &value.kind {
        NodeKind::Int(number) => *number < 0,
        NodeKind::Float(number) => *number < 0.0,
        NodeKind::Text(text) => text.starts_with('-'),
        _ => false,
    }
}

fn in_place_of_mapping(shape: &str, place: &DocumentPath, value: &Node, text: &str) -> Option<String> {
    let is_list = matches!(value.kind, NodeKind::List(_));
    let hint = match shape {
        "" if !is_list => OTHER_FORMAT.to_owned(),
        "upstreams.NAME" if matches!(value.kind, NodeKind::Null) => {
            "Write its backends: `backends: [{ address: \"127.0.0.1:3001\" }]`, with more indentation than the name"
                .to_owned()
        }
        "listeners[].tls" => "Write `tls: { certificates: [{ cert: FILE, key: FILE }] }`".to_owned(),
        "upstreams.NAME.tls" => {
            "Write `tls: { server_name: NAME }`, with a name of the backend's certificate".to_owned()
        }
        "listeners[].tls.certificates[]" if !is_list => format!("Write `{{ cert: {text}, key: FILE }}`"),
        "upstreams.NAME.sticky" if text == "true" => "Write `sticky: { cookie: NAME, key_file: FILE }`".to_owned(),
        "upstreams.NAME.health_check" if text.starts_with('/') => {
            format!("Write `health_check: {{ http: {{ path: {text} }} }}`")
        }
        "upstreams.NAME.health_check" if text == "true" => {
            "Write `health_check: { http: { path: /healthz } }`, or `health_check: { tcp: {} }`".to_owned()
        }
        "upstreams.NAME" if is_list => {
            let PathStep::Key(name) = place.0.last()? else { return None };
            format!(
                "Write the list behind `backends:`, as in `{name}: {{ backends: [{{ address: \"127.0.0.1:3001\" }}] }}`"
            )
        }
        "routes[].request_headers" | "routes[].response_headers" => {
            "Write `set: { NAME: VALUE }`, or `remove: [NAME]`".to_owned()
        }
        _ => return of_line(text),
    };
    Some(hint)
}

/// For a line such as `listen 80` or `address = "127.0.0.1:80"`.
fn of_line(text: &str) -> Option<String> {
    let (first, rest) = text.split_once([' ', '='])?;
    let rest = rest.trim();
    if let Some(value) = rest.strip_prefix('=').or(text[first.len()..].strip_prefix('=')) {
        return Some(format!("Write `{first}: {}`, with a colon instead of `=`", value.trim()));
    }
    match foreign_words::of(first) {
        Some(ours) => Some(format!("`{first}` is {ours} here, and a colon is missing after the key")),
        None => Some(format!("A colon is missing: write `{first}: {rest}`")),
    }
}

/// For text that does not fit: `what` ends with `is not a host` and the like.
fn unfit(shape: &str, text: &str, what: &str) -> Option<String> {
    let is_straight = |c: char| !"\u{201c}\u{201d}\u{201e}\u{2018}\u{2019}\u{ab}\u{bb}".contains(c);
    if !text.chars().all(is_straight) {
        return Some("Write straight quotes `\"` instead of typographic ones".to_owned());
    }
    match () {
        () if what.ends_with("is not an address to listen on") => to_listen_on(text),
        () if what.ends_with("is not a host") => host(text),
        () if what.ends_with("is not a name") => of_upstream(shape, text),
        () if shape == "upstreams.NAME.balance" => {
            let (_, ours) = BALANCERS.iter().find(|(theirs, _)| theirs.eq_ignore_ascii_case(text))?;
            Some(format!("Write {ours}"))
        }
        () => None,
    }
}

fn to_listen_on(text: &str) -> Option<String> {
    if let Some((before, _)) = text.split_once('#').filter(|(before, _)| before.parse::<std::net::SocketAddr>().is_ok())
    {
        return Some(format!("A comment needs a space before `#`: write `{before}`"));
    }
    let (host, port) = text.rsplit_once(':')?;
    if host.parse::<std::net::Ipv6Addr>().is_ok() && port.parse::<u16>().is_ok() {
        return Some(format!("Write `[{host}]:{port}`"));
    }
    if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_err() {
        return Some("A port is a number from 1 to 65535".to_owned());
    }
    let is_name = host.contains(|c: char| c.is_ascii_alphabetic()) && !host.contains([':', '/']) && host != "localhost";
    let port = port.parse::<u16>().ok().filter(|_| is_name)?;
    Some(format!("Write `0.0.0.0:{port}`. A host name belongs in `routes[].match.hosts`"))
}

fn host(text: &str) -> Option<String> {
    if text == "*" {
        return Some("Leave out `hosts`: a route without it takes every host".to_owned());
    }
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let rest = rest.split('/').next()?;
    let bare = rest.rsplit_once(':').map_or(rest, |(host, _)| host);
    let is_name = !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._*".contains(&b));
    match bare.rfind('*') {
        Some(star) if star > 0 => Some("Write `*` only as the first label, as in `*.example.com`".to_owned()),
        _ if is_name && bare != text => Some(format!("Write `{bare}`")),
        _ => None,
    }
}

/// For an address where the name of an upstream belongs.
fn of_upstream(shape: &str, text: &str) -> Option<String> {
    let is_reference =
        ["routes[].upstream", "routes[].split[].upstream", "routes[].split.targets[].upstream"].contains(&shape);
    is_reference.then(|| in_place_of_name(text)).flatten()
}

/// The hint for an address in place of the name of an upstream. `None` if the text is no address.
pub(super) fn in_place_of_name(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://").map_or((None, text), |(scheme, rest)| (Some(scheme), rest));
    let authority = rest.split('/').next()?;
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = match scheme {
        _ if has_port => authority.to_owned(),
        Some("https") => format!("{authority}:443"),
        Some(_) => format!("{authority}:80"),
        None => return None,
    };
    Some(format!(
        "Write the name of an upstream, and define it: `upstreams: {{ NAME: {{ backends: [{{ address: \"{address}\" }}] }} }}`"
    ))
}
