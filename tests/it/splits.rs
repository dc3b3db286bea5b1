//! Sticky splits: a user stays on one version, and the shares change at run time.

use std::collections::BTreeMap;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;

use crate::support::grpc::{Caller, Server, message, status};
use crate::support::http2::{connect, rest, run};
use crate::support::weir::command;
use crate::support::{Client, Config, Origin, Pki, TlsClient, Weir, eventually, files, tls_config};

const USERS: u32 = 60;
const BY_HEADER: &str =
    "{ by: { header: X-User }, targets: [{ upstream: v1, weight: 80 }, { upstream: v2, weight: 20 }] }";

fn config(first: &Origin, second: &Origin, split: &str) -> Config {
    Config::new()
        .set("routes.shop.split", split)
        .upstream("v1", &[("a", first)])
        .upstream("v2", &[("a", second)])
        .without_access_log()
}

/// The version of each user.
fn versions(weir: &Weir) -> BTreeMap<u32, String> {
    let mut client = Client::connect(weir.web());
    (0..USERS).map(|user| (user, client.get_with("/", &[("X-User", &user.to_string())]).text())).collect()
}

async fn version_by_http2(client: &mut SendRequest<Bytes>, user: u32) -> String {
    let request = Request::get("http://a/").header("x-user", user.to_string()).body(()).unwrap();
    let response = client.send_request(request, true).unwrap().0.await.unwrap();
    String::from_utf8(rest(&mut response.into_body()).await).unwrap()
}

fn shares(weir: &Weir) -> serde_json::Value {
    weir.status()["splits"][0].clone()
}

#[test]
fn a_user_stays_on_one_version_over_http1_http2_upgrades_and_reloads() {
    let (first, second) = (Origin::named("v1"), Origin::named("v2"));
    let config = config(&first, &second, BY_HEADER);
    let weir = Weir::start(&config);
    let before = versions(&weir);
    assert!(before.values().any(|version| version == "v1") && before.values().any(|version| version == "v2"));
    assert_eq!(versions(&weir), before);
    run(async {
        let mut client = connect(weir.web()).await;
        for (user, version) in &before {
            assert_eq!(version_by_http2(&mut client, *user).await, *version);
        }
    });
    for (user, version) in before.iter().take(10) {
        let mut client = Client::connect(weir.web());
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX-User: {user}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ));
        assert_eq!(client.response("GET").text(), *version, "the backend refuses the upgrade with 200");
    }
    assert!(weir.reload(config.set("routes.shop.response_headers.set", "{ x-a: b }")));
    assert_eq!(versions(&weir), before);
}

#[test]
fn calls_of_grpc_from_one_client_stay_on_one_version() {
    let servers = [Server::start(), Server::start()];
    let split = "{ by: { client: {} }, targets: [{ upstream: v1, weight: 1 }, { upstream: v2, weight: 1 }] }";
    let config = Config::new()
        .set("routes.calls.split", split)
        .upstream("v1", &[("a", servers[0].address)])
        .upstream("v2", &[("a", servers[1].address)])
        .set("upstreams.v1.protocol", "h2c")
        .set("upstreams.v2.protocol", "h2c");
    let weir = Weir::start(config);
    run(async {
        let mut client = Caller::connect(weir.web(), false).await;
        for _ in 0..8 {
            let (response, mut out) = client.call("/unary").await;
            out.send_data(message(b"one"), true).unwrap();
            assert_eq!(status(response.await.unwrap()).await, "0");
        }
    });
    let served = |upstream: &str| weir.sum(&["weir_backend_attempts_total", upstream, "\"ok\""]);
    eventually("all calls are recorded", || served("v1") + served("v2") == 8.0);
    assert!(served("v1") == 8.0 || served("v2") == 8.0);
}

#[test]
fn requests_without_the_key_are_distributed_by_the_weights_alone() {
    let (first, second) = (Origin::named("v1"), Origin::named("v2"));
    let weir = Weir::start(config(&first, &second, BY_HEADER));
    let mut client = Client::connect(weir.web());
    (0..50).for_each(|_| assert_eq!(client.get("/").status, 200));
    (0..50).for_each(|_| assert_eq!(client.get_with("/", &[("X-User", "")]).status, 200));
    assert_eq!((first.requests().len(), second.requests().len()), (80, 20));
}

