//! Sticky sessions: a cookie brings a client back to its backend, over reloads, restarts and several processes, and says
//! nothing about it to anybody else.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::support::http2::{connect, run};
use crate::support::weir::command;
use crate::support::{Client, Config, Origin, Reply, Response, Weir, eventually};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn origins(count: usize) -> Vec<Origin> {
    NAMES[..count].iter().map(|name| Origin::named(name)).collect()
}

/// Backends called by what they answer; `settings` are the upstream's.
fn config(origins: &[(&str, &Origin)], settings: &str) -> Config {
    Config::to_all(origins).set("upstreams.up", settings)
}

fn all(origins: &[Origin]) -> Vec<(&'static str, &Origin)> {
    NAMES.into_iter().zip(origins).collect()
}

/// The one Set-Cookie of Weir's, if there is one.
fn affinity_cookie(response: &Response) -> Option<&str> {
    let lines = response.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    let mut ours = lines.map(|(_, value)| value.as_str()).filter(|value| value.starts_with("weir="));
    let first = ours.next();
    assert_eq!(ours.next(), None, "{response:?}");
    first
}

fn pair(line: &str) -> String {
    line.split(';').next().unwrap().to_owned()
}

/// A new client: who served it, and its cookie.
fn new_client(weir: &Weir) -> (String, String) {
    let response = Client::connect(weir.web()).get("/");
    assert_eq!(response.status, 200);
    let cookie = pair(affinity_cookie(&response).expect("a cookie"));
    (response.text(), cookie)
}

fn return_with(weir: &Weir, cookie: &str) -> Response {
    Client::connect(weir.web()).get_with("/", &[("Cookie", cookie)])
}

/// All come back to the backend that served them, and get no other cookie.
fn all_stay(weir: &Weir, clients: &[(String, String)]) {
    for (backend, cookie) in clients {
        let response = return_with(weir, cookie);
        assert_eq!((&response.text(), affinity_cookie(&response)), (backend, None));
    }
}

#[test]
fn new_clients_go_where_the_balancer_says_and_stay_there() {
    let origins = origins(3);
    for balance in ["round_robin", "least_connections", "p2c", "random", "consistent_hash, hash: { path: {} }"] {
        let weir = Weir::start(config(&all(&origins), &["balance: ", balance, ", sticky: {}"].concat()));
        let clients: Vec<_> = (0..9).map(|_| new_client(&weir)).collect();
        let mut counts = BTreeMap::new();
        clients.iter().for_each(|(backend, _)| *counts.entry(backend.as_str()).or_insert(0) += 1);
        match balance {
            "round_robin" | "least_connections" => assert_eq!(counts, BTreeMap::from([("a", 3), ("b", 3), ("c", 3)])),
            "consistent_hash, hash: { path: {} }" => assert_eq!(counts.len(), 1),
            _ => {}
        }
        for _ in 0..3 {
            all_stay(&weir, &clients);
        }
        let later = [0; 3].map(|_| new_client(&weir).0);
        if balance == "round_robin" {
            assert_eq!(later, ["a", "b", "c"], "a client that comes back takes nobody's turn");
        }
        weir.wait_for(&["weir_backend_in_flight"], 0.0);
        let log = weir.access_log_of(9 + 27 + 3);
        assert_eq!(log.iter().filter(|line| line["attempts"][0]["why"] == "sticky").count(), 27);
    }
}

