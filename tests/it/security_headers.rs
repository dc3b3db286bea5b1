//! `security_headers: default`, and conditions on the texts of a file.

use std::sync::Arc;

use crate::support::files::{folder, put};
use crate::support::grpc::{Caller, Server, message};
use crate::support::http2::{connect, run};
use crate::support::{Client, Config, Origin, PLAIN, Pki, Reply, TlsClient, Weir, eventually, tls_config};

const FIELDS: [(&str, &str); 3] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "SAMEORIGIN"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
];
const HSTS: &str = "strict-transport-security";

fn config(origin: &Origin) -> Config {
    Config::to(origin)
        .set("defaults.security_headers", "default")
        .route("own", "match: { path: /own }, respond: { status: 204 }")
        .route("moved", "match: { path: /moved }, redirect: { to: /own }")
        .route("denied", "match: { path: /denied }, upstream: up, deny: [0.0.0.0/0]")
        .route("dead", "match: { path: /dead }, upstream: dead")
        .upstream("dead", &[("a", "127.0.0.1:1")])
        .route("off", "match: { path: /off }, upstream: up, security_headers: off")
}

#[test]
fn each_response_of_a_route_has_the_fields_and_only_tls_clients_get_hsts() {
    let origin = Origin::named("a");
    let pki = Pki::new();
    let pair = pki.issue(&["a.test"]);
    let tls = "[{ cert: a.pem, key: a.key }]";
    let config = config(&origin).listener("tls", "").set("listeners.tls.tls.certificates", tls);
    let weir = Weir::start_in(folder(&[("a", &pair)]), &config);
    for round in 0..2 {
        let mut plain = Client::connect(weir.web());
        let mut secure = TlsClient::secure(weir.address("tls"), "a.test", &Arc::new(tls_config(None)));
        for (path, status) in [("/", 200), ("/own", 204), ("/moved", 308), ("/denied", 403), ("/dead", 502)] {
            let (open, closed) = (plain.get(path), secure.get_with(path, &[("Host", "a.test")]));
            assert_eq!((open.status, closed.status), (status, status), "{path}");
            for (name, value) in FIELDS {
                assert_eq!((open.header(name), closed.header(name)), (Some(value), Some(value)), "{path} {round}");
            }
            assert_eq!((open.header(HSTS), closed.header(HSTS)), (None, Some("max-age=31536000")), "{path}");
        }
        let off = secure.get_with("/off", &[("Host", "a.test")]);
        assert!(FIELDS.iter().all(|(name, _)| off.header(name).is_none()) && off.header(HSTS).is_none());
        assert!(weir.reload(config.clone().set("routes.all.response_headers.set", "{ x-a: b }")));
    }
    run(async {
        let mut client = connect(weir.web()).await;
        let request = http::Request::get("http://a/").body(()).unwrap();
        let response = client.send_request(request, true).unwrap().0.await.unwrap();
        assert_eq!(response.headers()["x-frame-options"], "SAMEORIGIN");
        assert!(!response.headers().contains_key(HSTS));
    });
}

#[test]
fn a_field_of_the_backend_stays_and_one_of_response_headers_replaces_it() {
    let origin =
        Origin::start(|_| Reply::with(200, &[("X-Frame-Options", "DENY"), ("Referrer-Policy", "no-referrer")], ""));
    let config = config(&origin).set("routes.all.response_headers.set", "{ Referrer-Policy: origin }");
    let weir = Weir::start(config);
    let response = Client::connect(weir.web()).get("/");
    let all = |name: &str| {
        response.headers.iter().filter(|(each, _)| each == name).map(|(_, v)| v.clone()).collect::<Vec<_>>()
    };
    assert_eq!(all("x-frame-options"), ["DENY"]);
    assert_eq!(all("referrer-policy"), ["origin"]);
    assert_eq!(all("x-content-type-options"), ["nosniff"]);
}