#[test]
fn weights_of_run_time_move_only_the_users_that_they_must_and_survive_reloads_until_undone() {
    let (first, second) = (Origin::named("v1"), Origin::named("v2"));
    let config = config(&first, &second, BY_HEADER);
    let weir = Weir::start(&config);
    let before = versions(&weir);
    assert_eq!(weir.status_and_output(&["split", "shop"]), (0, "shop: v1 80%, v2 20%, by header `x-user`\n".into()));
    let set = "shop: v1 40%, v2 60%, by header `x-user`, set at run time\n";
    assert_eq!(weir.status_and_output(&["split", "shop", "v1=40", "v2=60"]), (0, set.into()));
    let after = versions(&weir);
    assert_ne!(after, before);
    assert!(before.iter().all(|(user, version)| version == "v1" || after[user] == "v2"), "v2 keeps its users");
    assert!(weir.reload(config.clone().set("routes.shop.response_headers.set", "{ x-a: b }")));
    assert_eq!(versions(&weir), after);
    let shown = shares(&weir);
    assert_eq!((&shown["route"], &shown["by"]), (&"shop".into(), &"header `x-user`".into()));
    assert_eq!((&shown["overridden"], &shown["targets"][1]["weight"]), (&true.into(), &60.into()));
    assert_eq!(shown["targets"][1]["configured_weight"], 20);
    let table = weir.status_and_output(&["status"]).1;
    assert!(
        table.lines().any(|line| line.starts_with("shop") && line.contains("60%") && line.contains("60/20")),
        "{table}"
    );
    assert!(String::from_utf8(weir.admin_get("/").body).unwrap().contains("Split shop"));
    assert_eq!(weir.status_and_output(&["split", "shop", "configured"]).0, 0);
    assert_eq!(versions(&weir), before);
    weir.wait_for_log("split changed by operator");
}

#[test]
fn weights_of_run_time_apply_to_a_split_without_a_key_and_may_take_a_version_out_of_use() {
    let (first, second) = (Origin::named("v1"), Origin::named("v2"));
    let list = "[{ upstream: v1, weight: 100 }, { upstream: v2, weight: 0 }]";
    let weir = Weir::start(config(&first, &second, list));
    let mut client = Client::connect(weir.web());
    let mut count = |requests: usize| {
        let texts: Vec<_> = (0..requests).map(|_| client.get("/").text()).collect();
        texts.iter().filter(|text| *text == "v2").count()
    };
    assert_eq!(count(10), 0);
    assert_eq!(weir.status_and_output(&["split", "shop", "v2=300"]).1, "shop: v1 25%, v2 75%, set at run time\n");
    assert_eq!(count(40), 30);
    assert_eq!(weir.status_and_output(&["split", "shop", "v1=0"]).0, 0);
    assert_eq!(count(10), 10);
}

#[test]
fn impossible_weights_are_refused_and_change_nothing() {
    let (first, second) = (Origin::named("v1"), Origin::named("v2"));
    let config = config(&first, &second, BY_HEADER).route("plain", "match: { path: /plain }, upstream: v1");
    let weir = Weir::start(config);
    for (arguments, why) in [
        (&["split", "shop", "v3=1"][..], "the split has no upstream `v3`; it has `v1`, `v2`"),
        (&["split", "shop", "v1=0", "v2=0"], "no upstream of the split has a weight"),
        (&["split", "plain", "v1=1"], "the route `plain` has no split; routes with a split: `shop`"),
        (&["split", "none"], "no route `none`"),
        (&["split", "shop", "v1=1", "configured"], "`configured` stands alone"),
    ] {
        let (code, output) = weir.status_and_output(arguments);
        assert!(code == 1 && output.contains(why), "{arguments:?}: {output}");
    }
    assert_eq!(weir.command(&["split", "shop", "v1=70000"]).code, Some(64));
    assert_eq!(shares(&weir)["overridden"], false);
}

#[test]
fn weights_of_run_time_end_with_a_reload_that_changes_the_upstreams_of_the_split() {
    let (first, second) = (Origin::named("v1"), Origin::named("v2"));
    let config = config(&first, &second, BY_HEADER);
    let weir = Weir::start(&config);
    assert_eq!(weir.status_and_output(&["split", "shop", "v1=0"]).0, 0);
    let other = config
        .upstream("v3", &[("a", &second)])
        .set("routes.shop.split", "[{ upstream: v1, weight: 1 }, { upstream: v3, weight: 1 }]")
        .without("upstreams.v2");
    assert!(weir.reload(other));
    weir.wait_for_log("the weights set at run time have ended: the split has other upstreams");
    assert_eq!((&shares(&weir)["overridden"], &shares(&weir)["targets"][0]["weight"]), (&false.into(), &1.into()));
}

