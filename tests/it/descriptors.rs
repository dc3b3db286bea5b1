//! Too few descriptors: what Weir lacks is never a backend's fault, and clients that are idle do not take the last ones.

use std::io::Write;
use std::net::TcpStream;

use crate::support::files::{folder, put};
use crate::support::{Client, Config, Gate, Origin, Pki, Reply, Weir, eventually};

/// Of these clients may not have the last sixteen.
const LIMIT: u32 = 80;

/// `/slow` is answered once the gate is open, everything else at once.
fn origins() -> ([Origin; 2], Gate) {
    let gate = Gate::default();
    let origins = [gate.clone(), gate.clone()].map(|gate| {
        Origin::start(move |request| {
            if request.target == "/slow" {
                gate.pass();
            }
            Reply::new(200, "fine")
        })
    });
    (origins, gate)
}

fn start(origins: &[Origin; 2], more: impl Fn(Config) -> Config) -> Weir {
    let config = Config::to_all(&[("a", &origins[0]), ("b", &origins[1])])
        .set("server.threads", 2)
        .set("listeners.web.timeouts", "header: 60s, idle: 60s")
        .set("upstreams.up", "fail_open: false, outlier: { consecutive: 1 }")
        .set("upstreams.up.health_check", "http: { path: /healthz }, interval: 1s, timeout: 1s, fall: 1");
    let folder = folder(&[("a", &Pki::new().issue(&["a.test"]))]);
    put(folder.path(), "blocked.txt", "10.0.0.0/8\n");
    Weir::start_with_files(folder, more(config), LIMIT)
}

/// More clients than there are descriptors for.
fn crowd(weir: &Weir) -> Vec<Client> {
    let clients = (0..LIMIT).map(|_| Client::connect(weir.web())).collect();
    weir.wait_for_at_least(&["weir_listener_connections_total", "refused_limit"], 1.0);
    clients
}

/// One more that holds a backend's connection, if it gets one.
fn slow(weir: &Weir) -> TcpStream {
    let mut stream = TcpStream::connect(weir.web()).unwrap();
    let _ = stream.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
    stream
}

fn no_backend_was_blamed(weir: &Weir) {
    let log = weir.stderr();
    assert!(!log.contains("backend is down") && !log.contains("eject"), "{log}");
    assert_eq!(weir.sum(&["weir_backend_checks_total", "fail"]), 0.0);
    assert_eq!(weir.sum(&["weir_backend_attempts_total", "error"]), 0.0);
    assert_eq!(weir.sum(&["weir_backend_up"]), 2.0);
}

#[test]
fn idle_clients_leave_descriptors_for_backends() {
    let (origins, _) = origins();
    let weir = start(&origins, |config| config);
    weir.wait_for(&["weir_backend_up"], 2.0);
    let mut first = Client::connect(weir.web());
    assert_eq!(first.get("/").status, 200);
    let _idle = crowd(&weir);
    assert!((0..6).all(|_| first.get("/").status == 200));
    let passed = weir.sum(&["weir_backend_checks_total", "pass"]);
    weir.wait_for_at_least(&["weir_backend_checks_total", "pass"], passed + 3.0);
    assert!(weir.stderr().contains("a connection was refused: weir itself lacks something"), "{}", weir.stderr());
    no_backend_was_blamed(&weir);
}

#[test]
fn missing_descriptors_are_not_blamed_on_backends() {
    let (origins, gate) = origins();
    let weir = start(&origins, |config| {
        let config = config.set("routes.all.deny", "file: blocked.txt");
        config.listener("tls", "tls: { certificates: [{ cert: a.pem, key: a.key }] }")
    });
    weir.wait_for(&["weir_backend_up"], 2.0);
    let mut crowd = crowd(&weir);
    // More than may wait for a backend, among those who got in.
    let clients = &mut crowd[..25];
    for client in clients.iter_mut() {
        client.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    weir.wait_for_log("a backend could not be tried: weir itself lacks something");
    // Those who were told so have left; others take their places, until probes find none either.
    let mut more = Vec::new();
    eventually("probes find no descriptor", || {
        more.push(slow(&weir));
        weir.stderr().contains("backends cannot be probed; the last verdicts stay")
    });
    let files = weir.config_file().parent().unwrap().to_owned();
    Pki::new().issue(&["a.test"]).put(&files, "a");
    put(&files, "blocked.txt", "10.0.0.0/8\n192.0.2.0/24\n");
    eventually("the watchers find none", || {
        more.push(slow(&weir));
        let log = weir.stderr();
        log.contains("certificates cannot be looked into; that is tried again")
            && log.contains("files of the configuration cannot be looked into; that is tried again")
    });
    gate.open();
    let statuses: Vec<_> = clients.iter_mut().map(|client| client.response("GET").status).collect();
    let ours = statuses.iter().filter(|status| **status == 500).count();
    assert!(ours > 0 && statuses.iter().all(|status| [200, 500].contains(status)), "{statuses:?}");
    drop((crowd, more));
    weir.wait_for_log("renewed from its files");
    weir.wait_for_log("networks of clients renewed from their files");
    assert!(!weir.stderr().contains("changed on disk"), "{}", weir.stderr());
    assert_eq!(weir.sum(&["weir_tls_certificate_reloads_total", "rejected"]), 0.0);
    assert_eq!(weir.sum(&["weir_network_files_rejected_total"]), 0.0);
    assert!(weir.sum(&["weir_faults_total", "\"internal\""]) >= ours as f64);
    assert_eq!(weir.sum(&["weir_faults_total", "\"connect\""]), 0.0);
    no_backend_was_blamed(&weir);
    assert_eq!(Client::connect(weir.web()).get("/").status, 200);
}

#[test]
fn too_few_descriptors_to_start_is_an_error_and_no_panic() {
    for limit in [8, 10, 12, 14, 18] {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::new().route("all", "respond: { status: 204 }");
        let ended = Weir::start_and_end_with_files(&folder, config, limit);
        let said = ended.stdout + &ended.stderr;
        assert_eq!(ended.code, Some(1), "{limit}: {said}");
        assert!(said.contains("Too many open files") && !said.contains("panic"), "{limit}: {said}");
    }
}
