//! Tests of the whole configuration parser: invalid configurations, shipped files, and random input.
//!
//! The cases are in tests/config/*.txt: a title, a document, and its problems. `WEIR_BLESS=1` writes the actual
//! problems instead of comparing; review the difference before you commit it.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A hash of bcrypt.
const BCRYPT: &str = "$2y$04$9gaZ0gdgvIbMab3QSVlMMO88m/BDD/0vcHv/Y.KCfThKSR13T6FmO";

fn variable(name: &str) -> Option<String> {
    match name {
        "SECRET" => Some("hunter2".into()),
        "BIG" => Some("31337".into()),
        "THREE" => Some("3".into()),
        "YES" => Some("true".into()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn named_file(path: &Path) -> io::Result<Vec<u8>> {
    match path.to_str() {
        Some("empty.token") => Ok(b"\n".to_vec()),
        Some("some.token" | "short.key") => Ok(b"hunter2\n".to_vec()),
        Some("foreign.key" | "foreign") => Err(io::ErrorKind::PermissionDenied.into()),
        Some("some.list") => {
            Ok(b"- { address: '10.0.0.1:80', weight: 3 }\n- adress: 10.0.0.2:80\n- address: nowhere\n".to_vec())
        }
        Some("users.htpasswd") => Ok(format!("alice:{BCRYPT}\n").into_bytes()),
        Some("bad.htpasswd") => {
            Ok(format!("# users\nalice:{BCRYPT}\nbob:hunter2\nalice:{BCRYPT}\ncarol:{{SHA}}hunter2=\n").into_bytes())
        }
        Some("keys.txt") => Ok(format!("acme sha256:{}\n", "ab".repeat(32)).into_bytes()),
        Some("bad-keys.txt") => {
            Ok(format!("acme hunter2\n{0}\nb {0}\n", "sha256:".to_owned() + &"ab".repeat(32)).into_bytes())
        }
        Some("no.list") => Ok(b"# nobody\n".to_vec()),
        Some("a.pem" | "b.pem" | "ca.pem" | "clients.pem") => Ok(pair().0.into_bytes()),
        Some("a.key" | "b.key") => Ok(pair().1.into_bytes()),
        Some("other.key") => Ok(rcgen::KeyPair::generate().unwrap().serialize_pem().into_bytes()),
        Some("locked.key") => {
            Ok(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n".to_vec())
        }
        Some("joined.pem") => {
            Ok(lines_of(&pair().0, 3).repeat(2).replacen("-----\n-----BEGIN", "----------BEGIN", 1).into_bytes())
        }
        Some("broken.key") => Ok(pair().1.replacen("-----BEGIN", "----BEGIN", 1).into_bytes()),
        Some("broken-twice.pem") => Ok(format!("{0}-{0}-{0}", lines_of(&pair().0, 3)).into_bytes()),
        Some("version-1.pem") => Ok(pem::tests::VERSION_1[0].as_bytes().to_vec()),
        Some("common-name.pem") => Ok(self_signed(rcgen::IsCa::ExplicitNoCa).into_bytes()),
        Some("authority.pem") => Ok(self_signed(rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained)).into_bytes()),
        Some("reversed.pem") => {
            Ok((rcgen::generate_simple_self_signed(["o".into()]).unwrap().cert.pem() + &pair().0).into_bytes())
        }
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

/// A certificate without a subject alternative name.
fn self_signed(is_ca: rcgen::IsCa) -> String {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = is_ca;
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}

/// The same block in `count` lines, so that positions in problems do not depend on its length.
fn lines_of(pem: &str, count: usize) -> String {
    let lines: Vec<_> = pem.trim_end().lines().collect();
    let body = lines[1..lines.len() - 1].concat();
    let size = body.len().div_ceil(count);
    let body: Vec<_> =
        (0..count).map(|i| &body[(i * size).min(body.len())..((i + 1) * size).min(body.len())]).collect();
    format!("{}\n{}\n{}\n", lines[0], body.join("\n"), lines[lines.len() - 1])
}

/// A certificate and its key.
fn pair() -> (String, String) {
    static PAIR: std::sync::OnceLock<(String, String)> = std::sync::OnceLock::new();
    let make = || {
        let made = rcgen::generate_simple_self_signed(["example.com".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    };
    PAIR.get_or_init(make).clone()
}

/// Parses a text with the variables and files above.
pub(super) fn read(text: &str) -> Result<ValidatedConfig, Vec<Problem>> {
    parse(Path::new("weir.yaml"), text, &variable, &named_file)
}

/// The document of a valid text.
pub(super) fn parsed(text: &str) -> schema::Document {
    match read(text) {
        Ok(checked) => checked.document().clone(),
        Err(problems) => panic!("{}", lines(&problems)),
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().fold(String::new(), |mut out, problem| {
        let _ = writeln!(out, "{problem}");
        out
    })
}

/// Completes the document of a case. Missing sections are appended, so that line numbers do not change.
fn complete(title: &str, text: &str) -> String {
    let mut text = text.to_owned();
    if title.starts_with("raw: ") {
        return text;
    }
    let api = "upstreams: { api: { backends: [{ address: \"10.0.0.1:3001\" }] } }\n";
    for (key, line) in [("listeners:", "listeners: [{ address: \"127.0.0.1:8080\" }]\n"), ("upstreams:", api)] {
        if !text.lines().any(|l| l.starts_with(key)) {
            text.push_str(line);
        }
    }
    text
}

/// Checks one file of cases; returns their number.
fn cases(name: &str) -> usize {
    let path = root().join("tests/config").join(name);
    let written = std::fs::read_to_string(&path).unwrap();
    let mut found = String::new();
    let mut count = 0;
    for case in written.split("=== ").skip(1) {
        let (title, rest) = case.split_once('\n').unwrap();
        let (text, _) = rest.split_once("---\n").unwrap_or_else(|| panic!("{title}: no `---`"));
        let problems = read(&complete(title, text)).expect_err(title);
        assert!(problems.iter().all(|p| !format!("{p}").contains("hunter2")), "{title}: shows a variable's value");
        let _ = write!(found, "=== {title}\n{text}---\n{}", lines(&problems));
        count += 1;
    }
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(&path, &found).unwrap();
    } else {
        assert_eq!(found, written, "{name}: see `WEIR_BLESS` in src/config/tests.rs");
    }
    count
}

#[test]
fn invalid_configurations_give_the_recorded_problems() {
    let files = [
        "document.txt",
        "process.txt",
        "listeners.txt",
        "routes.txt",
        "responses.txt",
        "rate_limits.txt",
        "upstreams.txt",
        "credentials.txt",
    ];
    let count: usize = files.into_iter().map(cases).sum();
    assert!(count >= 150, "{count} cases");
}

#[test]
fn shipped_configurations_are_valid() {
    let schema = jsonschema::validator_for(&json_schema()).unwrap();
    let mut count = 0;
    for entry in std::fs::read_dir(root().join("conf")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        // The shipped files name certificates of the operator; test certificates replace them.
        let read = |path: &Path| read_named(path).or_else(|_| named_file(Path::new(path.file_name().unwrap())));
        let text = std::fs::read_to_string(&path).unwrap();
        if let Err(problems) = parse(&path, &text, &variable, &read) {
            panic!("{}", lines(&problems));
        }
        let value: serde_json::Value = serde_yaml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let errors: Vec<String> = schema.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
        count += 1;
    }
    assert!(count >= 2);
}

#[test]
fn the_schema_accepts_variables_and_rejects_invalid_values() {
    let schema = jsonschema::validator_for(&json_schema()).unwrap();
    let valid = |yaml: &str| schema.is_valid(&serde_yaml::from_str(yaml).unwrap());
    assert!(valid("{ server: { threads: '${N}', pid_file: null }, log: { level: '${L:-info}' } }"));
    assert!(valid("{ upstreams: { a: { fail_open: '${F}', health_check: { tcp: {}, port: '${P}' } } } }"));
    for admin in
        ["off", "{ address: 'unix:/a.sock' }", "{ address: '0.0.0.0:1', insecure: true }", "{ address: '${A}' }"]
    {
        assert!(valid(&format!("{{ admin: {admin} }}")), "{admin}");
    }
    for admin in
        ["on", "false", "{ address: 'unix:' }", "{ address: 'localhost' }", "{ insecure: 1 }", "{ adress: 'x' }"]
    {
        assert!(!valid(&format!("{{ admin: {admin} }}")), "{admin}");
    }
    assert!(valid("{ listeners: { address: 'a' }, routes: { match: { hosts: a.test, methods: GET }, upstream: u } }"));
    assert!(!valid("{ listeners: { adress: 'a' } }"));
    assert!(!valid("{ server: { threads: many } }"));
    assert!(!valid("{ log: { level: loud } }"));
    assert!(!valid("{ server: { thread: 1 } }"));
    assert!(!valid("{ listeners: [{ address: 'a', limits: { headers: 251 } }] }"));
}

#[test]
fn variables_fit_every_scalar() {
    let document = parsed(
        "server: { threads: \"${THREE}\", pid_file: \"${EMPTY}\" }
listeners:
  - address: ${NONE:-127.0.0.1:0}
    http2: ${YES}
    limits: { header_bytes: \"${THREE}KiB\" }
routes:
  - respond: { status: \"${THREE}00\", body: \"$${THREE}\", headers: { x-three: \"${THREE}\" } }
",
    );
    assert_eq!((document.server.threads, document.server.pid_file), (3, None));
    assert!(document.listeners[0].http2);
    assert_eq!(document.listeners[0].limits.header_bytes, values::Size::kib(3));
    let respond = document.routes[0].respond.clone().unwrap();
    assert_eq!((respond.status, respond.body.as_str(), respond.headers["x-three"].as_str()), (300, "${THREE}", "3"));
}

#[test]
fn anchors_and_merges_are_resolved() {
    let document = parsed(
        "listeners:
  - &web { address: '127.0.0.1:8080', limits: { connections: 5 } }
  - { <<: *web, address: '127.0.0.1:8081' }
",
    );
    assert_eq!(document.listeners[1].limits.connections, 5);
    assert_eq!(document.listeners[1].address.port(), 8081);
}

#[test]
fn named_files_are_read_from_the_folder_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "abc\nrest\n").unwrap();
    let path = folder.path().join("weir.yaml");
    std::fs::write(&path, "listeners: [{ address: '127.0.0.1:0' }]\nadmin: { token_file: token }\n").unwrap();
    let checked = load(&path).unwrap();
    assert_eq!(checked.admin_token(), Some("abc"));
    assert_eq!(checked.file(Path::new("token")), Some(b"abc\nrest\n".as_slice()));
    assert_eq!(checked.path(), path);
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem() {
    let what = |path: &Path| load(path).unwrap_err()[0].to_string();
    assert_eq!(what(Path::new("/no/such.yaml")), "/no/such.yaml:1:1: document: cannot be read: there is no such file.");
    let folder = tempfile::tempdir().unwrap();
    assert!(what(folder.path()).ends_with("it is a folder, not a regular file."));
    let path = folder.path().join("latin.yaml");
    std::fs::write(&path, b"log: {}\n# caf\xe9\n").unwrap();
    assert!(what(&path).ends_with("latin.yaml:2:6: document: not UTF-8. Save the file as UTF-8"), "{}", what(&path));
}

#[test]
fn a_hundred_problems_are_all_listed() {
    let mut text = String::from("listeners: [{ address: '127.0.0.1:0' }]\nroutes:\n");
    for n in 0..100 {
        text += &"  - { name: rN, respond: { status: no } }\n".replace('N', &n.to_string());
    }
    let problems = read(&text).unwrap_err();
    assert_eq!(problems.len(), 100);
    assert_eq!(problems[99].path, "routes[99].respond.status");
    assert_eq!(problems[99].line, 102);
}

#[test]
fn a_large_document_is_parsed_within_20_seconds() {
    let mut text = String::from("listeners: [{ address: '127.0.0.1:0' }]\nupstreams:\n");
    for n in 0..5_000 {
        text += &"  uN: { backends: [{ address: 'hN:80' }] }\n".replace('N', &n.to_string());
    }
    text.push_str("routes:\n");
    for n in 0..5_000 {
        text += &"  - { match: { hosts: [hN.org] }, upstream: uN }\n".replace('N', &n.to_string());
    }
    let start = std::time::Instant::now();
    parsed(&text);
    text.push_str(&"  - { upstream: u, limits: { body: x } }\n".repeat(300));
    assert_eq!(read(&text).unwrap_err().len(), problem::MAX_PROBLEMS);
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

fn shipped() -> Vec<String> {
    ["weir.yaml", "gateway.yaml"].map(|f| std::fs::read_to_string(root().join("conf").join(f)).unwrap()).to_vec()
}

#[test]
fn a_serialized_document_parses_to_the_same_document() {
    for text in shipped() {
        let document = parsed(&text);
        let again = parsed(&serde_yaml::to_string(&document).unwrap());
        assert_eq!(document, again);
        assert!(diff(&document, &again).render(|_| None).is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_causes_no_panic(text in "(?s).{0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn arbitrary_yaml_causes_no_panic(text in r#"[-:?&*a<{}\[\],|>'"!%#@$~ \n\t0]{0,80}"#) {
        let _ = read(&text);
    }

    #[test]
    fn a_damaged_file_causes_no_panic(at in 0usize..3000, len in 0usize..40, put in r#"[-:&*{}\[\]'"!$ \nx0]{0,6}"#) {
        for mut text in shipped() {
            let clamp = |text: &str, at: usize| (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap();
            let (from, to) = (clamp(&text, at), clamp(&text, at + len));
            text.replace_range(from..to, &put);
            if let Err(problems) = read(&text) {
                let last = text.lines().count() + 1;
                prop_assert!(problems.iter().all(|p| (1..=last).contains(&p.line) && !p.to_string().contains('\n')));
            }
        }
    }
}
