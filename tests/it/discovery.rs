//! Discovery: backends by DNS, from a real server whose zone changes, and from a file that is replaced.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::dns::ZONE;
use crate::support::echo::Faults;
use crate::support::weir::command;
use crate::support::{Client, Config, Dns, Echo, Gate, Weir, busy, eventually, size, stays};

/// 127.0.0.N: all of them are this machine.
fn ip(n: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, n).into()
}

fn ips(last: &[u8]) -> Vec<IpAddr> {
    last.iter().map(|n| ip(*n)).collect()
}

/// Echoes at 127.0.0.1 to 127.0.0.N, all on one port.
fn echoes(count: u8) -> (Vec<Option<Echo>>, u16) {
    eventually("one port at all addresses", || {
        let first = Echo::start("1", Faults::default());
        let port = first.address().port();
        let free = |n: u8| std::net::TcpListener::bind((ip(n), port)).is_ok();
        (2..=count).all(free).then(|| {
            let rest = (2..=count).map(|n| Echo::start_on((ip(n), port).into(), &n.to_string(), Faults::default()));
            (std::iter::once(first).chain(rest).map(Some).collect(), port)
        })
    })
}

fn config(upstream: &str) -> Config {
    Config::new().route("all", "upstream: up").set("upstreams.up", upstream)
}

/// What asks this server often, for this.
fn discover(dns: &Dns, what: &str) -> Config {
    let resolver = format!("resolver: \"{}\", min_ttl: 200ms, max_ttl: 500ms", dns.address());
    config("").set("upstreams.up.discover", what).set("upstreams.up.discover", resolver)
}

/// What asks this server for `api.zone.test`.
fn by_name(dns: &Dns, port: u16) -> Config {
    discover(dns, &format!("dns: api.{ZONE}, port: {port}"))
}

/// The backends' addresses, in order.
fn listed(weir: &Weir) -> Vec<String> {
    let status = weir.status();
    let backends = status["upstreams"][0]["backends"].as_array().unwrap();
    backends.iter().map(|backend| backend["address"].as_str().unwrap().to_owned()).collect()
}

fn wait_for_list(weir: &Weir, addresses: &[SocketAddr]) {
    let wanted: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    eventually(&format!("{wanted:?}; {}", weir.status()), || listed(weir) == wanted);
}

fn error(weir: &Weir) -> Option<String> {
    weir.status()["upstreams"][0]["discovery"]["error"].as_str().map(str::to_owned)
}

/// A zone that loses one address, swaps another, and then stops answering, under load.
fn a_zone_in_trouble(clients: usize, silence: Duration) {
    let (mut origins, port) = echoes(4);
    let at = |n: u8| SocketAddr::new(ip(n), port);
    let dns = Dns::start(&[("api", &ips(&[1, 2, 3]))]);
    let check = "tcp: {}, interval: 200ms, timeout: 200ms";
    let weir = Weir::start(by_name(&dns, port).set("upstreams.up.health_check", check));
    wait_for_list(&weir, &[at(1), at(2), at(3)]);
    eventually("ready", || weir.admin_get("/readyz").status == 200);
    let stop = Arc::new(AtomicBool::new(false));
    let load = busy(weir.web(), clients, &stop);
    let started = Instant::now();
    weir.wait_for_at_least(&["weir_backend_requests_total{", "127.0.0.3:", "2xx"], 5.0);

    dns.set(&[("api", &ips(&[1, 2]))]);
    wait_for_list(&weir, &[at(1), at(2)]);
    weir.wait_for(&["127.0.0.3:"], 0.0);
    origins[2] = None;

    dns.set(&[("api", &ips(&[1, 4]))]);
    wait_for_list(&weir, &[at(1), at(4)]);
    assert_eq!(weir.admin_get("/readyz").status, 200, "one that comes later holds up nothing");
    weir.wait_for_at_least(&["weir_backend_requests_total{", "127.0.0.4:", "2xx"], 5.0);
    weir.wait_for(&["127.0.0.2:"], 0.0);
    origins[1] = None;

    dns.stop_answering();
    let silent = Instant::now();
    eventually("the silence is told", || error(&weir).filter(|error| error.contains("no answer")));
    let before = weir.sum(&["weir_requests_total"]);
    let last_good = [at(1).to_string(), at(4).to_string()];
    stays("the last list", silence.saturating_sub(silent.elapsed()), || listed(&weir) == last_good);
    weir.wait_for_at_least(&["weir_requests_total"], before + 1.0);
    assert_eq!(listed(&weir), last_good);
    let failed = weir.sum(&["weir_upstream_discoveries_total", "failed"]);
    assert!(failed >= 1.0);
    dns.resume_answering();
    eventually("it answers again", || error(&weir).is_none());

    stop.store(true, Ordering::Release);
    let served: usize = load.into_iter().map(|thread| thread.join().unwrap()).sum();
    weir.wait_for(&["weir_requests_total", "status=\"200\""], served as f64);
    assert_eq!(weir.sum(&["weir_requests_total"]), served as f64, "and nothing else was answered");
    let retries = weir.sum(&["weir_backend_retries_total"]) as u64;
    println!(
        "{served} requests in {:.1} s from {clients} clients: 0 failed, {retries} tried again; silent for {:.1} s, {failed} looks failed",
        started.elapsed().as_secs_f64(),
        silent.elapsed().as_secs_f64()
    );
}

