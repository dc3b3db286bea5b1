//! Upstreams: named groups of interchangeable backends, who of them may be picked now, and who is.
//!
//! This room knows nothing of routes, sessions or metric families. What changes at run time are the cells of
//! backends (`telemetry::vitals`) and the members made from them; everything else is as compiled.

pub mod backend;
pub mod balance;
mod clock;
#[cfg(test)]
mod counting;
pub mod explain;
pub mod health;
pub mod members;
pub mod peer;
pub mod registry;
pub mod resolve;
pub mod retry;
pub mod rule;
pub mod status;
pub mod steer;
mod tunnel;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::config::schema;
use crate::telemetry::vitals::Health;
use backend::Backend;
use balance::Tried;
use members::{Members, Pick, Rules};
use peer::Wire;
use retry::RetryBudget;

/// A named group of interchangeable backends.
#[derive(Debug)]
pub struct Upstream {
    name: Arc<str>,
    settings: schema::Upstream,
    backends: Box<[Arc<Backend>]>,
    wire: Arc<Wire>,
    budget: Arc<RetryBudget>,
    members: ArcSwap<Members>,
    /// Rebuilding reads cells and then swaps: one at a time, so that the last to read is the last to swap.
    rebuilding: Mutex<()>,
}

impl Upstream {
    /// With members built from what the cells say now. `previous`: members that stay if they are the same.
    pub fn new(
        name: Arc<str>,
        settings: schema::Upstream,
        backends: Vec<Arc<Backend>>,
        wire: Arc<Wire>,
        budget: Arc<RetryBudget>,
        previous: Option<Arc<Members>>,
    ) -> Self {
        let built = Members::build(&backends, rules(&settings));
        let members = previous.filter(|previous| previous.same_as(&built)).unwrap_or_else(|| Arc::new(built));
        Self {
            name,
            settings,
            backends: backends.into(),
            wire,
            budget,
            members: ArcSwap::new(members),
            rebuilding: Mutex::new(()),
        }
    }

    /// What it is called.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// As the document says it.
    pub fn settings(&self) -> &schema::Upstream {
        &self.settings
    }

    /// All that are configured, in the document's order.
    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    /// How they are spoken to.
    pub fn wire(&self) -> &Arc<Wire> {
        &self.wire
    }

    /// How many retries it can take.
    pub fn budget(&self) -> &RetryBudget {
        &self.budget
    }

    /// What it consists of now.
    pub fn members(&self) -> Arc<Members> {
        self.members.load_full()
    }

    /// Picks a backend for an attempt; nothing if none may be tried. One that was tried only if no other is left.
    pub fn pick(&self, tried: &Tried, now_ms: u64) -> Option<Pick> {
        self.members.load().pick(tried, now_ms)
    }

    /// Builds the members anew from what the cells say; whether they changed.
    pub fn rebuild(&self) -> bool {
        let _one_at_a_time = self.rebuilding.lock().unwrap_or_else(PoisonError::into_inner);
        let built = Members::build(&self.backends, rules(&self.settings));
        let changed = !self.members.load().same_as(&built);
        if changed {
            self.members.store(Arc::new(built));
        }
        changed
    }

    /// Whether a backend still waits for its first verdict.
    pub fn verdict_pending(&self) -> bool {
        let unknown = |backend: &Arc<Backend>| backend.vitals.health() == Health::Unknown;
        self.settings.health_check.is_some() && self.backends.iter().any(unknown)
    }
}

fn rules(settings: &schema::Upstream) -> Rules {
    Rules { balance: settings.balance, fail_open: settings.fail_open, checked: settings.health_check.is_some() }
}
