//! Rate limits that several processes share, with real Redis and real Valkey: in good times, and while the store is
//! stopped, killed, flushed or slow.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::files::put;
use crate::support::{
    Client, Config, Origin, Pki, Reply, Store, StoreKind, Weir, delay, eventually, size, spare, stays,
};

/// A limit `api` in the store `fleet`, on a route that answers by itself.
fn config(url: &str, limit: &str, on_failure: &str, timeout: &str) -> Config {
    Config::new()
        .set("stores.fleet.redis", format!("\"{url}\""))
        .set("stores.fleet.timeout", timeout)
        .set("rate_limits.api", limit)
        .set("rate_limits.api.shared", format!("store: fleet, on_failure: {on_failure}"))
        .route("all", "respond: { status: 200 }, rate_limits: [api]")
}

fn get(weir: &Weir) -> u16 {
    Client::connect(weir.web()).get("/").status
}

fn store_requests(weir: &Weir, result: &str) -> f64 {
    weir.metric(&format!("weir_store_requests_total{{store=\"fleet\",result=\"{result}\"}}"))
}

/// Waits until the store decides.
fn wait_for_store(weir: &Weir) {
    let before = store_requests(weir, "ok");
    eventually("an answer of the store", || {
        get(weir);
        store_requests(weir, "ok") > before
    });
}

/// The connections of Weir to the store.
fn connections(store: &Store) -> usize {
    // One is that of this command.
    store.command("CLIENT LIST").lines().filter(|line| line.contains("id=") && line.contains("addr=")).count() - 1
}

fn each_store(test: impl Fn(StoreKind)) {
    StoreKind::installed().into_iter().for_each(test);
}

#[test]
fn processes_with_one_store_share_the_buckets_of_a_limit() {
    each_store(|kind| {
        let store = Store::start(kind);
        let config = || config(&store.url(), "rate: 4/1h", "closed", "2s");
        let (one, two) = (Weir::start(config()), Weir::start(config()));
        let statuses = [&one, &two, &one, &two, &one, &two].map(get);
        assert_eq!(statuses, [200, 200, 200, 200, 429, 429], "{kind:?}");
        let refused = Client::connect(two.web()).get("/");
        assert_eq!(refused.header("ratelimit-policy"), Some("\"api\";q=4;w=3600"));
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((800..=900).contains(&wait), "{wait}");
        assert!(one.reload(config()), "the bucket is in the store");
        assert_eq!(get(&one), 429);
    });
}

