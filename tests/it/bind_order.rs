//! Sockets are bound before anything is written, at the start and at a reload.

use std::fmt::Display;
use std::path::Path;

use crate::support::{Client, Config, Origin, Weir, spare};

/// With a state directory, a key of an upstream and an access log, all of which are made.
fn config(backend: impl Display) -> Config {
    Config::to(backend)
        .set("server.state_dir", "state")
        .set("access_log.path", "access.log")
        .set("upstreams.up.sticky", "cookie: c, key_file: sticky.key")
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_start_that_cannot_bind_leaves_no_key_no_state_and_no_log_behind() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let config = config("127.0.0.1:1").set("listeners.web.address", taken.local_addr().unwrap());
    let ended = Weir::start_and_end(&folder, config);
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    assert_eq!(names_in(&path), ["weir.yaml"]);
}

#[test]
fn a_reload_that_cannot_bind_writes_nothing_and_one_that_can_makes_the_key() {
    let origin = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let weir = Weir::start_in(folder, Config::to(&origin));
    let taken = std::net::TcpListener::bind(spare()).unwrap();
    let more = config(&origin).listener("two", format!("address: \"{}\"", taken.local_addr().unwrap()));
    assert!(!weir.reload(more));
    assert_eq!(names_in(&path), ["weir.yaml"]);
    assert!(weir.reload(config(&origin)), "{}", weir.stderr());
    assert_eq!(names_in(&path), ["access.log", "state", "sticky.key", "weir.yaml"]);
    assert_eq!(Client::connect(weir.web()).get("/").text(), "a");
}

#[test]
fn a_key_that_cannot_be_made_is_a_problem_at_its_place_and_ends_the_start() {
    let yaml = "\
listeners: [{ address: \"127.0.0.1:0\" }]
routes: [{ upstream: up }]
upstreams: { up: { sticky: { cookie: c, key_file: no/such/folder/key }, backends: [{ address: \"127.0.0.1:1\" }] } }
";
    let ended = Weir::start_and_end(&tempfile::tempdir().unwrap(), yaml);
    assert_eq!(ended.code, Some(2), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("weir.yaml:3:51: upstreams.up.sticky.key_file: cannot be made"), "{}", ended.stdout);
}