#[test]
fn the_hsts_of_a_listener_takes_precedence() {
    let (origin, pki) = (Origin::named("a"), Pki::new());
    let pair = pki.issue(&["a.test"]);
    let config = config(&origin).certificates(&["a"]).set("listeners.web.tls.hsts", "max_age: 1h");
    let weir = Weir::start_in(folder(&[("a", &pair)]), config);
    let mut client = TlsClient::secure(weir.web(), "a.test", &Arc::new(tls_config(None)));
    assert_eq!(client.get_with("/", &[("Host", "a.test")]).header(HSTS), Some("max-age=3600"));
}

#[test]
fn upgrades_and_calls_of_grpc_get_no_such_fields() {
    let server = Server::start_with(None);
    let config =
        PLAIN.config(server.address).set("upstreams.up.protocol", "h2c").set("routes.all.security_headers", "default");
    let weir = Weir::start(config);
    run(async {
        let mut client = Caller::connect(weir.web(), false).await;
        let (response, mut out) = client.call("/unary").await;
        out.send_data(message(b"one"), true).unwrap();
        assert!(!response.await.unwrap().headers().contains_key("x-frame-options"));
    });
    let switching = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let origin = Origin::start(move |_| Reply::raw(switching));
    let weir = Weir::start(Config::to(&origin).set("routes.all.security_headers", "default"));
    let mut client = Client::connect(weir.web());
    client.send(
        "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let response = client.any_response("GET").unwrap();
    assert_eq!((response.status, response.header("x-frame-options")), (101, None));
}

#[test]
fn a_condition_on_the_texts_of_a_file_follows_the_file() {
    let origin = Origin::named("a");
    let files = tempfile::tempdir().unwrap();
    put(files.path(), "crawlers.txt", "# crawlers\nGPTBot\nClaudeBot\n");
    let config = Config::to(&origin)
        .set("routes.crawlers.match.headers.User-Agent", "{ file: crawlers.txt }")
        .set("routes.crawlers.respond.status", "403")
        .without_access_log();
    let weir = Weir::start_in(files, &config);
    let mut client = Client::connect(weir.web());
    let mut status = |agent: &str| client.get_with("/", &[("User-Agent", agent)]).status;
    for (agent, expected) in [
        ("Mozilla/5.0 (compatible; GPTBot/1.2; +https://openai.com/gptbot)", 403),
        ("claudebot", 403),
        ("Mozilla/5.0 (X11; Linux x86_64)", 200),
        ("", 200),
    ] {
        assert_eq!(status(agent), expected, "{agent}");
    }
    put(weir.config_file().parent().unwrap(), "crawlers.txt", "NewBot\n");
    eventually("the new list", || status("a newbot") == 403);
    assert_eq!(status("GPTBot"), 200);
    put(weir.config_file().parent().unwrap(), "crawlers.txt", "# none\n");
    weir.wait_for(&["weir_list_file_reloads_total{result=\"rejected\"}"], 1.0);
    assert_eq!(status("newbot"), 403);
    let text = weir.status_and_output(&["explain", "GET", "/", "-H", "User-Agent: curl"]).1;
    assert!(text.contains("does not fulfil: contains a text of `crawlers.txt`"), "{text}");
}

#[test]
fn the_shipped_list_of_crawlers_names_its_date_and_no_browser_is_in_it() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/ai-crawlers.txt");
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.lines().next().unwrap().contains("2026-"), "its date");
    let agents: Vec<_> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(agents.len() > 20 && agents.contains(&"GPTBot") && agents.contains(&"CCBot"));
    for visitor in [
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Mobile/15E148 Safari/604.1",
        "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
        "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
        "curl/8.5.0",
    ] {
        let lower = visitor.to_ascii_lowercase();
        let found: Vec<_> = agents.iter().filter(|agent| lower.contains(&agent.to_ascii_lowercase())).collect();
        assert!(found.is_empty(), "{visitor}: {found:?}");
    }
}
