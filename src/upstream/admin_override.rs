//! Operator overrides of a backend at run time: drain, disable, enable, weight.
//!
//! It never waits for requests to end and never rebuilds the member snapshot: the manager does that. An override is
//! checked against the current upstream, then stored in the state of the backend. It survives reloads until it is
//! undone.

use std::sync::Arc;

use super::Upstream;
use super::backend::Backend;
use super::balance::weighted::{MAX_SEQUENCE, sequence_len};
use crate::backend::labels::AdminState;
use crate::config::schema::Balance;

/// Maximum weight.
const MAX_WEIGHT: u16 = 256;

/// The changes that an operator requests; `None` leaves a value unchanged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackendOverride {
    /// The new admin state.
    pub mark: Option<AdminState>,
    /// The new weight; `Some(None)` restores the configured one.
    pub weight: Option<Option<u16>>,
}

impl Upstream {
    /// Finds a backend by its name.
    pub fn backend(&self, name: &str) -> Option<Arc<Backend>> {
        self.backends().iter().find(|backend| &*backend.name == name).cloned()
    }

    /// Applies an override to one backend of the upstream. If the weight is refused, nothing changes. The caller
    /// rebuilds the members.
    ///
    /// # Errors
    /// Why the weight is refused.
    pub fn apply_override(&self, backend: &Backend, wanted: BackendOverride, now_ms: u64) -> Result<(), String> {
        if let Some(weight) = wanted.weight {
            self.judge(backend, weight)?;
            backend.state.set_runtime_weight(weight);
            warn_of_waiting(backend, self.settings().balance);
        }
        if let Some(mark) = wanted.mark {
            backend.state.set_admin_state(mark, now_ms);
        }
        Ok(())
    }

    /// Applies the rules for configured weights to a runtime weight.
    fn judge(&self, backend: &Backend, weight: Option<u16>) -> Result<(), String> {
        let balance = self.settings().balance;
        let weight = weight.unwrap_or(backend.weight);
        if weight > MAX_WEIGHT {
            return Err(format!("{weight} is not a weight; it is 0 to {MAX_WEIGHT}"));
        }
        if balance == Balance::RoundRobin && weight != 1 {
            let hint = "configure `balance: weighted_round_robin`";
            return Err(format!("`round_robin` gives equal turns and cannot honour the weight {weight}; {hint}"));
        }
        let is = |each: &Arc<Backend>| Arc::ptr_eq(&each.state, &backend.state);
        let of = |each: &Arc<Backend>| if is(each) { weight } else { each.weight_now(balance) };
        let weights: Vec<u16> = self.backends().iter().map(of).collect();
        if weights.iter().all(|weight| *weight == 0) {
            return Err("all weights would be 0: nothing would be served; drain the backend instead".to_owned());
        }
        let turns = sequence_len(weights);
        if balance == Balance::WeightedRoundRobin && turns > MAX_SEQUENCE {
            return Err(format!("the weights would make a sequence of {turns} turns, more than {MAX_SEQUENCE}"));
        }
        Ok(())
    }
}

/// Warns if the balancer does not use the runtime weight. Effective weights are published when members are rebuilt.
pub(super) fn warn_of_waiting(backend: &Backend, balance: Balance) {
    let now = backend.weight_now(balance);
    if let Some(wanted) = backend.state.runtime_weight().filter(|wanted| *wanted != now) {
        let name = &*backend.name;
        tracing::warn!(backend = name, wanted, "the weight set at run time waits: round_robin gives equal turns");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::balance::Tried;
    use super::super::members::tests::backend;
    use super::*;
    use crate::backend::labels::{BackendCondition, Health};
    use crate::config::schema;
    use crate::pool::transport_settings::TransportSettings;

    fn upstream(balance: Balance, weights: &[u16]) -> Upstream {
        let settings = schema::UpstreamSettings { balance, ..schema::UpstreamSettings::default() };
        let one = |(n, weight): (usize, &u16)| {
            backend(&format!("b{n}"), &format!("127.0.0.1:{}", n + 1), *weight, Health::Up)
        };
        let backends = weights.iter().enumerate().map(one).collect();
        let transport = Arc::new(TransportSettings::new(&settings, &|_| None));
        Upstream::new("u".into(), settings, backends, transport, Arc::default(), None)
    }

    fn picks(upstream: &Upstream, count: usize) -> Vec<String> {
        (0..count).map(|_| upstream.pick(&Tried::default(), 0, None).unwrap().backend.name.to_string()).collect()
    }

    fn weight(weight: u16) -> BackendOverride {
        BackendOverride { weight: Some(Some(weight)), ..BackendOverride::default() }
    }

    #[test]
    fn an_admin_state_excludes_a_backend_until_it_is_ready_again() {
        let upstream = upstream(Balance::RoundRobin, &[1, 1]);
        let b0 = upstream.backend("b0").unwrap();
        for (mark, state) in
            [(AdminState::Draining, BackendCondition::Draining), (AdminState::Disabled, BackendCondition::Disabled)]
        {
            upstream.apply_override(&b0, BackendOverride { mark: Some(mark), weight: None }, 7).unwrap();
            upstream.rebuild();
            assert_eq!((b0.state.state(), b0.state.why().as_str()), (state, "by operator"));
            assert_eq!(picks(&upstream, 3), ["b1"; 3]);
        }
        upstream.apply_override(&b0, BackendOverride { mark: Some(AdminState::Ready), weight: None }, 8).unwrap();
        assert!(upstream.rebuild());
        assert!(picks(&upstream, 2).contains(&"b0".to_owned()));
    }

    #[test]
    fn a_runtime_weight_takes_effect_and_can_be_removed() {
        let upstream = upstream(Balance::WeightedRoundRobin, &[1, 1]);
        let b0 = upstream.backend("b0").unwrap();
        upstream.apply_override(&b0, weight(3), 0).unwrap();
        assert!(upstream.rebuild(), "the same backends, but another weight");
        assert_eq!(picks(&upstream, 8).iter().filter(|name| *name == "b0").count(), 6);
        assert_eq!(b0.state.weights(), (1, 3.0));
        upstream.apply_override(&b0, weight(0), 0).unwrap();
        assert!(upstream.rebuild());
        assert_eq!(picks(&upstream, 2), ["b1"; 2]);
        upstream.apply_override(&b0, BackendOverride { weight: Some(None), mark: None }, 0).unwrap();
        assert!(upstream.rebuild());
        assert_eq!(b0.state.weights(), (1, 1.0));
    }

    #[test]
    fn a_refused_weight_changes_nothing() {
        let equal = upstream(Balance::RoundRobin, &[1, 1]);
        let b0 = &equal.backend("b0").unwrap();
        let both = BackendOverride { mark: Some(AdminState::Disabled), weight: Some(Some(2)) };
        assert!(equal.apply_override(b0, both, 0).unwrap_err().contains("weighted_round_robin"));
        assert_eq!((b0.state.admin_state(), b0.state.runtime_weight()), (AdminState::Ready, None));
        assert!(equal.apply_override(b0, weight(1), 0).is_ok());
        let weighted = upstream(Balance::WeightedRoundRobin, &[1, 0]);
        let b0 = &weighted.backend("b0").unwrap();
        assert!(weighted.apply_override(b0, weight(257), 0).unwrap_err().contains("0 to 256"));
        assert!(weighted.apply_override(b0, weight(0), 0).unwrap_err().contains("all weights"));
    }
}