#[test]
fn weir_sets_the_cookie_of_a_user_who_has_none_and_the_user_stays() {
    let (first, second) = (Origin::named("v1"), Origin::named("v2"));
    let pki = Pki::new();
    let pair = pki.issue(&["a.test"]);
    let split =
        "{ by: { cookie: version, ttl: 720h }, targets: [{ upstream: v1, weight: 1 }, { upstream: v2, weight: 1 }] }";
    let config = config(&first, &second, split)
        .listener("tls", "")
        .set("listeners.tls.tls.certificates", "[{ cert: a.pem, key: a.key }]");
    let weir = Weir::start_in(files::folder(&[("a", &pair)]), config);
    let mut client = Client::connect(weir.web());
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let new = client.get("/");
        let cookie = new.header("set-cookie").unwrap().to_owned();
        assert!(cookie.ends_with("; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax"), "{cookie}");
        let pair = cookie.split(';').next().unwrap();
        assert!(pair.starts_with("version=") && pair.len() == "version=".len() + 22, "{pair}");
        for _ in 0..3 {
            let again = client.get_with("/", &[("Cookie", pair)]);
            assert_eq!((again.text(), again.header("set-cookie")), (new.text(), None), "{pair}");
        }
        seen.insert(new.text());
    }
    assert_eq!(seen.len(), 2, "both versions have users");
    let mut secure = TlsClient::secure(weir.address("tls"), "a.test", &std::sync::Arc::new(tls_config(None)));
    let response = secure.get_with("/", &[("Host", "a.test")]);
    assert!(response.header("set-cookie").unwrap().ends_with("; SameSite=Lax; Secure"));
}

#[test]
fn explain_names_the_version_of_a_user() {
    let (first, second) = (Origin::named("v1"), Origin::named("v2"));
    let weir = Weir::start(config(&first, &second, BY_HEADER));
    for (user, version) in versions(&weir).iter().take(5) {
        let field = format!("X-User: {user}");
        let (code, text) = weir.status_and_output(&["explain", "GET", "/", "-H", &field]);
        assert!(code == 0 && text.contains(&format!("split: the header `x-user` selects {version}\n")), "{text}");
    }
    let (_, text) = weir.status_and_output(&["explain", "GET", "/"]);
    assert!(text.contains("split: the request has no header `x-user`, so the weights alone decide\n"), "{text}");
}

#[test]
fn a_bad_key_of_a_split_is_a_problem_at_its_place() {
    let folder = tempfile::tempdir().unwrap();
    for (by, place, what) in [
        ("{}", "split.by", "no key is written"),
        ("{ cookie: a, header: b }", "split.by.header", "`cookie` and `header` in one key"),
        ("{ cookie: 'a b' }", "split.by.cookie", "is not a cookie's name"),
        ("{ header: 'a b' }", "split.by.header", "is not a header name"),
        ("{ client: {}, ttl: 24h }", "split.by.ttl", "`ttl` without `cookie`"),
        ("{ cookie: a, ttl: 1ms }", "split.by.ttl", "too short"),
        ("{ user: a }", "split.by.user", "unknown key"),
    ] {
        let config = Config::to("127.0.0.1:1")
            .without("routes.all.upstream")
            .set("routes.all.split.by", by)
            .set("routes.all.split.targets", "[{ upstream: up, weight: 1 }]");
        let file = folder.path().join("weir.yaml");
        files::put(folder.path(), "weir.yaml", config.to_string());
        let output = command(&["check", "-c", file.to_str().unwrap()]);
        let found =
            output.stdout.lines().any(|line| line.contains(&format!("routes[0].{place}: ")) && line.contains(what));
        assert!(output.code == Some(2) && found, "{by}: {}", output.stdout);
    }
    let config = Config::to("127.0.0.1:1").without("routes.all.upstream").set(
        "routes.all.split",
        "{ by: { client: {} }, targets: [{ upstream: ups, weight: 1 }, { upstream: up, weight: 0 }] }",
    );
    files::put(folder.path(), "weir.yaml", config.to_string());
    let output = command(&["check", "-c", folder.path().join("weir.yaml").to_str().unwrap()]);
    assert!(
        output.stdout.contains("routes[0].split.targets[0].upstream: there is no upstream `ups`"),
        "{}",
        output.stdout
    );
}
