//! Weights of splits that were set at run time: they pass from a snapshot to the next one.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Route, RouteTarget, Snapshot};
use crate::route::action::Split;

/// Copies the weights of run time from the routes of the same names in `previous`.
pub(super) fn inherit<'r>(routes: impl Iterator<Item = &'r Route>, previous: Option<&Snapshot>) {
    let before = previous.map(overridden).unwrap_or_default();
    if before.is_empty() {
        return;
    }
    for route in routes {
        if let (Some(split), Some(old)) = (route.action.split(), before.get(route.meters.name())) {
            // Other upstreams keep their configured weights. `Snapshot::warn_of_lost_weights` tells the operator.
            let _ = split.inherit(old);
        }
    }
}

/// The splits whose weights were set at run time, by route.
fn overridden(snapshot: &Snapshot) -> HashMap<&Arc<str>, &Split<Arc<RouteTarget>>> {
    let splits = snapshot.splits().filter(|(_, split)| split.is_overridden());
    splits.map(|(route, split)| (route.meters.name(), split)).collect()
}

impl Snapshot {
    /// The routes with a split, in the order of the configuration.
    pub fn splits(&self) -> impl Iterator<Item = (&Route, &Split<Arc<RouteTarget>>)> {
        self.routes.targets().filter_map(|route| Some((&**route, route.action.split()?)))
    }

    /// Warns if weights that were set at run time have ended with the previous snapshot.
    pub fn warn_of_lost_weights(&self, previous: &Self) {
        let before = overridden(previous);
        if before.is_empty() {
            return;
        }
        let now = overridden(self);
        for name in before.keys().filter(|name| !now.contains_key(**name)) {
            tracing::warn!(route = &***name, "the weights set at run time have ended: the split has other upstreams");
        }
    }
}
