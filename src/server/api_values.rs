//! Converts the types of `upstream` to those of the admin API.

use crate::admin::api;
use crate::config::schema::Balance;
use crate::upstream::status::BackendStatus;

/// The name of the algorithm as it is written in the configuration.
pub(super) fn balance(balance: Balance) -> String {
    let written = serde_json::to_value(balance).ok();
    written.and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Converts the status of a backend.
pub(super) fn shown(backend: BackendStatus) -> api::BackendReply {
    api::BackendReply {
        name: backend.name,
        address: backend.address,
        state: backend.state,
        reason: backend.reason.unwrap_or_default(),
        since: backend.since,
        in_flight: backend.in_flight,
        weight: backend.weight,
        effective_weight: backend.effective_weight,
        errors_last_minute: backend.errors_last_minute,
        last_error: backend.last_error.map(|(time, cause)| api::LastError { time, cause }),
    }
}

/// Formats names for an error message, at most 20 of them.
pub(super) fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 20;
    let mut names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    if names.len() > SHOWN {
        let more = names.len() - SHOWN;
        names.truncate(SHOWN);
        names.push(format!("{more} more"));
    }
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
