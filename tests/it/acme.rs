//! Certificates that an ACME server issues: a real one, Debian's pebble.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use x509_parser::prelude::{FromDer, X509Certificate};

use crate::support::acme::{Ports, serial, start_rate_limiting};
use crate::support::files::{folder, put, set_mode};
use crate::support::{Client, Config, Origin, Pebble, Pki, TlsClient, Weir, eventually, tls_config};

const ACME: &str = "listeners.secure.tls.acme";
const YEAR: u64 = 365 * 24 * 3600;

/// An ACME server that is not there yet, a state directory, and what Weirs send to.
struct Setup {
    pebble: Pebble,
    state: tempfile::TempDir,
    origin: Origin,
}

impl Setup {
    fn new(hosts: &[&str]) -> Self {
        Self { pebble: Pebble::new(hosts), state: tempfile::tempdir().unwrap(), origin: Origin::named("a") }
    }

    /// A plain listener that sends everything to https, one with TLS for these names.
    fn config(&self, folder: &Path, names: &[&str]) -> Config {
        Config::to(&self.origin)
            .set("server.state_dir", self.state.path().join("made").display())
            .set("listeners.web.redirect_https", true)
            .listener("secure", "")
            .set("listeners.secure.tls.acme", self.pebble.settings(folder, names))
    }

    fn start(&self, names: &[&str], acme: &str) -> Weir {
        let folder = tempfile::tempdir().unwrap();
        let config = self.config(folder.path(), names).set(ACME, acme);
        Weir::start_in(folder, config)
    }

    /// As a user whom modes of files bind; the superuser they do not.
    fn start_bound(&self) -> Weir {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path(), self.state.path()] {
            set_mode(path, 0o755);
        }
        let config = self.bound_config(folder.path(), &["a"]);
        Weir::start_in(folder, config)
    }

    fn bound_config(&self, folder: &Path, names: &[&str]) -> Config {
        let config = self.config(folder, names);
        let root = nix::unistd::Uid::effective().is_root();
        if root { config.set("server.user", "nobody") } else { config }
    }

    /// The file of the state directory of that name, in whatever folder; waits for it.
    fn file(&self, name: &str) -> PathBuf {
        eventually(name, || self.files(name).into_iter().find(|path| path.ends_with(name)))
    }

    /// What is kept of how a name's orders went.
    fn tries(&self, name: &str) -> Option<serde_json::Value> {
        let file = self.files(&format!("{name}.zone.test.json")).pop()?;
        serde_json::from_slice(&std::fs::read(file).ok()?).ok()
    }

    fn files(&self, part: &str) -> Vec<PathBuf> {
        let (mut found, mut folders) = (Vec::new(), vec![self.state.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { found.push(path) }
            }
        }
        found.retain(|path| path.to_string_lossy().contains(part));
        found
    }
}

/// What is shown to who asks for `NAME.zone.test`.
fn shown(weir: &Weir, name: &str) -> Option<Vec<u8>> {
    let name = format!("{name}.zone.test");
    let client = TlsClient::handshake(weir.address("secure"), &name, &Arc::new(tls_config(None))).ok()?;
    let shown = client.shown();
    let (_, certificate) = X509Certificate::from_der(&shown).unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    assert!(format!("{names:?}").contains(&name), "shown for {name}: {names:?}");
    Some(shown)
}

fn issued(weir: &Weir, name: &str) -> Vec<u8> {
    eventually(&format!("{name} is served"), || shown(weir, name))
}

/// Waits for another certificate than this; there must be one at every moment.
fn replaced(weir: &Weir, name: &str, old: &[u8]) -> Vec<u8> {
    eventually(&format!("another is served for {name}"), || Some(shown(weir, name).unwrap()).filter(|new| new != old))
}

fn orders(weir: &Weir, name: &str, result: &str) -> f64 {
    let certificate = format!("certificate=\"acme:{name}.zone.test\"");
    weir.sum(&["weir_acme_orders_total", &certificate, &format!("result=\"{result}\"")])
}

fn order_status(weir: &Weir, name: &str) -> serde_json::Value {
    let all = weir.status()["acme"].as_array().unwrap().clone();
    all.into_iter().find(|each| each["name"] == format!("{name}.zone.test")).unwrap()
}

