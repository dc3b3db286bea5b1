//! The admin API, the probes and reloads go on while a file that Weir reads does not answer, as on a file system that hangs.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use crate::support::files::{fifo, folder, put};
use crate::support::{Config, Origin, Pki, Weir, eventually, spare, stays};

/// Puts a FIFO in place of a file: reading it takes until somebody writes.
fn hang(path: &Path) {
    let pipe = path.with_extension("fifo");
    fifo(&pipe);
    std::fs::rename(pipe, path).unwrap();
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
    stays("every page answers", Duration::from_millis(2500), || {
        let pages = ["/healthz", "/readyz", "/", "/api/v1/status", "/api/v1/config", "/metrics"];
        pages.iter().all(|path| weir.admin_get(path).status == 200)
    });
}

#[test]
fn the_admin_api_answers_while_a_certificate_file_hangs() {
    let (origin, pki) = (Origin::named("a"), Pki::new());
    let folder = folder(&[("a", &pki.issue(&["a.test"]))]);
    let weir = Weir::start_in(folder, Config::to(&origin).certificates(&["a"]));
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
    let directory = format!("https://{}/dir", spare());
    let config = Config::new()
        .set("server.state_dir", "state")
        .listener("tls", "")
        .set("listeners.tls.tls.acme", "names: [a.test.example], directory_ca: ca.pem")
        .set("listeners.tls.tls.acme.directory", directory)
        .route("all", "respond: { status: 204 }");
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "ca.pem", Pki::new().ca());
    let weir = Weir::start_in(folder, config);
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
    eventually("it is moved aside", || !file.exists());
}

#[test]
fn a_reload_does_not_wait_for_a_file_of_the_configuration_before() {
    let (origin, pki) = (Origin::named("a"), Pki::new());
    let folder = folder(&[("a", &pki.issue(&["a.test"]))]);
    put(folder.path(), "ca.pem", pki.ca());
    let plain = Config::to(&origin);
    let weir = Weir::start_in(folder, plain.clone().set("upstreams.up.tls", "server_name: a.test, ca: ca.pem"));
    let file = weir.config_file().with_file_name("ca.pem");
    hang(&file);
    let held = until_it_hangs(&weir, &file);
    assert!(weir.reload(plain));
    answers_everything(&weir);
    drop(held);
}
