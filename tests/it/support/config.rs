//! Configurations as values: `Config::to(&origin).set("routes.all.timeouts", "read: 1s")`.
//!
//! A path has dots: `upstreams.up.backends.a.weight`. An item of `listeners`, `routes` or `backends` is found by its name,
//! and added if there is none of that name. A value is YAML; the outer braces of a mapping may be left out. A mapping is
//! merged into the one that is there, key by key; any other value replaces what is there; an empty text changes nothing.

use std::fmt::{self, Display};

use serde_yaml::{Mapping, Value};

/// Lists whose items have names.
const NAMED_LISTS: [&str; 3] = ["listeners", "routes", "backends"];

#[derive(Debug, Clone)]
pub struct Config(Value);

impl Config {
    /// A listener `web` on a free port of the loopback interface, and no routes.
    pub fn new() -> Self {
        Self(Value::Null).listener("web", "")
    }

    /// The listener `web`, and the route `all` to the upstream `up`, whose only backend `a` is at this address.
    pub fn to(backend: impl Display) -> Self {
        Self::to_all(&[("a", backend)])
    }

    /// The same with these backends: names and addresses.
    pub fn to_all<N: Display, A: Display>(backends: &[(N, A)]) -> Self {
        Self::new().route("all", "upstream: up").upstream("up", backends)
    }

    /// Adds a listener on a free port of the loopback interface, with these settings.
    pub fn listener(self, name: &str, settings: impl Display) -> Self {
        let path = format!("listeners.{name}");
        self.set(&path, "address: \"127.0.0.1:0\"").set(&path, settings)
    }

    /// The listener `web` speaks TLS with these pairs of files: `NAME.pem` and `NAME.key`.
    pub fn certificates(self, names: &[&str]) -> Self {
        let pairs: Vec<_> =
            names.iter().map(|name| "{ cert: NAME.pem, key: NAME.key }".replace("NAME", name)).collect();
        self.set("listeners.web.tls.certificates", format!("[{}]", pairs.join(", ")))
    }

    /// Adds a route with these settings. Of the others the most specific one wins, whatever their order.
    pub fn route(self, name: &str, settings: impl Display) -> Self {
        self.set(&format!("routes.{name}"), settings)
    }

    /// Adds an upstream with these backends: names and addresses.
    pub fn upstream<N: Display, A: Display>(self, name: &str, backends: &[(N, A)]) -> Self {
        let add = |config: Self, (backend, address): &(N, A)| config.backend(&format!("{name}.{backend}"), address, "");
        backends.iter().fold(self, add)
    }

    /// Adds a backend, called `UPSTREAM.NAME`, at this address, with these settings.
    pub fn backend(mut self, path: &str, address: impl Display, settings: impl Display) -> Self {
        let (upstream, name) = path.split_once('.').expect("UPSTREAM.NAME");
        let path = format!("upstreams.{upstream}.backends.{name}");
        *node(&mut self.0, &format!("{path}.address")) = address.to_string().into();
        self.set(&path, settings)
    }

    /// No access log: for tests with many requests.
    pub fn without_access_log(self) -> Self {
        self.set("access_log.path", "off")
    }

    /// Sets what is at this path.
    pub fn set(mut self, path: &str, value: impl Display) -> Self {
        match parse(&value.to_string()) {
            Value::Null => {}
            value => merge(node(&mut self.0, path), value),
        }
        self
    }

    /// Leaves out what is at this path.
    pub fn without(mut self, path: &str) -> Self {
        let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
        let removed = match node(&mut self.0, parent) {
            Value::Mapping(mapping) => mapping.remove(key).is_some(),
            Value::Sequence(items) => {
                let before = items.len();
                items.retain(|item| item["name"] != key);
                items.len() < before
            }
            _ => false,
        };
        assert!(removed, "nothing at {path}");
        self
    }
}

/// As YAML.
impl Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_yaml::to_string(&self.0).map_err(|_| fmt::Error)?)
    }
}

/// Returns the value at this path. Creates it if it does not exist.
fn node<'a>(root: &'a mut Value, path: &str) -> &'a mut Value {
    let mut node = root;
    for key in path.split('.').filter(|key| !key.is_empty()) {
        node = match node {
            Value::Sequence(items) => named(items, key),
            Value::Mapping(mapping) => mapping.entry(key.into()).or_insert_with(|| empty(key)),
            null => {
                *null = Mapping::new().into();
                let Value::Mapping(mapping) = null else { unreachable!() };
                mapping.entry(key.into()).or_insert_with(|| empty(key))
            }
        };
    }
    node
}

fn empty(key: &str) -> Value {
    if NAMED_LISTS.contains(&key) { Vec::<Value>::new().into() } else { Value::Null }
}

fn named<'a>(items: &'a mut Vec<Value>, name: &str) -> &'a mut Value {
    let at = items.iter().position(|item| item["name"] == name).unwrap_or_else(|| {
        items.push(Mapping::from_iter([("name".into(), name.into())]).into());
        items.len() - 1
    });
    &mut items[at]
}

fn merge(into: &mut Value, value: Value) {
    match (into, value) {
        (Value::Mapping(into), Value::Mapping(more)) => into.extend(more),
        (into, value) => *into = value,
    }
}

fn parse(text: &str) -> Value {
    let is_whole = text.starts_with(['{', '[', '"', '\'', '-']) || !text.contains(": ");
    let whole = if is_whole { text.to_owned() } else { ["{ ", text, " }"].concat() };
    serde_yaml::from_str(&whole).unwrap_or_else(|error| panic!("{whole}: {error}"))
}
