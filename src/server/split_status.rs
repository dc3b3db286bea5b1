//! Splits for the admin API: their shares, and weights of run time.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::api_values::list;
use crate::admin::api::{SplitReply, SplitTargetReply};
use crate::admin::control::ControlError;
use crate::route::action::{Split, SplitShare};
use crate::snapshot::{Route, RouteTarget, Snapshot};

/// All splits, in the order of the routes.
pub(super) fn all(snapshot: &Snapshot) -> Vec<SplitReply> {
    snapshot.splits().map(|(route, split)| reply(route, split)).collect()
}

/// The split of a route.
pub(super) fn one(snapshot: &Snapshot, route: &str) -> Result<SplitReply, ControlError> {
    find(snapshot, route).map(|(route, split)| reply(route, split))
}

/// Sets the weights of a route's split. `None` restores the configured weights.
pub(super) fn change(
    snapshot: &Snapshot,
    route: &str,
    weights: Option<&BTreeMap<String, u16>>,
) -> Result<SplitReply, ControlError> {
    let (route, split) = find(snapshot, route)?;
    match weights {
        Some(weights) => {
            let wanted = weights.iter().map(|(name, weight)| (name.as_str(), *weight));
            split.set_weights(wanted).map_err(ControlError::Impossible)?;
        }
        None => split.reset_weights(),
    }
    let reply = reply(route, split);
    tracing::info!(route = reply.route, shares = reply.summary(), "split changed by operator");
    Ok(reply)
}

fn find<'s>(snapshot: &'s Snapshot, name: &str) -> Result<(&'s Route, &'s Split<Arc<RouteTarget>>), ControlError> {
    snapshot.splits().find(|(route, _)| **route.meters.name() == *name).ok_or_else(|| {
        let is_route = snapshot.routes.targets().any(|route| **route.meters.name() == *name);
        let there = list(snapshot.splits().map(|(route, _)| &**route.meters.name()));
        let what = if is_route { format!("the route `{name}` has no split") } else { format!("no route `{name}`") };
        ControlError::NotThere(format!("{what}; routes with a split: {there}"))
    })
}

fn reply(route: &Route, split: &Split<Arc<RouteTarget>>) -> SplitReply {
    let target = |share: SplitShare<'_>| SplitTargetReply {
        upstream: share.name.to_owned(),
        weight: share.weight,
        configured_weight: share.configured,
        share: share.share,
    };
    SplitReply {
        route: route.meters.name().to_string(),
        by: split.by().map(ToString::to_string),
        overridden: split.is_overridden(),
        targets: split.shares().into_iter().map(target).collect(),
    }
}
