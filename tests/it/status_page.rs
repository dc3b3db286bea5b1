//! The status page over HTTP: its policy, its live events, their bounds, and its plain form.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Client, Config, Origin, Reply, Weir, eventually};

/// An open stream of events.
struct Events {
    stream: TcpStream,
    text: String,
}

impl Events {
    fn open(weir: &Weir, path: &str) -> Self {
        let mut stream = TcpStream::connect(weir.admin()).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
        let mut events = Self { stream, text: String::new() };
        eventually("it answers", || {
            events.read();
            events.text.contains("\r\n\r\n")
        });
        events
    }

    fn read(&mut self) {
        let mut buffer = [0; 65536];
        if let Ok(length) = self.stream.read(&mut buffer) {
            self.text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    }

    fn wait_for(&mut self, text: &str) {
        eventually(&format!("an event with {text}"), || {
            self.read();
            self.text.contains(text)
        });
    }

    /// The ids of the parts of each change so far.
    fn changes(&self) -> Vec<Vec<String>> {
        let data = self.text.lines().filter_map(|line| line.strip_prefix("data: "));
        let ids = |line: &str| {
            let parts: Value = serde_json::from_str(line).ok()?;
            Some(parts.as_array()?.iter().map(|part| part[0].as_str().unwrap().to_owned()).collect())
        };
        data.filter_map(ids).collect()
    }
}

#[test]
fn the_page_allows_only_its_own_script_and_style_and_loads_nothing() {
    let weir = Weir::start(Config::to("127.0.0.1:1"));
    let page = weir.admin_get("/");
    let policy = page.header("content-security-policy").unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
    let text = page.text();
    assert!(!text.contains("http://") && !text.contains("https://") && !text.contains(" style=\""), "{text}");
    assert!(!text.contains(" onclick") && !text.contains(" src="), "{text}");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert!(text.contains(&format!("<title>Weir on {}</title>", host.trim())), "{text}");
}

#[test]
fn the_page_without_script_is_a_table_with_the_state_of_the_api() {
    let origin = Origin::start(|_| Reply::new(200, "a"));
    let weir = Weir::start(Config::to_all(&[("a", &origin)]).backend("up.zebra", "127.0.0.1:1", ""));
    let page = weir.admin_get("/").text();
    assert!(page.contains("All is well.") && page.contains("<form class=\"view\" method=\"get\""), "{page}");
    for backend in weir.status()["upstreams"][0]["backends"].as_array().unwrap() {
        let (name, state) = (backend["name"].as_str().unwrap(), backend["state"].as_str().unwrap());
        assert!(page.contains(&format!("<th scope=\"row\">{name}")) && page.contains(&format!(">{state}<")), "{page}");
    }
    let filtered = weir.admin_get("/?filter=zebra&sort=name").text();
    assert!(filtered.contains("1 of 2 backends") && !filtered.contains("<th scope=\"row\">a <code"), "{filtered}");
}

#[test]
fn a_viewer_gets_the_changed_parts_only() {
    let origin = Origin::start(|_| Reply::new(200, "a"));
    let weir = Weir::start(Config::to_all(&[("a", &origin)]).backend("up.b", "127.0.0.1:1", ""));
    let mut events = Events::open(&weir, "/live");
    events.wait_for("event: change");
    assert!(events.text.contains("content-type: text/event-stream"), "{}", events.text);
    let (code, output) = weir.status_and_output(&["drain", "up/a"]);
    assert_eq!(code, 0, "{output}");
    events.wait_for(">draining<");
    let changes = events.changes();
    assert_eq!(changes[0], ["verdict", "summary", "content"]);
    let address = origin.address();
    assert!(changes[1..].iter().any(|ids| ids.iter().any(|id| *id == format!("b/up/{address}"))), "{changes:?}");
    assert!(!changes[1..].iter().flatten().any(|id| id == "content" || id == "listeners"), "{changes:?}");
}

#[test]
fn there_are_32_viewers_at_most_and_a_place_is_free_again_once_one_leaves() {
    let weir = Weir::start(Config::to("127.0.0.1:1"));
    let mut viewers: Vec<_> = (0..32).map(|_| Events::open(&weir, "/live")).collect();
    assert!(viewers.iter().all(|viewer| viewer.text.starts_with("HTTP/1.1 200 ")));
    assert_eq!(weir.admin_get("/live").status, 503);
    assert_eq!(weir.admin_get("/").status, 200);
    viewers.pop();
    eventually("a place is free", || Events::open(&weir, "/live").text.starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_failed_request_is_on_the_page_with_its_id_fault_and_attempts_but_without_its_query() {
    let weir = Weir::start(Config::to("127.0.0.1:1").set("upstreams.up.outlier", "off"));
    let mut client = Client::connect(weir.web());
    assert_eq!(client.get_with("/pay?token=hunter2", &[("X-Request-Id", "id-7")]).status, 502);
    let page = weir.admin_get("/").text();
    let part = page.split_once("Last failed requests").unwrap().1;
    for expected in ["GET /pay<", "502 connect", "a connect_error: refused"] {
        assert!(part.contains(expected), "{expected}: {part}");
    }
    assert!(!page.contains("hunter2"));
    let log = weir.access_log_of(1);
    assert!(part.contains(log[0]["request_id"].as_str().unwrap()), "{part}");
}

#[test]
fn a_check_an_ejection_and_a_reload_are_explained() {
    let (origin, _) = Origin::with_health("a");
    let config = Config::to_all(&[("a", &origin)])
        .backend("up.b", "127.0.0.1:1", "")
        .set("upstreams.up.health_check", "interval: 50ms, timeout: 50ms, http: { path: /healthz }");
    let weir = Weir::start(config.clone());
    weir.wait_for_state("b", "down");
    weir.wait_for_state("a", "up");
    let page = weir.admin_get("/").text();
    for expected in ["Not well: 1 trouble.", "Backend b of up is down", "last check passed in ", "last check failed: "]
    {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    assert!(!weir.reload(config.set("routes.all.upstream", "nosuch")));
    let page = weir.admin_get("/").text();
    assert!(page.contains("The last reload was rejected") && page.contains("nosuch"), "{page}");
}

#[test]
fn a_page_of_ten_thousand_backends_has_200_rows() {
    let (folder, mut config) = (tempfile::tempdir().unwrap(), Config::to("127.0.0.1:1"));
    // A list has at most 4,096 backends.
    for part in 0..3 {
        let line = |n: usize| format!("- address: 10.{part}.{}.{}:80\n", n / 250, n % 250 + 1);
        let list: String = (0..3_333).map(line).collect();
        std::fs::write(folder.path().join(format!("{part}.yaml")), list).unwrap();
        config = config.set(&format!("upstreams.part{part}.discover"), format!("file: {part}.yaml"));
    }
    let weir = Weir::start_in(folder, config);
    eventually("all are found", || weir.admin_get("/").text().contains("of 10000 backends"));
    let page = weir.admin_get("/").text();
    assert_eq!(page.matches("<tr id=\"b/").count(), 200);
    assert!(page.len() < 1 << 20, "{} bytes", page.len());
}
