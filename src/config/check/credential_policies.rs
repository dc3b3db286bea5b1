//! `auth.*.basic` and `auth.*.api_keys`: validation of the keys besides the file.

use http::HeaderName;

use super::super::node::DocumentPath;
use super::super::schema::{ApiKeySettings, BasicAuthSettings};
use super::Check;
use crate::auth::basic::Realm;

/// Fields that a request needs for itself. A key in one of them could not be removed.
const NOT_FOR_KEYS: [&str; 7] =
    ["connection", "content-length", "cookie", "host", "te", "transfer-encoding", "upgrade"];

/// Checks `auth.*.basic`.
pub(super) fn basic(check: &mut Check<'_>, at: &DocumentPath, settings: &BasicAuthSettings) {
    if let Some(Err(bad)) = settings.realm.as_ref().map(|realm| realm.parse::<Realm>()) {
        check.say(&at.key("realm"), bad.to_string(), "Write a short name such as `staff`");
    }
}

/// Checks `auth.*.api_keys`.
pub(super) fn api_keys(check: &mut Check<'_>, at: &DocumentPath, settings: &ApiKeySettings) {
    let (header, query) = (at.key("header"), at.key("query"));
    match (check.has(&header, settings.header.is_some()), check.has(&query, settings.query.is_some())) {
        (false, false) => {
            let hint = "Write `header: x-api-key` or `query: api_key`";
            check.say(at, "a request carries the key in a header field or in a query parameter", hint);
        }
        (true, true) => {
            let what = "a request carries the key either in a header field or in a query parameter";
            check.say_given(&query, &[header], what, "Leave one of `header` and `query` out");
            return;
        }
        _ => {}
    }
    if let Some(name) = &settings.header {
        header_of_key(check, &header, name);
    }
    if settings.query.as_deref() == Some("") {
        check.say(&query, "a query parameter has a name", "Write a name such as `api_key`");
    }
}

fn header_of_key(check: &mut Check<'_>, at: &DocumentPath, name: &str) {
    let what = match HeaderName::from_bytes(name.as_bytes()) {
        Err(_) => "is not the name of a header field",
        Ok(name) if NOT_FOR_KEYS.contains(&name.as_str()) => "has another use in every request",
        Ok(_) => return,
    };
    let what = format!("{} {what}", check.quote(at, name));
    check.say(at, what, "Write a name such as `x-api-key`");
}
