//! `respond.body_file`: a response whose body is a file, which may change.

use h2::client::SendRequest;
use http::Request;

use crate::support::files::put;
use crate::support::http2::{connect, rest, run};
use crate::support::weir::command;
use crate::support::{Client, Config, Weir, eventually};

const APPLIED: &str = "weir_body_file_reloads_total{result=\"applied\"}";
const REJECTED: &str = "weir_body_file_reloads_total{result=\"rejected\"}";

fn config(respond: &str) -> Config {
    Config::new().listener("web", "").route("file", format!("respond: {respond}"))
}

fn start(name: &str, content: &[u8]) -> Weir {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), name, content);
    Weir::start_in(folder, config("{ status: 200 }").set("routes.file.respond.body_file", name))
}

fn folder(weir: &Weir) -> std::path::PathBuf {
    weir.config_file().parent().unwrap().to_owned()
}

#[test]
fn a_file_is_served_with_its_content_type_and_its_length() {
    for (name, content_type) in
        [("robots.txt", "text/plain; charset=utf-8"), ("favicon.ico", "image/vnd.microsoft.icon")]
    {
        let content = b"User-agent: *\nDisallow: /\n\xff";
        let weir = start(name, content);
        let mut client = Client::connect(weir.web());
        let response = client.get("/");
        assert_eq!((response.status, &response.body[..]), (200, &content[..]));
        assert_eq!(response.header("content-type"), Some(content_type));
        assert_eq!(response.header("content-length"), Some(&*content.len().to_string()));
        let head = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
        client.send(head);
        let head = client.response("HEAD");
        assert_eq!((head.status, head.body.len()), (200, 0));
        for name in ["content-type", "content-length", "etag"] {
            assert_eq!(head.header(name), response.header(name), "{name}");
        }
        assert_eq!(client.get("/").status, 200, "the connection is still in use");
    }
}

async fn by_http2(client: &mut SendRequest<bytes::Bytes>, method: &str, tag: &str) -> (u16, Vec<u8>, bool) {
    let request = Request::builder().method(method).uri("http://a/").header("if-none-match", tag).body(()).unwrap();
    let response = client.send_request(request, true).unwrap().0.await.unwrap();
    let has_length = response.headers().contains_key("content-length");
    (response.status().as_u16(), rest(&mut response.into_body()).await, has_length)
}

#[test]
fn a_client_that_has_the_file_gets_304() {
    let weir = start("page.html", b"<p>back soon");
    let mut client = Client::connect(weir.web());
    let tag = client.get("/").header("etag").unwrap().to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"'));
    let weak = format!("W/{tag}");
    let list = format!("\"other\", {tag}");
    for known in [&*tag, &weak, &list, "*"] {
        let response = client.get_with("/", &[("If-None-Match", known)]);
        assert_eq!((response.status, response.header("etag")), (304, Some(&*tag)), "{known}");
        assert!(response.header("content-length").is_none() && response.body.is_empty());
    }
    assert_eq!(client.get_with("/", &[("If-None-Match", "\"other\"")]).status, 200);
    run(async {
        let mut http2 = connect(weir.web()).await;
        assert_eq!(by_http2(&mut http2, "GET", &tag).await, (304, Vec::new(), false));
        assert_eq!(by_http2(&mut http2, "HEAD", &tag).await, (304, Vec::new(), false));
        assert_eq!(by_http2(&mut http2, "HEAD", "\"x\"").await, (200, Vec::new(), true));
        assert_eq!(by_http2(&mut http2, "GET", "\"x\"").await, (200, b"<p>back soon".to_vec(), true));
        assert_eq!(by_http2(&mut http2, "POST", &tag).await.0, 200, "only GET and HEAD have a 304");
    });
}

#[test]
fn a_maintenance_page_has_no_304() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "page.html", "<p>back soon");
    let weir = Weir::start_in(folder, config("{ status: 503, body_file: page.html, headers: { retry-after: '60' } }"));
    let response = Client::connect(weir.web()).get_with("/", &[("If-None-Match", "*")]);
    assert_eq!((response.status, response.text()), (503, "<p>back soon".to_owned()));
    assert_eq!((response.header("retry-after"), response.header("etag")), (Some("60"), None));
}

#[test]
fn a_changed_file_is_served_without_a_reload_and_an_unfit_one_is_not() {
    let weir = start("page.html", b"one");
    let mut client = Client::connect(weir.web());
    let first = client.get("/").header("etag").unwrap().to_owned();
    let page = |content: &[u8]| put(&folder(&weir), "page.html", content);
    page(b"two");
    eventually("the new content", || client.get("/").text() == "two");
    let second = client.get("/").header("etag").unwrap().to_owned();
    assert_ne!(first, second);
    assert_eq!(client.get_with("/", &[("If-None-Match", &first)]).status, 200);
    weir.wait_for(&[APPLIED], 1.0);
    page(b"");
    weir.wait_for(&[REJECTED], 1.0);
    weir.wait_for_log("page.html is empty");
    assert_eq!(client.get("/").text(), "two");
    std::fs::remove_file(folder(&weir).join("page.html")).unwrap();
    weir.wait_for(&[REJECTED], 2.0);
    assert_eq!(client.get("/").text(), "two");
    page(b"three");
    eventually("the file is back", || client.get("/").text() == "three");
    assert_eq!(weir.metric("weir_config_generation"), 1.0, "the configuration is the same");
}

#[test]
fn a_missing_empty_or_too_large_file_is_a_problem_at_the_start_and_at_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "good.txt", "good");
    put(folder.path(), "empty.txt", "");
    put(folder.path(), "large.txt", "a".repeat((4 << 20) + 1));
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    let with = |name: &str| config("{ status: 200 }").set("routes.file.respond.body_file", name);
    let bad = ["missing.txt", "empty.txt", "large.txt", "folder"];
    for name in bad {
        let file = folder.path().join("weir.yaml");
        put(folder.path(), "weir.yaml", with(name).to_string());
        let output = command(&["check", "-c", file.to_str().unwrap()]);
        assert_eq!(output.code, Some(2), "{name}: {}", output.stdout);
        assert!(output.stdout.contains("routes[0].respond.body_file: "), "{name}: {}", output.stdout);
    }
    let weir = Weir::start_in(folder, with("good.txt"));
    for name in bad {
        assert!(!weir.reload(with(name)), "{name}");
    }
    assert_eq!(Client::connect(weir.web()).get("/").text(), "good");
}

#[test]
fn body_and_body_file_are_not_in_one_response_and_204_has_neither() {
    for respond in
        ["{ status: 200, body: a, body_file: a.txt }", "{ status: 204, body_file: a.txt }", "{ status: 205, body: a }"]
    {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "a.txt", "a");
        let file = folder.path().join("weir.yaml");
        put(folder.path(), "weir.yaml", config(respond).to_string());
        let output = command(&["check", "-c", file.to_str().unwrap()]);
        assert_eq!(output.code, Some(2), "{respond}: {}", output.stdout);
    }
}
