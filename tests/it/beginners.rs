//! Mistakes of beginners: each has the right place, and a hint from which the file can be put right.

use std::fmt::Write;

use crate::support::weir::command;

const REST: &str = "listeners: [{ address: \"127.0.0.1:8080\" }]\nroutes: [{ upstream: app }]\n\
                    upstreams:\n  app: { backends: [{ address: \"127.0.0.1:3001\" }] }\n";

/// The document with these lines in place of the section of the same name. They come first.
fn document(lines: &str) -> String {
    let mut text = lines.to_owned();
    for part in ["listeners:", "routes:", "upstreams:"] {
        if !lines.lines().any(|line| line.starts_with(part) || line == part.trim_end_matches(':')) {
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
    ("include: conf.d/*.yaml\n", "1:1", "Weir reads one file"),
    ("listeners:\n  - listen 80\n", "2:5", "`listen` is `listeners[].address` here, and a colon is missing"),
    ("listeners:\n  - address = \"127.0.0.1:8080\"\n", "2:5", "Write `address: \"127.0.0.1:8080\"`, with a colon"),
    ("listeners:\n  - listen: 80\n", "2:5", "`listen` is `listeners[].address` here"),
    ("listeners:\n  - port: 80\n", "2:5", "`port` is part of `address`: write `address: 0.0.0.0:80`"),
    ("listeners: [{address:127.0.0.1:8080}]\n", "1:14", "A space is missing after `address:`"),
    ("listeners:\n  - address: \"127.0.0.1:8080\";\n", "2:30", "Leave out `;`"),
    ("listeners:\n  - name: web\n\taddress: 127.0.0.1:8080\n", "2:11", "Indent with spaces: line 3 begins with a tab"),
    (
        "listeners:\n\u{a0}\u{a0}- address: 127.0.0.1:8080\n",
        "2:1",
        "Indent with spaces: this line has non-breaking spaces",
    ),
    ("listeners: [{ address: \u{201c}127.0.0.1:8080\u{201d} }]\n", "1:24", "Write straight quotes"),
    (
        "listeners: [{ address: 127.0.0.1:8080#web }]\n",
        "1:24",
        "A comment needs a space before `#`: write `127.0.0.1:8080`",
    ),
    ("listeners: [{ address: \"127.0.0.1:80800\" }]\n", "1:24", "A port is a number from 1 to 65535"),
    ("listeners: [{ address: \"::1:8080\" }]\n", "1:24", "Write `[::1]:8080`"),
    (
        "listeners: [{ address: \"example.com:80\" }]\n",
        "1:24",
        "Write `0.0.0.0:80`. A host name belongs in `routes[].match.hosts`",
    ),
    ("listeners: [{ address: \"127.0.0.1:1\", http2: \"yes\" }]\n", "1:46", "Write `true`"),
    ("listeners: [{ address: \"127.0.0.1:1\", proxy_protocol: off }]\n", "1:55", "Write `false`"),
    (
        "listeners: [{ address: \"127.0.0.1:1\", tls: true }]\n",
        "1:44",
        "Write `tls: { certificates: [{ cert: FILE, key: FILE }] }`",
    ),
    (
        "listeners: [{ address: \"127.0.0.1:1\", tls: { cert_file: a.pem } }]\n",
        "1:46",
        "`cert_file` is `cert` in `certificates` here",
    ),
    (
        "listeners: [{ address: \"127.0.0.1:1\", tls: { certificates: [a.pem] } }]\n",
        "1:61",
        "Write `{ cert: a.pem, key: FILE }`",
    ),
    (
        "listeners: [{ address: \"127.0.0.1:1\", tls: { acme: { domains: [a.test] } } }]\n",
        "1:54",
        "`domains` is `names` here",
    ),
    (
        "listeners: [{ address: \"127.0.0.1:1\" }]\nlisteners: [{ address: \"127.0.0.1:2\" }]\n",
        "2:1",
        "first written in line 1: keep one",
    ),
    ("routes:\n  - upstream:app\n", "2:5", "A space is missing after `upstream:`"),
    ("routes:\n", "1:1", "Write a value, or leave the key out"),
    ("routes:\n  web:\n    upstream: app\n", "1:1", "Write each element behind `- `"),
    ("routes: [{ upstream: \"http://127.0.0.1:3001\" }]\n", "1:22", "Write the name of an upstream, and define it"),
    ("routes: [{ upstream: \"127.0.0.1:3001\" }]\n", "1:22", "backends: [{ address: \"127.0.0.1:3001\" }]"),
    ("routes: [{ upstream: ap }]\n", "1:22", "Did you mean `app`?"),
    ("routes: [{ match: { path: /x } }]\n", "1:10", "Write one of `upstream`, `split`"),
    ("routes: [{ upstream: app, respond: { status: 200 } }]\n", "1:27", "keep one of them"),
    (
        "routes: [{ upstream: app, match: { hosts: [\"*\"] } }]\n",
        "1:44",
        "Leave out `hosts`: a route without it takes every host",
    ),
    ("routes:\n  - match: { host: * }\n    upstream: app\n", "2:20", "Quote it: `\"*\"`"),
    ("routes: [{ upstream: app, match: { host: a.test } }]\n", "1:36", "Did you mean `hosts`?"),
    ("routes: [{ upstream: app, match: { hosts: [\"https://a.test/\"] } }]\n", "1:44", "Write `a.test`"),
    ("routes: [{ upstream: app, match: { hosts: [\"a.test:8080\"] } }]\n", "1:44", "Write `a.test`"),
    ("routes: [{ upstream: app, match: { hosts: [\"www.*.test\"] } }]\n", "1:44", "only as the first label"),
    ("routes: [{ upstream: app, match: { path_prefix: api } }]\n", "1:49", "Write a path such as `/api`"),
    ("routes: [{ upstream: app, match: { path: [/a, /b] } }]\n", "1:36", "one route for each other value"),
    ("routes: [{ upstream: app, match: { methods: [get] } }]\n", "1:46", "Write `GET`"),
    ("routes: [{ upstream: app, retries: 3 }]\n", "1:27", "`retries` is `retry: { attempts: … }` here"),
    ("routes: [{ upstream: app, retry: { budget: 20 } }]\n", "1:44", "Write `20%`"),
    ("routes: [{ upstream: app, timeout: 30s }]\n", "1:27", "Did you mean `timeouts`?"),
    ("routes: [{ upstream: app, timeouts: { read: -1 } }]\n", "1:45", "A duration cannot be negative"),
    ("routes: [{ upstream: app, request_headers: [\"X-A: b\"] }]\n", "1:27", "Write `set: { NAME: VALUE }`"),
    ("routes: [{ upstream: app, request_headers: { X-A: b } }]\n", "1:46", "Write `set: { X-A: … }`"),
    ("routes: [{ upstream: app, request_headers: { set: { X-A: 1 } } }]\n", "1:58", "Put it in quotes"),
    ("routes: [{ redirect: { url: \"https://a.test\" } }]\n", "1:24", "`url` is `to` here"),
    ("upstreams:\n  app:\n    - address: 127.0.0.1:3001\n", "2:3", "Write the list behind `backends:`, as in `app: {"),
    ("upstreams:\n  app:\n", "2:3", "Write its backends"),
    ("upstreams:\n  app:\n    backends:\n", "3:5", "Write at least one backend"),
    ("upstreams:\n  app: { servers: [\"127.0.0.1:1\"] }\n", "2:10", "`servers` is `upstreams.NAME.backends` here"),
    (
        "upstreams:\n  app: { backends: [{ host: localhost, port: 3001 }] }\n",
        "2:40",
        "`port` is part of `address`: write `address: localhost:3001`",
    ),
    ("upstreams:\n  app: { backends: [{ address: [::1]:3001 }] }\n", "2:37", "Quote it: `\"[::1]:3001\"`"),
    (
        "upstreams:\n  app: { balance: least_connections, backends: [{ address: \"127.0.0.1:1\", weight: \"5\" }] }\n",
        "2:83",
        "Leave out the quotes: write `5`",
    ),
    (
        "upstreams:\n  app: { balance: ip_hash, backends: [{ address: \"127.0.0.1:1\" }] }\n",
        "2:19",
        "Write `consistent_hash`, and `hash: { client: {} }`",
    ),
    (
        "upstreams:\n  app: { balance: leastconn, backends: [{ address: \"127.0.0.1:1\" }] }\n",
        "2:19",
        "Write `least_connections`",
    ),
    (
        "upstreams:\n  app: { health_check: /healthz, backends: [{ address: \"127.0.0.1:1\" }] }\n",
        "2:24",
        "Write `health_check: { http: { path: /healthz } }`",
    ),
    (
        "upstreams:\n  app: { tls: true, backends: [{ address: \"127.0.0.1:1\" }] }\n",
        "2:15",
        "Write `tls: { server_name: NAME }`",
    ),
    (
        "upstreams:\n  app: { sticky: true, backends: [{ address: \"127.0.0.1:1\" }] }\n",
        "2:18",
        "Write `sticky: { cookie: NAME, key_file: FILE }`",
    ),
    (
        "upstreams:\n  app: { timeouts: { read: 1s }, backends: [{ address: \"127.0.0.1:1\" }] }\n",
        "2:10",
        "`timeouts` belongs in `routes[]`",
    ),
    ("server: { threads: auto }\n", "1:20", "Write a number, or leave the key out"),
    ("log: { level: verbose }\n", "1:15", "Known are `error`, `warn`"),
    ("trusted_proxies: [10.0.0.1/33]\n", "1:", "Write `10.0.0.0/8`"),
    ("routes\n  - upstream: app\n", "2:", "A colon is missing after `routes` in line 1"),
];

/// The same for whole files: nothing is added to them.
const FILES: &[(&str, &str, &str)] = &[
    (
        "server {\n  listen 80;\n  location / {\n    proxy_pass http://127.0.0.1:3001;\n  }\n}\n",
        "1:1",
        "conf/weir.yaml is an example",
    ),
    ("example.com {\n    reverse_proxy 127.0.0.1:3001\n}\n", "1:1", "YAML with the keys `listeners`"),
    ("frontend web\n    bind *:80\n    default_backend app\n", "1:1", "YAML with the keys `listeners`"),
    ("[entryPoints]\n  [entryPoints.web]\n  address = \":80\"\n", "2:3", "YAML with the keys `listeners`"),
    ("http:\n  routers: {}\n", "1:1", "Leave out `http`"),
    ("", "1:1", "Write at least `listeners: [{ address: \"0.0.0.0:8080\" }]`"),
    ("hello\n", "1:1", "YAML with the keys `listeners`"),
    ("- listeners: []\n", "1:1", "Leave out the `-`"),
    ("listeners: [{ address: \"127.0.0.1:8080\" }]\n---\nroutes: []\n", "2:1", "Keep one document in a file"),
];

/// All documents, with places and hints.
fn mistakes() -> Vec<(String, &'static str, &'static str)> {
    let parts = MISTAKES.iter().map(|(lines, place, hint)| (document(lines), *place, *hint));
    parts.chain(FILES.iter().map(|(text, place, hint)| ((*text).to_owned(), *place, *hint))).collect()
}

#[test]
fn each_mistake_of_a_beginner_has_its_place_and_a_hint() {
    let (mut wrong, mistakes) = (String::new(), mistakes());
    for (text, place, hint) in &mistakes {
        let (code, said) = check(text);
        let here = |line: &str| line.starts_with(&format!("w.yaml:{place}")) && line.contains(hint);
        if code != Some(2) || !said.lines().any(here) {
            let _ = writeln!(wrong, "{text}  wanted {place} `{hint}`\n  said   {said}");
        }
    }
    assert!(wrong.is_empty() && mistakes.len() >= 100, "{} mistakes\n{wrong}", mistakes.len());
}

/// The output of `weir check` on a terminal without colours.
fn check_on_terminal(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("w.yaml"), text).unwrap();
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(["check", "w.yaml"]).current_dir(folder.path()).env("NO_COLOR", "1").stdout(terminal.slave);
    let mut child = command.spawn().unwrap();
    // The command holds the other end of the terminal too.
    drop(command);
    let (mut said, mut master) = (Vec::new(), std::fs::File::from(terminal.master));
    // At the end of the process, Linux answers EIO instead of the end of the file.
    let _ = std::io::Read::read_to_end(&mut master, &mut said);
    child.wait().unwrap();
    String::from_utf8(said).unwrap().replace("\r\n", "\n")
}

#[test]
fn on_a_terminal_the_line_of_each_mistake_is_shown_with_a_caret_at_its_column() {
    let mut wrong = String::new();
    for (text, place, hint) in mistakes() {
        let said = check_on_terminal(&text);
        let lines: Vec<_> = said.lines().collect();
        let at = lines.iter().position(|line| line.starts_with(&format!("w.yaml:{place}")) && line.contains(hint));
        let shown = at.and_then(|at| {
            let mut place = lines[at].split(':').skip(1).map_while(|part| part.parse::<usize>().ok());
            let (number, column) = (place.next()?, place.next()?);
            let Some(source) = text.lines().nth(number - 1).filter(|line| !line.trim().is_empty()) else {
                return Some(true);
            };
            // The terminal expands no tab.
            let caret = lines.get(at + 2)?.split_once("| ")?.1.chars().position(|c| c == '^')?;
            Some(lines.get(at + 1)?.ends_with(&format!("{number} | {source}")) && caret == column - 1)
        });
        if shown != Some(true) {
            let _ = writeln!(wrong, "{text}  wanted {place} `{hint}`\n  said   {said}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_file_of_another_encoding_is_named_and_windows_line_ends_json_and_a_byte_order_mark_are_taken() {
    let checked = |bytes: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("w.yaml");
        std::fs::write(&file, bytes).unwrap();
        let output = command(&["check", file.to_str().unwrap()]);
        (output.code, output.stdout)
    };
    let good = document("");
    for text in [good.replace('\n', "\r\n"), format!("\u{feff}{good}")] {
        assert_eq!(checked(text.as_bytes()).0, Some(0), "{text:?}");
    }
    let json = r#"{"listeners":[{"address":"127.0.0.1:8080"}],"routes":[{"respond":{"status":204}}]}"#;
    assert_eq!(checked(json.as_bytes()).0, Some(0));
    let utf16: Vec<u8> = std::iter::once(0xfeff).chain(good.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    for (bytes, what) in [(&utf16[..], "UTF-16, not UTF-8. Save the file as UTF-8"), (b"\xe9", "not UTF-8. Save")] {
        let (code, said) = checked(bytes);
        assert!(code == Some(2) && said.contains(what), "{said}");
    }
}

#[test]
fn a_folder_and_a_missing_file_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = command(&["check", folder.path().to_str().unwrap()]);
    assert!(
        output.code == Some(2) && output.stdout.contains("it is a folder, not a regular file"),
        "{}",
        output.stdout
    );
    let output = command(&["check", folder.path().join("no.yaml").to_str().unwrap()]);
    assert!(output.code == Some(2) && output.stdout.contains("there is no such file"), "{}", output.stdout);
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
