//! Configurations: no text makes the parser panic, each problem has a place in the text, and an accepted text is YAML for a second
//! parser too.

use std::path::Path;

const TOKENS: &[&str] = &[
    "listeners:\n",
    "  - { name: web, address: \"127.0.0.1:0\" }\n",
    "routes:\n",
    "  - { upstream: app }\n",
    "upstreams:\n",
    "  app:\n",
    "    backends: [{ address: \"127.0.0.1:1\" }]\n",
    "    balance: random\n",
    "    health_check: { http: { path: / } }\n",
    "\n",
    " ",
    "  ",
    "- ",
    ": ",
    "{ ",
    " }",
    "[",
    "]",
    "\"",
    "'",
    "${HOME}",
    "${NONE:-x}",
    "$${",
    "&a ",
    "*a",
    "|\n",
    "#",
    "!!str ",
    "match: { path_prefix: /a }",
    "respond: { status: 204 }",
    "admin: off\n",
    "tls: { certificates: [{ cert: a.pem, key: a.key }] }",
    "limits: { body: 1MiB }",
    "timeouts: { read: 1s }",
    "hosts: [\"*.a.test\"]",
];

fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let env = |name: &str| (name == "HOME").then(|| "value: [".to_owned());
    let read = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    match weir::config::parse(Path::new("fuzz.yaml"), text, &env, &read) {
        Ok(config) => {
            let second: Result<serde_yaml::Value, _> = serde_yaml::from_str(text);
            assert!(second.is_ok(), "{:?}\n{text}", second.err());
            assert!(weir::config::masked(config.document()).is_ok());
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            let lines = text.split('\n').count();
            for problem in problems {
                assert!(problem.line >= 1 && problem.column >= 1 && problem.line <= lines + 1, "{problem}\n{text}");
                assert!(!problem.what.is_empty() && !problem.path.is_empty(), "{problem}");
            }
        }
    }
}

crate::fuzz_target!(yaml, TOKENS, check);
