//! Sockets are bound before anything is written, at the start and at a reload.

use std::path::Path;

use crate::support::weir::command;
use crate::support::{Client, Origin, Weir, spare};

fn yaml(listeners: &str, backend: &str) -> String {
    format!(
        "admin: {{ address: \"127.0.0.1:0\" }}\nserver: {{ state_dir: state }}\naccess_log: {{ path: access.log }}\n\
         listeners: [{listeners}]\nroutes: [{{ upstream: up }}]\n\
         upstreams: {{ up: {{ sticky: {{ cookie: c, key_file: sticky.key }}, backends: [{{ address: \"{backend}\" }}] }} }}\n"
    )
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
    let config = folder.path().join("weir.yaml");
    let listener = format!("{{ address: \"{}\" }}", taken.local_addr().unwrap());
    std::fs::write(&config, yaml(&listener, "127.0.0.1:1")).unwrap();
    let ended = command(&["run", "-c", config.to_str().unwrap()]);
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    assert_eq!(names_in(folder.path()), ["weir.yaml"]);
}

#[test]
fn a_reload_that_cannot_bind_writes_nothing_and_one_that_can_makes_the_key() {
    let origin = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let web = "{ name: web, address: \"127.0.0.1:0\" }";
    let backend = origin.address().to_string();
    let new = yaml(web, &backend);
    let old =
        new.replace("sticky: { cookie: c, key_file: sticky.key }, ", "").replace("server: { state_dir: state }", "");
    let old = old.replace("access.log", "stdout");
    let path = folder.path().to_owned();
    let weir = Weir::start_in(folder, &old, &[]);
    let taken = std::net::TcpListener::bind(spare()).unwrap();
    let more = format!("{web}, {{ name: two, address: \"{}\" }}", taken.local_addr().unwrap());
    assert!(!weir.reload(&yaml(&more, &backend)));
    assert_eq!(names_in(&path), ["weir.yaml"]);
    assert!(weir.reload(&new), "{}", weir.stderr());
    assert_eq!(names_in(&path), ["access.log", "state", "sticky.key", "weir.yaml"]);
    assert_eq!(Client::connect(weir.web()).get("/").text(), "a");
}

#[test]
fn a_key_that_cannot_be_made_is_a_problem_at_its_place_and_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("weir.yaml");
    let listener = "{ address: \"127.0.0.1:0\" }";
    std::fs::write(&config, yaml(listener, "127.0.0.1:1").replace("sticky.key", "no/such/folder/key")).unwrap();
    let ended = command(&["run", "-c", config.to_str().unwrap()]);
    assert_eq!(ended.code, Some(2), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("weir.yaml:6:51: upstreams.up.sticky.key_file: cannot be made"), "{}", ended.stdout);
}
