//! `upstreams.*`: validation of balancer settings (`hash`, `ewma`) and tiers. `upstreams` checks the weights.

use super::super::node::DocumentPath;
use super::super::schema::{Balance, Hash, UpstreamSettings};
use super::Check;

pub(super) fn check(check: &mut Check<'_>, at: &DocumentPath, upstream: &UpstreamSettings) {
    belongs(check, at, upstream);
    if let Some(hash) = &upstream.hash {
        one_key(check, &at.key("hash"), hash);
        names(check, &at.key("hash"), hash);
    }
    if let Some(ewma) = &upstream.ewma {
        let millis = ewma.decay.get().as_millis();
        if !(100..=3_600_000).contains(&millis) {
            let here = at.key("ewma").key("decay");
            let what = format!("{} is out of range", check.quote(&here, &ewma.decay.to_string()));
            check.say(&here, what, "Write `100ms` to `1h`");
        }
    }
    tiers(check, at, upstream);
}

/// No setting is silently ignored: `hash` and `ewma` need their balancer, and `consistent_hash` needs `hash`.
fn belongs(check: &mut Check<'_>, at: &DocumentPath, upstream: &UpstreamSettings) {
    let (balance, hash, ewma) = (at.key("balance"), at.key("hash"), at.key("ewma"));
    if upstream.balance == Balance::ConsistentHash && !check.has(&hash, upstream.hash.is_some()) {
        let hint = "Write `hash: { header: x-user }`, or `cookie`, `query`, `path: {}`, `host: {}` or `client: {}`";
        check.say_given(&balance, &[hash], "`consistent_hash` has nothing to go by", hint);
    } else if upstream.balance != Balance::ConsistentHash && upstream.hash.is_some() {
        let what = "`hash` is for `consistent_hash` and does nothing here";
        check.say_given(
            &hash,
            std::slice::from_ref(&balance),
            what,
            "Write `balance: consistent_hash`, or leave it out",
        );
    }
    if upstream.balance != Balance::PeakEwma && upstream.ewma.is_some() {
        let what = "`ewma` is for `peak_ewma` and does nothing here";
        check.say_given(&ewma, &[balance], what, "Write `balance: peak_ewma`, or leave it out");
    }
}

fn one_key(check: &mut Check<'_>, at: &DocumentPath, hash: &Hash) {
    let keys = [
        ("header", hash.header.is_some()),
        ("cookie", hash.cookie.is_some()),
        ("query", hash.query.is_some()),
        ("path", hash.path.is_some()),
        ("host", hash.host.is_some()),
        ("client", hash.client.is_some()),
    ];
    let places = keys.map(|(key, _)| at.key(key));
    let written: Vec<_> = keys.iter().filter(|(key, there)| check.has(&at.key(key), *there)).collect();
    match written[..] {
        [] => {
            let hint = "Write one of `header`, `cookie`, `query`, `path: {}`, `host: {}` and `client: {}`";
            check.say_given(at, &places, "nothing to hash", hint);
        }
        [_] => {}
        [first, second, ..] => {
            let what = format!("`{}` and `{}` in one hash", first.0, second.0);
            check.say(&at.key(second.0), what, "Keep one of them");
        }
    }
    let factor = at.key("load_factor");
    if let Some(number) = hash.load_factor.filter(|number| !(1.0..=10.0).contains(number)) {
        let what = format!("{} is out of range", check.quote(&factor, &number.to_string()));
        check.say(&factor, what, "Write 1 to 10, such as `1.25`");
    }
}

fn names(check: &mut Check<'_>, at: &DocumentPath, hash: &Hash) {
    if let Some(header) = &hash.header {
        let here = at.key("header");
        if http::HeaderName::from_bytes(header.as_bytes()).is_err() {
            let what = format!("{} is not a header name", check.quote(&here, header));
            check.say(&here, what, "Use letters, digits and `-`");
        }
    }
    for (key, name) in [("cookie", &hash.cookie), ("query", &hash.query)] {
        let Some(name) = name else { continue };
        let here = at.key(key);
        let plain = |b: u8| b.is_ascii_graphic() && !b"=;,&#\"\\".contains(&b);
        if name.is_empty() || !name.bytes().all(plain) {
            let what = format!("{} is no name", check.quote(&here, name));
            check.say(&here, what, "Write a name as it stands in requests, such as `user`");
        }
    }
}

fn tiers(check: &mut Check<'_>, at: &DocumentPath, upstream: &UpstreamSettings) {
    let here = at.key("tier_min_up");
    // Backends found by `dns` are in tier 0. SRV records and files set the tier themselves.
    let found = upstream.discover.as_ref().map(|source| source.dns.is_some().then_some(0));
    let mut tiers = upstream.backends.iter().map(|backend| Some(backend.tier)).chain(found);
    let first = tiers.next();
    let one_tier = first != Some(None) && tiers.all(|tier| Some(tier) == first);
    if upstream.tier_min_up.fraction() > 0.0 && one_tier {
        let what = "`tier_min_up` does nothing: all backends are of one tier";
        check.say_given(&here, &[at.key("backends")], what, "Write `tier: 1` with those that take over");
    }
}