#[test]
fn three_processes_admit_what_the_limit_allows() {
    // `make soak` takes a minute.
    let seconds = size("WEIR_FLEET_SECONDS", 3) as u64;
    each_store(|kind| {
        let store = Store::start(kind);
        let limit = "rate: 100/1s, burst: 50";
        let config = || config(&store.url(), limit, "closed", "2s").without_access_log();
        let fleet = [Weir::start(config()), Weir::start(config()), Weir::start(config())];
        let (admitted, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        fleet.iter().for_each(|weir| assert!([200, 503].contains(&get_as(weir, "warm"))));
        let started = Instant::now();
        let clients: Vec<_> = fleet
            .iter()
            .map(|weir| {
                let (address, admitted, stop) = (weir.web(), Arc::clone(&admitted), Arc::clone(&stop));
                std::thread::spawn(move || {
                    let mut client = Client::connect(address);
                    while !stop.load(Ordering::Acquire) {
                        match client.get("/").status {
                            200 => drop(admitted.fetch_add(1, Ordering::AcqRel)),
                            429 => {}
                            other => panic!("{other}"),
                        }
                    }
                })
            })
            .collect();
        delay(Duration::from_secs(seconds));
        stop.store(true, Ordering::Release);
        clients.into_iter().for_each(|client| client.join().unwrap());
        let (elapsed, admitted) = (started.elapsed().as_secs_f64(), admitted.load(Ordering::Acquire) as f64);
        let expected = 50.0 + 100.0 * elapsed;
        let error = (admitted - expected).abs() / expected;
        // The requests at the very start and end are a larger part of a short run.
        let allowed = if seconds >= 60 { 0.01 } else { 0.04 };
        assert!(error <= allowed, "{kind:?}: {admitted} admitted, {expected:.1} expected");
    });
}

fn get_as(weir: &Weir, host: &str) -> u16 {
    Client::connect(weir.web()).get_with("/", &[("Host", host)]).status
}

#[test]
fn a_store_that_stops_answering_delays_few_requests_and_is_used_again_when_it_answers() {
    each_store(|kind| {
        let store = Store::start(kind);
        let weir = Weir::start(config(&store.url(), "rate: 1000000/1s", "local", "50ms").set("server.threads", "1"));
        wait_for_store(&weir);
        store.stop_answering();
        let mut client = Client::connect(weir.web());
        let mut times: Vec<Duration> = (0..200)
            .map(|_| {
                let started = Instant::now();
                assert_eq!(client.get("/").status, 200);
                started.elapsed()
            })
            .collect();
        times.sort();
        // Three requests waited for the timeout, then the circuit is open.
        assert!(times[195] < Duration::from_millis(50), "{kind:?} {times:?}");
        assert_eq!(store_requests(&weir, "timeout"), 3.0);
        assert!(weir.metric("weir_rate_limit_decisions_total{limit=\"api\",result=\"local\"}") >= 200.0);
        weir.wait_for_log("the store does not answer");
        store.resume_answering();
        let resumed = Instant::now();
        wait_for_store(&weir);
        assert!(resumed.elapsed() < Duration::from_secs(5), "{:?}", resumed.elapsed());
        weir.wait_for_log("the store answers again");
    });
}

#[test]
fn a_store_that_was_killed_is_used_again_when_it_is_back() {
    each_store(|kind| {
        let mut store = Store::start(kind);
        let weir = Weir::start(config(&store.url(), "rate: 1000000/1s", "local", "500ms"));
        wait_for_store(&weir);
        store.kill();
        for _ in 0..20 {
            assert_eq!(get(&weir), 200);
        }
        store.restart();
        let restarted = Instant::now();
        wait_for_store(&weir);
        assert!(restarted.elapsed() < Duration::from_secs(5), "{:?}", restarted.elapsed());
    });
}

#[test]
fn a_flushed_store_forgets_debts_and_goes_on() {
    each_store(|kind| {
        let store = Store::start(kind);
        let weir = Weir::start(config(&store.url(), "rate: 2/1h", "closed", "2s").set("server.threads", "1"));
        assert_eq!([get(&weir), get(&weir), get(&weir)], [200, 200, 429]);
        assert!(store.command("FLUSHALL").starts_with("+OK"));
        assert!(store.command("SCRIPT FLUSH").starts_with("+OK"));
        assert_eq!([get(&weir), get(&weir), get(&weir)], [200, 200, 429], "one burst more");
        assert_eq!((store_requests(&weir, "ok"), store_requests(&weir, "error")), (6.0, 0.0));
    });
}

#[test]
fn a_slow_store_delays_no_request_by_more_than_the_timeout() {
    let store = Store::start(StoreKind::Redis);
    let weir = Weir::start(config(&store.url(), "rate: 1000000/1s", "open", "100ms").set("server.threads", "1"));
    wait_for_store(&weir);
    let mut client = Client::connect(weir.web());
    let end = Instant::now() + Duration::from_secs(2);
    let mut slowest = Duration::ZERO;
    while Instant::now() < end {
        store.pause(Duration::from_millis(300));
        for _ in 0..20 {
            let started = Instant::now();
            assert_eq!(client.get("/").status, 200);
            slowest = slowest.max(started.elapsed());
        }
    }
    // The machine may be busy.
    assert!(slowest < Duration::from_millis(250), "{slowest:?}");
    assert!(store_requests(&weir, "timeout") >= 3.0);
    wait_for_store(&weir);
}

#[test]
fn weir_starts_without_its_store_and_does_what_on_failure_says() {
    let nowhere = format!("redis://{}", spare());
    for (on_failure, want) in [("local", [200, 429]), ("open", [200, 200]), ("closed", [503, 503])] {
        let weir = Weir::start(config(&nowhere, "rate: 1/1h", on_failure, "200ms"));
        assert_eq!([get(&weir), get(&weir)], want, "{on_failure}");
        let decisions = format!("weir_rate_limit_decisions_total{{limit=\"api\",result=\"{on_failure}\"}}");
        assert_eq!(weir.metric(&decisions), 2.0, "{on_failure}");
        if on_failure == "closed" {
            assert_eq!(weir.metric("weir_faults_total{route=\"all\",fault=\"store_unavailable\"}"), 2.0);
        }
    }
}

#[test]
fn a_client_that_leaves_ends_the_wait_for_the_store() {
    let store = Store::start(StoreKind::Redis);
    let weir =
        Weir::start(config(&store.url(), "rate: 9/1h, concurrent: 5", "closed", "10s").set("server.threads", "1"));
    assert_eq!(get(&weir), 200);
    store.stop_answering();
    let mut client = Client::connect(weir.web());
    client.stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    weir.wait_for(&["weir_requests_in_flight"], 1.0);
    let left = Instant::now();
    drop(client);
    weir.wait_for(&["weir_faults_total", "client_abort"], 1.0);
    assert!(left.elapsed() < Duration::from_secs(5), "{:?}", left.elapsed());
    weir.wait_for(&["weir_requests_in_flight"], 0.0);
    stays("no other fault", Duration::from_millis(50), || weir.sum(&["weir_faults_total"]) == 1.0);
    store.resume_answering();
}

#[test]
fn secrets_are_not_in_the_store_and_keys_expire() {
    let store = Store::start(StoreKind::Redis);
    let limit = "rate: 2/1s, burst: 2, key: { header: x-api-key }";
    let weir = Weir::start(config(&store.url(), limit, "closed", "2s"));
    let with_key = || Client::connect(weir.web()).get_with("/", &[("X-Api-Key", "hunter2")]).status;
    assert_eq!(with_key(), 200);
    let keys = store.command("KEYS *");
    assert!(keys.contains("weir:api:2/1s:2:s:") && !keys.contains("hunter2"), "{keys}");
    eventually("the key expires", || store.command("DBSIZE").starts_with(":0"));
}

#[test]
fn a_store_is_reached_over_tls_by_a_user_in_another_database_and_over_a_unix_socket() {
    let pki = Pki::new();
    let issued = pki.issue(&["cache.test"]);
    let acl = "user weir on >hunter2 ~weir:* +ping +select +script|load +evalsha +eval +get +set +time"
        .split(' ')
        .map(str::to_owned);
    let store = Store::start_with(StoreKind::Redis, |folder| {
        put(folder, "cert.pem", &issued.cert);
        put(folder, "key.pem", &issued.key);
        put(folder, "ca.pem", pki.ca());
        let text = "--port 0 --tls-port PORT --tls-cert-file cert.pem --tls-key-file key.pem --tls-ca-cert-file ca.pem \
                    --tls-auth-clients optional --unixsocket store.sock";
        text.split_whitespace().map(str::to_owned).chain(["--user".to_owned()]).chain(acl.clone().skip(1)).collect()
    });
    let folder = || {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "ca.pem", pki.ca());
        put(folder.path(), "password", "hunter2\n");
        put(folder.path(), "wrong", "hunter3\n");
        folder
    };
    let tls = format!("rediss://weir@{}/3", store.address());
    let unix = format!("unix:{}?user=weir&db=3", store.folder().join("store.sock").display());
    let secure = |url: &str, password: &str| {
        let config = config(url, "rate: 2/1h", "closed", "2s").set("stores.fleet.password_file", password);
        if url.starts_with("unix:") {
            config
        } else {
            config.set("stores.fleet.tls", "ca: ca.pem, server_name: cache.test")
        }
    };
    let one = Weir::start_in(folder(), secure(&tls, "password"));
    let two = Weir::start_in(folder(), secure(&unix, "password"));
    assert_eq!([get(&one), get(&two), get(&one), get(&two)], [200, 200, 429, 429], "{}", one.stderr());
    let wrong = Weir::start_in(folder(), secure(&tls, "wrong"));
    assert_eq!(get(&wrong), 503);
    wrong.wait_for_log("the store does not answer");
    assert!(!wrong.stderr().contains("hunter"));
    let untrusted = config(&tls, "rate: 2/1h", "closed", "2s").set("stores.fleet.password_file", "password");
    assert_eq!(get(&Weir::start_in(folder(), untrusted)), 503, "its certificate is verified");
}

