//! `upstreams.*.health_check`: validation of the kind of check, its times, port, request and body condition.

use super::super::node::DocumentPath;
use super::super::schema::{HealthCheck, HttpCheck, Protocol, UpstreamSettings};
use super::super::values::BackendAddress;
use super::headers::{self, Use};
use super::{Check, text};

pub(super) fn check(check: &mut Check<'_>, at: &DocumentPath, health: &HealthCheck, upstream: &UpstreamSettings) {
    one_kind(check, at, health);
    grpc(check, at, health, upstream);
    times(check, at, health);
    port(check, at, health, upstream);
    if let Some(http) = &health.http {
        request(check, &at.key("http"), http);
        body(check, &at.key("http"), http);
    }
}

fn one_kind(check: &mut Check<'_>, at: &DocumentPath, health: &HealthCheck) {
    let kinds = [("http", health.http.is_some()), ("tcp", health.tcp.is_some()), ("grpc", health.grpc.is_some())];
    let written: Vec<&str> = kinds.iter().filter(|(key, here)| check.has(&at.key(key), *here)).map(|k| k.0).collect();
    match written[..] {
        [] => {
            let keys = kinds.map(|(key, _)| at.key(key));
            check.say_given(at, &keys, "no kind of check", "Write `http: { path: /healthz }`, `tcp: {}` or `grpc: {}`");
        }
        [_] => {}
        [first, .., last] => {
            check.say(&at.key(last), format!("`{first}` and `{last}` in one check"), "Keep one of them");
        }
    }
}

fn grpc(check: &mut Check<'_>, at: &DocumentPath, health: &HealthCheck, upstream: &UpstreamSettings) {
    if health.grpc.is_some() && upstream.protocol == Protocol::Http1 {
        let protocol = at.parent().key("protocol");
        let what = "gRPC is spoken over HTTP/2, and these backends are spoken to in HTTP/1.1";
        let hint = "Write `protocol: h2c`, or `h2` with `tls`, or check them with `http` or `tcp`";
        check.say_given(&at.key("grpc"), &[protocol], what, hint);
    }
}

fn times(check: &mut Check<'_>, at: &DocumentPath, health: &HealthCheck) {
    for (key, period) in [("interval", health.interval), ("timeout", health.timeout)] {
        if period.limit().is_none() {
            check.say(&at.key(key), format!("`{key}` cannot be 0"), "Write a duration such as `1s`");
        }
    }
    if health.timeout > health.interval && health.interval.limit().is_some() {
        let (timeout, interval) = (at.key("timeout"), at.key("interval"));
        let here = if check.is_written(&timeout) { &timeout } else { &interval };
        let words =
            (check.quote(&timeout, &health.timeout.to_string()), check.quote(&interval, &health.interval.to_string()));
        let what = format!("`timeout` ({}) is longer than `interval` ({}): probes would overlap", words.0, words.1);
        check.say_given(here, &[timeout.clone(), interval.clone()], what, "Make the interval the longer one");
    }
    for (key, count) in [("rise", health.rise), ("fall", health.fall)] {
        check.range(&at.key(key), count.into(), 1..=1000);
    }
}

fn port(check: &mut Check<'_>, at: &DocumentPath, health: &HealthCheck, upstream: &UpstreamSettings) {
    let here = at.key("port");
    let Some(port) = health.port else { return };
    check.range(&here, port.into(), 1..=65_535);
    if upstream.backends.iter().any(|b| matches!(b.address, BackendAddress::Unix(_))) {
        check.say(&here, "a backend of this upstream is a `unix:` socket and has no port", "Leave `port` out");
    }
}

fn request(check: &mut Check<'_>, at: &DocumentPath, http: &HttpCheck) {
    let path = at.key("path");
    let target = http.path.split('?').next().unwrap_or_default();
    if let Some(wrong) = text::bad_path(target) {
        check.say(&path, format!("{} {wrong}", check.quote(&path, &http.path)), "Write a path such as `/healthz`");
    } else if http.path.parse::<http::uri::PathAndQuery>().is_err() {
        let what = format!("{} is not a request target", check.quote(&path, &http.path));
        check.say(&path, what, "Percent-encode what is not a letter, a digit or punctuation");
    }
    if let Some(host) = http.host.as_deref().filter(|host| text::bad_host(host)) {
        let here = at.key("host");
        check.say(&here, format!("{} is not a host", check.quote(&here, host)), "Write a name such as `api.internal`");
    }
    if !matches!(http.method.as_http().as_str(), "GET" | "HEAD" | "OPTIONS" | "POST") {
        let here = at.key("method");
        let what = format!("{} is no method for a probe", check.quote(&here, &http.method.to_string()));
        check.say(&here, what, "Write GET, HEAD, OPTIONS or POST");
    }
    if http.status.is_empty() {
        check.say(&at.key("status"), "no status would pass", "Write `[200-299]`, or leave the key out");
    }
    headers::fields(check, &at.key("headers"), &http.headers, Use::Requested);
}

fn body(check: &mut Check<'_>, at: &DocumentPath, http: &HttpCheck) {
    let Some(body) = &http.body else { return };
    let here = at.key("body");
    let kinds = [here.key("contains"), here.key("regex")];
    match [check.has(&kinds[0], body.contains.is_some()), check.has(&kinds[1], body.regex.is_some())] {
        [true, true] => check.say(&kinds[1], "`contains` and `regex` in one check", "Keep one of them"),
        [false, false] => {
            check.say_given(&here, &kinds, "nothing to look for", "Write `contains: TEXT` or `regex: PATTERN`")
        }
        _ => {}
    }
    if body.contains.as_deref() == Some("") {
        check.say(&kinds[0], "every body contains nothing", "Write a text, or leave `body` out");
    }
    if http.method.as_http() == http::Method::HEAD {
        check.say(&here, "a response to HEAD has no body", "Write `method: GET`, or leave `body` out");
    }
}
