//! `defaults`: values for every route that does not set the key itself.

use std::time::Duration;

use crate::support::files::put;
use crate::support::weir::command;
use crate::support::{Client, Config, Origin, Reply, Weir};

fn config(origin: &Origin) -> Config {
    Config::to(origin)
        .set("defaults.timeouts", "{ read: 300ms }")
        .set("defaults.response_headers", "{ set: { x-default: 'yes' } }")
        .set("defaults.limits", "{ body: 10 }")
        .set("routes.own", "match: { path_prefix: /own }, upstream: up, timeouts: { connect: 2s }")
        .set("routes.own.response_headers", "{ set: { x-own: 'yes' } }")
        .set("routes.fixed", "match: { path: /fixed }, respond: { status: 200, body: fixed }")
}

fn slow() -> Origin {
    Origin::start(|_| Reply::new(200, "late").after(Duration::from_millis(900)))
}

#[test]
fn a_route_inherits_whole_keys_that_it_does_not_set() {
    let origin = slow();
    let weir = Weir::start(config(&origin));
    let mut client = Client::connect(weir.web());
    assert_eq!(client.get("/").status, 504);
    let own = client.get("/own");
    assert_eq!((own.status, own.header("x-own"), own.header("x-default")), (200, Some("yes"), None));
    assert_eq!(client.get("/fixed").header("x-default"), Some("yes"));
    assert_eq!(client.post("/own", b"more than ten").status, 413);
}

#[test]
fn a_reload_applies_changed_defaults_and_diff_names_the_routes() {
    let origin = slow();
    let weir = Weir::start(config(&origin));
    assert_eq!(Client::connect(weir.web()).get("/").status, 504);
    let changed = config(&origin).set("defaults.timeouts", "{ read: 20s }");
    assert!(weir.reload(&changed));
    weir.wait_for_log("route all: changed (timeouts.read 300ms → 20s)");
    assert_eq!(Client::connect(weir.web()).get("/").status, 200);
}

#[test]
fn check_explain_and_the_admin_api_show_effective_values() {
    let origin = slow();
    let weir = Weir::start(config(&origin));
    let shown = weir.admin_get("/api/v1/config").json();
    let route =
        |name: &str| shown["routes"].as_array().unwrap().iter().find(|route| route["name"] == name).unwrap().clone();
    assert_eq!(
        (&route("all")["timeouts"]["read"], &route("all")["timeouts"]["first_byte"]),
        (&"300ms".into(), &"300ms".into())
    );
    assert_eq!((&route("own")["timeouts"]["read"], &route("own")["limits"]["body"]), (&"1m".into(), &"10B".into()));
    let explained = weir.admin_get("/api/v1/explain?url=http://a/").json();
    assert_eq!(explained["settings"]["timeouts"]["read"], "300ms");
    let (status, text) = weir.status_and_output(&["explain", "GET", "http://a/"]);
    assert!(status == 0 && text.contains("timeouts: { connect: 3s, first_byte: 300ms, read: 300ms"), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    put(folder.path(), "weir.yaml", config(&origin).to_string());
    let output = command(&["check", "--effective", "--json", "-c", file.to_str().unwrap()]);
    let json: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    let routes = json["effective"]["routes"].as_array().unwrap();
    assert!(routes.iter().any(|route| route["name"] == "all" && route["timeouts"]["read"] == "300ms"), "{json}");
}
