//! The layers of the code: which module may import which, and the rules that a look at the sources can check.
//!
//! [`LAYERS`] is the only table. The diagrams in `src/lib.rs` and `docs/architecture.md` are generated from it:
//! `WEIR_BLESS=1 cargo test --test it layering` writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::source_tree::{Source, every_file, shipped};

/// Each module and the modules that it may import, from the top layer to the bottom. A module stands above all that it
/// imports, so there is no cycle. A new import between layers is a new line here, and so a decision.
const LAYERS: &[(&str, &[&str], &str)] = &[
    ("main", &[], "arguments, run, exit code"),
    ("cli", &["server", "admin", "demo", "config", "auth"], "the command line; never holds state"),
    (
        "server",
        &[
            "acme",
            "admin",
            "reload",
            "proxy",
            "snapshot",
            "listener",
            "tls",
            "route",
            "message",
            "cors",
            "rate_limit",
            "upstream",
            "pool",
            "telemetry",
            "backend",
            "background",
            "fault",
            "lifecycle",
            "secure_file",
            "config",
            "path",
            "clock",
        ],
        "start, signals, shutdown; never decides about a request",
    ),
    (
        "admin",
        &["upstream", "telemetry", "backend", "instruments", "background", "severity"],
        "the operator's listener: page, API, metrics; never reaches below its `Control` trait",
    ),
    ("acme", &["tls", "telemetry", "secure_file", "config"], "certificates by ACME; never runs on a traffic thread"),
    ("demo", &[], "the embedded backends of `weir demo`"),
    (
        "reload",
        &["snapshot", "listener", "upstream", "telemetry", "resource_exhaustion", "config"],
        "applies a configuration, all or nothing; never validates",
    ),
    (
        "proxy",
        &[
            "snapshot",
            "listener",
            "route",
            "message",
            "content_coding",
            "cors",
            "rate_limit",
            "auth",
            "upstream",
            "pool",
            "telemetry",
            "backend",
            "fault",
            "lifecycle",
            "proxy_protocol",
            "resource_exhaustion",
            "config",
            "path",
            "clock",
        ],
        "the phases of a request (`ProxyHttp`); never looks up a name",
    ),
    (
        "snapshot",
        &["route", "message", "cors", "rate_limit", "auth", "upstream", "pool", "telemetry", "config"],
        "the configuration, compiled; never does I/O",
    ),
    (
        "listener",
        &["tls", "message", "telemetry", "body_gate", "fault", "proxy_protocol", "resource_exhaustion", "config"],
        "sockets, client connections, heads; never knows a route or a backend",
    ),
    (
        "tls",
        &["telemetry", "resource_exhaustion", "config", "secure_file", "auth"],
        "certificates and handshakes; never sees a request",
    ),
    ("route", &["message", "config", "path"], "the route table and its actions; never changes a request"),
    (
        "message",
        &["fault", "config", "path"],
        "HTTP semantics: framing, fields, error responses; never picks a backend",
    ),
    ("content_coding", &["config"], "compression and decompression of bodies; never sees a connection"),
    ("cors", &["config"], "the fields of cross-origin resource sharing; never refuses a request"),
    (
        "rate_limit",
        &["pool", "telemetry", "config"],
        "rate and concurrency limits, in memory or in a store; never sees a request",
    ),
    (
        "upstream",
        &["pool", "telemetry", "backend", "resource_exhaustion", "clock", "config"],
        "members, balancers, health, queue, outliers, discovery; never opens a socket, except for probes",
    ),
    (
        "pool",
        &["body_gate", "proxy_protocol", "resource_exhaustion", "config"],
        "the transport to backends; never names an upstream, a route or a metric",
    ),
    ("telemetry", &["backend", "instruments", "fault", "config"], "metrics and logs; never decides"),
    ("backend", &["instruments", "fault"], "live state of backends; never judges it"),
    ("instruments", &[], "counters, histograms, keyed registry; never knows a label"),
    ("proxy_protocol", &[], "the PROXY header; never reads a socket"),
    ("body_gate", &[], "flow control of one request body"),
    ("background", &[], "threads of low priority"),
    ("fault", &[], "faults and their statuses"),
    ("resource_exhaustion", &[], "errors of the host, such as EMFILE"),
    ("lifecycle", &[], "two flags: bound, draining"),
    ("config", &["auth", "path", "severity"], "the document: parse, check, compare; never knows a request"),
    ("auth", &["clock"], "access policies: users, keys, tokens, certificates; never sees a connection"),
    ("secure_file", &[], "files with mode 0600"),
    ("severity", &[], "whether a problem rejects the configuration"),
    ("clock", &[], "the two clocks"),
    ("path", &[], "the normal form of a path"),
];

