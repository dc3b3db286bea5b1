//! Who is due when: what is held of each name, and how its orders went. Pure: time comes in, in seconds since 1970.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::backoff::{self, FailureKind, Term};

/// How long after a try a reload may bring the next, in seconds.
const CONFIG_RELOAD_DELAY: i64 = 60;
/// How long a name is left to another process that has it in work, in seconds.
const LOCKED_RETRY_DELAY: i64 = 2;
/// The shortest time between two certificates of a name, in seconds.
const MIN_DELAY: i64 = 5;

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
pub(super) struct NameState {
    /// What is served.
    pub(super) held: Option<Term>,
    pub(super) tries: Tries,
    /// When the server wants it to be renewed.
    advised: Option<i64>,
    /// When it is asked for that again.
    ask: i64,
    /// An order is under way.
    running: bool,
    /// Another process has it in work until then.
    busy: i64,
}

/// How an order ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OrderOutcome {
    /// With a certificate.
    Issued(Term),
    /// Without.
    Failed(FailureKind, String),
    /// Another process was at it already; this is how things stand.
    Stands(Option<Term>, Tries),
    /// Another process is at it.
    Busy,
}

/// All names.
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
            // Nothing there and nothing wrong: it is new, or somebody took it away to have another.
            (None, _) if tries.failures == 0 => i64::MIN,
            // The server's own word goes before the rest that a new certificate is given.
            (Some(held), Some(advised)) if tries.failures == 0 && advised < held.renewal() => {
                advised.max(tries.last.saturating_add(CONFIG_RELOAD_DELAY))
            }
            (held, advised) => held.map_or(i64::MIN, Term::renewal).min(advised.unwrap_or(i64::MAX)).max(tries.next),
        }
    }

    /// The same once another certificate may have come; what was said of the one before means nothing for it.
    pub(super) fn as_kept(&self, held: Option<Term>, tries: Tries) -> Self {
        let advised = self.advised.filter(|_| held == self.held);
        Self { held, tries, advised, ..Self::default() }
    }
}

impl Tries {
    /// After an order that ended so; `left` and `chance` as `backoff` has them.
    fn failed(&self, trouble: FailureKind, error: String, now: i64, left: i64, chance: f64) -> Self {
        let failures = self.failures.saturating_add(1);
        let next = now.saturating_add(backoff::after(trouble, failures, left, chance));
        Self { failures, last: now, next, limited: matches!(trouble, FailureKind::Limited(_)), error: Some(error) }
    }

    /// After one that went well: a certificate that is past two thirds when it comes is not replaced at once, for ever.
    fn went_well(term: Term, now: i64) -> Self {
        Self { last: now, next: now.saturating_add((term.left(now) / 2).max(MIN_DELAY)), ..Self::default() }
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
    pub(super) fn of(&self, name: &str) -> Option<&NameState> {
        self.names.get(name)
    }

    /// What was found on disk of a name that is new.
    pub(super) fn restore(&mut self, name: &str, tries: Tries) {
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
        standing.have(held);
    }

    /// The names of which the server is to be asked when it wants them to be renewed.
    pub(super) fn to_ask(&self, now: i64) -> Vec<Arc<str>> {
        let due = |standing: &NameState| !standing.running && standing.held.is_some() && standing.ask <= now;
        self.names.iter().filter(|(_, standing)| due(standing)).map(|(name, _)| Arc::clone(name)).collect()
    }

    /// The server was asked: when it is asked again, and the window in which it wants this certificate to be renewed, if it
    /// said so. A moment that was drawn stays while it is in the window.
    pub(super) fn advise(&mut self, name: &str, ask: i64, advice: Option<(Term, (i64, i64))>, chance: f64) {
        let Some(standing) = self.names.get_mut(name) else { return };
        standing.ask = ask;
        if let Some((of, window)) = advice
            && standing.held == Some(of)
        {
            let drawn = standing.advised.filter(|at| (window.0..=window.1).contains(at));
            standing.advised = drawn.or_else(|| Some(backoff::within(window, chance)));
        }
    }

    /// The names that are due for an order, the most urgent first.
    pub(super) fn due(&self, now: i64) -> Vec<Arc<str>> {
        let due = |standing: &NameState| standing.due().max(standing.busy);
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
    pub(super) fn ended(&mut self, name: &str, ended: OrderOutcome, now: i64, chance: f64) {
        let Some(standing) = self.names.get_mut(name) else { return };
        standing.running = false;
        match ended {
            OrderOutcome::Issued(term) => {
                standing.tries = Tries::went_well(term, now);
                standing.have(Some(term));
            }
            OrderOutcome::Failed(trouble, error) => {
                let left = standing.held.map_or(0, |held| held.left(now));
                standing.tries = standing.tries.failed(trouble, error, now, left, chance);
            }
            OrderOutcome::Stands(held, tries) => {
                standing.have(held);
                standing.tries = tries;
            }
            OrderOutcome::Busy => standing.busy = now.saturating_add(LOCKED_RETRY_DELAY),
        }
    }

    /// A configuration was put in force: who failed may have been helped, and tries again soon. A server that asked for time
    /// still gets it.
    pub(super) fn reloaded(&mut self, now: i64) {
        for tries in self.names.values_mut().map(|standing| &mut standing.tries) {
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
