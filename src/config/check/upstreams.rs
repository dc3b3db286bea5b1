//! `upstreams`: validation of backends, weights, protocols and limits.

use std::collections::HashMap;

use super::super::node::DocumentPath;
use super::super::schema::{Balance, Protocol, UpstreamSettings};
use super::super::values::BackendAddress;
use super::{Check, balance, discover, health, outlier, sticky, text};

/// Maximum number of backends in a backend list file.
const MAX_BACKENDS: usize = 4_096;

/// Maximum length of the weighted round robin sequence: the sum of weights divided by their greatest common divisor.
const MAX_SEQUENCE: u64 = 65_536;

pub(super) fn check(check: &mut Check<'_>) {
    for (name, upstream) in &check.document.upstreams {
        let at = DocumentPath::of("upstreams").key(name.as_str());
        if upstream.backends.is_empty() && !check.has(&at.key("discover"), upstream.discover.is_some()) {
            let here = if check.is_written(&at.key("backends")) { at.key("backends") } else { at.clone() };
            check.say(&here, "this upstream has no backend", "Write `backends: [{ address: \"10.0.0.1:3001\" }]`");
        }
        if let Some(source) = &upstream.discover {
            discover::check(check, &at.key("discover"), source, upstream);
        }
        members(check, &at.key("backends"), upstream);
        weights(check, &at, upstream);
        balance::check(check, &at, upstream);
        protocol(check, &at, upstream);
        send_proxy(check, &at, upstream);
        limits(check, &at, upstream);
        if let Some(rules) = upstream.outlier.rules() {
            outlier::check(check, &at.key("outlier"), rules);
        }
        if let Some(rules) = &upstream.sticky {
            sticky::check(check, &at.key("sticky"), rules, upstream);
        }
        if let Some(health) = &upstream.health_check {
            health::check(check, &at.key("health_check"), health, upstream);
        }
    }
}

/// Checks a backend list file with the settings of its upstream.
pub(super) fn list(check: &mut Check<'_>, upstream: &UpstreamSettings) {
    let at = DocumentPath::of("backends");
    if upstream.backends.is_empty() {
        let hint = "Write `[{ address: \"10.0.0.1:3001\" }]`; to take a backend out of service, drain it";
        check.say(&at, "there is no backend in this list", hint);
    }
    if upstream.backends.len() > MAX_BACKENDS {
        check.say(&at, format!("{} backends in one list", upstream.backends.len()), "Write at most 4096");
    }
    members(check, &at, upstream);
    weights(check, &DocumentPath::default(), upstream);
    let has_port = upstream.health_check.as_ref().is_some_and(|health| health.port.is_some());
    let sockets = upstream.backends.iter().enumerate().filter(|(_, b)| matches!(b.address, BackendAddress::Unix(_)));
    for (index, _) in sockets.filter(|_| has_port) {
        let here = at.index(index).key("address");
        check.say(
            &here,
            "a `unix:` socket has no port, and `health_check.port` probes one",
            "Leave it out of this list",
        );
    }
}

fn members(check: &mut Check<'_>, at: &DocumentPath, upstream: &UpstreamSettings) {
    let mut labels: HashMap<String, usize> = HashMap::new();
    let mut addresses = HashMap::new();
    for (index, backend) in upstream.backends.iter().enumerate() {
        let here = at.index(index);
        if let Some(first) = addresses.insert(&backend.address, index) {
            let address = here.key("address");
            let what = format!("{} is a backend already", check.quote(&address, &backend.address.to_string()));
            let line = check.line(&at.index(first));
            check.say(&address, what, format!("See line {line}: for a larger share give that one a `weight`"));
        } else if let Some(first) = labels.get(&backend.label()) {
            let named = if backend.name.is_some() { here.key("name") } else { here.key("address") };
            let what = format!("two backends are called {}", check.quote(&named, &backend.label()));
            let line = check.line(&at.index(*first));
            check.say(&named, what, format!("The other is in line {line}: give each its own name"));
        }
        labels.entry(backend.label()).or_insert(index);
        check.range(&here.key("weight"), backend.weight.into(), 0..=256);
    }
}