#[test]
fn a_name_gets_its_certificate_by_a_file_at_the_plain_port() {
    let mut setup = Setup::new(&["a"]);
    let weir = setup.start(&["a"], "email: ops@zone.test");
    let early = TlsClient::handshake(weir.address("secure"), "a.zone.test", &Arc::new(tls_config(None)));
    assert!(
        early.err().unwrap().to_string().contains("UnrecognisedName"),
        "nothing is shown before there is something"
    );
    weir.wait_for_log("asks for a name that has no certificate yet");
    eventually("the server is missed", || orders(&weir, "a", "unreachable") > 0.0);
    eventually("and so is that", || order_status(&weir, "a")["state"] == "failing");
    setup.pebble.start(&Ports::of(&weir), YEAR);
    issued(&weir, "a");
    let mut client = TlsClient::secure(weir.address("secure"), "a.zone.test", &Arc::new(tls_config(None)));
    assert_eq!(client.get_with("/", &[("Host", "a.zone.test")]).status, 200);
    let other = Client::connect(weir.web()).get_with("/.well-known/acme-challenge/x", &[("Host", "a.zone.test")]);
    assert_eq!(other.status, 308, "only what is pending is answered");
    eventually("its end is a metric", || {
        let ends = weir.metric("weir_tls_certificate_expiry_timestamp_seconds{certificate=\"acme:a.zone.test\"}");
        ends > 0.0 && weir.metric("weir_acme_failed_orders{certificate=\"acme:a.zone.test\"}") == 0.0
    });
    eventually("it is told", || order_status(&weir, "a")["state"] == "issued");
    assert_eq!(orders(&weir, "a", "issued"), 1.0);
    let shown = weir.command(&["status"]).stdout;
    assert!(shown.lines().any(|line| line.starts_with("a.zone.test ") && line.contains(" issued ")), "{shown}");
    for file in setup.files("") {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    assert!(setup.files("challenges").is_empty(), "nothing is pending any more");
}

#[test]
fn a_name_gets_its_certificate_by_a_handshake() {
    let mut setup = Setup::new(&["a", "b"]);
    let weir = setup.start(&["a", "b"], "challenge: tls-alpn-01");
    setup.pebble.start(&Ports::of(&weir), YEAR);
    issued(&weir, "a");
    issued(&weir, "b");
    let mut asking = tls_config(None);
    asking.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let asked = TlsClient::handshake(weir.address("secure"), "a.zone.test", &Arc::new(asking));
    assert!(asked.err().unwrap().to_string().contains("NoApplicationProtocol"), "only what is pending is answered");
}

#[test]
fn an_issued_certificate_is_served_after_a_restart_and_renewed_when_the_server_is_back() {
    let mut setup = Setup::new(&["a"]);
    let weir = setup.start(&["a"], "challenge: tls-alpn-01");
    setup.pebble.start(&Ports::of(&weir), 12);
    let first = issued(&weir, "a");
    let account = std::fs::read(setup.file("account.json")).unwrap();
    drop(weir);
    setup.pebble.stop();
    let weir = setup.start(&["a"], "challenge: tls-alpn-01");
    assert_eq!(shown(&weir, "a").as_ref(), Some(&first));
    let missed = || orders(&weir, "a", "unreachable") > 0.0;
    eventually("the renewal misses the server", missed);
    assert_eq!(shown(&weir, "a").as_ref(), Some(&first), "and what is there goes on");
    // It has forgotten the account, too.
    setup.pebble.start(&Ports::of(&weir), 12);
    replaced(&weir, "a", &first);
    assert_ne!(std::fs::read(setup.file("account.json")).unwrap(), account);
    eventually("it is counted", || orders(&weir, "a", "issued") == 1.0);
}

#[test]
fn a_name_whose_order_fails_does_not_stop_other_names() {
    let mut setup = Setup::new(&["good"]);
    let weir = setup.start(&["bad", "good"], "");
    setup.pebble.start(&Ports::of(&weir), YEAR);
    issued(&weir, "good");
    eventually("the other is refused", || orders(&weir, "bad", "refused") > 0.0);
    eventually("it waits", || order_status(&weir, "bad")["error"].as_str().map(drop));
    assert!(shown(&weir, "bad").is_none(), "it is not shown another's certificate");
    let bad = order_status(&weir, "bad");
    assert!(bad["error"].as_str().unwrap().contains("urn:ietf:params:acme:error:"), "{bad}");
    assert_eq!((&bad["state"], bad["next_order"].is_string()), (&"failing".into(), true), "{bad}");
}

#[test]
fn unreadable_state_files_are_moved_aside_and_made_again() {
    let mut setup = Setup::new(&["a"]);
    let weir = setup.start(&["a"], "");
    setup.pebble.start(&Ports::of(&weir), YEAR);
    let first = issued(&weir, "a");
    eventually("how it went is written", || (setup.tries("a")?["failures"] == 0).then_some(()));
    for file in ["account.json", "a.zone.test.json"] {
        std::fs::write(setup.file(file), "{ broken").unwrap();
    }
    std::fs::write(setup.file("a.zone.test.pem"), "nothing\n").unwrap();
    let second = replaced(&weir, "a", &first);
    weir.wait_for_log("what is kept of it cannot be used");
    let rejected = "weir_tls_certificate_reloads_total{certificate=\"acme:a.zone.test\",result=\"rejected\"}";
    assert_eq!((weir.metric(rejected), setup.files(".bad-").len()), (1.0, 3));
    std::fs::write(setup.file("a.zone.test.pem"), "nothing again\n").unwrap();
    drop(weir);
    let weir = setup.start(&["a"], "");
    setup.pebble.stop();
    setup.pebble.start(&Ports::of(&weir), YEAR);
    assert_ne!(issued(&weir, "a"), second, "a start with it is a start all the same");
}

#[test]
fn processes_that_share_a_state_directory_share_orders_and_certificates() {
    let mut setup = Setup::new(&["a", "b"]);
    for challenge in ["challenge: http-01", "challenge: tls-alpn-01"] {
        let name = if challenge.ends_with("http-01") { "a" } else { "b" };
        // The server looks at one of them, whichever has the name in work.
        let weirs = [setup.start(&[name], challenge), setup.start(&[name], challenge)];
        setup.pebble.start(&Ports::of(&weirs[1]), YEAR);
        let certificates = weirs.each_ref().map(|weir| issued(weir, name));
        assert_eq!(certificates[0], certificates[1], "one is enough");
        let all = || weirs.iter().map(|weir| orders(weir, name, "issued")).sum::<f64>();
        eventually("it is counted", || all() > 0.0);
        assert_eq!(all(), 1.0);
        let accounts = setup.files("account.json");
        assert_eq!(accounts.iter().filter(|path| path.ends_with("account.json")).count(), 1, "{accounts:?}");
        setup.pebble.stop();
    }
}

#[test]
fn a_process_answers_for_another_that_has_the_name_in_work() {
    let mut setup = Setup::new(&["a"]);
    let ordering = setup.start(&["a"], "");
    // It wants nothing of that server, but the server looks at it.
    let asked = setup.start(&["other"], "");
    setup.pebble.start(&Ports::of(&asked), YEAR);
    issued(&ordering, "a");
    eventually("it is counted", || orders(&ordering, "a", "issued") == 1.0);
}

#[test]
fn a_revoked_certificate_is_replaced_while_it_serves() {
    let mut setup = Setup::new(&["a"]);
    let weir = setup.start(&["a"], "");
    setup.pebble.start(&Ports::of(&weir), YEAR);
    let first = issued(&weir, "a");
    let kept = setup.file("a.zone.test.pem");
    let stop = AtomicBool::new(false);
    let second = std::thread::scope(|scope| {
        let clients = [(); 3].map(|()| scope.spawn(|| one_after_the_other(&weir, &stop)));
        // As operations.md has it where the key has leaked, in the harder order.
        assert_eq!(setup.pebble.status(&first), "Valid");
        setup.pebble.revoke(&kept);
        assert_eq!(setup.pebble.status(&first), "Revoked");
        std::fs::rename(&kept, kept.with_extension("leaked")).unwrap();
        let second = replaced(&weir, "a", &first);
        stop.store(true, Ordering::Release);
        for shown in clients.map(|client| client.join().unwrap()) {
            assert!(shown.iter().all(|each| *each == first || *each == second) && shown.contains(&first));
            assert!(shown.is_sorted_by_key(|each| *each == second), "the old one does not come back");
        }
        second
    });
    let key = |der: &[u8]| X509Certificate::from_der(der).unwrap().1.public_key().raw.to_vec();
    assert!(serial(&first) != serial(&second) && key(&first) != key(&second), "another number, another key");
    assert_eq!(setup.pebble.status(&second), "Valid");
    drop(weir);
    setup.pebble.stop();
    let weir = setup.start(&["a"], "");
    assert_eq!(shown(&weir, "a"), Some(second), "and a restart serves it");
}

/// Handshakes and requests, each of which must work; what was shown, in order.
fn one_after_the_other(weir: &Weir, stop: &AtomicBool) -> Vec<Vec<u8>> {
    let (config, mut shown) = (Arc::new(tls_config(None)), Vec::new());
    while !stop.load(Ordering::Acquire) {
        let mut client = TlsClient::secure(weir.address("secure"), "a.zone.test", &config);
        assert_eq!(client.get_with("/", &[("Host", "a.zone.test")]).status, 200);
        shown.push(client.shown());
    }
    shown
}

#[test]
fn a_certificate_that_the_server_wants_renewed_is_ordered_at_once_and_served_meanwhile() {
    let mut setup = Setup::new(&["a"]);
    let weir = setup.start(&["a"], "");
    setup.pebble.start(&Ports::of(&weir), YEAR);
    let first = issued(&weir, "a");
    let mut tries = eventually("how it went is written", || setup.tries("a").filter(|tries| tries["failures"] == 0));
    drop(weir);
    // It is revoked: the server that knows so says that it should have been renewed.
    setup.pebble.stop();
    start_rate_limiting(&setup.pebble, 7200);
    tries["last"] = 0.into();
    std::fs::write(setup.file("a.zone.test.json"), tries.to_string()).unwrap();
    let weir = setup.start(&["a"], "");
    eventually("it is ordered", || orders(&weir, "a", "rate_limited") == 1.0);
    assert_eq!(shown(&weir, "a").as_ref(), Some(&first));
}

#[test]
fn a_certificate_that_cannot_be_written_is_served_and_written_later_without_a_new_order() {
    let mut setup = Setup::new(&["a"]);
    let weir = setup.start_bound();
    setup.pebble.names().stop_answering();
    setup.pebble.start(&Ports::of(&weir), YEAR);
    // The server looks for the name: all that was written before the order is there.
    eventually("a challenge is pending", || setup.files("challenges/").pop());
    let folder = setup.file("account.json").parent().unwrap().to_owned();
    set_mode(&folder, 0o500);
    setup.pebble.names().resume_answering();
    let first = issued(&weir, "a");
    let config = weir.config_file();
    assert!(weir.reload(setup.bound_config(config.parent().unwrap(), &["a", "b"])));
    // What is looked at for one is looked at for all.
    eventually("the reload is taken up", || order_status(&weir, "b")["state"] == "failing");
    assert!(order_status(&weir, "b")["error"].as_str().unwrap().contains("nothing can be kept"));
    assert_eq!(order_status(&weir, "a")["state"], "issued", "{}", order_status(&weir, "a"));
    assert!(setup.files("a.zone.test.pem").is_empty());
    set_mode(&folder, 0o700);
    setup.file("a.zone.test.pem");
    weir.wait_for_log("what was issued is written now");
    assert_eq!((orders(&weir, "a", "issued"), shown(&weir, "a")), (1.0, Some(first.clone())));
    drop(weir);
    setup.pebble.stop();
    assert_eq!(shown(&setup.start_bound(), "a"), Some(first), "and a restart serves it");
}

#[test]
fn no_certificate_is_ordered_that_cannot_be_stored() {
    let mut setup = Setup::new(&["a"]);
    let weir = setup.start_bound();
    eventually("the server is missed", || order_status(&weir, "a")["state"] == "failing");
    set_mode(setup.file("a.zone.test.lock").parent().unwrap(), 0o500);
    setup.pebble.start(&Ports::of(&weir), YEAR);
    let said = || order_status(&weir, "a")["error"].as_str().unwrap().contains("nothing can be kept");
    eventually("it is said", said);
    assert!(setup.files("account").iter().all(|path| path.ends_with("account.lock")), "the server was not asked");
    set_mode(setup.file("a.zone.test.lock").parent().unwrap(), 0o700);
}

#[test]
fn names_come_and_go_by_reload() {
    let mut setup = Setup::new(&["a", "b"]);
    let weir = setup.start(&["a"], "");
    setup.pebble.start(&Ports::of(&weir), YEAR);
    let first = issued(&weir, "a");
    let folder = weir.config_file().parent().unwrap().to_owned();
    assert!(weir.reload(setup.config(&folder, &["a", "b"]).set(ACME, "email: ops@zone.test")));
    assert_eq!(shown(&weir, "a").as_ref(), Some(&first), "what is there is kept");
    issued(&weir, "b");
    let account = std::fs::read_to_string(setup.file("account.json")).unwrap();
    assert!(account.contains("ops@zone.test"), "the server was told of the new address");
    assert!(weir.reload(setup.config(&folder, &["b"])));
    let series = || weir.scrape().keys().filter(|name| name.contains("acme:a.zone.test")).count();
    eventually("nothing is shown of the other", || series() == 0);
    assert!(weir.status()["acme"].as_array().unwrap().len() == 1);
    assert!(weir.reload(setup.config(&folder, &["a", "b"])));
    assert_eq!(shown(&weir, "a").as_ref(), Some(&first), "it was kept, too");
    let elsewhere = format!("directory: \"https://127.0.0.1:{}/elsewhere\"", setup.pebble.port());
    assert!(weir.reload(setup.config(&folder, &["a"]).set(ACME, elsewhere)));
    eventually("it is ordered there", || order_status(&weir, "a")["state"] == "failing");
    assert_eq!(shown(&weir, "a").as_ref(), Some(&first), "until another server has issued one");
}

#[test]
fn a_server_that_asks_for_time_gets_it_over_reload_and_restart() {
    let setup = Setup::new(&["a"]);
    start_rate_limiting(&setup.pebble, 7200);
    let weir = setup.start(&["a"], "");
    let limited = |weir: &Weir| {
        let status =
            eventually("a wait", || Some(order_status(weir, "a")).filter(|each| each["next_order"].is_string()));
        let next = time::OffsetDateTime::parse(
            status["next_order"].as_str().unwrap(),
            &time::format_description::well_known::Rfc3339,
        );
        let wait = (next.unwrap() - time::OffsetDateTime::now_utc()).whole_seconds();
        assert!((6000..=8000).contains(&wait), "{status}");
        assert_eq!((&status["state"], &status["failures"]), (&"failing".into(), &1.into()));
    };
    eventually("it is limited", || orders(&weir, "a", "rate_limited") == 1.0);
    limited(&weir);
    let folder = weir.config_file().parent().unwrap().to_owned();
    assert!(weir.reload(setup.config(&folder, &["a"])));
    limited(&weir);
    setup.file("a.zone.test.json");
    drop(weir);
    limited(&setup.start(&["a"], ""));
}

#[test]
fn the_state_directory_belongs_to_the_user_of_the_configuration() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let mut setup = Setup::new(&["a"]);
    let weir = setup.start_bound();
    setup.pebble.start(&Ports::of(&weir), YEAR);
    issued(&weir, "a");
    let owner = |path: &Path| std::os::unix::fs::MetadataExt::uid(&path.metadata().unwrap());
    assert_ne!(owner(&setup.file("a.zone.test.pem")), 0);
    assert_eq!(owner(&setup.state.path().join("made")), owner(&setup.file("account.json")));
}

#[test]
fn an_acme_server_with_an_unknown_authority_is_reported_with_the_key_to_set() {
    let (pki, origin) = (Pki::new(), Origin::named("a"));
    let server = Weir::start_in(folder(&[("a", &pki.issue(&["127.0.0.1"]))]), Config::to(&origin).certificates(&["a"]));
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "other.pem", Pki::new().ca());
    let directory = format!("https://{}/dir", server.web());
    let config = Config::new()
        .set("server.state_dir", "state")
        .listener("secure", "")
        .set(ACME, format!("names: [a.zone.test], directory: \"{directory}\", directory_ca: other.pem"))
        .route("all", "respond: { status: 204 }");
    let weir = Weir::start_in(folder, config);
    let error = eventually("it fails", || order_status(&weir, "a")["error"].as_str().map(str::to_owned));
    assert!(error.contains(&directory) && error.contains("`directory_ca`"), "{error}");
    weir.wait_for_log("no certificate could be had");
    assert!(!weir.stderr().contains("what is served goes on"), "{}", weir.stderr());
}
