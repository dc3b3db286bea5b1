//! `routes`: validation of names, actions and references. `route_match` checks their conditions.

use std::collections::HashMap;

use super::super::defaults::PROXYING;
use super::super::node::DocumentPath;
use super::super::redirect_file::REDIRECT_STATUSES;
use super::super::schema::{HostRule, RedirectSettings, RespondSettings, Retry, RouteSettings};
use super::super::values::Period;
use super::headers::{self, Use};
use super::references::upstream;
use super::{Check, compress, cors, errors, maintenance, mirror, split, templates, text};

const ACTIONS: [&str; 4] = ["upstream", "split", "redirect", "respond"];

pub(super) fn check(check: &mut Check<'_>) {
    names(check);
    for (index, route) in check.document.routes.iter().enumerate() {
        let at = DocumentPath::of("routes").index(index);
        action(check, &at, route);
        if let Some(redirect) = &route.redirect {
            redirects(check, &at.key("redirect"), redirect);
        }
        if let Some(respond) = &route.respond {
            responds(check, &at.key("respond"), respond);
        }
        if let Some(name) = &route.upstream {
            upstream(check, &at.key("upstream"), name);
        }
        if let Some(split) = &route.split {
            split::check(check, &at.key("split"), split);
        }
        if let Some(mirror) = &route.mirror {
            mirror::check(check, &at.key("mirror"), mirror, route);
        }
        if let Some(list) = &route.redirects {
            redirect_status(check, &at.key("redirects").key("status"), list.status);
        }
        rewrites(check, &at, route);
        headers::edits(check, &at.key("request_headers"), &route.request_headers, Use::Requested);
        headers::edits(check, &at.key("response_headers"), &route.response_headers, Use::Answered);
        retries(check, &at.key("retry"), &route.retry);
        cors::check(check, &at, route);
        errors::check(check, &at, route);
        maintenance::check(check, &at.key("maintenance"), &route.maintenance);
        if let Some(settings) = route.compress.settings() {
            compress::check(check, &at.key("compress"), settings);
        }
    }
}

fn retries(check: &mut Check<'_>, at: &DocumentPath, retry: &Retry) {
    check.range(&at.key("attempts"), retry.attempts.into(), 1..=16);
    check.range(&at.key("floor"), retry.floor.into(), 0..=1_000_000);
    if retry.backoff > Period::from_secs(10) {
        let here = at.key("backoff");
        let what = format!("{} is longer than any try waits", check.quote(&here, &retry.backoff.to_string()));
        check.say(&here, what, "Write at most `10s`");
    }
}

fn names(check: &mut Check<'_>) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (index, route) in check.document.routes.iter().enumerate() {
        let at = DocumentPath::of("routes").index(index);
        let label = route.label(index);
        let named = if route.name.is_some() { at.key("name") } else { at };
        if label == "-" {
            check.say(&named, "`-` stands for no route in metrics", "Give it another name");
        }
        if let Some(first) = seen.insert(label, index) {
            let line = check.line(&DocumentPath::of("routes").index(first));
            let what = format!("two routes are called {}", check.quote(&named, &route.label(index)));
            check.say(&named, what, format!("The other is in line {line}: give each its own name"));
        }
    }
}

