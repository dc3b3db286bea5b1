//! The rate limits on the status page.

use maud::{Markup, html};

use super::api_limits::{LimitReply, LimitsReply};

/// A table for each limit.
pub(super) fn limits(reply: &LimitsReply) -> Markup {
    html! { @for limit in &reply.limits { (one(limit)) } }
}

fn one(limit: &LimitReply) -> Markup {
    html! {
        h2 { "Rate limit " (limit.name) " " small { (limit.summary()) } }
        p.dim {
            (limit.allowed) " allowed · " (limit.limited) " limited · " (limit.would_limit) " would be limited · "
            (limit.buckets) " buckets"
        }
        @if !limit.keys.is_empty() {
            div.box { table {
                tr { th { "key" } th.n { "debt" } th.n { "in flight" } }
                @for key in &limit.keys {
                    tr { td { code { (key.key) } } td.n { (key.debt) } td.n { (key.in_flight) } }
                }
            } }
        }
    }
}