#[test]
fn the_connection_to_a_store_that_is_not_configured_any_more_is_closed() {
    let store = Store::start(StoreKind::Redis);
    let clients = || store.command("CLIENT LIST").lines().filter(|line| line.starts_with("id=")).count();
    let weir = Weir::start(config(&store.url(), "rate: 9/1h", "closed", "2s").set("server.threads", "1"));
    assert_eq!(get(&weir), 200);
    assert_eq!(clients(), 2, "its own, and that of this test");
    assert!(weir.reload(config(&store.url(), "rate: 9/1h", "closed", "2s").set("server.threads", "1")));
    assert_eq!((get(&weir), clients()), (200, 2), "the same store keeps its connection");
    assert!(weir.reload(Config::new().route("all", "respond: { status: 200 }").set("server.threads", "1")));
    eventually("only this test has a connection", || clients() == 1);
}

#[test]
fn the_connections_of_all_threads_are_closed_when_the_store_is_not_configured_any_more() {
    let store = Store::start(StoreKind::Redis);
    let weir = Weir::start(config(&store.url(), "rate: 999999/1h", "closed", "2s").set("server.threads", "2"));
    eventually("both threads have a connection", || {
        std::thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(|| get(&weir)))));
        connections(&store) == 2
    });
    assert!(weir.reload(Config::new().route("all", "respond: { status: 200 }").set("server.threads", "2")));
    eventually("no thread has a connection", || connections(&store) == 0);
}

