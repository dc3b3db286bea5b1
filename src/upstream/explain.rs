//! Why each backend of an upstream would or would not take the next request, in words. It reads cells and members and
//! changes none.

use std::sync::Arc;

use super::backend::Backend;
use super::members::Members;
use super::status::{BackendStatus, status_of};
use super::{Upstream, clock, tiers};
use crate::config::schema::Balance;
use crate::telemetry::vitals::{Health, Mark};

/// What would become of the next request.
#[derive(Debug, Clone)]
pub struct Outlook {
    /// Backends that are down are tried for want of anything better.
    pub fail_open: bool,
    /// All backends, in the document's order.
    pub backends: Vec<Candidate>,
}

/// A backend as the next pick sees it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// How it is.
    pub status: BackendStatus,
    /// It may be picked.
    pub eligible: bool,
    /// It would be picked.
    pub next: bool,
    /// What the balancer compares, the lowest goes first; nothing where it compares nothing.
    pub score: Option<f64>,
    /// Why it would or would not be picked.
    pub why: String,
}

impl Upstream {
    /// What would become of the next request, without moving anything.
    pub fn outlook(&self) -> Outlook {
        let members = self.members();
        let preview = members.preview(clock::now_ms());
        let candidate = |backend: &Arc<Backend>| {
            let at = members.eligible().position(|each| Arc::ptr_eq(&each.vitals, &backend.vitals));
            let next = at.is_some() && at == preview.next;
            Candidate {
                status: status_of(backend),
                eligible: at.is_some(),
                next,
                score: at.and_then(|at| preview.scores.get(at).copied().flatten()),
                why: if at.is_some() {
                    self.chosen(&members, preview.next.is_some(), next, backend)
                } else {
                    self.shut_out(backend)
                },
            }
        };
        Outlook { fail_open: members.failed_open(), backends: self.backends().iter().map(candidate).collect() }
    }

    fn shut_out(&self, backend: &Backend) -> String {
        let vitals = &backend.vitals;
        match vitals.mark() {
            Mark::Draining => return "draining, by operator: takes no new requests".to_owned(),
            Mark::Disabled => return "disabled, by operator".to_owned(),
            Mark::Ready => {}
        }
        if backend.weight_now(self.settings().balance) == 0 {
            return "weight 0 takes no new requests".to_owned();
        }
        if !backend.resolved.is_known() {
            return "its name does not resolve".to_owned();
        }
        if vitals.is_ejected() {
            return format!("ejected: {}", vitals.why());
        }
        match vitals.health() {
            Health::Down => format!("down: {}", vitals.why()),
            Health::Unknown => "not probed yet, and others are up".to_owned(),
            Health::Up => format!("{}: {}", vitals.state().label(), vitals.why()).trim_end_matches(": ").to_owned(),
        }
    }

    /// `known`: it is known who would be next.
    fn chosen(&self, members: &Members, known: bool, next: bool, backend: &Backend) -> String {
        if backend.vitals.is_full() {
            return format!("full: max_in_flight is {}", backend.vitals.limit());
        }
        let what = match (next, known, self.settings().balance) {
            (true, ..) => "next",
            _ if !members.takes_first(backend) => "eligible; earlier tiers go first",
            (_, true, _) => "eligible; another goes first",
            (.., Balance::ConsistentHash) => "eligible; the request's key decides",
            _ => "eligible; chance decides",
        };
        format!("{what}{}", self.though_down(members, backend))
    }

    fn though_down(&self, members: &Members, backend: &Backend) -> &'static str {
        let checked = self.settings().health_check.is_some();
        let is = |backend: &Backend, health| tiers::health(backend, checked) == health;
        if !members.failed_open() || !is(backend, Health::Down) {
            ""
        } else if members.eligible().any(|backend| is(backend, Health::Up)) {
            ", though down: too few are up (panic_threshold)"
        } else {
            ", though down: nothing is up (fail_open)"
        }
    }
}