#[test]
fn the_cookie_says_nothing_of_the_backend_and_no_backend_sees_it() {
    let origin = Origin::start(|_| Reply::with(200, &[("Set-Cookie", "id=1"), ("Cache-Control", "public")], "ok"));
    let settings = "sticky: { ttl: 10m, attributes: { same_site: strict } }";
    let weir = Weir::start(config(&[("secret-name", &origin)], settings));
    let mut client = Client::connect(weir.web());
    let response = client.get("/");
    let line = affinity_cookie(&response).unwrap().to_owned();
    assert!(line.ends_with("; Path=/; Max-Age=600; HttpOnly; SameSite=Strict"), "{line}");
    for part in ["secret-name", "127.0.0.1", &origin.address().port().to_string(), "up"] {
        assert!(!pair(&line).contains(part), "{part}: {line}");
    }
    let all = |name: &str| {
        let fields = response.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        fields.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(all("set-cookie"), ["id=1", line.as_str()], "the backend's own stays");
    assert_eq!(all("cache-control"), ["public", "private=\"set-cookie\""]);
    let cookies = format!("id=1; {}; lang=en", pair(&line));
    let response = client.get_with("/", &[("Cookie", &cookies)]);
    assert_eq!((affinity_cookie(&response), response.header("cache-control")), (None, Some("public")));
    assert_eq!(origin.last_request().all("cookie"), ["id=1; lang=en"]);
    client.get_with("/", &[("Cookie", &pair(&line))]);
    assert_eq!(origin.last_request().all("cookie"), [""; 0]);
    // By what a trusted proxy says, TLS or not decides about Secure.
    assert!(weir.reload(config(&[("a", &origin)], "sticky: {}").set("trusted_proxies", "[127.0.0.0/8]")));
    let by_tls = Client::connect(weir.web()).get_with("/", &[("X-Forwarded-Proto", "https")]);
    assert!(affinity_cookie(&by_tls).unwrap().ends_with("; Secure") && !new_client(&weir).1.contains("Secure"));
}

#[test]
fn clients_stay_over_reloads() {
    let origins = origins(4);
    let (abc, settings) = (&all(&origins)[..3], "balance: random, sticky: {}");
    let weir = Weir::start(config(abc, settings));
    let clients: Vec<_> = (0..12).map(|_| new_client(&weir)).collect();
    let key = weir.config_file().with_file_name("sticky.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    // Another order, another balancer, another ttl, one more, other names.
    let mut more = all(&origins);
    more.reverse();
    let renamed: Vec<_> = ["x", "y", "z", "w"].into_iter().zip(&origins).collect();
    for changed in [
        config(abc, "balance: least_connections, sticky: {}"),
        config(&more, "balance: random, sticky: { ttl: 2h }"),
        config(&renamed, settings),
        config(abc, settings),
    ] {
        assert!(weir.reload(&changed));
        all_stay(&weir, &clients);
    }
    // One leaves: its clients get another and stay there, the others do not move.
    assert!(weir.reload(config(&all(&origins)[1..3], settings)));
    for (backend, cookie) in clients.iter().filter(|(backend, _)| backend == "a") {
        let response = return_with(&weir, cookie);
        assert_ne!(response.text(), *backend);
        let moved = pair(affinity_cookie(&response).expect("another cookie"));
        all_stay(&weir, &[(response.text(), moved)]);
    }
    all_stay(&weir, &clients.into_iter().filter(|(backend, _)| backend != "a").collect::<Vec<_>>());
}

#[test]
fn clients_stay_over_restarts_and_between_processes_with_one_key() {
    let origins = origins(3);
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("shared.key");
    let text = config(&all(&origins), "balance: random").set("upstreams.up.sticky.key_file", key.display());
    // Two that start at once and both find no key.
    let weirs: Vec<_> = (0..2).map(|_| Weir::start(&text)).collect();
    let clients: Vec<_> = (0..12).map(|n| new_client(&weirs[n % 2])).collect();
    weirs.iter().for_each(|weir| all_stay(weir, &clients));
    drop(weirs);
    let weir = Weir::start(&text);
    all_stay(&weir, &clients);
    // With another key nobody's cookie means anything: all get new ones.
    std::fs::remove_file(&key).unwrap();
    assert!(weir.reload(&text));
    assert!(clients.iter().all(|(_, cookie)| affinity_cookie(&return_with(&weir, cookie)).is_some()));
}

fn explain(weir: &Weir, cookie: &str) -> String {
    let header = format!("Cookie: id=1; {cookie}");
    let output = weir.command(&["explain", "GET", "http://x/", "-H", &header]);
    assert_eq!(output.code, Some(0), "{}", weir.stderr());
    output.stdout
}

#[test]
fn a_backend_that_is_out_loses_its_clients_to_others_where_they_stay() {
    let mut origins = origins(3);
    let weir = Weir::start(config(&all(&origins), "balance: round_robin, sticky: {}"));
    let (backend, cookie) = new_client(&weir);
    assert_eq!(backend, "a");
    drop(origins.remove(0));
    // Killed: found out by trying.
    let response = return_with(&weir, &cookie);
    assert_eq!(response.status, 200);
    let second = (response.text(), pair(affinity_cookie(&response).expect("another cookie")));
    all_stay(&weir, std::slice::from_ref(&second));
    let log = weir.access_log_of(3);
    // A kept connection whose end has not been noticed yet is tried first, and then a fresh one.
    let attempts = log[1]["attempts"].as_array().unwrap();
    let [.., refused, served] = &attempts[..] else { panic!("two attempts: {attempts:?}") };
    assert_eq!((&attempts[0]["why"], &attempts[0]["backend"]), (&"sticky".into(), &"a".into()));
    assert_eq!((&refused["backend"], &refused["outcome"]), (&"a".into(), &"connect_error".into()));
    assert_eq!((&served["why"], &served["outcome"]), (&"sticky_tried".into(), &"ok".into()));
    // Drained: known before.
    let place = format!("up/{}", second.0);
    assert_eq!(weir.command(&["drain", &place]).code, Some(0));
    let response = return_with(&weir, &second.1);
    assert_ne!(response.text(), "a");
    assert_ne!(response.text(), second.0);
    let third = (response.text(), pair(affinity_cookie(&response).expect("another cookie")));
    let attempt = weir.access_log_of(4)[3]["attempts"][0].clone();
    assert_eq!(attempt["why"], "sticky_out");
    assert_eq!(attempt["passed_over"], serde_json::json!([{ "backend": second.0, "why": "draining" }]));
    let said = explain(&weir, &second.1);
    assert!(said.contains("draining, by operator: takes no new requests; the request's cookie names it"), "{said}");
    assert_eq!(weir.command(&["enable", &place]).code, Some(0));
    let said = explain(&weir, &second.1);
    assert!(said.contains("next: the request's cookie names it") && said.contains("another goes first"), "{said}");
    all_stay(&weir, &[third, second]);
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
}

#[test]
fn a_full_backend_sends_one_request_elsewhere_and_keeps_its_client() {
    let slow = Origin::start(|request| {
        let wait = if request.target == "/slow" { 700 } else { 0 };
        Reply::new(200, "a").after(Duration::from_millis(wait))
    });
    let other = Origin::named("b");
    let weir = Weir::start(config(&[("a", &slow), ("b", &other)], "max_in_flight: 1, sticky: {}"));
    let (backend, cookie) = new_client(&weir);
    assert_eq!(backend, "a");
    let mut busy = Client::connect(weir.web());
    busy.send(format!("GET /slow HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n"));
    eventually("it is under way", || slow.requests().len() == 2);
    let response = return_with(&weir, &cookie);
    assert_eq!((response.text().as_str(), affinity_cookie(&response)), ("b", None));
    assert_eq!(busy.response("GET").status, 200);
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
    all_stay(&weir, &[(backend, cookie)]);
    assert_eq!(weir.access_log_of(4)[1]["attempts"][0]["why"], "sticky_full");
}

#[test]
fn balancers_count_requests_that_affinity_cookies_brought() {
    let slow = Origin::start(|request| {
        let wait = if request.target == "/slow" { 700 } else { 0 };
        Reply::new(200, "a").after(Duration::from_millis(wait))
    });
    let other = Origin::named("b");
    let weir = Weir::start(config(&[("a", &slow), ("b", &other)], "balance: least_connections, sticky: {}"));
    let cookie = (0..2).map(|_| new_client(&weir)).find(|(backend, _)| backend == "a").unwrap().1;
    let mut busy = Client::connect(weir.web());
    busy.send(format!("GET /slow HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n"));
    weir.wait_for(&["weir_backend_in_flight", "backend=\"a\""], 1.0);
    assert_eq!([new_client(&weir).0, new_client(&weir).0], ["b", "b"]);
    assert_eq!(busy.response("GET").status, 200);
    weir.wait_for(&["weir_backend_in_flight"], 0.0);
}

#[test]
fn a_websocket_gets_its_cookie_too() {
    const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let origins = [0, 1].map(|_| Origin::start(move |_| Reply::raw(switch)));
    let weir = Weir::start(config(&[("a", &origins[0]), ("b", &origins[1])], "sticky: {}"));
    let mut client = Client::connect(weir.web());
    client.send(format!("GET / HTTP/1.1\r\nHost: x\r\n{UPGRADE}\r\n"));
    let response = client.response("GET");
    assert_eq!(response.status, 101);
    let cookie = pair(affinity_cookie(&response).expect("a cookie"));
    for n in 2..5 {
        let mut client = Client::connect(weir.web());
        client.send(format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n{UPGRADE}\r\n"));
        assert_eq!((affinity_cookie(&client.response("GET")), origins[0].requests().len()), (None, n));
    }
    assert_eq!(origins[0].last_request().header("cookie"), None);
}

#[test]
fn http2_clients_may_split_their_cookies() {
    let origins = origins(3);
    let weir = Weir::start(config(&all(&origins), "sticky: {}"));
    let (backend, cookie) = new_client(&weir);
    run(async {
        let mut sender = connect(weir.web()).await;
        for _ in 0..4 {
            let request = http::Request::get("http://x/").header("cookie", "id=1").header("cookie", &cookie);
            let request = request.header("cookie", "lang=en").body(()).unwrap();
            let response = sender.send_request(request, true).unwrap().0.await.unwrap();
            assert_eq!((response.status().as_u16(), response.headers().get("set-cookie")), (200, None));
        }
    });
    assert_eq!(backend, "a");
    assert_eq!((origins[0].requests().len(), origins[0].last_request().all("cookie")), (5, vec!["id=1; lang=en"]));
}

#[test]
fn upstreams_on_one_host_share_the_cookie() {
    let origins = origins(4);
    let [a, b, c, d] = [0, 1, 2, 3].map(|at| &origins[at]);
    let config = Config::new()
        .route("one", "match: { path: /one }, upstream: one")
        .route("two", "upstream: two")
        .upstream("one", &[("a", a), ("b", b)])
        .set("upstreams.one.sticky", "{}")
        .upstream("two", &[("c", c), ("d", d)])
        .set("upstreams.two.sticky", "{}");
    let weir = Weir::start(config);
    let mut client = Client::connect(weir.web());
    let first = client.get("/one");
    let second = client.get_with("/two", &[("Cookie", &pair(affinity_cookie(&first).unwrap()))]);
    let both = pair(affinity_cookie(&second).unwrap());
    for _ in 0..3 {
        for (path, before) in [("/one", &first), ("/two", &second)] {
            let again = client.get_with(path, &[("Cookie", &both)]);
            assert_eq!((again.text(), affinity_cookie(&again)), (before.text(), None));
        }
    }
}

#[test]
fn looking_at_a_configuration_makes_no_key_and_a_bad_key_is_refused() {
    let origin = Origin::named("a");
    let folder = tempfile::tempdir().unwrap();
    let (file, key) = (folder.path().join("weir.yaml"), folder.path().join("sticky.key"));
    let text = config(&[("a", &origin)], "sticky: {}");
    std::fs::write(&file, text.to_string()).unwrap();
    let check = |file: &Path| command(&["check", "-c", file.to_str().unwrap()]);
    assert_eq!((check(&file).code, key.exists()), (Some(0), false));
    let weir = Weir::start(config(&[("a", &origin)], "max_in_flight: 9"));
    let made = weir.config_file().with_file_name("sticky.key");
    std::fs::write(weir.config_file(), text.clone().set("admin.address", "127.0.0.1:0").to_string()).unwrap();
    assert_eq!(weir.command(&["diff", "-c", weir.config_file().to_str().unwrap()]).code, Some(3));
    assert!(!made.exists() && !weir.reload(text.clone().set("nonsense", 1)) && !made.exists());
    assert!(weir.reload(&text) && made.exists());
    let (_, cookie) = new_client(&weir);
    std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(!weir.reload(&text));
    let output = check(&weir.config_file());
    // The mode of a file is a fact about this host: a warning of the check, though a start and a reload refuse the file.
    let strict = command(&["check", "--strict", "-c", weir.config_file().to_str().unwrap()]);
    assert_eq!((output.code, strict.code), (Some(0), Some(2)));
    let what = "warning: upstreams.up.sticky.key_file: this host: everybody on this machine may read";
    assert!(output.stdout.contains(what), "{}", output.stdout);
    assert_eq!(affinity_cookie(&return_with(&weir, &cookie)), None, "the old one goes on");
}

#[test]
fn clients_stay_with_backends_that_are_found_while_others_come_and_go() {
    let (origins, folder) = (origins(4), tempfile::tempdir().unwrap());
    let list = folder.path().join("list.yaml");
    let put = |members: &[&Origin]| {
        let text: String = members.iter().map(|origin| format!("- address: {}\n", origin.address())).collect();
        let next = list.with_extension("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, &list).unwrap();
    };
    let [a, b, c, d] = [0, 1, 2, 3].map(|at| &origins[at]);
    put(&[a, b]);
    let weir = Weir::start(config(&[], "sticky: {}").set("upstreams.up.discover.file", list.display()));
    let clients = [new_client(&weir), new_client(&weir)];
    assert_eq!([&*clients[0].0, &*clients[1].0], ["a", "b"]);
    let there = |members: &[&Origin]| {
        eventually("the list is in force", || {
            let status = weir.status();
            let backends = status["upstreams"][0]["backends"].as_array()?;
            let addresses = backends.iter().map(|backend| backend["address"].as_str().unwrap().to_owned());
            addresses.eq(members.iter().map(|origin| origin.address().to_string())).then_some(())
        });
    };
    // One comes at the head, so that every other has another place.
    put(&[c, a, b]);
    there(&[c, a, b]);
    for _ in 0..3 {
        all_stay(&weir, &clients);
    }
    // One that was found later has clients of its own; one that goes gives its clients away, and no other does.
    let late =
        eventually("a client of the one that came", || Some(new_client(&weir)).filter(|(backend, _)| backend == "c"));
    put(&[d, b, c]);
    there(&[d, b, c]);
    for _ in 0..3 {
        all_stay(&weir, &[clients[1].clone(), late.clone()]);
    }
    let moved = return_with(&weir, &clients[0].1);
    assert_ne!(moved.text(), "a");
    let moved = (moved.text(), pair(affinity_cookie(&moved).expect("a cookie of the other one")));
    put(&[a, b, c, d]);
    there(&[a, b, c, d]);
    all_stay(&weir, &[moved, clients[1].clone(), late]);
}
