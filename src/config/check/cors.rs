//! `routes[].cors`: validation of origins, fields and credentials.

use http::HeaderName;

use super::super::node::DocumentPath;
use super::super::schema::{CorsSettings, OriginPattern, RouteSettings};
use super::Check;

/// An origin that no configuration means. A pattern that matches it matches every origin.
const ANY_OTHER: &str = "https://any-other-origin.invalid";

pub(super) fn check(check: &mut Check<'_>, at: &DocumentPath, route: &RouteSettings) {
    let Some(cors) = route.cors.settings() else { return };
    let here = at.key("cors");
    origins(check, &here, cors);
    for (key, names) in [("headers", &cors.headers), ("expose", &cors.expose)] {
        for (index, name) in names.iter().enumerate() {
            let place = here.key(key).index(index);
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                let what = format!("{} is not a header name", check.quote(&place, name));
                check.say(&place, what, "Use letters, digits and `-`");
            } else if name == "*" && key == "expose" && cors.credentials {
                let what = "browsers do not take `*` for all fields where `credentials` is true";
                check.say_given(&place, &[here.key("credentials")], what, "List the fields");
            }
        }
    }
    let edits = &route.response_headers;
    for (key, fields) in [("set", &edits.set), ("add", &edits.add)] {
        for name in fields.keys().filter(|name| name.to_ascii_lowercase().starts_with("access-control-")) {
            let place = at.key("response_headers").key(key).key(name);
            check.say_of_key(&place, format!("`cors` replaces `{name}`"), "Leave it out");
        }
    }
}

fn origins(check: &mut Check<'_>, at: &DocumentPath, cors: &CorsSettings) {
    let here = at.key("origins");
    if cors.origins.is_empty() && !check.is_written(&here) {
        check.say(at, "no origin is listed", "Write `origins: [https://app.example.org]`");
    } else if cors.origins.is_empty() {
        check.say(&here, "no origin is listed", "Write `[https://app.example.org]`, or `cors: off`");
    }
    for (index, pattern) in cors.origins.iter().enumerate() {
        let place = here.index(index);
        if cors.credentials && pattern.matches(ANY_OTHER) {
            let what = match pattern {
                OriginPattern::Any => "`*` with `credentials: true`: any page could act in the name of its visitor",
                _ => "every origin matches, with `credentials: true`: any page could act in the name of its visitor",
            };
            check.say_given(&place, &[at.key("credentials")], what, "List the origins, or leave `credentials` out");
        } else if matches!(pattern, OriginPattern::Any) && cors.origins.len() > 1 {
            check.say(&place, "`*` matches every origin, so the others have no effect", "Keep `*`, or the others");
        }
    }
}
