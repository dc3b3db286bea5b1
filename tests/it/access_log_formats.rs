//! The formats of the access log, and its sample.

use crate::support::{Client, Config, Origin, Reply, Weir, eventually};

fn config(origin: &Origin) -> Config {
    Config::to(origin).route("all", "upstream: up").route("broken", "match: { path: /broken }, upstream: dead").backend(
        "dead.d",
        "127.0.0.1:1",
        "",
    )
}

fn lines(weir: &Weir, count: usize) -> Vec<String> {
    eventually("the lines", || weir.stdout().lines().count() >= count);
    weir.stdout().lines().map(str::to_owned).collect()
}

#[test]
fn the_format_of_the_access_log_is_combined_and_changes_with_a_reload() {
    let origin = Origin::start(|_| Reply::new(200, "hello"));
    let combined = config(&origin).set("access_log.format", "combined");
    let weir = Weir::start(combined);
    let mut client = Client::connect(weir.web());
    client.get_with("/a?b=\"c", &[("User-Agent", "curl/\"8"), ("Referer", "http://a.test/")]);
    let line = lines(&weir, 1).remove(0);
    assert!(line.starts_with("127.0.0.1 - - [") && line.contains(" +0000] \"GET /a?b="), "{line}");
    assert!(line.ends_with(" HTTP/1.1\" 200 5 \"http://a.test/\" \"curl/\\x228\""), "{line}");
    assert!(weir.reload(config(&origin).set("access_log.format", "common")));
    client.get("/");
    let line = lines(&weir, 2).remove(1);
    assert!(line.ends_with("] \"GET / HTTP/1.1\" 200 5"), "{line}");
}

#[test]
fn a_sample_of_the_access_log_keeps_every_fault_and_few_others() {
    let origin = Origin::start(|_| Reply::new(200, "hello"));
    let weir = Weir::start(config(&origin).set("access_log.sample", "0%").set("access_log.slow", "1m"));
    let mut client = Client::connect(weir.web());
    (0..20).for_each(|_| assert_eq!(client.get("/").status, 200));
    assert_eq!(client.get("/broken").status, 502);
    let lines = lines(&weir, 1);
    assert!(lines.len() == 1 && lines[0].contains("\"fault\":\"connect\""), "{lines:?}");
}
