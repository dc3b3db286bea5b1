//! The house's order: which room may look into which, and the rules that a glance at the sources can hold.
//!
//! It reads the code that ships: comments, `#[cfg(test)]` modules and files of tests are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Each room and the rooms that it may look into, from the top of the house to its cellar. A room stands above all
/// that it names, so there is no circle; what is not listed here is a decision to be made, not an import to be added.
const ROOMS: &[(&str, &[&str], &str)] = &[
    ("main", &[], "arguments, run, exit code"),
    ("cli", &["server", "admin", "demo", "config"], "starts the process, or asks a running one"),
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
            "upstream",
            "telemetry",
            "background",
            "lifecycle",
            "config",
            "path",
        ],
        "the composition root puts all of them together; explains a request with the words of all",
    ),
    (
        "admin",
        &["upstream", "telemetry", "background"],
        "pages and routes over a trait that the server implements, in upstream's words",
    ),
    ("acme", &["tls", "telemetry", "config"], "gives the store of certificates what it has had issued"),
    ("demo", &[], "backends that know nothing of Weir"),
    (
        "reload",
        &["snapshot", "listener", "upstream", "telemetry", "resource_exhaustion", "config"],
        "binds, compiles, swaps: the rooms that a swap touches",
    ),
    (
        "proxy",
        &[
            "snapshot",
            "listener",
            "route",
            "message",
            "upstream",
            "telemetry",
            "fault",
            "lifecycle",
            "proxy_protocol",
            "resource_exhaustion",
            "config",
            "path",
        ],
        "the way of a request passes through every room below",
    ),
    ("snapshot", &["route", "message", "upstream", "telemetry", "config"], "the document, compiled to what they match"),
    (
        "listener",
        &["tls", "message", "telemetry", "fault", "proxy_protocol", "resource_exhaustion", "config"],
        "it bounds heads and bodies by the rules of policy, and never knows a route or a backend",
    ),
    ("tls", &["telemetry", "resource_exhaustion", "config"], "certificates and handshakes; it never sees a request"),
    ("route", &["message", "config", "path"], "an answer of a route's own is made of policy's words"),
    ("message", &["fault", "config", "path"], "steps on one request; no backend, no meter"),
    ("upstream", &["telemetry", "proxy_protocol", "resource_exhaustion", "config"], "its vitals are telemetry's cells"),
    ("telemetry", &["fault", "config"], "the labels of faults, the settings of logs"),
    ("proxy_protocol", &[], "bytes to addresses and back"),
    ("background", &[], "threads for what no request waits for"),
    ("fault", &[], "one table"),
    ("resource_exhaustion", &[], "errors of the system that are nobody else's fault"),
    ("lifecycle", &[], "two flags"),
    ("config", &["path"], "the document; two matches on paths that mean the same are alike"),
    ("path", &[], "text to text: the normal form of a path"),
];

/// A source file without what only tests see.
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The room: the folder or the file under src/.
    fn room(&self) -> String {
        let first = self.path.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        first.trim_end_matches(".rs").to_owned()
    }

    /// Lines of code, with their numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        let tests = |line: &str| line == "#[cfg(test)]";
        lines.take_while(move |(_, line)| !tests(line)).filter(|(_, line)| !line.starts_with("//"))
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push(Source { path: path.strip_prefix(&root).unwrap().to_owned(), text });
            }
        }
    }
    assert!(found.len() > 50, "the sources are where this test looks for them");
    found
}

/// Files that a `#[cfg(test)]` elsewhere brings in.
fn is_of_tests(source: &Source) -> bool {
    let name = source.path.file_stem().unwrap().to_string_lossy().into_owned();
    name.ends_with("tests") || ["properties", "test_double"].contains(&name.as_str())
}

