//! A backend that is a name: all its addresses are tried in turn, for requests and for probes, whatever it speaks.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::files::put;
use crate::support::grpc::Server;
use crate::support::pki::{Issued, Pki};
use crate::support::tls::{Accepted, listen};
use crate::support::{Client, Config, Names, Origin, Reply, UPSTREAM_TLS, Weir, eventually};

/// 200 to each request of an HTTP/1 connection, under TLS.
async fn answer(mut stream: Accepted) {
    let mut piece = [0; 4096];
    while stream.read(&mut piece).await.is_ok_and(|read| read > 0) {
        let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        if stream.write_all(ok).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

/// One backend for each way to speak to one; all listen on 127.0.0.1 only.
struct Backends {
    plain: Origin,
    tls: SocketAddr,
    tls_connections: Arc<AtomicUsize>,
    h2c: Server,
    h2: Server,
    folder: tempfile::TempDir,
}

impl Backends {
    fn start() -> Self {
        let (pki, folder) = (Pki::new(), tempfile::tempdir().unwrap());
        put(folder.path(), "ca.pem", pki.ca());
        let issued: Issued = pki.issue(&["server.test"]);
        let tls_connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&tls_connections);
        let tls = listen(Some(&issued), "http/1.1", move |stream| {
            count.fetch_add(1, Ordering::AcqRel);
            answer(stream)
        });
        Self {
            plain: Origin::named("plain"),
            tls,
            tls_connections,
            h2c: Server::start(),
            h2: Server::start_with(Some(&issued)),
            folder,
        }
    }

    /// An upstream and a route for each, all backends by this name. `upstream`: more of its settings.
    fn config(&self, name: &str, upstream: &str) -> Config {
        let all = [
            ("plain", "http1", "", self.plain.address()),
            ("tls", "http1", UPSTREAM_TLS, self.tls),
            ("h2c", "h2c", "", self.h2c.address),
            ("h2", "h2", UPSTREAM_TLS, self.h2.address),
        ];
        let add = |config: Config, (way, protocol, tls, at): (&str, &str, &str, SocketAddr)| {
            let path = format!("upstreams.{way}");
            config
                .route(way, "match: { hosts: [NAME] }, upstream: NAME".replace("NAME", way))
                .set(&format!("routes.{way}"), ONE_TRY)
                .upstream(way, &[(way, format!("{name}:{}", at.port()))])
                .set(&format!("{path}.protocol"), protocol)
                .set(&path, tls)
                .set(&path, upstream)
        };
        all.into_iter().fold(Config::new().set("server.threads", 1), add)
    }
}

const ONE_TRY: &str = "retry: { attempts: 1 }, timeouts: { connect: 3s }";
const WAYS: [&str; 4] = ["plain", "tls", "h2c", "h2"];

/// Each way serves, and nothing failed at the first try.
fn each_way_serves(weir: &Weir, when: &str) {
    let mut client = Client::connect(weir.web());
    for way in WAYS {
        for _ in 0..3 {
            let response = client.get_with("/fails", &[("Host", way)]);
            assert_eq!(response.status, 200, "{way}: {when}; {}", weir.stderr());
        }
    }
    assert_eq!(weir.sum(&["weir_faults_total"]), 0.0, "{when}");
    assert_eq!(weir.sum(&["weir_backend_retries_total"]), 0.0, "{when}");
}

fn start(backends: &Backends, names: &Names, config: &Config) -> Weir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(backends.folder.path().join("ca.pem"), folder.path().join("ca.pem")).unwrap();
    let weir = Weir::start_with_env(folder, config, names.env());
    eventually("the names resolve", || weir.stderr().matches("other addresses").count() >= 4);
    weir
}