#[test]
fn a_connection_that_the_store_closes_is_replaced_before_a_request_needs_it() {
    each_store(|kind| {
        let store = Store::start(kind);
        let weir = Weir::start(config(&store.url(), "rate: 999/1h", "closed", "2s").set("server.threads", "1"));
        assert_eq!(get(&weir), 200);
        assert!(store.command("CLIENT KILL TYPE normal").contains(":1"), "one connection is closed");
        // Nothing has asked the store over a connection whose last command is the PING of its opening.
        eventually("a new connection", || store.command("CLIENT LIST").contains("cmd=ping"));
        eventually("it is in use", || get(&weir) == 200);
        assert_eq!(store_requests(&weir, "error"), 0.0, "{kind:?}");
    });
}

#[test]
fn a_store_that_answers_with_errors_is_asked_rarely_and_logged_once() {
    each_store(|kind| {
        let store = Store::start(kind);
        let weir = Weir::start(config(&store.url(), "rate: 99999/1s", "local", "2s").set("server.threads", "1"));
        wait_for_store(&weir);
        store.command("CONFIG SET maxmemory 1");
        let (mut client, started) = (Client::connect(weir.web()), Instant::now());
        for _ in 0..200 {
            assert_eq!(client.get("/").status, 200);
        }
        eventually("the store is asked again", || {
            client.get("/");
            store_requests(&weir, "error") > 3.0
        });
        let rounds = started.elapsed().as_millis() / 500 + 1;
        assert!(store_requests(&weir, "error") <= 3.0 * rounds as f64, "three requests in half a second");
        assert_eq!(weir.stderr().matches("the store does not answer").count(), 1);
        assert!(!weir.stderr().contains("the store answers again"), "an error is no answer");
        store.command("CONFIG SET maxmemory 0");
        wait_for_store(&weir);
        weir.wait_for_log("the store answers again");
    });
}

#[test]
fn a_cost_from_the_response_is_settled_in_the_store() {
    each_store(|kind| {
        let store = Store::start(kind);
        let origin = Origin::start(|request| Reply::with(200, &[("X-Tokens", request.header("x-cost").unwrap())], ""));
        let limit = "rate: 1000/1h, reserve: 100, cost: { response_header: x-tokens }";
        let config = config(&store.url(), limit, "closed", "2s")
            .upstream("up", &[("a", &origin)])
            .without("routes.all")
            .route("all", "upstream: up, rate_limits: [api]");
        let weir = Weir::start(config);
        let ask = |cost: &str| Client::connect(weir.web()).get_with("/", &[("X-Cost", cost)]).status;
        let debt = || {
            let reply = store.command("GET weir:api:1000/1h:1000:a:127.0.0.1");
            reply.lines().nth(1).and_then(|value| value.split(' ').next()?.parse::<f64>().ok()).unwrap_or(0.0)
        };
        for (cost, total) in [("30", 30.0), ("960", 990.0)] {
            assert_eq!(ask(cost), 200, "{kind:?}");
            // A token comes back every 3.6 s.
            eventually("the settled cost", || (total - 9.0..=total).contains(&debt()));
        }
        assert_eq!(ask("1"), 429, "{kind:?}");
    });
}

#[test]
fn the_store_charges_a_cost_whose_debt_lasts_for_millions_of_years() {
    each_store(|kind| {
        let store = Store::start(kind);
        let origin = Origin::start(|_| Reply::with(200, &[("X-Tokens", "1000000000")], ""));
        let config = config(&store.url(), "rate: 1/8760h, cost: { response_header: x-tokens }", "closed", "2s")
            .upstream("up", &[("a", &origin)])
            .without("routes.all")
            .route("all", "upstream: up, rate_limits: [api]");
        let weir = Weir::start(config);
        assert_eq!(get(&weir), 200, "{kind:?}");
        eventually("the settled cost", || store_requests(&weir, "ok") + store_requests(&weir, "error") >= 2.0);
        assert_eq!(get(&weir), 429, "{kind:?}");
        assert_eq!(store_requests(&weir, "error"), 0.0, "{kind:?}");
    });
}

#[test]
fn three_processes_without_their_store_admit_at_most_three_times_the_limit() {
    let mut store = Store::start(StoreKind::Redis);
    let config = || config(&store.url(), "rate: 4/1h", "local", "200ms");
    let fleet = [Weir::start(config()), Weir::start(config()), Weir::start(config())];
    assert!(fleet.iter().all(|weir| get(weir) == 200), "three of four tokens in the store");
    store.kill();
    let admitted = fleet.iter().flat_map(|weir| (0..10).map(|_| get(weir))).filter(|status| *status == 200).count();
    assert_eq!(admitted, 12);
}
