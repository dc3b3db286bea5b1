//! Mistakes of beginners: each has the right place, and a hint from which the file can be put right.

use std::fmt::Write;

use crate::support::weir::command;

const REST: &str = "listeners: [{ address: \"127.0.0.1:8080\" }]\nroutes: [{ upstream: app }]\n\
                    upstreams:\n  app: { backends: [{ address: \"127.0.0.1:3001\" }] }\n";

/// The document with these lines in place of the section of the same name. They come first.
fn document(lines: &str) -> String {
    let mut text = lines.to_owned();
    for part in ["listeners:", "routes:", "upstreams:"] {
        if !lines.lines().any(|line| line.starts_with(part)) {
            let from = REST.find(part).unwrap();
            let to = ["routes:", "upstreams:"].iter().filter_map(|next| REST.find(next)).find(|at| *at > from);
            text += &REST[from..to.unwrap_or(REST.len())];
        }
    }
    text
}

fn check(text: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("w.yaml");
    std::fs::write(&file, text).unwrap();
    let output = command(&["check", file.to_str().unwrap()]);
    (output.code, output.stdout.replace(&format!("{}/", folder.path().display()), ""))
}

/// The document, the place as LINE:COLUMN, and a part of the hint.
const MISTAKES: &[(&str, &str, &str)] = &[
    (
        "routes:\n  - match:\n      hosts:\n        - *.example.com\n    upstream: app\n",
        "4:11",
        "Quote it: `\"*.example.com\"`",
    ),
    ("routes: [{ match: { hosts: [*] }, upstream: app }]\n", "1:", ""),
    (
        "upstreams:\n  - name: app\n    backends: [{ address: \"127.0.0.1:3001\" }]\n",
        "1:1",
        "Write `app:` instead of `- name: app`",
    ),
    ("listeners: [\"127.0.0.1:8080\"]\n", "1:13", "Write `{ address: \"127.0.0.1:8080\" }`"),
    ("upstreams:\n  app:\n    backends: [\"127.0.0.1:3001\"]\n", "3:16", "Write `{ address: \"127.0.0.1:3001\" }`"),
    ("upstreams:\n  app: 127.0.0.1:3001\n", "2:8", "Write `app: { backends: [{ address: \"127.0.0.1:3001\" }] }`"),
    ("routes: [{ upstream: app, retry: 3 }]\n", "1:34", "Write `retry: { attempts: 3 }`"),
    ("routes: [{ upstream: app, match: /api }]\n", "1:34", "Write `match: { path_prefix: /api }`"),
    ("routes: [{ redirect: \"https://a.test/\" }]\n", "1:22", "Write `redirect: { to: \"https://a.test/\" }`"),
    ("routes: [{ respond: 404 }]\n", "1:21", "Write `respond: { status: 404 }`"),
    ("log: debug\n", "1:6", "Write `log: { level: debug }`"),
    ("access_log: off\n", "1:13", "Write `access_log: { path: off }`"),
    (
        "upstreams:\n  app: { backends: [{ address: \"127.0.0.1:1\" }], health_check: { path: /x } }\n",
        "2:66",
        "`path` belongs in `http`: write `http: { path: … }`",
    ),
    (
        "upstreams:\n  app: { backends: [{ address: \"127.0.0.1:1\" }], health_check: http }\n",
        "2:64",
        "Write `health_check: { http: {} }`",
    ),
    ("routes: [{ upstream: app, path: /api }]\n", "1:27", "`path` belongs in `match`"),
    ("routes: [{ upstream: app, hosts: [a.test] }]\n", "1:27", "`hosts` belongs in `match`"),
    ("routes: [{ upstream: app, attempts: 3 }]\n", "1:27", "`attempts` belongs in `retry`"),
    (
        "listeners: [{ address: \"127.0.0.1:1\", tls: { cert: a.pem, key: a.key } }]\n",
        "1:46",
        "`cert` belongs in `certificates`: write `certificates: [{ cert: … }]`",
    ),
    ("listeners: [{ address: \"127.0.0.1:1\", idle: 75s }]\n", "1:39", "`idle` belongs in `timeouts`"),
    ("listeners:\n  - address:127.0.0.1:8080\n", "2:5", "A space is missing after `address:`"),
    ("upstreams:\n  app:\n    backends:\n      - address:127.0.0.1:1\n", "4:9", "A space is missing after `address:`"),
    ("listeners: [{ address: \"http://127.0.0.1:8080\" }]\n", "1:24", "Write `127.0.0.1:8080`"),
    ("listeners: [{ address: \":9090\" }]\n", "1:24", "Write `0.0.0.0:9090`"),
    ("listeners: [{ address: \"*:8080\" }]\n", "1:24", "Write `0.0.0.0:8080`"),
    ("listeners: [{ address: \"localhost:8081\" }]\n", "1:24", "Write `127.0.0.1:8081`"),
    ("upstream: { app: { backends: [] } }\n", "1:1", "Did you mean `upstreams`?"),
    ("listeners: [{ address: 8082 }]\n", "1:24", "Write `0.0.0.0:8082`"),
    ("listeners: [{ address: 127.0.0.1 }]\n", "1:24", "Write `127.0.0.1:8080`"),
    (
        "upstreams:\n  app: { backends: [{ address: \"http://127.0.0.1:3001\" }] }\n",
        "2:32",
        "Leave out `http://`: write `127.0.0.1:3001`",
    ),
    (
        "upstreams:\n  app: { backends: [{ address: \"https://api.internal/\" }] }\n",
        "2:32",
        "write `api.internal:443`, and add `tls: { server_name: api.internal }`",
    ),
    ("upstreams:\n  app: { backends: [{ address: 10.0.0.1 }] }\n", "2:32", "Write `ip:port`"),
    ("server: { listen: 80 }\n", "1:11", "`listen` is `listeners[].address` here"),
    ("server: { server_name: a.test }\n", "1:11", "`server_name` is `routes[].match.hosts` here"),
    ("server: { location: / }\n", "1:11", "`location` is `routes[].match`"),
    ("server: { proxy_pass: x }\n", "1:11", "`proxy_pass` is `routes[].upstream` here"),
    ("frontends: {}\n", "1:1", "`frontends` is `listeners` here"),
    ("listeners: [{ address: \"127.0.0.1:1\", timeouts: { idle: 75 } }]\n", "1:57", "Write `75s`"),
    ("listeners: [{ address: \"127.0.0.1:1\", timeouts: { idle: 1.5s } }]\n", "1:57", "Write `1500ms`"),
    ("routes: [{ upstream: app, timeouts: { connect: 1d } }]\n", "1:48", "Write `24h`"),
    ("routes: [{ upstream: app, timeouts: { read: \"30 s\" } }]\n", "1:45", "Write `30s`"),
    ("routes: [{ upstream: app, limits: { body: 10M } }]\n", "1:43", "Write `10MiB`"),
    (
        "listeners: [{ address: \"127.0.0.1:1\", tls: { certificates: [{ cert: /nonexistent/a.pem, key: /nonexistent/a.key }] } }]\n",
        "1:69",
        "Check the path",
    ),
    (
        "listeners: [{ address: \"127.0.0.1:1\", tls: { certificates: [{ cert: a.pem, key: a.key }] } }]\n",
        "1:69",
        "It was looked for as a.pem",
    ),
    ("listeners: [{ address: \"127.0.0.1:8080\" }\n", "", "`[` of line 1 is not closed"),
    ("listeners:\n\t- address: \"127.0.0.1:8080\"\n", "2:", "Indent with spaces"),
    ("listeners:\n  - name: web\n   address: 127.0.0.1:8080\n", "3:", "begin in the same column"),
    ("listeners: [{ adress: \"127.0.0.1:1\" }]\n", "1:15", "Did you mean `address`?"),
    (
        "upstreams:\n  app: { balance: roundrobin, backends: [{ address: \"127.0.0.1:1\" }] }\n",
        "2:19",
        "Did you mean `round_robin`?",
    ),
    ("backends: [{ address: \"127.0.0.1:1\" }]\n", "1:1", "`backends` belongs in `upstreams.NAME`"),
    ("listeners: [{ address: \"127.0.0.1:1\", http2: yes }]\n", "1:46", ""),
];