#[test]
fn a_zone_that_loses_swaps_and_falls_silent_costs_no_request() {
    a_zone_in_trouble(8, Duration::from_secs(1));
}

#[test]
#[ignore = "long: a minute of silence under load"]
fn a_zone_that_falls_silent_for_a_minute_costs_no_request() {
    let silence = Duration::from_secs(size("WEIR_SOAK_SECONDS", 60) as u64);
    a_zone_in_trouble(size("WEIR_SOAK_CONNECTIONS", 64), silence);
}

#[test]
fn a_name_that_does_not_resolve_starts_unserved_and_serves_once_it_does() {
    let (_origins, port) = echoes(1);
    let dns = Dns::start(&[]);
    let weir = Weir::start(by_name(&dns, port));
    eventually("ready, with nothing to wait for", || weir.admin_get("/readyz").status == 200);
    let refused = Client::connect(weir.web()).get("/");
    assert!(refused.status == 503 && refused.header("retry-after").is_some(), "{refused:?}");
    assert!(error(&weir).unwrap().contains("api.zone.test: has no address"), "{}", weir.status());
    let (code, said) = weir.status_and_output(&["status"]);
    assert!(code == 0 && said.contains("dns api.zone.test:") && said.contains("never"), "{said}");
    dns.set(&[("api", &ips(&[1]))]);
    wait_for_list(&weir, &[SocketAddr::new(ip(1), port)]);
    assert_eq!(Client::connect(weir.web()).get("/").status, 200);
    assert!(error(&weir).is_none());
    // And a zone that loses all of them has lost its mind: they stay.
    dns.set(&[]);
    eventually("the loss is told", || error(&weir));
    assert_eq!(Client::connect(weir.web()).get("/").status, 200);
    let log = weir.stderr();
    assert!(log.contains("upstream up: + 127.0.0.1:") && log.contains("discovery fails"), "{log}");
}

#[test]
fn records_of_a_service_give_ports_weights_and_tiers() {
    let [a, b, c] = ["a", "b", "c"].map(|name| Echo::start(name, Faults::default()));
    let service = |target: &str, echo: &Echo, priority: u16, weight: u16| {
        format!("_http._tcp.{ZONE},{target}.{ZONE},{},{priority},{weight}", echo.address().port())
    };
    let hosts = [("one", &ips(&[1])[..]), ("two", &ips(&[1])[..])];
    let services = [service("one", &a, 10, 3), service("two", &b, 10, 1), service("two", &c, 20, 0)];
    let mut dns = Dns::start_with(&hosts, &services);
    let config = discover(&dns, &format!("srv: _http._tcp.{ZONE}"));
    let weir = Weir::start(config.set("upstreams.up.balance", "weighted_round_robin"));
    eventually("three backends", || listed(&weir).len() == 3);
    let mut client = Client::connect(weir.web());
    let answers = |client: &mut Client| -> String {
        (0..8).map(|_| client.get("/").header("x-backend").unwrap().to_owned()).collect()
    };
    let mix = answers(&mut client);
    assert_eq!((mix.matches('a').count(), mix.matches('b').count()), (6, 2), "{mix}");
    dns.set_services(&services[2..]);
    wait_for_list(&weir, &[SocketAddr::new(ip(1), c.address().port())]);
    assert_eq!(answers(&mut client), "cccccccc");
}

