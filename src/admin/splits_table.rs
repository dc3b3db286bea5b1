//! The splits on the status page.

use maud::{Markup, html};

use super::api::SplitReply;

/// A table for each split.
pub(super) fn splits(splits: &[SplitReply]) -> Markup {
    html! { @for split in splits { (one(split)) } }
}

fn one(split: &SplitReply) -> Markup {
    html! {
        h2 { "Split " (split.route) " " @if let Some(by) = &split.by { small { "by " (by) } } }
        @if split.overridden { p.dim { "The weights were set at run time." } }
        div.box { table {
            tr { th { "upstream" } th.n { "share" } th.n { "weight" } th.n { "configured" } }
            @for target in &split.targets {
                tr {
                    td { (target.upstream) } td.n { (target.percent()) } td.n { (target.weight) }
                    td.n { (target.configured_weight) }
                }
            }
        } }
    }
}
