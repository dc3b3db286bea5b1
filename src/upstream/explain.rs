//! Explains for each backend of an upstream why it would or would not take the next request.
//!
//! It only reads state.

use std::collections::HashSet;
use std::sync::Arc;

use super::backend::Backend;
use super::balance::Tried;
use super::members::Members;
use super::status::{BackendStatus, status_of};
use super::{PickHints, Upstream, tiers};
use crate::backend::labels::PassedOver;
use crate::backend::labels::{AdminState, ExclusionReason, Health};
use crate::clock;
use crate::config::schema::Balance;

/// Maximum number of excluded backends that are listed with an attempt.
const MAX_LISTED: usize = 8;

/// Suffix for a backend that the affinity cookie names but that cannot be picked.
const CANNOT: &str = "; the request's cookie names it, so another is picked";

/// Explanation of the next pick.
#[derive(Debug, Clone)]
pub struct UpstreamExplanation {
    /// Whether the upstream is in fail-open: backends that are down may be picked because too few are up.
    pub fail_open: bool,
    /// All backends, in the order of the configuration.
    pub backends: Vec<Candidate>,
}

/// A backend as the next pick sees it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its status.
    pub status: BackendStatus,
    /// Whether it may be picked.
    pub eligible: bool,
    /// Whether it would be picked.
    pub next: bool,
    /// The score that the balancer compares, lowest first; `None` if the algorithm has no scores.
    pub score: Option<f64>,
    /// Why it would or would not be picked.
    pub why: String,
}

impl Upstream {
    /// Explains the next pick for a request with these hints, without changing any state.
    pub fn outlook(&self, hints: PickHints) -> UpstreamExplanation {
        let members = self.members();
        let PickHints { named, key } = hints;
        let key = key.filter(|_| self.settings().balance == Balance::ConsistentHash);
        let mut preview = members.preview(clock::now_ms(), key);
        let place = |of: &Arc<Backend>| members.eligible().position(|each| Arc::ptr_eq(&each.state, &of.state));
        let kept = named.and_then(|token| members.named(&token, &Tried::default()).ok());
        let kept = kept.and_then(|(_, backend)| place(backend));
        preview.next = kept.or(preview.next);
        let candidate = |backend: &Arc<Backend>| {
            let at = place(backend);
            let next = at.is_some() && at == preview.next;
            Candidate {
                status: status_of(backend),
                eligible: at.is_some(),
                next,
                score: at.and_then(|at| preview.scores.get(at).copied().flatten()),
                why: match at {
                    Some(_) if next && kept.is_some() => {
                        format!("next: the request's cookie names it{}", self.though_down(&members, backend))
                    }
                    Some(_) if next && key.is_some() => {
                        format!("next: the request's key maps to it{}", self.though_down(&members, backend))
                    }
                    Some(_) => self.chosen(&members, preview.next.is_some(), next, backend),
                    None => self.shut_out(backend),
                } + if named.is_some() && named == backend.token && !next { CANNOT } else { "" },
            }
        };
        UpstreamExplanation {
            fail_open: members.failed_open(),
            backends: self.backends().iter().map(candidate).collect(),
        }
    }

    /// The backends that the last pick could not take and why, as far as the first few: those that are out, then those that
    /// are full.
    pub fn not_picked(&self) -> Vec<PassedOver> {
        let mut passed = self.excluded().map_or_else(Vec::new, |excluded| excluded.to_vec());
        let members = self.members();
        let full = members.eligible().filter(|backend| backend.state.is_full());
        let room = MAX_LISTED.saturating_sub(passed.len());
        passed.extend(full.take(room).map(|b| PassedOver { backend: Arc::clone(&b.name), why: ExclusionReason::Full }));
        passed
    }

    /// The first few backends that are not in this member snapshot, and why; `None` if all are in it.
    pub(super) fn excluded_now(&self, backends: &[Arc<Backend>], members: &Members) -> Option<Vec<PassedOver>> {
        let inside: HashSet<_> = members.eligible().map(|backend| Arc::as_ptr(&backend.state)).collect();
        if inside.len() == backends.len() {
            return None;
        }
        let is_out = |backend: &&Arc<Backend>| !inside.contains(&Arc::as_ptr(&backend.state));
        let outside = backends.iter().filter(is_out).take(MAX_LISTED);
        let tell = |b: &Arc<Backend>| PassedOver { backend: Arc::clone(&b.name), why: self.out(b) };
        Some(outside.map(tell).collect())
    }

    /// Why a backend cannot be picked.
    fn out(&self, backend: &Backend) -> ExclusionReason {
        match (backend.state.admin_state(), backend.state.health()) {
            (AdminState::Draining, _) => ExclusionReason::Draining,
            (AdminState::Disabled, _) => ExclusionReason::Disabled,
            _ if backend.weight_now(self.settings().balance) == 0 => ExclusionReason::Weightless,
            _ if !backend.addr.is_known() => ExclusionReason::Unresolved,
            _ if backend.state.is_ejected() => ExclusionReason::Ejected,
            (_, Health::Down) => ExclusionReason::Down,
            (_, Health::Unknown) => ExclusionReason::Unknown,
            (_, Health::Up) => ExclusionReason::Changing,
        }
    }

    fn shut_out(&self, backend: &Backend) -> String {
        let backend_state = &backend.state;
        match self.out(backend) {
            ExclusionReason::Draining => "draining, by operator: takes no new requests".to_owned(),
            ExclusionReason::Disabled => "disabled, by operator".to_owned(),
            ExclusionReason::Weightless => "weight 0 takes no new requests".to_owned(),
            ExclusionReason::Unresolved => "its name does not resolve".to_owned(),
            ExclusionReason::Ejected => format!("ejected: {}", backend_state.why()),
            ExclusionReason::Down => format!("down: {}", backend_state.why()),
            ExclusionReason::Full => format!("full: max_in_flight is {}", backend_state.limit()),
            ExclusionReason::Unknown => "not probed yet, and others are up".to_owned(),
            ExclusionReason::Changing => {
                format!("{}: {}", backend_state.state().label(), backend_state.why()).trim_end_matches(": ").to_owned()
            }
        }
    }

    /// The text for one backend. `known`: whether the next pick can be predicted. `next`: whether this backend is that
    /// pick.
    fn chosen(&self, members: &Members, known: bool, next: bool, backend: &Backend) -> String {
        if backend.state.is_full() {
            return format!("full: max_in_flight is {}", backend.state.limit());
        }
        let what = match (next, known, self.settings().balance) {
            (true, ..) => "next",
            _ if !members.takes_first(backend) => "eligible; earlier tiers go first",
            (_, true, _) => "eligible; another goes first",
            (.., Balance::ConsistentHash) => "eligible; chance decides, because the request has no key",
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
