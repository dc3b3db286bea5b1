//! `listeners` and `admin.address`: validation of names, addresses, limits and timeouts.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::super::node::DocumentPath;
use super::super::schema::ListenerConfig;
use super::{Check, tls};

pub(super) fn check(check: &mut Check<'_>) {
    let listeners = &check.document.listeners;
    if listeners.is_empty() {
        let hint = "Write at least `listeners: [{ address: \"0.0.0.0:8080\" }]`";
        check.say(&DocumentPath::of("listeners"), "there is no listener: nothing would be served", hint);
    }
    names(check);
    addresses(check);
    for (index, listener) in listeners.iter().enumerate() {
        let at = DocumentPath::of("listeners").index(index);
        limits(check, &at, listener);
        tls::check(check, &at, listener);
        check_proxy_protocol(check, &at, listener);
    }
}

fn names(check: &mut Check<'_>) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (index, listener) in check.document.listeners.iter().enumerate() {
        // A duplicate address without names is reported by `addresses`.
        if listener.name.is_none() {
            continue;
        }
        let at = DocumentPath::of("listeners").index(index).key("name");
        if let Some(first) = seen.insert(listener.label(), index) {
            let line = check.line(&DocumentPath::of("listeners").index(first));
            let what = format!("two listeners are called {}", check.quote(&at, &listener.label()));
            check.say(&at, what, format!("The other is in line {line}: give each its own name"));
        }
    }
}

fn addresses(check: &mut Check<'_>) {
    let admin = DocumentPath::of("admin").key("address");
    let listeners = check.document.listeners.iter().enumerate();
    let admin_socket = check.document.admin.settings().and_then(|settings| settings.address.socket());
    let mut bound: Vec<_> = admin_socket.map(|address| (admin.clone(), address)).into_iter().collect();
    for (index, listener) in listeners {
        let at = DocumentPath::of("listeners").index(index).key("address");
        if let Some((other, _)) = bound.iter().find(|(_, address)| overlap(*address, listener.address)) {
            let what = if *other == admin {
                "the admin address listens here already".to_owned()
            } else {
                format!("the listener in line {} takes this address already", check.line(other))
            };
            check.say_given(&at, std::slice::from_ref(other), what, "Write another port or IP");
        }
        bound.push((at, listener.address));
        if bound.len() > 1024 {
            return check.say(&DocumentPath::of("listeners"), "more than 1024 listeners", "");
        }
    }
}

/// Whether two sockets cannot both be bound: the same port, and the same IP or a wildcard that covers it.
pub fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |wide: IpAddr, other: IpAddr| match wide {
        IpAddr::V6(ip) if ip.is_unspecified() => true,
        IpAddr::V4(ip) if ip.is_unspecified() => other.is_ipv4(),
        _ => false,
    };
    let (ip_a, ip_b) = (a.ip().to_canonical(), b.ip().to_canonical());
    // Each bind to port 0 gets another free port.
    a.port() == b.port() && a.port() != 0 && (ip_a == ip_b || covers(ip_a, ip_b) || covers(ip_b, ip_a))
}

/// With an empty `trusted_proxies`, every connection with a PROXY header would be closed.
fn check_proxy_protocol(check: &mut Check<'_>, at: &DocumentPath, listener: &ListenerConfig) {
    let (here, trusted) = (at.key("proxy_protocol"), DocumentPath::of("trusted_proxies"));
    if listener.proxy_protocol && check.document.trusted_proxies.is_empty() {
        let what = "`trusted_proxies` is empty: nobody's PROXY header would be believed, and every connection closed";
        let hint = "Write the proxies' networks, such as `trusted_proxies: [10.0.0.0/8]`";
        check.say_given(&here, &[trusted], what, hint);
    }
}

fn limits(check: &mut Check<'_>, at: &DocumentPath, listener: &ListenerConfig) {
    let (limits, timeouts) = (&listener.limits, &listener.timeouts);
    let below = at.key("limits");
    check.range(&below.key("headers"), limits.headers as u64, 1..=250);
    check.range(&below.key("streams"), limits.streams.into(), 1..=10_000);
    if !listener.http2 && check.is_written(&below.key("streams")) {
        let what = "HTTP/1.1 has no streams, and `http2` is off";
        check.say_given(&below.key("streams"), &[at.key("http2")], what, "Leave `streams` out, or write `http2: true`");
    }
    for (key, size, least) in [("header_bytes", limits.header_bytes, 1024), ("uri_bytes", limits.uri_bytes, 1)] {
        if !(least..=1 << 20).contains(&size.get()) {
            let what = format!("{} is out of range", check.quote(&below.key(key), &size.to_string()));
            check.say(&below.key(key), what, format!("Write {} to 1MiB", if least == 1 { "1B" } else { "1KiB" }));
        }
    }
    for (key, period) in [("header", timeouts.header), ("idle", timeouts.idle), ("handshake", timeouts.handshake)] {
        if period.limit().is_none() {
            let what = "this deadline cannot be off: a silent client would hold its connection forever";
            check.say(&at.key("timeouts").key(key), what, "Write a duration such as `10s`");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover() {
        let overlaps = |a: &str, b: &str| overlap(a.parse().unwrap(), b.parse().unwrap());
        assert!(overlaps("0.0.0.0:80", "127.0.0.1:80") && overlaps("127.0.0.1:80", "0.0.0.0:80"));
        assert!(overlaps("[::]:80", "127.0.0.1:80") && overlaps("[::]:80", "0.0.0.0:80"));
        assert!(overlaps("[::ffff:127.0.0.1]:80", "127.0.0.1:80"));
        assert!(!overlaps("0.0.0.0:80", "[::1]:80") && !overlaps("0.0.0.0:80", "0.0.0.0:81"));
        assert!(!overlaps("127.0.0.1:0", "127.0.0.1:0"));
    }
}