fn weights(check: &mut Check<'_>, at: &DocumentPath, upstream: &UpstreamSettings) {
    let weights: Vec<u64> = upstream.backends.iter().map(|b| b.weight.into()).collect();
    if weights.is_empty() || weights.iter().any(|w| *w > 256) {
        return;
    }
    let rests_on = [at.key("balance"), at.key("backends")];
    if upstream.balance == Balance::RoundRobin {
        for (index, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight != 1) {
            let here = at.key("backends").index(index).key("weight");
            let what = format!(
                "`round_robin` gives equal turns and cannot honour the weight {}",
                check.quote(&here, &weight.to_string())
            );
            check.say_given(&here, &rests_on[..1], what, "Write `balance: weighted_round_robin`");
        }
        return;
    }
    let sum: u64 = weights.iter().sum();
    if sum == 0 && check.has(&at.key("discover"), upstream.discover.is_some()) {
        return;
    }
    if sum == 0 {
        let hint = "Give at least one backend a weight of 1 or more";
        return check.say_given(&at.key("backends"), &rests_on, "all weights are 0: nothing would be served", hint);
    }
    let divisor = weights.iter().fold(0, |a, b| gcd(a, *b));
    if upstream.balance == Balance::WeightedRoundRobin && sum / divisor > MAX_SEQUENCE {
        let what = format!("the weights make a sequence of {} turns, more than {MAX_SEQUENCE}", sum / divisor);
        let hint = "Use smaller weights or ones with a common divisor, or `least_connections`";
        check.say_given(&at.key("backends"), &rests_on, what, hint);
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn limits(check: &mut Check<'_>, at: &DocumentPath, upstream: &UpstreamSettings) {
    let (most, here) = (at.key("max_in_flight"), at.key("queue"));
    check.range(&most, upstream.max_in_flight.into(), 0..=1_000_000);
    let Some(queue) = &upstream.queue else { return };
    check.range(&here.key("size"), queue.size.into(), 1..=1_000_000);
    if queue.timeout.limit().is_none() {
        check.say(&here.key("timeout"), "`timeout` cannot be 0", "Write a duration such as `2s`, or leave `queue` out");
    }
    if upstream.max_in_flight == 0 {
        let what = "nobody would ever wait: backends are full only where `max_in_flight` says so";
        check.say_given(&here, &[most], what, "Write `max_in_flight: 100`, or leave `queue` out");
    }
}

fn protocol(check: &mut Check<'_>, at: &DocumentPath, upstream: &UpstreamSettings) {
    let here = at.key("protocol");
    let with_tls = check.has(&at.key("tls"), upstream.tls.is_some());
    match upstream.protocol {
        Protocol::H2 if !with_tls => {
            let hint = "Write `tls: { server_name: … }`, or `h2c` for HTTP/2 without TLS";
            check.say_given(&here, &[at.key("tls")], "`h2` is HTTP/2 over TLS, and `tls` is not written", hint);
        }
        Protocol::H2c if with_tls => {
            check.say_given(&here, &[at.key("tls")], "`h2c` is HTTP/2 without TLS, and `tls` is written", "Write `h2`");
        }
        _ => {}
    }
    if let Some(tls) = &upstream.tls
        && text::bad_server_name(&tls.server_name)
    {
        let here = at.key("tls").key("server_name");
        let what = format!("{} is not a server's name", check.quote(&here, &tls.server_name));
        check.say(&here, what, "Write the name in its certificate, such as `api.internal`");
    }
}

/// A PROXY header names one client for its whole connection. It excludes HTTP/2 and connection reuse.
fn send_proxy(check: &mut Check<'_>, at: &DocumentPath, upstream: &UpstreamSettings) {
    if upstream.send_proxy.is_none() {
        return;
    }
    let (here, protocol, keep_alive) = (at.key("send_proxy"), at.key("protocol"), at.key("keep_alive"));
    if upstream.protocol != Protocol::Http1 {
        let what = "a PROXY header names one client for its connection, and HTTP/2 carries many clients on one";
        let hint =
            "Write `protocol: http1`, or leave `send_proxy` out: forwarded headers name the client of each request";
        check.say_given(&here, &[protocol], what, hint);
    } else if check.is_written(&keep_alive) {
        let what = "with `send_proxy` no connection is kept: the next client would go by the name of this one";
        check.say_given(&keep_alive, &[here], what, "Leave `keep_alive` out");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::super::tests::read;

    #[test]
    fn a_sequence_has_a_bound() {
        let of = |weight: &dyn Fn(usize) -> usize| {
            let backend = |n: usize| format!("    - address: 'h{n}:1'\n      weight: {}\n", weight(n));
            let backends: String = (0..300).map(backend).collect();
            let api = "upstreams:\n  api:\n    balance: weighted_round_robin\n    backends:\n";
            read(&format!("listeners: [address: '127.0.0.1:0']\n{api}{backends}"))
        };
        let problems = of(&|n| if n == 0 { 255 } else { 256 }).unwrap_err();
        assert_eq!(problems[0].what, "the weights make a sequence of 76799 turns, more than 65536");
        assert!(of(&|_| 256).is_ok(), "a common divisor is taken out");
    }
}
