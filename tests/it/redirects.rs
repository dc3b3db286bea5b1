//! `redirects`: redirects from a file, which may change.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Request;

use crate::support::files::put;
use crate::support::http2::{connect, run};
use crate::support::weir::command;
use crate::support::{Client, Config, Origin, Weir, busy, eventually};

const LIST: &str = "# moved\n/old /new\n/blog/* https://blog.example/* 301\n/gone /new?from=gone 302\n";
const REJECTED: &str = "weir_list_file_reloads_total{result=\"rejected\"}";

fn start(origin: &Origin, list: &str, more: &str) -> Weir {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "redirects.txt", list);
    Weir::start_in(folder, config(origin).set("routes.all", more))
}

fn config(origin: &Origin) -> Config {
    Config::to(origin).set("routes.all.redirects.file", "redirects.txt").without_access_log()
}

fn folder(weir: &Weir) -> PathBuf {
    weir.config_file().parent().unwrap().to_owned()
}

fn location(client: &mut Client, path: &str) -> (u16, Option<String>) {
    let response = client.get(path);
    (response.status, response.header("location").map(str::to_owned))
}

#[test]
fn a_listed_path_is_redirected_and_every_other_path_is_proxied() {
    let origin = Origin::named("a");
    let weir = start(&origin, LIST, "");
    let mut client = Client::connect(weir.web());
    for (path, status, to) in [
        ("/old", 308, "/new"),
        ("/old?a=1", 308, "/new?a=1"),
        ("/%6fld", 308, "/new"),
        ("/x/../old", 308, "/new"),
        ("/blog", 301, "https://blog.example/"),
        ("/blog/2024/a%20b?c", 301, "https://blog.example/2024/a%20b?c"),
        ("/blog//evil.example", 301, "https://blog.example/evil.example"),
        ("/gone?a=1", 302, "/new?from=gone"),
    ] {
        assert_eq!(location(&mut client, path), (status, Some(to.to_owned())), "{path}");
    }
    assert_eq!(origin.requests().len(), 0);
    for path in ["/", "/new", "/old/x", "/Old", "/blogs"] {
        assert_eq!(location(&mut client, path), (200, None), "{path}");
    }
    assert_eq!(client.post("/old", b"body").status, 308, "the connection is still in use");
}

#[test]
fn the_redirects_of_a_file_apply_over_http2_to_grpc_and_to_upgrades() {
    let origin = Origin::named("a");
    let weir = start(&origin, LIST, "");
    run(async {
        let mut client = connect(weir.web()).await;
        for content_type in ["text/plain", "application/grpc"] {
            let request = Request::post("http://a/old?x").header("content-type", content_type).body(()).unwrap();
            let response = client.send_request(request, true).unwrap().0.await.unwrap();
            assert_eq!(
                (response.status().as_u16(), &response.headers()["location"]),
                (308, &"/new?x".parse().unwrap())
            );
        }
    });
    let mut client = Client::connect(weir.web());
    client.send(
        "GET /old HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(client.response("GET").status, 308);
    assert_eq!(origin.requests().len(), 0);
}

#[test]
fn the_policies_of_a_route_come_before_its_redirects_and_its_action_after_them() {
    let origin = Origin::named("a");
    let weir = start(&origin, LIST, "deny: [127.0.0.0/8]");
    assert_eq!(Client::connect(weir.web()).get("/old").status, 403);
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "redirects.txt", LIST);
    let gone = Config::new()
        .set("routes.all.respond.status", "410")
        .set("routes.all.redirects", "{ file: redirects.txt, status: 301 }")
        .set("routes.all.response_headers.set", "{ x-own: yes-it-is }");
    let weir = Weir::start_in(folder, gone);
    let mut client = Client::connect(weir.web());
    let moved = client.get("/old");
    assert_eq!((moved.status, moved.header("location"), moved.header("x-own")), (301, Some("/new"), Some("yes-it-is")));
    assert!(moved.header("x-request-id").is_some());
    assert_eq!(client.get("/other").status, 410);
}

#[test]
fn a_changed_file_of_redirects_is_applied_under_load_without_a_reload_and_a_bad_one_is_not() {
    let origin = Origin::named("a");
    let weir = start(&origin, LIST, "");
    let stop = Arc::new(AtomicBool::new(false));
    let clients = busy(weir.web(), 2, &stop);
    let mut client = Client::connect(weir.web());
    let write = |list: &str| put(&folder(&weir), "redirects.txt", list);
    write("/old /newer\n");
    eventually("the new list", || location(&mut client, "/old").1.as_deref() == Some("/newer"));
    assert_eq!(location(&mut client, "/gone").0, 200);
    write("/old /old\n");
    weir.wait_for(&[REJECTED], 1.0);
    weir.wait_for_log("redirects.txt:1: the redirect never ends; it passes line 1");
    assert_eq!(location(&mut client, "/old").1.as_deref(), Some("/newer"));
    write("/old /newest\n");
    eventually("the corrected list", || location(&mut client, "/old").1.as_deref() == Some("/newest"));
    assert!(weir.reload(config(&origin).set("routes.all.redirects.status", "303")));
    assert_eq!(location(&mut client, "/old").0, 303);
    stop.store(true, Ordering::Release);
    assert!(clients.into_iter().map(|client| client.join().unwrap()).sum::<usize>() > 0);
    assert_eq!(weir.metric("weir_list_file_reloads_total{result=\"applied\"}"), 2.0);
}

#[test]
fn bad_lines_and_loops_are_problems_at_their_lines() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "redirects.txt", "/a /b\n/b /a\nnowhere\n/c /d 200\n");
    put(folder.path(), "weir.yaml", config(&Origin::named("a")).to_string());
    let file = folder.path().join("weir.yaml");
    let output = command(&["check", "-c", file.to_str().unwrap()]);
    assert_eq!(output.code, Some(2));
    for problem in [
        "redirects.txt:1:1: routes[0].redirects.file: the redirect never ends; it passes line 1, 2. Let the last",
        "redirects.txt:2:1: routes[0].redirects.file: the redirect never ends; it passes line 2, 1. ",
        "redirects.txt:3:1: routes[0].redirects.file: `nowhere` has no target. Write `FROM TO [STATUS]`",
        "redirects.txt:4:1: routes[0].redirects.file: `200` is not a redirect's status. Write 301",
    ] {
        assert!(output.stdout.contains(problem), "{problem}: {}", output.stdout);
    }
}

#[test]
fn ten_thousand_redirects_are_loaded_and_explain_names_the_line() {
    let list: String = (1..=10_000).map(|n| format!("/page/{n} /seite/{n}\n")).collect();
    let origin = Origin::named("a");
    let weir = start(&origin, &list, "");
    let mut client = Client::connect(weir.web());
    assert_eq!(location(&mut client, "/page/9999"), (308, Some("/seite/9999".into())));
    let (code, text) = weir.status_and_output(&["explain", "GET", "http://a/page/77?x=1"]);
    let decision = "route all: redirects 308 to /seite/77?x=1, by line 77 of its file\n";
    assert!(code == 0 && text.contains(decision) && !text.contains("upstream up"), "{text}");
    let (_, text) = weir.status_and_output(&["explain", "GET", "http://a/page/0"]);
    assert!(text.contains("route all: upstream\n"), "{text}");
}
