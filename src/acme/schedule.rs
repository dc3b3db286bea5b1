//! The schedule of orders: which name is due when, from its certificate and its order history.
//!
//! It never reads a clock: the caller passes the time in Unix seconds.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::backoff::{self, FailureKind, Term};

/// Minimum time between an order and the next one that a reload causes, in seconds.
const CONFIG_RELOAD_DELAY: i64 = 60;
/// Delay before a name that another process has locked is checked again, in seconds.
const LOCKED_RETRY_DELAY: i64 = 2;
/// Minimum time between two certificates of a name, in seconds.
const MIN_DELAY: i64 = 5;

/// The order history of a name since the last success. It is stored on disk and survives restarts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Tries {
    /// Number of failures in a row.
    pub(super) failures: u32,
    /// When the last order ended.
    pub(super) last: i64,
    /// No order before this time.
    pub(super) next: i64,
    /// Whether the server requested this wait.
    pub(super) limited: bool,
    /// The last error.
    pub(super) error: Option<String>,
}

/// The state of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NameState {
    /// The validity period of the served certificate.
    pub(super) held: Option<Term>,
    pub(super) tries: Tries,
    /// When the server wants the certificate to be renewed.
    advised: Option<i64>,
    /// When to request renewal information again.
    ask: i64,
    /// Whether an order is in progress.
    running: bool,
    /// Another process has the lock of the name. Do not try again before this time.
    busy: i64,
}

/// The result of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OrderOutcome {
    /// A certificate was issued.
    Issued(Term),
    /// The order failed.
    Failed(FailureKind, String),
    /// Another process has just finished an order. This is the stored state.
    Stands(Option<Term>, Tries),
    /// Another process has an order in progress.
    Busy,
}

/// The state of all names.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    names: BTreeMap<Arc<str>, NameState>,
}

impl NameState {
    fn have(&mut self, held: Option<Term>) {
        if self.held != held {
            (self.held, self.advised, self.ask) = (held, None, 0);
        }
    }

    /// When the next order is due.
    pub(super) fn due(&self) -> i64 {
        let tries = &self.tries;
        match (self.held, self.advised) {
            // No certificate and no failure: the name is new, or an operator has removed the file to get another
            // certificate.
            (None, _) if tries.failures == 0 => i64::MIN,
            // The server's advice has priority over `tries.next`, which delays the renewal of a new certificate.
            (Some(held), Some(advised)) if tries.failures == 0 && advised < held.renewal() => {
                advised.max(tries.last.saturating_add(CONFIG_RELOAD_DELAY))
            }
            (held, advised) => held.map_or(i64::MIN, Term::renewal).min(advised.unwrap_or(i64::MAX)).max(tries.next),
        }
    }

    /// The state with the stored certificate and history. The server's advice is dropped if the certificate is another
    /// one.
    pub(super) fn as_kept(&self, held: Option<Term>, tries: Tries) -> Self {
        let advised = self.advised.filter(|_| held == self.held);
        Self { held, tries, advised, ..Self::default() }
    }
}

impl Tries {
    /// The history after a failed order. `left` and `chance`: see `backoff::after`.
    fn failed(&self, trouble: FailureKind, error: String, now: i64, left: i64, chance: f64) -> Self {
        let failures = self.failures.saturating_add(1);
        let next = now.saturating_add(backoff::after(trouble, failures, left, chance));
        Self { failures, last: now, next, limited: matches!(trouble, FailureKind::Limited(_)), error: Some(error) }
    }

    /// The history after a success. If the new certificate is already past its renewal time, half of its remaining
    /// validity must pass before the next order. This avoids an endless loop.
    fn went_well(term: Term, now: i64) -> Self {
        Self { last: now, next: now.saturating_add((term.left(now) / 2).max(MIN_DELAY)), ..Self::default() }
    }
}