#[test]
fn a_removed_address_finishes_its_requests_and_its_series_end() {
    let (_origins, port) = echoes(1);
    let gate = Gate::default();
    let slow = gate.origin_on((ip(2), port).into());
    let dns = Dns::start(&[("api", &ips(&[1, 2]))]);
    let weir = Weir::start(by_name(&dns, port));
    wait_for_list(&weir, &[SocketAddr::new(ip(1), port), slow.address()]);
    let mut clients: Vec<_> = (0..2).map(|_| Client::connect(weir.web())).collect();
    clients.iter_mut().for_each(|client| client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    eventually("the slow one is under way", || slow.requests().len() == 1);
    dns.set(&[("api", &ips(&[1]))]);
    wait_for_list(&weir, &[SocketAddr::new(ip(1), port)]);
    weir.wait_for(&["weir_backend_state{", "127.0.0.2:", "\"draining\""], 1.0);
    assert!(weir.stderr().contains(&format!("- {} (draining, 1 in flight)", slow.address())), "{}", weir.stderr());
    gate.open();
    let answers: BTreeSet<_> = clients.iter_mut().map(|client| client.response("GET").status).collect();
    assert_eq!(answers, [200].into());
    eventually("its series are gone", || weir.scrape().keys().all(|name| !name.contains("127.0.0.2:")));
}

#[test]
fn discovered_backends_survive_a_reload_and_a_drain_survives_their_return() {
    let (_origins, port) = echoes(3);
    let at = |n: u8| SocketAddr::new(ip(n), port);
    let dns = Dns::start(&[("api", &ips(&[1, 2]))]);
    let config = by_name(&dns, port);
    let weir = Weir::start(&config);
    wait_for_list(&weir, &[at(1), at(2)]);
    let drain = format!("up/{}", at(2));
    assert_eq!(weir.status_and_output(&["drain", &drain]).0, 0);
    dns.set(&[("api", &ips(&[1]))]);
    wait_for_list(&weir, &[at(1)]);
    dns.set(&[("api", &ips(&[1, 2]))]);
    wait_for_list(&weir, &[at(1), at(2)]);
    weir.wait_for_state(&at(2).to_string(), "draining");
    dns.stop_answering();
    // Another generation has them at once, with nobody to ask.
    assert!(weir.reload(config.clone().set("upstreams.up.keep_alive", "9s")), "{}", weir.stderr());
    assert_eq!(listed(&weir), [at(1).to_string(), at(2).to_string()]);
    weir.wait_for_state(&at(2).to_string(), "draining");
    let mut client = Client::connect(weir.web());
    assert!((0..6).all(|_| client.get("/").header("x-backend") == Some("1")));
    dns.resume_answering();
    dns.set(&[("api", &ips(&[1, 2, 3]))]);
    wait_for_list(&weir, &[at(1), at(2), at(3)]);
    assert_eq!(weir.status_and_output(&["enable", &drain]).0, 0);
    let seen: BTreeSet<_> = (0..6).map(|_| client.get("/").header("x-backend").unwrap().to_owned()).collect();
    assert_eq!(seen.len(), 3);
    // A written backend beside those that are found, and then nothing that finds any.
    assert!(weir.reload(config.backend("up.own", at(3), "")));
    wait_for_list(&weir, &[at(3), at(1), at(2)]);
    assert!(weir.reload(Config::to(at(1))));
    wait_for_list(&weir, &[at(1)]);
}

fn list(backends: &[(u8, u16, u16)]) -> String {
    let entry = |(n, port, weight): &(u8, u16, u16)| format!("- address: {}:{port}\n  weight: {weight}\n", ip(*n));
    backends.iter().map(entry).collect()
}

/// As Kubernetes replaces a mounted ConfigMap: a new folder, and one link that is turned to it.
fn turn(folder: &Path, version: &str, text: &str) {
    std::fs::create_dir(folder.join(version)).unwrap();
    std::fs::write(folder.join(version).join("backends.yaml"), text).unwrap();
    symlink(version, folder.join("next")).unwrap();
    std::fs::rename(folder.join("next"), folder.join("data")).unwrap();
}

#[test]
fn a_file_is_followed_and_a_bad_one_keeps_the_last_good_list() {
    let (_origins, port) = echoes(3);
    let at = |n: u8| SocketAddr::new(ip(n), port);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    turn(&path, "v1", &list(&[(1, port, 1), (2, port, 3)]));
    symlink("data/backends.yaml", path.join("backends.yaml")).unwrap();
    let config = config("balance: weighted_round_robin, discover: { file: backends.yaml }");
    let weir = Weir::start_in(folder, &config);
    assert_eq!(listed(&weir), [at(1).to_string(), at(2).to_string()], "from the first moment on");
    turn(&path, "v2", &serde_json::json!([{ "address": at(2) }, { "address": at(3) }]).to_string());
    wait_for_list(&weir, &[at(2), at(3)]);
    assert_eq!(Client::connect(weir.web()).get("/").status, 200);
    let log = weir.stderr();
    let line =
        format!("upstream up: {} weight 3 → 1, + {} (weight 1), - {} (draining, 0 in flight)", at(2), at(3), at(1));
    assert!(log.contains(&line), "{log}");

    turn(&path, "v3", "- { address: \"127.0.0.1:80\" }\n- { adress: nowhere }\n");
    let told = eventually("the problem is told", || error(&weir));
    assert!(told.contains("backends.yaml:2:5: backends[1].adress: "), "{told}");
    weir.wait_for_log("backends.yaml:2:5: ");
    weir.wait_for_at_least(&["weir_upstream_discoveries_total", "failed"], 1.0);
    assert_eq!(listed(&weir), [at(2).to_string(), at(3).to_string()]);
    assert_eq!(Client::connect(weir.web()).get("/").status, 200);
    let check = command(&["check", "-c", weir.config_file().to_str().unwrap()]);
    assert!(check.code == Some(2) && check.stdout.contains("backends.yaml:2:5: "), "{}", check.stdout);
    assert!(!weir.reload(&config), "a reload reads it as well");

    turn(&path, "v4", &list(&[(1, port, 1)]));
    wait_for_list(&weir, &[at(1)]);
    eventually("all is well", || error(&weir).is_none());
    assert!(weir.reload(&config));
    assert_eq!(listed(&weir), [at(1).to_string()]);
}
