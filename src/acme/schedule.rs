//! Who is due when: what is held of each name, and how its orders went. Pure: time comes in, in seconds since 1970.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::waits::{self, Term, Trouble};

/// How long after a try a reload may bring the next, in seconds.
const RELOAD: i64 = 60;
/// How long a name is left to another process that has it in work, in seconds.
const BUSY: i64 = 2;
/// The shortest time between two certificates of a name, in seconds.
const SHORTEST: i64 = 5;

/// How the orders of a name went since the last that went well; kept over restarts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Tries {
    /// In a row.
    pub(super) failures: u32,
    /// When the last one ended.
    pub(super) last: i64,
    /// No order before.
    pub(super) next: i64,
    /// The server asked for that wait.
    pub(super) limited: bool,
    /// What went wrong the last time.
    pub(super) error: Option<String>,
}

/// What is known of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// What is served.
    pub(super) held: Option<Term>,
    pub(super) tries: Tries,
    /// An order is under way.
    running: bool,
    /// Another process has it in work until then.
    busy: i64,
}

/// How an order ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// With a certificate.
    Issued(Term),
    /// Without.
    Failed(Trouble, String),
    /// Another process was at it already; this is how things stand.
    Stands(Option<Term>, Tries),
    /// Another process is at it.
    Busy,
}

/// All names.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    names: BTreeMap<Arc<str>, Standing>,
}

impl Tries {
    /// When the next order is due. Nothing there and nothing wrong: it is new, or somebody took it away to have another.
    pub(super) fn due(&self, held: Option<Term>) -> i64 {
        match held {
            None if self.failures == 0 => i64::MIN,
            held => held.map_or(i64::MIN, Term::renewal).max(self.next),
        }
    }

    /// After an order that ended so; `left` and `chance` as `waits` has them.
    fn failed(&self, trouble: Trouble, error: String, now: i64, left: i64, chance: f64) -> Self {
        let failures = self.failures.saturating_add(1);
        let next = now.saturating_add(waits::after(trouble, failures, left, chance));
        Self { failures, last: now, next, limited: matches!(trouble, Trouble::Limited(_)), error: Some(error) }
    }

    /// After one that went well: a certificate that is past two thirds when it comes is not replaced at once, for ever.
    fn went_well(term: Term, now: i64) -> Self {
        Self { last: now, next: now.saturating_add((term.left(now) / 2).max(SHORTEST)), ..Self::default() }
    }
}

impl Schedule {
    /// The names that are wanted from here on; what is known of those that stay is kept.
    pub(super) fn want(&mut self, names: &[Arc<str>]) {
        self.names.retain(|name, _| names.contains(name));
        for name in names {
            self.names.entry(Arc::clone(name)).or_default();
        }
    }

    /// What is known of a name.
    pub(super) fn of(&self, name: &str) -> Option<&Standing> {
        self.names.get(name)
    }

    /// What was found on disk of a name that is new.
    pub(super) fn found(&mut self, name: &str, tries: Tries) {
        if let Some(standing) = self.names.get_mut(name) {
            standing.tries = tries;
        }
    }

    /// A name has this certificate now, or none.
    pub(super) fn hold(&mut self, name: &str, held: Option<Term>) {
        let Some(standing) = self.names.get_mut(name) else { return };
        if held.is_some() && held != standing.held {
            standing.tries.failures = 0;
            standing.tries.error = None;
        }
        standing.held = held;
    }

    /// The names that are due for an order, the most urgent first.
    pub(super) fn due(&self, now: i64) -> Vec<Arc<str>> {
        let due = |standing: &Standing| standing.tries.due(standing.held).max(standing.busy);
        let mut names: Vec<_> = self.names.iter().filter(|(_, each)| !each.running && due(each) <= now).collect();
        names.sort_by_key(|(_, standing)| standing.held.map(|held| held.not_after));
        names.into_iter().map(|(name, _)| Arc::clone(name)).collect()
    }

    /// An order is under way.
    pub(super) fn started(&mut self, name: &str) {
        if let Some(standing) = self.names.get_mut(name) {
            standing.running = true;
        }
    }

    /// It has ended.
    pub(super) fn ended(&mut self, name: &str, ended: Ended, now: i64, chance: f64) {
        let Some(standing) = self.names.get_mut(name) else { return };
        standing.running = false;
        match ended {
            Ended::Issued(term) => {
                standing.tries = Tries::went_well(term, now);
                standing.held = Some(term);
            }
            Ended::Failed(trouble, error) => {
                let left = standing.held.map_or(0, |held| held.left(now));
                standing.tries = standing.tries.failed(trouble, error, now, left, chance);
            }
            Ended::Stands(held, tries) => {
                standing.held = held;
                standing.tries = tries;
            }
            Ended::Busy => standing.busy = now.saturating_add(BUSY),
        }
    }

    /// A configuration was put in force: who failed may have been helped, and tries again soon. A server that asked for time
    /// still gets it.
    pub(super) fn reloaded(&mut self, now: i64) {
        for tries in self.names.values_mut().map(|standing| &mut standing.tries) {
            if tries.failures > 0 && !tries.limited {
                tries.next = tries.next.min(now.max(tries.last.saturating_add(RELOAD)));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "schedule_tests.rs"]
mod tests;
