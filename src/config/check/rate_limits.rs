//! `rate_limits` and `stores`: validation of rates, keys, costs and references.

use std::collections::BTreeSet;

use super::super::node::{DocumentPath, Node};
use super::super::problem::did_you_mean;
use super::super::schema::{LimitCost, LimitKey, MissingKey, RateLimitSettings, StoreSettings};
use super::super::values::{MAX_TOKENS, Name, RedisTarget};
use super::{Check, text};

pub(super) fn check(check: &mut Check<'_>) {
    for (name, limit) in &check.document.rate_limits {
        let at = DocumentPath::of("rate_limits").key(name.as_str());
        rate(check, &at, limit);
        key(check, &at.key("key"), &limit.key);
        cost(check, &at, limit);
        if limit.key == LimitKey::Client && limit.missing != MissingKey::Skip {
            let what = "every request has a client, so `missing` has no effect";
            check.say_given(&at.key("missing"), &[at.key("key")], what, "Leave it out");
        }
        if let Some(shared) = &limit.shared {
            refers_to(check, &at.key("shared").key("store"), &shared.store, "stores", "store");
        }
    }
    for (name, store) in &check.document.stores {
        stores(check, &DocumentPath::of("stores").key(name.as_str()), store);
    }
    for (index, route) in check.document.routes.iter().enumerate() {
        let at = DocumentPath::of("routes").index(index).key("rate_limits");
        references(check, &at, &route.rate_limits, "rate_limits", "rate limit");
    }
}

fn rate(check: &mut Check<'_>, at: &DocumentPath, limit: &RateLimitSettings) {
    check.range(&at.key("concurrent"), limit.concurrent.into(), 0..=1_000_000);
    check.range(&at.key("keys"), limit.keys as u64, 1..=10_000_000);
    check.range(&at.key("ipv6_prefix"), limit.ipv6_prefix.into(), 0..=128);
    if let Some(burst) = limit.burst {
        check.range(&at.key("burst"), burst, 1..=MAX_TOKENS);
    }
    if check.has(&at.key("rate"), limit.rate.is_some()) {
        return;
    }
    if !check.has(&at.key("concurrent"), limit.concurrent > 0) {
        let hint = "Write `rate: 100/1m`, or `concurrent: 10`";
        check.say(at, "this limit limits nothing: it has neither `rate` nor `concurrent`", hint);
        return;
    }
    let set = [limit.burst.is_some(), limit.cost != LimitCost::Fixed(1), limit.shared.is_some()];
    for (name, _) in ["burst", "cost", "shared"].into_iter().zip(set).filter(|(_, set)| *set) {
        check.say(
            &at.key(name),
            format!("`{name}` has no effect without `rate`"),
            "Write `rate: 100/1m`, or leave it out",
        );
    }
}

fn key(check: &mut Check<'_>, at: &DocumentPath, key: &LimitKey) {
    match key {
        LimitKey::Header(name) => header_name(check, &at.key("header"), name),
        LimitKey::Cookie(name) if !is_token(name) => {
            let what = format!("{} is not a cookie's name", check.quote(&at.key("cookie"), name));
            check.say(&at.key("cookie"), what, "Use letters, digits, `-` and `_`, such as `session`");
        }
        LimitKey::Claim(name) if name.is_empty() => {
            check.say(&at.key("claim"), "a claim has a name", "Write a name such as `sub`");
        }
        _ => {}
    }
}

/// Reports a name that is not the name of a header field.
pub(super) fn header_name(check: &mut Check<'_>, at: &DocumentPath, name: &str) {
    if !is_token(name) {
        let what = format!("{} is not the name of a header field", check.quote(at, name));
        check.say(at, what, "Write a name such as `x-api-key`");
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn cost(check: &mut Check<'_>, at: &DocumentPath, limit: &RateLimitSettings) {
    let (here, reserve) = (at.key("cost"), at.key("reserve"));
    match &limit.cost {
        LimitCost::Fixed(tokens) => {
            check.range(&here, *tokens, 1..=MAX_TOKENS);
            if limit.reserve.is_some() {
                let what = "`reserve` has no effect: the cost is known at admission";
                check.say_given(&reserve, std::slice::from_ref(&here), what, "Leave it out");
            }
        }
        LimitCost::ResponseHeader(name) => header_name(check, &here.key("response_header"), name),
        LimitCost::ResponseJson(pointer) => {
            let here = here.key("response_json");
            if !pointer.starts_with('/') || pointer.len() == 1 {
                let what = format!("{} is not a JSON pointer", check.quote(&here, pointer));
                check.say(&here, what, "Write a pointer such as `/usage/total_tokens`");
            }
        }
    }
    if let Some(tokens) = limit.reserve {
        check.range(&reserve, tokens, 1..=MAX_TOKENS);
    }
    if limit.rate.is_some() && limit.burst() > 0 && limit.reserve() > limit.burst() {
        let (place, name) = match limit.cost {
            LimitCost::Fixed(_) => (here, "cost"),
            _ => (reserve, "reserve"),
        };
        let what = format!("`{name}` ({}) is larger than the burst ({})", limit.reserve(), limit.burst());
        let hint = "No request would ever be admitted: make `burst` larger";
        check.say_given(&place, &[at.key("burst"), at.key("rate")], what, hint);
    }
}

fn stores(check: &mut Check<'_>, at: &DocumentPath, store: &StoreSettings) {
    let timeout = at.key("timeout");
    if !(1..=10_000).contains(&store.timeout.get().as_millis()) {
        let what = format!("{} is out of range", check.quote(&timeout, &store.timeout.to_string()));
        check.say(&timeout, what, "Write `1ms` to `10s`");
    }
    let Some(tls) = &store.tls else { return };
    let here = at.key("tls");
    if !matches!(store.redis.target, RedisTarget::Tcp { tls: true, .. }) {
        let what = "`tls` has no effect: the URL does not begin with `rediss://`";
        check.say_given(&here, &[at.key("redis")], what, "Write `rediss://` in `redis`, or leave `tls` out");
    }
    if let Some(name) = tls.server_name.as_ref().filter(|name| text::bad_server_name(name)) {
        let what = format!("{} is not the name of a server", check.quote(&here.key("server_name"), name));
        check.say(&here.key("server_name"), what, "Write a name such as `cache.internal`");
    }
}

/// Reports names of a list that a section does not define, and names that are listed twice.
pub(super) fn references(check: &mut Check<'_>, at: &DocumentPath, names: &[Name], section: &'static str, kind: &str) {
    let mut seen = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        let here = at.index(index);
        if seen.insert(name) {
            refers_to(check, &here, name, section, kind);
        } else {
            check.say(&here, format!("{} is listed twice", check.quote(&here, name.as_str())), "Keep one");
        }
    }
}

/// Reports a name that a section does not define.
pub(super) fn refers_to(check: &mut Check<'_>, at: &DocumentPath, name: &Name, section: &'static str, kind: &str) {
    let all = DocumentPath::of(section);
    // A section that was rejected as a whole is reported already.
    if check.tree.find(&all).node.is_some_and(Node::is_pruned) {
        return;
    }
    let known = check.keys(&all);
    if known.iter().any(|key| key == name.as_str()) {
        return;
    }
    let what = format!("there is no {kind} {}", check.quote(at, name.as_str()));
    let hint = match known.is_empty() {
        true => format!("Define it in `{section}`"),
        false => did_you_mean(name.as_str(), known.iter().map(String::as_str)),
    };
    check.say(at, what, hint);
}