#[test]
fn each_mistake_of_a_beginner_has_its_place_and_a_hint() {
    let mut wrong = String::new();
    for (lines, place, hint) in MISTAKES {
        let (code, said) = check(&document(lines));
        let here = |line: &str| line.starts_with(&format!("w.yaml:{place}")) && line.contains(hint);
        if code != Some(2) || !said.lines().any(here) {
            let _ = writeln!(wrong, "{lines}  wanted {place} `{hint}`\n  said   {said}");
        }
    }
    assert!(wrong.is_empty() && MISTAKES.len() >= 40, "{wrong}");
}

#[test]
fn a_section_that_is_refused_as_a_whole_is_one_problem() {
    let (_, said) = check(&document("upstreams:\n  - name: app\n    backends: [{ address: \"127.0.0.1:3001\" }]\n"));
    assert!(said.ends_with("\n1 problem\n") && !said.contains("there is no upstream"), "{said}");
}

#[test]
fn a_single_value_stands_for_a_list_of_one() {
    for lines in [
        "listeners: { address: \"127.0.0.1:8080\" }\n",
        "routes: { upstream: app }\n",
        "routes: [{ upstream: app, match: { hosts: example.com, methods: GET } }]\n",
        "routes: [{ upstream: app, retry: { when: connect } }]\n",
        "upstreams: { app: { backends: { address: \"127.0.0.1:3001\" } } }\n",
        "trusted_proxies: 10.0.0.0/8\n",
    ] {
        let (code, said) = check(&document(lines));
        assert_eq!(code, Some(0), "{lines}{said}");
    }
}

#[test]
fn a_problem_in_a_single_value_has_its_own_place() {
    for (lines, place) in [
        ("listeners: { address: \"127.0.0.1:8080\", adress: x }\n", "w.yaml:1:41: listeners"),
        ("routes: { upstream: nowhere }\n", "w.yaml:1:21: routes[0].upstream: there is no upstream"),
        ("routes: [{ upstream: app, match: { hosts: \"a b\" } }]\n", "w.yaml:1:43: routes[0].match.hosts"),
        ("routes: { a: { upstream: app } }\n", "w.yaml:1:1: routes: a mapping where a list belongs"),
    ] {
        let (code, said) = check(&document(lines));
        assert!(code == Some(2) && said.contains(place), "{lines}{said}");
    }
}
