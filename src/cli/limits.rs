//! `weir status --limits`: the rate limits as text.

use super::columns::columns;
use super::remote::{CommandOutput, DONE, Remote, TIMEOUT};
use crate::admin::api_limits::{LimitReply, LimitsReply};

impl Remote {
    pub(super) fn limits(&self) -> CommandOutput {
        self.ask("GET", "/api/v1/limits", None, TIMEOUT, |reply| (text(&reply), DONE))
    }
}

fn text(reply: &LimitsReply) -> String {
    let heads = ["LIMIT", "SETTINGS", "ALLOWED", "LIMITED", "WOULD LIMIT", "BUCKETS"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(reply.limits.iter().map(row));
    let mut text = String::new();
    columns(&mut text, &rows);
    let mut keys = vec![["LIMIT", "KEY", "DEBT", "IN FLIGHT"].map(str::to_owned).to_vec()];
    for limit in &reply.limits {
        keys.extend(
            limit
                .keys
                .iter()
                .map(|key| vec![limit.name.clone(), key.key.clone(), key.debt.to_string(), key.in_flight.to_string()]),
        );
    }
    if keys.len() > 1 {
        text.push('\n');
        columns(&mut text, &keys);
    }
    text
}

fn row(limit: &LimitReply) -> Vec<String> {
    let numbers = [limit.allowed, limit.limited, limit.would_limit, limit.buckets].map(|number| number.to_string());
    [limit.name.clone(), limit.summary()].into_iter().chain(numbers).collect()
}