/// The rooms that a line names: after `crate::`, one or a list in braces.
fn rooms_in(line: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for rest in line.split("crate::").skip(1) {
        let names = match rest.strip_prefix('{') {
            Some(list) => list.split([',', '}']).map(str::trim).collect(),
            None => vec![rest],
        };
        let word = |name: &str| name.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>();
        rooms.extend(names.into_iter().map(word).filter(|room| !room.is_empty()));
    }
    rooms
}

#[test]
fn a_room_looks_only_into_rooms_below_it() {
    let allowed: BTreeMap<_, _> = ROOMS.iter().map(|(room, below, _)| (*room, *below)).collect();
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !is_of_tests(source) && source.room() != "lib") {
        let room = source.room();
        let Some(below) = allowed.get(room.as_str()) else {
            wrong.push(format!("{}: the room {room} has no place in the order", source.path.display()));
            continue;
        };
        for (number, line) in source.code() {
            for other in rooms_in(line).iter().filter(|other| **other != room && !below.contains(&other.as_str())) {
                wrong.push(format!("src/{}:{number}: {room} looks into {other}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_order_of_the_rooms_has_no_circle_and_no_door_that_nobody_uses() {
    let place: BTreeMap<_, _> = ROOMS.iter().enumerate().map(|(at, (room, _, _))| (*room, at)).collect();
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources().iter().filter(|source| !is_of_tests(source)) {
        let rooms = source.code().flat_map(|(_, line)| rooms_in(line));
        used.entry(source.room()).or_default().extend(rooms);
    }
    for (room, below, why) in ROOMS {
        for other in *below {
            assert!(place[other] > place[room], "{room} ({why}) would look up into {other}");
            assert!(used[*room].contains(*other), "{room} ({why}) does not look into {other}: close that door");
        }
    }
}

#[test]
fn only_the_table_of_faults_maps_a_fault_to_a_status() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !is_of_tests(source) && source.room() != "fault") {
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
    for source in sources().iter().filter(|source| !is_of_tests(source) && source.room() != "telemetry") {
        wrong.extend(
            source
                .code()
                .filter(|(_, line)| line.contains("prometheus::") || line.contains("with_label_values"))
                .map(|(number, line)| format!("src/{}:{number}: {line}", source.path.display())),
        );
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The files of the way of a request and of upstreams that read the wall clock, and what for.
const WALL_CLOCK: [&str; 8] = [
    "proxy/arrive.rs",           // the id of a request
    "proxy/ctx.rs",              // when a request arrived, for the access log, its id and its cookie
    "proxy/service.rs",          // the same for a request that is refused at the listener
    "proxy/mod.rs",              // the conversion
    "proxy/affinity_cookie.rs",  // when a cookie was written
    "upstream/clock.rs",         // the conversion
    "upstream/status.rs",        // since when a backend is what it is, for people
    "upstream/discovery/mod.rs", // when backends were last found, for people and the metric
];

#[test]
fn intervals_of_upstreams_go_by_the_monotonic_clock() {
    let mut wrong = Vec::new();
    let rooms = ["proxy", "upstream"];
    for source in sources().iter().filter(|s| !is_of_tests(s) && rooms.contains(&s.room().as_str())) {
        let path = source.path.to_string_lossy().into_owned();
        let words = ["SystemTime::now", "UNIX_EPOCH", "unix_ms("];
        let reads = |line: &str| words.iter().any(|word| line.contains(word)) && !line.contains("fn ");
        for (number, line) in source.code().filter(|(_, line)| reads(line) && !WALL_CLOCK.contains(&path.as_str())) {
            wrong.push(format!("src/{path}:{number}: {line}"));
        }
    }
    let clock = sources().into_iter().find(|source| source.path == Path::new("upstream/clock.rs")).unwrap();
    let now = clock.text.split("pub fn now_ms()").nth(1).unwrap().split('}').next().unwrap().to_owned();
    assert!(!now.contains("SystemTime"), "the clock of intervals is one that can be set");
    assert!(wrong.is_empty(), "the wall clock can be set back:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for_and_stays_short() {
    let mut wrong = Vec::new();
    for source in sources() {
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
