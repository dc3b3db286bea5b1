//! Certificates that change while they serve: by reload, by their files, a hundred times under load.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustls::version::{TLS12, TLS13};

use crate::support::files::{folder, put};
use crate::support::pki::Issued;
use crate::support::tls::tls_config_with;
use crate::support::{Config, Origin, Pki, TlsClient, Weir, delay, eventually, size, tls_config};

const EXPIRY: &str = "weir_tls_certificate_expiry_timestamp_seconds{certificate=\"a.pem\"}";
const APPLIED: &str = "weir_tls_certificate_reloads_total{certificate=\"a.pem\",result=\"applied\"}";
const REJECTED: &str = "weir_tls_certificate_reloads_total{certificate=\"a.pem\",result=\"rejected\"}";

fn start(first: &Issued) -> (Weir, Origin, Config) {
    let origin = Origin::named("a");
    let config = Config::to(&origin).certificates(&["a"]);
    (Weir::start_in(folder(&[("a", first)]), &config), origin, config)
}

fn of(weir: &Weir) -> std::path::PathBuf {
    weir.config_file().parent().unwrap().to_owned()
}

fn shows(weir: &Weir, issued: &Issued) -> bool {
    TlsClient::secure(weir.web(), "a.test", &Arc::new(tls_config(None))).was_shown(issued)
}

fn until(pki: &Pki, year: i32) -> Issued {
    pki.issue_for(&["a.test"], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
    })
}

#[test]
fn a_certificate_is_renewed_when_its_files_change() {
    let pki = Pki::new();
    let (first, second, third) = (until(&pki, 2060), until(&pki, 2061), until(&pki, 2062));
    let (weir, ..) = start(&first);
    assert!(shows(&weir, &first));
    assert_eq!(weir.metric(EXPIRY), 2_840_140_800.0);
    second.put(&of(&weir), "a");
    eventually("the second is served", || shows(&weir, &second));
    assert_eq!((weir.metric(EXPIRY), weir.metric(APPLIED)), (2_871_763_200.0, 1.0));
    // As Kubernetes and certbot do it: what the names lead to is swapped.
    let live = of(&weir).join("live");
    std::fs::create_dir(&live).unwrap();
    third.put(&live, "a");
    for name in ["a.pem", "a.key"] {
        let link = of(&weir).join(format!("{name}.link"));
        std::os::unix::fs::symlink(Path::new("live").join(name), &link).unwrap();
        std::fs::rename(link, of(&weir).join(name)).unwrap();
    }
    eventually("the third is served", || shows(&weir, &third));
    let status = weir.status()["certificates"][0].clone();
    assert_eq!((&status["name"], &status["not_after"]), (&"a.pem".into(), &"2062-01-01T00:00:00Z".into()));
    assert_eq!(status["names"][0], "a.test");
    let shown = weir.command(&["status"]);
    assert!(shown.stdout.lines().any(|l| l.starts_with("a.pem ") && l.contains("2062-01-01")), "{}", shown.stdout);
}

#[test]
fn a_bad_certificate_pair_is_rejected_while_the_old_one_serves() {
    let pki = Pki::new();
    let (first, second) = (until(&pki, 2060), until(&pki, 2061));
    let (weir, _origin, config) = start(&first);
    put(&of(&weir), "a.pem", &second.cert);
    eventually("it is told", || weir.metric(REJECTED) == 1.0);
    assert!(shows(&weir, &first));
    assert_eq!(weir.metric(EXPIRY), 2_840_140_800.0);
    weir.wait_for_log("the key does not belong to the certificate");
    assert!(!weir.reload(&config), "a reload with it is refused");
    let line = config.to_string().lines().position(|line| line.contains("a.key")).unwrap() + 1;
    eventually("and says where", || {
        let said = weir.stderr();
        let key = "listeners[0].tls.certificates[0].key: the key does not belong";
        said.lines().any(|said| said.contains(&format!("weir.yaml:{line}:")) && said.contains(key))
    });
    assert!(shows(&weir, &first));
    put(&of(&weir), "a.key", &second.key);
    eventually("with its key it is taken", || shows(&weir, &second));
    assert_eq!((weir.metric(APPLIED), weir.metric(REJECTED)), (1.0, 1.0));
    put(&of(&weir), "a.key", "nothing\n");
    eventually("it is told", || weir.metric(REJECTED) == 2.0);
    assert!(shows(&weir, &second));
    let checked = crate::support::weir::command(&["check", "-c", weir.config_file().to_str().unwrap()]);
    assert_eq!(checked.code, Some(2));
    assert!(checked.stdout.contains("there is no private key in this file"), "{}", checked.stdout);
}