#[test]
fn an_ipv4_backend_serves_by_a_name_with_an_ipv6_address_first_and_a_dead_address_harms_nothing() {
    let backends = Backends::start();
    for addresses in ["::1 127.0.0.1", "127.0.0.9 127.0.0.8 127.0.0.1", "0.0.0.0 127.0.0.1", "127.0.0.1 ::1"] {
        let names = Names::new(&[("api.test", addresses)]);
        let weir = start(&backends, &names, &backends.config("api.test", ""));
        each_way_serves(&weir, addresses);
        let at = format!("address=\"api.test:{}\"", backends.plain.address().port());
        assert_eq!(weir.sum(&["weir_backend_requests_total", "2xx", &at]), 3.0, "the address as configured");
    }
}

#[test]
fn connections_by_a_name_are_used_again() {
    let backends = Backends::start();
    let names = Names::new(&[("api.test", "127.0.0.9 127.0.0.1")]);
    let weir = start(&backends, &names, &backends.config("api.test", ""));
    each_way_serves(&weir, "at first");
    let connections = || (backends.plain.connections(), backends.tls_connections.load(Ordering::Acquire));
    assert_eq!(connections(), (1, 1));
    each_way_serves(&weir, "again");
    assert_eq!(connections(), (1, 1));
    let log = weir.access_log_of(24);
    assert_eq!(log.iter().filter(|line| line["attempts"][0]["reused"] == false).count(), 4);
}

/// An address at which connections are never accepted nor refused.
struct Silent {
    _listener: TcpListener,
    _waiting: Vec<socket2::Socket>,
}

impl Silent {
    fn at(address: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(0).unwrap();
        let waiting = (0..4).map(|_| {
            let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            let _ = client.connect(&address.into());
            client
        });
        let waiting = waiting.collect();
        let this = Self { _listener: socket.into(), _waiting: waiting };
        eventually("its queue is full", || TcpStream::connect_timeout(&address, Duration::from_millis(50)).err());
        this
    }
}

#[test]
fn an_address_that_is_silent_delays_the_first_connection_by_a_quarter_of_a_second() {
    let backends = Backends::start();
    let ports = [backends.plain.address(), backends.tls, backends.h2c.address, backends.h2.address];
    let _silent = ports.map(|at| Silent::at((Ipv4Addr::new(127, 0, 0, 9), at.port()).into()));
    let names = Names::new(&[("api.test", "127.0.0.9 127.0.0.1")]);
    let weir = start(&backends, &names, &backends.config("api.test", ""));
    let mut client = Client::connect(weir.web());
    for way in WAYS {
        let mut took = Vec::new();
        for _ in 0..2 {
            let began = Instant::now();
            assert_eq!(client.get_with("/fails", &[("Host", way)]).status, 200, "{way}");
            took.push(began.elapsed());
        }
        assert!(took[0] >= Duration::from_millis(240) && took[0] < Duration::from_secs(2), "{way}: {took:?}");
    }
    // And those after it not at all: the address that answered is tried first.
    let fresh = Instant::now();
    assert!(weir.reload(backends.config("api.test", "keep_alive: 9s")));
    each_way_serves(&weir, "on new connections");
    let log = weir.access_log_of(20);
    let connect = |line: &serde_json::Value| line["attempts"][0]["connect_ms"].as_f64().unwrap_or(0.0);
    assert!(log[8..].iter().all(|line| connect(line) < 240.0), "{log:?} after {:?}", fresh.elapsed());
}

#[test]
fn an_address_that_is_silent_for_longer_than_the_time_to_connect_is_not_tried_first_again() {
    let backends = Backends::start();
    let ports = [backends.plain.address(), backends.tls, backends.h2c.address, backends.h2.address];
    let _silent = ports.map(|at| Silent::at((Ipv4Addr::new(127, 0, 0, 9), at.port()).into()));
    let names = Names::new(&[("api.test", "127.0.0.9 127.0.0.1")]);
    let more_tries = |config: Config, way: &&str| {
        let route = format!("routes.{way}");
        config.without(&format!("{route}.retry")).set(&route, "timeouts: { connect: 200ms }")
    };
    let config = WAYS.iter().fold(backends.config("api.test", ""), more_tries);
    let weir = start(&backends, &names, &config);
    let mut client = Client::connect(weir.web());
    for way in WAYS {
        for turn in 0..3 {
            let response = client.get_with("/fails", &[("Host", way)]);
            assert_eq!(response.status, 200, "{way} {turn}: {}", weir.stderr());
        }
        // The first request had to find out.
        assert_eq!(weir.sum(&["weir_backend_retries_total", &format!("upstream=\"{way}\"")]), 1.0, "{way}");
    }
}

