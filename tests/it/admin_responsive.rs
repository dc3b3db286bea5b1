//! The admin API, the probes and reloads go on while a file that Weir reads does not answer, as on a file system that hangs.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::support::child::fifo as make_fifo;
use crate::support::{Origin, Pki, Weir, eventually, spare};
use crate::tls::{config, folder};

/// Puts a FIFO in place of a file: reading it takes until somebody writes.
fn hang(path: &Path) {
    let fifo = path.with_extension("fifo");
    make_fifo(&fifo);
    std::fs::rename(fifo, path).unwrap();
}

/// Waits until Weir reads it, and holds it there; or until it has said that it does not read such files.
fn until_it_hangs(weir: &Weir, path: &Path) -> Option<File> {
    eventually("it is read", || {
        // Without somebody who reads, this fails at once.
        let writer = File::options().write(true).custom_flags(libc::O_NONBLOCK).open(path);
        let told = || weir.stderr().lines().any(|line| line.contains("cannot be used"));
        writer.ok().map(Some).or_else(|| told().then_some(None))
    })
}

fn answers_everything(weir: &Weir) {
    // More than one turn of everything that runs once a second.
    let until = std::time::Instant::now() + std::time::Duration::from_millis(2500);
    while std::time::Instant::now() < until {
        for path in ["/healthz", "/readyz", "/", "/api/v1/status", "/api/v1/config", "/metrics"] {
            assert_eq!(weir.admin_get(path).status, 200, "{path}");
        }
    }
}

#[test]
fn the_admin_api_answers_while_a_certificate_file_hangs() {
    let (origin, pki) = (Origin::named("a"), Pki::new());
    let folder = folder(&[("a", &pki.issue(&["a.test"]))]);
    let weir = Weir::start_in(folder, &config(&["a"], "", "", &origin), &[]);
    let file = weir.config_file().with_file_name("a.pem");
    hang(&file);
    let held = until_it_hangs(&weir, &file);
    answers_everything(&weir);
    drop(held);
    weir.wait_for_at_least(&["weir_tls_certificate_reloads_total", "a.pem", "rejected"], 1.0);
    pki.issue(&["a.test"]).put(file.parent().unwrap(), "a");
    weir.wait_for_at_least(&["weir_tls_certificate_reloads_total", "a.pem", "applied"], 1.0);
}

#[test]
fn the_admin_api_answers_while_an_issued_certificate_hangs() {
    let yaml = format!(
        "server: {{ state_dir: state }}\nlisteners:\n  - {{ name: web, address: \"127.0.0.1:0\" }}\n\
         \x20 - {{ name: tls, address: \"127.0.0.1:0\", tls: {{ acme: {{ names: [a.test.example], \
         directory: \"https://{}/dir\", directory_ca: ca.pem }} }} }}\n\
         routes: [{{ respond: {{ status: 204 }} }}]\n",
        spare()
    );
    let folder = tempfile::tempdir().unwrap();
    crate::support::pki::put(folder.path(), "ca.pem", &Pki::new().ca());
    let weir = Weir::start_in(folder, &yaml, &[]);
    weir.wait_for_at_least(&["weir_acme_orders_total"], 1.0);
    let state = weir.config_file().with_file_name("state").join("acme");
    let kept =
        state.read_dir().unwrap().map(|entry| entry.unwrap().path()).find(|path| path.join("account.lock").exists());
    let file = kept.expect("the folder of the server").join("a.test.example.pem");
    hang(&file);
    let held = until_it_hangs(&weir, &file);
    answers_everything(&weir);
    assert_eq!(weir.status()["acme"][0]["name"], "a.test.example");
    drop(held);
    eventually("it is moved aside", || (!file.exists()).then_some(()));
}

#[test]
fn a_reload_does_not_wait_for_a_file_of_the_configuration_before() {
    let (origin, pki) = (Origin::named("a"), Pki::new());
    let folder = folder(&[("a", &pki.issue(&["a.test"]))]);
    crate::support::pki::put(folder.path(), "ca.pem", &pki.ca());
    let yaml = |tls: &str| {
        format!(
            "listeners: [{{ name: web, address: \"127.0.0.1:0\" }}]\nroutes: [{{ upstream: up }}]\n\
             upstreams: {{ up: {{ {tls}backends: [{{ address: \"{}\" }}] }} }}\n",
            origin.address()
        )
    };
    let weir = Weir::start_in(folder, &yaml("tls: { server_name: a.test, ca: ca.pem }, "), &[]);
    let file = weir.config_file().with_file_name("ca.pem");
    hang(&file);
    let held = until_it_hangs(&weir, &file);
    assert!(weir.reload(&yaml("")));
    answers_everything(&weir);
    drop(held);
}