#[test]
fn a_reload_renews_certificates_and_keeps_sessions() {
    let pki = Pki::new();
    let (first, second) = (until(&pki, 2060), until(&pki, 2061));
    let (weir, _origin, config) = start(&first);
    let resumes = |settings: &Arc<rustls::ClientConfig>| {
        let mut client = TlsClient::secure(weir.web(), "a.test", settings);
        assert_eq!(client.get_with("/", &[("Host", "a.test")]).status, 200);
        client.was_resumed()
    };
    let clients = [&[&TLS12][..], &[&TLS13]].map(|versions| Arc::new(tls_config_with(None, versions, &[])));
    assert!(clients.iter().all(|client| !resumes(client) && resumes(client)));
    second.put(&of(&weir), "a");
    assert!(weir.reload(config.clone().route("more", "match: { path: /more }, upstream: up")));
    assert!(shows(&weir, &second));
    assert!(clients.iter().all(resumes), "a reload ends no session");
    assert!(weir.reload(config.set("listeners.web.tls.min_version", "\"1.3\"")));
    assert!(TlsClient::handshake(weir.web(), "a.test", &clients[0]).is_err(), "new terms hold for new connections");
    assert!(resumes(&clients[1]));
}

#[test]
fn a_listener_gains_and_loses_tls_without_being_bound_anew() {
    let pki = Pki::new();
    let (weir, _origin, config) = start(&pki.issue(&["a.test"]));
    let mut kept = TlsClient::secure(weir.web(), "a.test", &Arc::new(tls_config(None)));
    assert!(weir.reload(config.clone().without("listeners.web.tls")));
    assert_eq!(crate::support::Client::connect(weir.web()).get("/").status, 200);
    assert_eq!(kept.get_with("/", &[("Host", "a.test")]).status, 200, "who is there stays");
    assert_eq!(weir.metric(EXPIRY), 0.0);
    assert!(weir.reload(&config));
    TlsClient::secure(weir.web(), "a.test", &Arc::new(tls_config(None)));
}

/// Swaps under load; every handshake must work and every request be answered.
fn swap(times: usize, by_reload: bool, pause: Duration) {
    let pki = Pki::new();
    let pairs = [until(&pki, 2060), until(&pki, 2061)];
    let (weir, _origin, config) = start(&pairs[0]);
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for fresh in [true, false] {
            let (weir, stop, done) = (&weir, &stop, &done);
            scope.spawn(move || {
                let same = Arc::new(tls_config(None));
                while !stop.load(Ordering::Relaxed) {
                    let config = if fresh { Arc::new(tls_config(None)) } else { Arc::clone(&same) };
                    let mut client = TlsClient::secure(weir.web(), "a.test", &config);
                    assert_eq!(client.get_with("/", &[("Host", "a.test")]).status, 200);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let swapped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for n in 1..=times {
                pairs[n % 2].put(&of(&weir), "a");
                if by_reload {
                    assert!(weir.reload(&config));
                } else {
                    eventually("it is served", || shows(&weir, &pairs[n % 2]));
                }
                delay(pause);
            }
        }));
        stop.store(true, Ordering::Relaxed);
        swapped.unwrap();
    });
    assert!(shows(&weir, &pairs[times % 2]));
    assert_eq!(weir.sum(&["weir_listener_connections_total", "tls_error"]), 0.0);
    println!("{} handshakes over {times} swaps", done.load(Ordering::Relaxed));
    assert!(done.load(Ordering::Relaxed) as usize >= times.min(20));
}

#[test]
fn certificates_are_swapped_under_load_without_a_failed_handshake() {
    swap(10, true, Duration::ZERO);
}

#[test]
#[ignore = "a minute"]
fn certificates_are_swapped_a_hundred_times_under_load() {
    swap(size("WEIR_SWAPS", 100), true, Duration::from_millis(100));
    swap(size("WEIR_SWAPS", 100) / 5, false, Duration::ZERO);
}
