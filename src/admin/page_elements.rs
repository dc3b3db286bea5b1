//! Small elements of the status page: a part with its id, a time, a label.

use maud::{Markup, html};
use time::OffsetDateTime;

use super::api::age;

/// How a time is written. The script of the page replaces it by the age in both cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeStyle {
    /// The age now.
    Age,
    /// The time itself, so that a part changes only if its data change.
    Absolute,
}

/// A part of the page with its id.
pub(super) type Part = (String, String);

/// A time. In the style `Age`, its text is the distance to now.
pub(super) fn when(time: &str, style: TimeStyle) -> Markup {
    // Whole seconds, so that the conversion from the monotonic clock does not change the text.
    let second = time.split('.').next().unwrap_or(time).trim_end_matches('Z');
    let text = match age(time, OffsetDateTime::now_utc()) {
        Some(age) if style == TimeStyle::Age => format!("{age} ago"),
        _ => format!("{second}Z"),
    };
    html! { time datetime={ (second) "Z" } data-age title={ (second) "Z" } { (text) } }
}

/// A word on a coloured background.
pub(super) fn label(class: &str, word: &str) -> Markup {
    html! { span class={ "state " (class) } { (word) } }
}
