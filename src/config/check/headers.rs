//! Validation of header fields in all sections: names, values, and fields that Weir sets itself.

use std::collections::{BTreeMap, HashMap};

use http::{HeaderName, HeaderValue};

use super::super::node::DocumentPath;
use super::super::schema::ValueMatch;
use super::super::values::HeaderEdits;
use super::{Check, templates};

/// Fields that belong to one connection or frame the message. An edit would break the message or the connection.
const OURS: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
];

/// Prefix of the fields that carry a client certificate.
const CLIENT_CERT: &str = "x-client-cert-";

/// How a field is used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Only compared.
    Matched,
    /// Sent to a backend. `Host` has a key of its own.
    Requested,
    /// Sent to a client.
    Answered,
}

/// Checks a section of header fields and their values.
pub(super) fn fields(check: &mut Check<'_>, at: &DocumentPath, fields: &BTreeMap<String, String>, used: Use) {
    values(check, at, fields.iter().map(|(field, value)| (field, Some(value.as_str()))), used);
}

/// Checks conditions on header fields.
pub(super) fn matched(check: &mut Check<'_>, at: &DocumentPath, fields: &BTreeMap<String, ValueMatch>) {
    values(check, at, fields.iter().map(|(field, condition)| (field, condition.text())), Use::Matched);
}

fn values<'f>(
    check: &mut Check<'_>,
    at: &DocumentPath,
    fields: impl Iterator<Item = (&'f String, Option<&'f str>)>,
    used: Use,
) {
    let mut seen: HashMap<String, &str> = HashMap::new();
    for (field, value) in fields {
        let here = at.key(field);
        name(check, &here, field, used);
        if let Some(other) = seen.insert(field.to_ascii_lowercase(), field) {
            check.say_of_key(&here, format!("`{field}` and `{other}` are one header"), "Case does not count: keep one");
        }
        if value.is_some_and(|value| HeaderValue::from_str(value).is_err()) {
            let what = format!("the value of `{field}` has a control character");
            check.say(&here, what, "A value is one line of text");
        }
    }
}

/// Checks edits of header fields.
pub(super) fn edits(check: &mut Check<'_>, at: &DocumentPath, edits: &HeaderEdits, used: Use) {
    fields(check, &at.key("set"), &edits.set, used);
    fields(check, &at.key("add"), &edits.add, used);
    templates::fields(check, &at.key("set"), &edits.set);
    templates::fields(check, &at.key("add"), &edits.add);
    for (index, field) in edits.remove.iter().enumerate() {
        name(check, &at.key("remove").index(index), field, used);
    }
}

fn name(check: &mut Check<'_>, at: &DocumentPath, field: &str, used: Use) {
    let lower = field.to_ascii_lowercase();
    // Variables are expanded in the elements of `remove`, but never in a key.
    let quoted = check.quote_key(at, field);
    if HeaderName::from_bytes(field.as_bytes()).is_err() {
        check.say_of_key(at, format!("{quoted} is not a header name"), "Use letters, digits and `-`");
    } else if used == Use::Matched {
        if lower.starts_with(CLIENT_CERT) {
            let what = format!("{quoted} is the client's own word here: Weir sets it after the route is chosen");
            check.say_of_key(at, what, "Write `listeners`, with one that has `client_auth`");
        }
    } else if OURS.contains(&lower.as_str()) {
        check.say_of_key(at, format!("{quoted} belongs to the connection; Weir sets it itself"), "Leave it out");
    } else if lower == "host" && used == Use::Requested {
        check.say_of_key(at, format!("{quoted} is not set here"), "Use the key `host`");
    }
}
