//! The status page in headless Chromium: accessible, live, and without requests to another host.
//!
//! `scripts/browser.sh` installs the browser. Without it, the test prints `skipped` and tests nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Config, Origin, Reply, Weir};

/// The browser and the folder of the modules, if they are installed.
fn browser() -> Option<(PathBuf, PathBuf)> {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/browser/node_modules");
    let chromium = PathBuf::from("/usr/bin/chromium");
    let is_complete =
        chromium.exists() && modules.join("axe-core").exists() && modules.join("playwright-core").exists();
    is_complete.then_some((chromium, modules))
}

/// The observations of the browser; `None`: skipped.
fn visit(weir: &Weir, text: &str, action: &str) -> Option<Value> {
    let Some((chromium, modules)) = browser() else {
        println!("skipped: there is no chromium with playwright-core and axe-core (scripts/browser.sh)");
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/browser/status_page.js");
    let url = format!("http://{}/", weir.admin());
    let mut command = Command::new("node");
    let output = command.arg(script).arg(&url).arg(chromium).arg(modules).args([text, action]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(seen["violations"], Value::Array(vec![]));
    assert_eq!(seen["errors"], Value::Array(vec![]));
    let requests = seen["requests"].as_array().unwrap();
    let own = |request: &&Value| request.as_str().is_some_and(|to| to.starts_with(&url) || to.starts_with("data:"));
    assert!(requests.iter().all(|request| own(&request)), "{requests:?}");
    Some(seen)
}

#[test]
fn the_page_in_a_browser_is_accessible_drains_a_backend_and_shows_it_within_five_seconds() {
    let origin = Origin::start(|_| Reply::new(200, "a"));
    let config = Config::to_all(&[("a", &origin)])
        .backend("up.b", "127.0.0.1:1", "")
        .set("upstreams.up.health_check", "interval: 50ms, timeout: 50ms, http: { path: /healthz }");
    let weir = Weir::start(config);
    weir.wait_for_state("b", "down");
    if visit(&weir, "marked draining by an operator", "drain").is_some() {
        assert!(weir.status()["upstreams"][0]["backends"].to_string().contains("draining"));
    }
}