impl Schedule {
    /// Sets the configured names. The state of names that stay is kept.
    pub(super) fn want(&mut self, names: &[Arc<str>]) {
        self.names.retain(|name, _| names.contains(name));
        for name in names {
            self.names.entry(Arc::clone(name)).or_default();
        }
    }

    /// The state of a name.
    pub(super) fn of(&self, name: &str) -> Option<&NameState> {
        self.names.get(name)
    }

    /// Sets the history of a new name, as found on disk.
    pub(super) fn restore(&mut self, name: &str, tries: Tries) {
        if let Some(name_state) = self.names.get_mut(name) {
            name_state.tries = tries;
        }
    }

    /// Sets the certificate that a name has now.
    pub(super) fn hold(&mut self, name: &str, held: Option<Term>) {
        let Some(name_state) = self.names.get_mut(name) else { return };
        if held.is_some() && held != name_state.held {
            name_state.tries.failures = 0;
            name_state.tries.error = None;
        }
        name_state.have(held);
    }

    /// The names for which renewal information should be requested.
    pub(super) fn to_ask(&self, now: i64) -> Vec<Arc<str>> {
        let due = |name_state: &NameState| !name_state.running && name_state.held.is_some() && name_state.ask <= now;
        self.names.iter().filter(|(_, name_state)| due(name_state)).map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Records a renewal information request. `ask`: time of the next request. `advice`: the certificate's validity
    /// period and its suggested window. A renewal time that was drawn earlier stays if it is within the window.
    pub(super) fn advise(&mut self, name: &str, ask: i64, advice: Option<(Term, (i64, i64))>, chance: f64) {
        let Some(name_state) = self.names.get_mut(name) else { return };
        name_state.ask = ask;
        if let Some((of, window)) = advice
            && name_state.held == Some(of)
        {
            let drawn = name_state.advised.filter(|at| (window.0..=window.1).contains(at));
            name_state.advised = drawn.or_else(|| Some(backoff::within(window, chance)));
        }
    }

    /// The names that are due for an order, the most urgent first.
    pub(super) fn due(&self, now: i64) -> Vec<Arc<str>> {
        let due = |name_state: &NameState| name_state.due().max(name_state.busy);
        let mut names: Vec<_> = self.names.iter().filter(|(_, each)| !each.running && due(each) <= now).collect();
        names.sort_by_key(|(_, name_state)| name_state.held.map(|held| held.not_after));
        names.into_iter().map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Records that an order was started.
    pub(super) fn started(&mut self, name: &str) {
        if let Some(name_state) = self.names.get_mut(name) {
            name_state.running = true;
        }
    }

    /// Records the result of an order.
    pub(super) fn ended(&mut self, name: &str, ended: OrderOutcome, now: i64, chance: f64) {
        let Some(name_state) = self.names.get_mut(name) else { return };
        name_state.running = false;
        match ended {
            OrderOutcome::Issued(term) => {
                name_state.tries = Tries::went_well(term, now);
                name_state.have(Some(term));
            }
            OrderOutcome::Failed(trouble, error) => {
                let left = name_state.held.map_or(0, |held| held.left(now));
                name_state.tries = name_state.tries.failed(trouble, error, now, left, chance);
            }
            OrderOutcome::Stands(held, tries) => {
                name_state.have(held);
                name_state.tries = tries;
            }
            OrderOutcome::Busy => name_state.busy = now.saturating_add(LOCKED_RETRY_DELAY),
        }
    }

    /// A configuration became active. Its change may have removed the cause of failures, so failed names are tried
    /// again soon. A wait that the server requested stays.
    pub(super) fn reloaded(&mut self, now: i64) {
        for tries in self.names.values_mut().map(|name_state| &mut name_state.tries) {
            if tries.failures > 0 && !tries.limited {
                tries.next = tries.next.min(now.max(tries.last.saturating_add(CONFIG_RELOAD_DELAY)));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "schedule_tests.rs"]
mod tests;