#[test]
fn a_module_imports_only_modules_below_it() {
    let allowed: BTreeMap<_, _> = LAYERS.iter().map(|(layer, below, _)| (*layer, *below)).collect();
    let mut wrong = Vec::new();
    for source in shipped().iter().filter(|source| source.layer() != "lib") {
        let layer = source.layer();
        let Some(below) = allowed.get(layer) else {
            wrong.push(format!("{}: {layer} is not in the table of layers", source.path.display()));
            continue;
        };
        for other in layers_in(source).iter().filter(|other| *other != layer && !below.contains(&other.as_str())) {
            wrong.push(format!("src/{}: {layer} imports {other}", source.path.display()));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_layers_have_no_cycle_and_no_unused_permission() {
    let place: BTreeMap<_, _> = LAYERS.iter().enumerate().map(|(at, (layer, _, _))| (*layer, at)).collect();
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in shipped() {
        used.entry(source.layer().to_owned()).or_default().extend(layers_in(&source));
    }
    for (layer, below, _) in LAYERS {
        for other in *below {
            assert!(place[other] > place[layer], "{layer} would import {other}, which stands above it");
            assert!(used[*layer].contains(*other), "{layer} does not import {other}: remove the permission");
        }
    }
}

/// The top-level modules that a file names.
fn layers_in(source: &Source) -> BTreeSet<String> {
    let is_module = |name: &str| name.starts_with(|first: char| first.is_ascii_lowercase());
    source.paths().into_iter().filter_map(|path| path.into_iter().next()).filter(|name| is_module(name)).collect()
}

/// Pairs of files that import each other on purpose.
const MUTUAL: &[[&str; 2]] = &[
    // A group owns its watches; a watch reports an ejection to its group.
    ["upstream/outlier/group.rs", "upstream/outlier/watch.rs"],
];

#[test]
fn files_of_a_layer_have_no_import_cycle() {
    let sources = shipped();
    let modules: BTreeMap<&[String], usize> =
        sources.iter().enumerate().map(|(at, source)| (source.module.as_slice(), at)).collect();
    // The file that declares what a path names, as far as modules tell.
    let file_of = |path: &[String]| (1..=path.len()).rev().find_map(|end| modules.get(&path[..end]).copied());
    let mut imports: Vec<BTreeSet<usize>> = Vec::new();
    for source in &sources {
        // A child that uses a type of its parent module is no cycle that confuses a reader.
        let is_parent = |other: usize| source.module.starts_with(&sources[other].module);
        imports.push(source.paths().iter().filter_map(|path| file_of(path)).filter(|at| !is_parent(*at)).collect());
    }
    let reach = |from: usize| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(at) = next.pop() {
            next.extend(imports[at].iter().filter(|at| seen.insert(**at)));
        }
        seen
    };
    let reached: Vec<BTreeSet<usize>> = (0..sources.len()).map(reach).collect();
    let mut cycles: BTreeSet<Vec<String>> = BTreeSet::new();
    for at in 0..sources.len() {
        let group = (0..sources.len()).filter(|other| reached[at].contains(other) && reached[*other].contains(&at));
        let group: Vec<String> = group.map(|at| sources[at].path.display().to_string()).collect();
        if group.len() > 1 && !MUTUAL.iter().any(|pair| *group == *pair) {
            cycles.insert(group);
        }
    }
    let text: Vec<String> = cycles.iter().map(|group| group.join(" <-> ")).collect();
    assert!(cycles.is_empty(), "files that import each other:\n{}", text.join("\n"));
}

#[test]
fn the_diagrams_show_the_table_of_layers() {
    let width = LAYERS.iter().map(|(layer, _, _)| layer.len()).max().unwrap();
    let row = |(layer, below, _): &(&str, &[&str], &str)| format!("{layer:width$}  {}", below.join(", "));
    let rows: Vec<String> = LAYERS.iter().map(row).map(|row| row.trim_end().to_owned()).collect();
    let split = |what: &str| {
        what.split_once("; never ")
            .map_or((what.to_owned(), String::new()), |(what, never)| (what.to_owned(), never.to_owned()))
    };
    let map: Vec<String> = LAYERS
        .iter()
        .map(|(layer, _, what)| {
            let (what, never) = split(what);
            format!("| `{layer}` | {what} | {never} |")
        })
        .collect();
    let lib: Vec<String> = rows.iter().map(|row| format!("//! {row}").trim_end().to_owned()).collect();
    generated("src/lib.rs", "//! ```text\n", "//! ```\n", &lib);
    generated("docs/architecture.md", "<!-- layers -->\n```text\n", "```\n<!-- /layers -->\n", &rows);
    let table =
        [vec!["| module | what it is for | what it never does |".to_owned(), "|---|---|---|".to_owned()], map].concat();
    generated("docs/architecture.md", "<!-- modules -->\n", "<!-- /modules -->\n", &table);
}

/// Compares the lines between two markers of a file with what they have to be, and writes them if `WEIR_BLESS` is set.
fn generated(file: &str, from: &str, to: &str, lines: &[String]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(from).unwrap_or_else(|| panic!("{file} has no {from:?}"));
    let (now, after) = rest.split_once(to).unwrap_or_else(|| panic!("{file} has no {to:?} after {from:?}"));
    let expected: String = lines.iter().map(|line| format!("{line}\n")).collect();
    if now == expected {
        return;
    }
    assert!(std::env::var_os("WEIR_BLESS").is_some(), "{file} shows other layers: run with WEIR_BLESS=1");
    std::fs::write(path, [before, from, &expected, to, after].concat()).unwrap();
}

#[test]
fn only_the_table_of_faults_maps_a_fault_to_a_status() {
    let mut wrong = Vec::new();
    for source in shipped().iter().filter(|source| source.layer() != "fault") {
        for (number, line) in source.code() {
            let Some((pattern, result)) = line.split_once("=>") else { continue };
            let is_fault =
                ["Fault::", "Self::"].iter().any(|name| pattern.contains(name)) || pattern.contains("_request");
            let digits = result.trim().trim_start_matches('(').chars().take_while(char::is_ascii_digit).count();
            if is_fault && digits == 3 {
                wrong.push(format!("src/{}:{number}: {line}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "a second table of statuses:\n{}", wrong.join("\n"));
}

#[test]
fn only_telemetry_touches_metric_families() {
    let mut wrong = Vec::new();
    for source in shipped().iter().filter(|source| source.layer() != "telemetry") {
        wrong.extend(
            source
                .code()
                .into_iter()
                .filter(|(_, line)| line.contains("prometheus::") || line.contains("with_label_values"))
                .map(|(number, line)| format!("src/{}:{number}: {line}", source.path.display())),
        );
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The files of the way of a request and of upstreams that read the wall clock, and what for.
const WALL_CLOCK: [&str; 8] = [
    "proxy/request_filter.rs",   // the id of a request
    "proxy/ctx.rs",              // when a request arrived, for the access log, its id and its cookie
    "proxy/service.rs",          // the same for a request that is refused at the listener
    "proxy/mod.rs",              // the conversion
    "proxy/affinity_cookie.rs",  // when a cookie was written
    "clock.rs",                  // the conversion
    "upstream/status.rs",        // since when a backend is what it is, for people
    "upstream/discovery/mod.rs", // when backends were last found, for people and the metric
];

#[test]
fn intervals_of_upstreams_go_by_the_monotonic_clock() {
    let mut wrong = Vec::new();
    let layers = ["proxy", "upstream", "pool", "backend", "clock"];
    for source in shipped().iter().filter(|source| layers.contains(&source.layer())) {
        let path = source.path.to_string_lossy().into_owned();
        let words = ["SystemTime::now", "UNIX_EPOCH", "unix_ms("];
        let reads = |line: &str| words.iter().any(|word| line.contains(word)) && !line.contains("fn ");
        for (number, line) in
            source.code().into_iter().filter(|(_, line)| reads(line) && !WALL_CLOCK.contains(&path.as_str()))
        {
            wrong.push(format!("src/{path}:{number}: {line}"));
        }
    }
    let clock = shipped().into_iter().find(|source| source.path == Path::new("clock.rs")).unwrap();
    let now = clock.text.split("pub fn now_ms()").nth(1).unwrap().split('}').next().unwrap().to_owned();
    assert!(!now.contains("SystemTime"), "the clock of intervals is one that can be set");
    assert!(wrong.is_empty(), "the wall clock can be set back:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for_and_stays_short() {
    let mut wrong = Vec::new();
    for source in every_file() {
        let path = source.path.display();
        if !source.text.starts_with("//!") {
            wrong.push(format!("src/{path} does not begin with what it is for"));
        }
        let length = source.text.lines().count();
        // The values are a table, read by looking one up.
        let most = if source.path == Path::new("config/values.rs") { 650 } else { 500 };
        if length > most {
            wrong.push(format!("src/{path} has {length} lines"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
