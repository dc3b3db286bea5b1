//! Backends that are killed, stopped and sick in turn, under load. Each is a process of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::child::send_signal;
use crate::support::echo::Faults;
use crate::support::{Client, Config, Echo, Weir, eventually, size};

/// Where the process of a backend listens, and what it is called.
const BACKEND: &str = "WEIR_TEST_BACKEND";
const READ: Duration = Duration::from_millis(500);

/// Not a test: this binary, run again as a backend. It ends with its standard input.
#[test]
#[ignore = "the process of a backend, which other tests start"]
fn a_backend_in_a_process_of_its_own() {
    let Ok(what) = std::env::var(BACKEND) else { return };
    let (address, name) = what.split_once(' ').unwrap();
    let echo = Echo::start_on(address.parse().unwrap(), name, Faults::default());
    println!("\nlistening {}", echo.address());
    let _ = std::io::stdin().read_line(&mut String::new());
}

struct Backend {
    child: Child,
    name: &'static str,
    address: SocketAddr,
}

impl Backend {
    fn start(name: &'static str) -> Self {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), name)
    }

    fn start_on(address: SocketAddr, name: &'static str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["chaos::a_backend_in_a_process_of_its_own", "--exact", "--ignored", "--nocapture"])
            .env(BACKEND, format!("{address} {name}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = |line: Result<String, _>| line.ok()?.strip_prefix("listening ")?.parse().ok();
        let address = lines.into_iter().find_map(said).expect("the backend says where it listens");
        Self { child, name, address }
    }

    fn signal(&self, signal: i32) {
        send_signal(&self.child, signal);
    }

    fn killed_and_back(mut self, weir: &Weir) -> Self {
        self.signal(libc::SIGKILL);
        self.child.wait().unwrap();
        weir.wait_for_state(self.name, "down");
        Self::start_on(self.address, self.name)
    }

    fn set_health(&self, status: u16) {
        Client::connect(self.address).get(&format!("/health/{status}"));
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Busy clients, and what came of their requests.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    failed: Arc<Mutex<Vec<String>>>,
    slowest: Arc<Mutex<Duration>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(address: SocketAddr, clients: usize) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            served: Arc::default(),
            failed: Arc::default(),
            slowest: Arc::default(),
            threads: Vec::new(),
        };
        for _ in 0..clients {
            let (stop, served) = (Arc::clone(&load.stop), Arc::clone(&load.served));
            let (failed, slowest) = (Arc::clone(&load.failed), Arc::clone(&load.slowest));
            load.threads.push(std::thread::spawn(move || {
                let mut client = Client::connect(address);
                while !stop.load(Ordering::Acquire) {
                    let start = Instant::now();
                    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
                    match client.try_response("GET") {
                        Some(response) if response.status == 200 => drop(served.fetch_add(1, Ordering::AcqRel)),
                        other => {
                            failed.lock().unwrap().push(format!("{:?}", other.map(|r| (r.status, r.text()))));
                            client = Client::connect(address);
                        }
                    }
                    let mut slowest = slowest.lock().unwrap();
                    *slowest = slowest.max(start.elapsed());
                }
            }));
        }
        load
    }

    /// Lets some more requests through, so that what has just happened had its effect.
    fn go_on(&self) {
        let goal = self.served.load(Ordering::Acquire) + 200;
        eventually("more requests served", || self.served.load(Ordering::Acquire) >= goal);
    }

    /// The requests that failed since the last call, and the longest that one took.
    fn take(&self) -> (Vec<String>, Duration) {
        (std::mem::take(&mut *self.failed.lock().unwrap()), std::mem::take(&mut *self.slowest.lock().unwrap()))
    }

    fn end(self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

fn before(backends: &[&Backend; 3]) -> Weir {
    let config = Config::to_all(&backends.map(|backend| (backend.name, backend.address)))
        .without_access_log()
        .set("routes.all.timeouts", "connect: 300ms, read: 500ms")
        .set("routes.all.retry.when", "[connect, reset, timeout]")
        .set("upstreams.up", "balance: least_connections, outlier: off")
        .set("upstreams.up.health_check.http.path", "/healthz")
        .set("upstreams.up.health_check", "interval: 200ms, timeout: 200ms, rise: 3, fall: 2");
    Weir::start(config)
}

fn passes(weir: &Weir, backend: &str) -> f64 {
    weir.sum(&["weir_backend_checks_total", &format!("backend=\"{backend}\""), "result=\"pass\""])
}

/// Waits for a backend that was down to be up again, which takes three passes (`rise`), and to be given requests.
fn is_back(weir: &Weir, load: &Load, backend: &str, passes_before: f64) {
    weir.wait_for_state(backend, "up");
    assert!(passes(weir, backend) - passes_before >= 3.0, "back before `rise` checks passed");
    let served = || weir.sum(&["weir_backend_requests_total", &format!("backend=\"{backend}\""), "2xx"]);
    let before = served();
    eventually("it is given requests", || served() > before);
    load.go_on();
}

fn through_one_round(weir: &Weir, load: &Load, [a, b, c]: [Backend; 3]) -> [Backend; 3] {
    load.go_on();
    let before = passes(weir, a.name);
    let a = a.killed_and_back(weir);
    is_back(weir, load, a.name, before);
    let (failed, _) = load.take();
    assert!(failed.is_empty(), "no GET is lost when a backend is killed: {failed:?}");

    b.signal(libc::SIGSTOP);
    weir.wait_for_state(b.name, "down");
    load.go_on();
    let before = passes(weir, b.name);
    b.signal(libc::SIGCONT);
    is_back(weir, load, b.name, before);
    let (failed, slowest) = load.take();
    assert!(failed.is_empty(), "a GET that a stopped backend does not answer is tried elsewhere: {failed:?}");
    // Two tries may meet the stopped backend's timers, and the machine is busy.
    assert!(slowest < READ * 2 + Duration::from_secs(2), "{slowest:?}");

    c.set_health(500);
    weir.wait_for_state(c.name, "down");
    load.go_on();
    let before = passes(weir, c.name);
    c.set_health(200);
    is_back(weir, load, c.name, before);
    let (failed, _) = load.take();
    assert!(failed.is_empty(), "a sick backend costs no request: {failed:?}");
    [a, b, c]
}

fn no_get_is_lost(rounds: usize, clients: usize) {
    let mut backends = ["a", "b", "c"].map(Backend::start);
    let weir = before(&backends.each_ref());
    for backend in &backends {
        weir.wait_for_state(backend.name, "up");
    }
    let load = Load::start(weir.web(), clients);
    for _ in 0..rounds {
        backends = through_one_round(&weir, &load, backends);
    }
    load.end();
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
    weir.wait_for(&["weir_requests_in_flight"], 0.0);
}

#[test]
fn no_get_is_lost_while_backends_are_killed_stopped_and_sick() {
    no_get_is_lost(1, 16);
}

#[test]
#[ignore = "long: ten rounds"]
fn no_get_is_lost_in_round_after_round() {
    no_get_is_lost(size("WEIR_SOAK_ROUNDS", 10), 64);
}
