//! `upstreams.*.discover`: validation of source, port and times. `upstreams::list` checks the content of a backend list
//! file.

use super::super::node::DocumentPath;
use super::super::schema::{Balance, Discover, UpstreamSettings};
use super::Check;

pub(super) fn check(check: &mut Check<'_>, at: &DocumentPath, source: &Discover, upstream: &UpstreamSettings) {
    one_source(check, at, source);
    port(check, at, source);
    times(check, at, source);
    if source.file.is_some() && source.dns.is_none() && source.srv.is_none() {
        asks_nobody(check, at);
    }
    if source.srv.is_some() && upstream.balance == Balance::RoundRobin {
        let balance = at.parent().key("balance");
        let what = "`round_robin` gives equal turns and cannot honour the weights of SRV records";
        check.say_given(&at.key("srv"), &[balance], what, "Write `balance: weighted_round_robin`");
    }
}

fn one_source(check: &mut Check<'_>, at: &DocumentPath, source: &Discover) {
    let keys = [("dns", source.dns.is_some()), ("srv", source.srv.is_some()), ("file", source.file.is_some())];
    let places = keys.map(|(key, _)| at.key(key));
    let written: Vec<_> = keys.iter().filter(|(key, there)| check.has(&at.key(key), *there)).collect();
    match written[..] {
        [] => {
            let hint =
                "Write `dns: api.internal` with `port: 3001`, `srv: _http._tcp.api.internal` or `file: backends.yaml`";
            check.say_given(at, &places, "nowhere to find backends", hint);
        }
        [_] => {}
        [first, second, ..] => {
            let what = format!("`{}` and `{}` in one place", first.0, second.0);
            check.say(&at.key(second.0), what, "Keep one of them");
        }
    }
}

fn port(check: &mut Check<'_>, at: &DocumentPath, source: &Discover) {
    let here = at.key("port");
    match source.port {
        Some(port) if source.dns.is_some() => check.range(&here, port.into(), 1..=65_535),
        Some(_) if source.srv.is_some() || source.file.is_some() => {
            let what = "`port` is for `dns`: SRV records and files have ports of their own";
            check.say_given(&here, &[at.key("dns")], what, "Leave `port` out");
        }
        None if source.dns.is_some() => {
            let hint = "Write `port: 3001`; a name that has SRV records is written `srv: _http._tcp.api.internal`";
            check.say_given(&at.key("dns"), &[here], "a name has addresses, and no port", hint);
        }
        _ => {}
    }
}

fn times(check: &mut Check<'_>, at: &DocumentPath, source: &Discover) {
    let (least, most) = (at.key("min_ttl"), at.key("max_ttl"));
    for (here, period) in [(&least, source.min_ttl), (&most, source.max_ttl)] {
        if !(100..=86_400_000).contains(&period.get().as_millis()) {
            let what = format!("{} is out of range", check.quote(here, &period.to_string()));
            check.say(here, what, "Write `100ms` to `24h`");
        }
    }
    if source.min_ttl > source.max_ttl {
        let here = if check.is_written(&least) { &least } else { &most };
        let words = [(&least, source.min_ttl), (&most, source.max_ttl)]
            .map(|(here, period)| check.quote(here, &period.to_string()));
        let what = format!("`min_ttl` ({}) is longer than `max_ttl` ({})", words[0], words[1]);
        check.say_given(here, &[least.clone(), most.clone()], what, "Make `max_ttl` the longer one");
    }
}

/// No setting is silently ignored: DNS settings do not apply to a file.
fn asks_nobody(check: &mut Check<'_>, at: &DocumentPath) {
    for key in ["resolver", "min_ttl", "max_ttl"] {
        let here = at.key(key);
        if check.is_written(&here) {
            let what = format!("`{key}` is for names and does nothing beside `file`");
            check.say_given(&here, &[at.key("file")], what, "Leave it out: a file is read when it changes");
        }
    }
}
