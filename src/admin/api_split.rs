//! The JSON types of `/api/v1/routes/{r}/split`, shared by the server and by `weir split`.

use serde::{Deserialize, Serialize};

/// The split of a route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitReply {
    /// The name of the route.
    pub route: String,
    /// The part of a request that identifies the user, such as ``cookie `user` ``. Null if the split is not sticky.
    pub by: Option<String>,
    /// Whether the weights were set at run time.
    pub overridden: bool,
    /// In the order of the configuration.
    pub targets: Vec<SplitTargetReply>,
}

/// An upstream of a split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitTargetReply {
    /// Its name.
    pub upstream: String,
    /// The weight in force.
    pub weight: u16,
    /// The configured weight.
    pub configured_weight: u16,
    /// Its share, 0 to 1.
    pub share: f64,
}

impl SplitReply {
    /// The shares in words, such as `v1 90%, v2 10%`.
    pub fn summary(&self) -> String {
        let share = |target: &SplitTargetReply| format!("{} {}", target.upstream, target.percent());
        self.targets.iter().map(share).collect::<Vec<_>>().join(", ")
    }
}

impl SplitTargetReply {
    /// The share with at most two decimals, so that a small canary is not shown as 0%.
    pub fn percent(&self) -> String {
        let text = format!("{:.2}", self.share * 100.0);
        format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_shown_with_two_decimals_at_most() {
        let percent =
            |share| SplitTargetReply { upstream: String::new(), weight: 1, configured_weight: 1, share }.percent();
        assert_eq!([percent(1.0), percent(0.0), percent(0.1), percent(1.0 / 3.0)], ["100%", "0%", "10%", "33.33%"]);
    }
}
