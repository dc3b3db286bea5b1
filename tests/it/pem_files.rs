//! Broken PEM files: told at their lines by `check`, refused by a renewal.

use std::sync::Arc;

use crate::support::files::put;
use crate::support::weir::command;
use crate::support::{Config, Origin, Pki, TlsClient, Weir, tls_config};

fn config(origin: &Origin) -> Config {
    Config::to(origin).certificates(&["a"])
}

#[test]
fn check_reports_each_broken_marker_at_its_line_of_the_pem_file() {
    let (pki, origin, folder) = (Pki::new(), Origin::named("a"), tempfile::tempdir().unwrap());
    let a = pki.issue(&["a.example"]);
    let chain = format!("{}{}", a.cert.trim_end(), pki.ca());
    put(folder.path(), "a.pem", &chain);
    put(folder.path(), "a.key", a.key.replacen("-----BEGIN", "---BEGIN", 1));
    put(
        folder.path(),
        "ca.pem",
        format!("{0}{1}{1}", pki.ca(), pki.ca().replacen("CERTIFICATE-----", "CERTIFICATE----", 1)),
    );
    let file = folder.path().join("weir.yaml");
    let config = config(&origin).set("listeners.web.tls.client_auth", "mode: required, ca: ca.pem");
    std::fs::write(&file, config.to_string()).unwrap();
    let said = command(&["check", "-c", file.to_str().unwrap()]);
    assert_eq!(said.code, Some(2), "{}", said.stdout);
    let at = |name: &str| folder.path().join(name).display().to_string();
    let lines = pki.ca().lines().count();
    let certificates = "listeners[0].tls.certificates[0]";
    for told in [
        format!("{}:{}:1: {certificates}.cert: two markers on one line. ", at("a.pem"), a.cert.lines().count()),
        format!("{}:1:1: {certificates}.key: a broken marker. ", at("a.key")),
        format!("{}:{}:1: listeners[0].tls.client_auth.ca: a broken marker. ", at("ca.pem"), lines + 1),
        format!("{}:{}:1: listeners[0].tls.client_auth.ca: a broken marker. ", at("ca.pem"), 2 * lines + 1),
    ] {
        assert!(said.stdout.lines().any(|line| line.starts_with(&told)), "{told}\n{}", said.stdout);
    }
    assert!(said.stdout.ends_with("\n4 problems\n"), "{}", said.stdout);
}

#[test]
fn a_renewal_with_a_broken_marker_is_refused_and_the_old_certificate_stays() {
    let (pki, origin, folder) = (Pki::new(), Origin::named("a"), tempfile::tempdir().unwrap());
    let (old, new) = (pki.issue(&["a.example"]), pki.issue(&["a.example"]));
    let path = folder.path().to_owned();
    old.put(&path, "a");
    let weir = Weir::start_in(folder, config(&origin));
    put(&path, "a.key", &new.key);
    put(&path, "a.pem", format!("{}{}", new.cert.trim_end(), pki.ca()));
    let told = format!("line {}: two markers on one line", new.cert.lines().count());
    weir.wait_for_log(&told);
    let client = TlsClient::secure(weir.web(), "a.example", &Arc::new(tls_config(None)));
    assert!(client.was_shown(&old));
}
