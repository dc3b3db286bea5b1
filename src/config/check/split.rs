//! `routes[].split`: validation of targets and of the key of a sticky split.

use std::collections::BTreeMap;

use http::HeaderName;

use super::super::node::DocumentPath;
use super::super::schema::{SplitKey, SplitSettings};
use super::super::values::{Name, Period};
use super::references::upstream;
use super::{Check, sticky};

pub(super) fn check(check: &mut Check<'_>, at: &DocumentPath, split: &SplitSettings) {
    let targets = if split.by.is_some() { at.key("targets") } else { at.clone() };
    let mut seen: BTreeMap<&Name, usize> = BTreeMap::new();
    for (index, share) in split.targets.iter().enumerate() {
        let here = targets.index(index).key("upstream");
        upstream(check, &here, &share.upstream);
        if let Some(first) = seen.insert(&share.upstream, index) {
            let what = format!("{} has a share already", check.quote(&here, share.upstream.as_str()));
            check.say(&here, what, format!("Add its weights up in line {}", check.line(&targets.index(first))));
        }
    }
    if split.targets.is_empty() {
        check.say(&targets, "a split without a share", "Write `- { upstream: NAME, weight: 1 }`");
    } else if split.targets.iter().all(|share| share.weight == 0) {
        check.say(&targets, "all weights are 0", "Give at least one upstream a weight of 1 or more");
    }
    if let Some(by) = &split.by {
        key(check, &at.key("by"), by);
    }
}

fn key(check: &mut Check<'_>, at: &DocumentPath, by: &SplitKey) {
    let set = [("cookie", by.cookie.is_some()), ("header", by.header.is_some()), ("client", by.client.is_some())];
    let written: Vec<&str> =
        set.into_iter().filter(|(key, set)| check.has(&at.key(key), *set)).map(|(key, _)| key).collect();
    match written.as_slice() {
        [] => check.say(at, "no key is written", "Write one of `cookie`, `header` and `client`"),
        [_] => {}
        [first, rest @ ..] => {
            let what = format!("`{first}` and `{}` in one key", rest.join("` and `"));
            check.say(&at.key(rest[0]), what, "A user has one key: keep one of them");
        }
    }
    if let Some(name) = &by.cookie {
        sticky::cookie_name(check, &at.key("cookie"), name);
    }
    if let Some(name) = by.header.as_deref().filter(|name| HeaderName::from_bytes(name.as_bytes()).is_err()) {
        let here = at.key("header");
        check.say(&here, format!("{} is not a header name", check.quote(&here, name)), "Use letters, digits and `-`");
    }
    let here = at.key("ttl");
    match by.ttl {
        Some(_) if by.cookie.is_none() => {
            check.say(&here, "`ttl` without `cookie`", "Weir sets a cookie only: leave it out")
        }
        Some(ttl) if ttl < Period::from_secs(1) => {
            let what = format!("{} is too short for a cookie", check.quote(&here, &ttl.to_string()));
            check.say(&here, what, "Write at least `1s`, such as `720h`");
        }
        _ => {}
    }
}