#[test]
fn probes_try_all_addresses_of_a_name() {
    let backends = Backends::start();
    let names = Names::new(&[("api.test", "::1 127.0.0.9 127.0.0.1")]);
    for check in ["tcp: {}", "http: { path: /fails }"] {
        let health = ["health_check: { ", check, ", interval: 1s, timeout: 1s, rise: 1, fall: 1 }"].concat();
        let weir = start(&backends, &names, &backends.config("api.test", &health));
        WAYS.iter().for_each(|way| weir.wait_for_state(way, "up"));
        each_way_serves(&weir, check);
        assert_eq!(weir.sum(&["weir_backend_checks_total", "fail"]), 0.0, "{check}");
    }
}

#[test]
fn a_set_of_addresses_that_changes_is_followed() {
    let backends = Backends::start();
    let health = "health_check: { tcp: {}, interval: 1s, timeout: 1s, rise: 1, fall: 1 }";
    // Nothing listens at the first set: it is as if the name had moved.
    let names = Names::new(&[("api.test", "127.0.0.9 ::1")]);
    let weir = start(&backends, &names, &backends.config("api.test", health));
    WAYS.iter().for_each(|way| weir.wait_for_state(way, "down"));
    names.set(&[("api.test", "127.0.0.9 ::1 127.0.0.1")]);
    WAYS.iter().for_each(|way| weir.wait_for_state(way, "up"));
    each_way_serves(&weir, "after the change");
    let told = format!("addresses={:?}", "127.0.0.9:");
    assert!(weir.stderr().contains(told.trim_end_matches('"')), "{}", weir.stderr());
}

#[test]
fn a_name_whose_addresses_all_refuse_is_a_fault_to_connect_and_goes_elsewhere() {
    let live = Origin::start(|request| Reply::new(200, &request.body));
    let names = Names::new(&[("api.test", "::1 127.0.0.9")]);
    let dead = format!("api.test:{}", live.address().port());
    let config =
        Config::to_all(&[("dead", dead), ("live", live.to_string())]).set("upstreams.up.outlier.consecutive", 100);
    let weir = Weir::start_with_env(tempfile::tempdir().unwrap(), config, names.env());
    weir.wait_for_log("other addresses");
    let mut client = Client::connect(weir.web());
    assert!((0..6).all(|_| client.post("/", b"x").status == 200));
    weir.wait_for_at_least(&["weir_backend_attempts_total", "dead", "connect_error"], 3.0);
}

#[test]
fn names_that_hang_in_the_systems_resolver_hold_up_nothing_else() {
    let live = Origin::named("live");
    let hanging: Vec<_> = (0..20).map(|at| format!("hanging{at}.test")).collect();
    let mut known: Vec<_> = hanging.iter().map(|name| (name.as_str(), "hang")).collect();
    known.push(("api.test", "127.0.0.1"));
    let names = Names::new(&known);
    let mut backends: Vec<_> =
        hanging.iter().map(|name| (name.trim_end_matches(".test"), format!("{name}:80"))).collect();
    backends.push(("live", format!("api.test:{}", live.address().port())));
    let config = Config::to_all(&backends);
    let mut weir = Weir::start_with_env(tempfile::tempdir().unwrap(), &config, names.env());
    weir.wait_for_log("other addresses");
    assert_eq!(Client::connect(weir.web()).get("/").text(), "live");
    assert!(weir.reload(config.set("upstreams.up.keep_alive", "9s")), "{}", weir.stderr());
    weir.wait_for_log("does not answer in time");
    weir.signal(libc::SIGTERM);
    assert!(weir.wait().success());
}