fn action(check: &mut Check<'_>, at: &DocumentPath, route: &RouteSettings) {
    let set = [route.upstream.is_some(), route.split.is_some(), route.redirect.is_some(), route.respond.is_some()];
    let pairs = ACTIONS.into_iter().zip(set);
    let written: Vec<&str> = pairs.filter(|(key, set)| check.has(&at.key(key), *set)).map(|(key, _)| key).collect();
    match written.as_slice() {
        [] => check.say(at, "this route does nothing", "Write one of `upstream`, `split`, `redirect` and `respond`"),
        [one @ ("redirect" | "respond")] => {
            for key in PROXYING {
                if is_set(route, key) {
                    let what = format!("`{key}` has no effect beside `{one}`");
                    check.say(&at.key(key), what, "It is for requests that go to an upstream: leave it out");
                }
            }
        }
        [_] => {}
        [first, rest @ ..] => {
            let what = format!("`{first}` and `{}` in one route", rest.join("` and `"));
            check.say(&at.key(rest[0]), what, "A route does one thing: keep one of them");
        }
    }
    if let HostRule::Name(name) = &route.host {
        let here = at.key("host");
        let keyword = ["keep", "backend"].into_iter().find(|word| name.eq_ignore_ascii_case(word));
        if let Some(word) = keyword {
            check.say(
                &here,
                format!("{} is taken for a name", check.quote(&here, name)),
                format!("Did you mean `{word}`?"),
            );
        } else if text::bad_host(name) {
            let what = format!("{} is not a host", check.quote(&here, name));
            check.say(&here, what, "Write `keep`, `backend` or a name such as `api.internal`");
        }
    }
}

/// Whether one of `PROXYING` differs from its default.
fn is_set(route: &RouteSettings, key: &str) -> bool {
    let default = RouteSettings::default();
    match key {
        "rewrite" => route.rewrite != default.rewrite,
        "host" => route.host != default.host,
        "request_headers" => route.request_headers != default.request_headers,
        "mirror" => route.mirror.is_some(),
        "timeouts" => route.timeouts != default.timeouts,
        _ => route.retry != default.retry,
    }
}

fn redirects(check: &mut Check<'_>, at: &DocumentPath, redirect: &RedirectSettings) {
    let to = at.key("to");
    redirect_status(check, &at.key("status"), redirect.status);
    let text = redirect.to.as_str();
    if !(text.starts_with(['/', '{']) || text.contains("://")) {
        let hint = "Write `https://{hostname}{path}{query}` or a path that starts with `/`";
        check.say(&to, format!("{} leads nowhere", check.quote(&to, text)), hint);
    } else if http::HeaderValue::from_str(text).is_err() || text.contains(' ') {
        check.say(&to, "a Location has no spaces and no control characters", "Percent-encode them");
    }
    templates::location(check, &to, text);
}

fn redirect_status(check: &mut Check<'_>, at: &DocumentPath, status: u16) {
    if !REDIRECT_STATUSES.contains(&status) {
        let what = format!("{} is not a redirect's status", check.quote(at, &status.to_string()));
        check.say(at, what, "Write 301, 302, 303, 307 or 308");
    }
}

fn responds(check: &mut Check<'_>, at: &DocumentPath, respond: &RespondSettings) {
    check.range(&at.key("status"), respond.status.into(), 200..=599);
    let file = at.key("body_file");
    if matches!(respond.status, 204 | 205 | 304) {
        let what = format!("a response {} has no body", check.quote(&at.key("status"), &respond.status.to_string()));
        if !respond.body.is_empty() {
            check.say(&at.key("body"), what, "Leave `body` out, or write another status");
        } else if respond.body_file.is_some() {
            check.say(&file, what, "Leave `body_file` out, or write another status");
        }
    }
    if respond.body_file.is_some() && !respond.body.is_empty() {
        check.say(&file, "`body` and `body_file` in one response", "Keep one of them");
    }
    headers::fields(check, &at.key("headers"), &respond.headers, Use::Answered);
}

fn rewrites(check: &mut Check<'_>, at: &DocumentPath, route: &RouteSettings) {
    let Some(rewrite) = &route.rewrite else { return };
    for (key, prefix) in [("strip_prefix", &rewrite.strip_prefix), ("add_prefix", &rewrite.add_prefix)] {
        let here = at.key("rewrite").key(key);
        if let Some(prefix) = prefix
            && let Some(wrong) = text::bad_path(prefix)
        {
            check.say(&here, format!("{} {wrong}", check.quote(&here, prefix)), "Write a prefix such as `/api`");
        }
    }
}
