//! Eligibility of backends by tier, and the share of requests of each tier.
//!
//! Pure. Backends that are up serve. If none is up, those that are not probed yet serve. If there is none of these
//! either, those that are down serve, provided that the upstream fails open. Ejected backends count as down. Drained,
//! disabled and unresolved backends, and those of weight 0, are never eligible.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::backend::Backend;
use super::balance::Settings;
use crate::backend::labels::{AdminState, Health};

/// The settings of an upstream that determine its members.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TierRules {
    /// Settings of the balancer.
    pub settings: Settings,
    /// Whether backends that are down serve if none is up or unknown.
    pub fail_open: bool,
    /// Whether there is a health check. Without one, a backend counts as up whatever its state says.
    pub checked: bool,
    /// Share of the weight of a tier that must be up, 0 to 1. Below it, the next tier takes part of the requests.
    pub tier_min_up: f64,
    /// Share of the backends of a tier that must not be down, 0 to 1. Below it, the backends that are down are eligible
    /// too.
    pub panic_threshold: f64,
    /// Duration of the slow start in milliseconds; 0: none.
    pub slow_start_ms: u64,
}

/// The eligible backends of one tier.
#[derive(Debug)]
pub struct Chosen {
    /// In configuration order.
    pub members: Vec<Arc<Backend>>,
    /// Share of the requests that start in this tier, 0 to 1. A tier with share 0 serves only the overflow of the
    /// others.
    pub share: f64,
    /// Whether the tier is in fail-open: some of its members are down.
    pub sick: bool,
    /// Whether the members were chosen because they are up.
    pub up: bool,
}

/// Whether it can take requests, apart from health and weight.
pub fn is_able(backend: &Backend) -> bool {
    backend.state.admin_state() == AdminState::Ready && backend.addr.is_known()
}

/// The effective health: the verdict of the health check, or up without a check. An ejected backend counts as down,
/// because it fails its traffic.
pub fn health(backend: &Backend, checked: bool) -> Health {
    match backend.state.health() {
        _ if backend.state.is_ejected() => Health::Down,
        health if checked => health,
        _ => Health::Up,
    }
}

/// The eligible backends by tier, lowest tier first. No tier is empty. The shares sum up to 1 if there is a tier.
pub fn choose(backends: &[Arc<Backend>], rules: &TierRules) -> Vec<Chosen> {
    let mut tiers: BTreeMap<u8, Tally<'_>> = BTreeMap::new();
    for backend in backends {
        // Each weight and verdict is read only once, because they can change meanwhile.
        let weight = f64::from(backend.weight_now(rules.settings.balance));
        if weight > 0.0 {
            let tier = tiers.entry(backend.tier).or_default();
            tier.weight += weight;
            if is_able(backend) {
                tier.able.push(Able { backend, weight, health: health(backend, rules.checked) });
            }
        }
    }
    let has = |health: Health| tiers.values().any(|tier| tier.able.iter().any(|able| able.health == health));
    let open = [Health::Down].into_iter().filter(|_| rules.fail_open);
    let Some(level) = [Health::Up, Health::Unknown].into_iter().chain(open).find(|health| has(*health)) else {
        return Vec::new();
    };
    let tiers: Vec<_> = tiers.into_values().collect();
    let shares = shares(&tiers.iter().map(|tier| tier.share_of(level)).collect::<Vec<_>>(), rules.tier_min_up);
    let chosen = tiers.iter().zip(shares).map(|(tier, share)| tier.choose(level, share, rules));
    chosen.filter(|chosen| !chosen.members.is_empty()).collect()
}

/// The able backends of a tier and its total weight.
#[derive(Default)]
struct Tally<'a> {
    weight: f64,
    able: Vec<Able<'a>>,
}

struct Able<'a> {
    backend: &'a Arc<Backend>,
    weight: f64,
    health: Health,
}

impl Tally<'_> {
    /// The share of the weight of the tier that has this health.
    fn share_of(&self, level: Health) -> f64 {
        let with = self.able.iter().filter(|able| able.health == level);
        with.map(|able| able.weight).sum::<f64>() / self.weight.max(1.0)
    }

    fn choose(&self, level: Health, share: Share, rules: &TierRules) -> Chosen {
        let panics = level == Health::Up && share.of_requests > 0.0 && !share.relieved && {
            let healthy = self.able.iter().filter(|able| able.health != Health::Down).count();
            (healthy as f64) < rules.panic_threshold * self.able.len() as f64
        };
        let takes = |health: Health| health == level || panics;
        Chosen {
            members: self.able.iter().filter(|able| takes(able.health)).map(|able| Arc::clone(able.backend)).collect(),
            share: share.of_requests,
            sick: panics || level == Health::Down,
            up: level == Health::Up && !panics,
        }
    }
}

/// The share of a tier.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    of_requests: f64,
    /// Whether this tier takes only part of its requests and later tiers take all the rest.
    relieved: bool,
}

/// The shares of the tiers. A tier takes all of the remaining requests if at least `min_up` of it is up, else the part
/// `up / min_up`. Requests that no tier takes are divided in the same proportions.
fn shares(up: &[f64], min_up: f64) -> Vec<Share> {
    let mut remaining = 1.0;
    let mut take = |up: f64| {
        let able = if up <= 0.0 {
            0.0
        } else if up >= min_up {
            1.0
        } else {
            up / min_up
        };
        let taken = remaining * able;
        remaining -= taken;
        (taken, able > 0.0 && able < 1.0)
    };
    let taken: Vec<_> = up.iter().map(|up| take(*up)).collect();
    let sum = 1.0 - remaining;
    let share = |(taken, partly): &(f64, bool)| Share {
        of_requests: if sum > 0.0 { taken / sum } else { 0.0 },
        relieved: *partly && remaining <= 0.0,
    };
    taken.iter().map(share).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::super::members::tests::backend;
    use super::*;

    /// Backends written as `tier:healths`, such as `0:UUD 1:U`.
    fn backends(text: &str) -> Vec<Arc<Backend>> {
        let mut all = Vec::new();
        for part in text.split(' ') {
            let (tier, healths) = part.split_once(':').unwrap();
            for (n, letter) in healths.chars().enumerate() {
                let health = match letter {
                    'U' => Health::Up,
                    'D' => Health::Down,
                    _ => Health::Unknown,
                };
                let mut one = Arc::into_inner(backend(&format!("{tier}{n}"), "127.0.0.1:1", 1, health)).unwrap();
                one.tier = tier.parse().unwrap();
                all.push(Arc::new(one));
            }
        }
        all
    }

    /// The choice written as `names share%`, with `!` if some are down.
    fn chosen(text: &str, min_up: f64, panic_threshold: f64) -> String {
        let rules =
            TierRules { fail_open: true, checked: true, tier_min_up: min_up, panic_threshold, ..TierRules::default() };
        let show = |chosen: Chosen| {
            let names: Vec<_> = chosen.members.iter().map(|backend| &*backend.name).collect();
            format!("{} {:.0}%{}", names.join(","), chosen.share * 100.0, if chosen.sick { "!" } else { "" })
        };
        choose(&backends(text), &rules).into_iter().map(show).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn the_next_tier_serves_if_none_is_up() {
        assert_eq!(chosen("0:UU 1:U", 0.0, 0.0), "00,01 100% | 10 0%");
        assert_eq!(chosen("0:UD 1:U", 0.0, 0.0), "00 100% | 10 0%");
        assert_eq!(chosen("0:DD 1:U 2:U", 0.0, 0.0), "10 100% | 20 0%");
        assert_eq!(chosen("0:?? 1:U", 0.0, 0.0), "10 100%", "unknown serves only while nothing is up");
        assert_eq!(chosen("0:D? 1:?", 0.0, 0.0), "01 100% | 10 0%");
        assert_eq!(chosen("0:DD 1:D", 0.0, 0.0), "00,01 100%! | 10 0%!");
    }

    #[test]
    fn the_next_tier_takes_a_share_if_too_few_are_up() {
        assert_eq!(chosen("0:UUUD 1:U", 0.75, 0.0), "00,01,02 100% | 10 0%");
        assert_eq!(chosen("0:UUDD 1:U", 0.8, 0.0), "00,01 62% | 10 38%");
        assert_eq!(chosen("0:UDDD 1:UD 2:U", 1.0, 0.0), "00 25% | 10 38% | 20 38%");
        assert_eq!(chosen("0:UDDD", 1.0, 0.0), "00 100%", "no other tier");
        assert_eq!(chosen("0:UDDD 1:UDDD", 1.0, 0.0), "00 57% | 10 43%", "25 to 75 times 25");
    }

    #[test]
    fn below_the_panic_threshold_down_backends_are_eligible() {
        assert_eq!(chosen("0:UDDD", 0.0, 0.5), "00,01,02,03 100%!");
        assert_eq!(chosen("0:UUDD", 0.0, 0.5), "00,01 100%");
        assert_eq!(chosen("0:U?DD", 0.0, 0.5), "00 100%", "unknown does not count as down");
        assert_eq!(chosen("0:DDDD 1:U", 0.0, 0.5), "10 100%", "the next tier takes over");
        assert_eq!(chosen("0:UDDD 1:U", 0.5, 0.5), "00 50% | 10 50%", "the next tier takes the rest");
        assert_eq!(
            chosen("0:UDDD 1:UDDD", 0.5, 0.5),
            "00,01,02,03 67%! | 10,11,12,13 33%!",
            "no tier takes all the rest"
        );
    }

    proptest! {
        #[test]
        fn shares_sum_up_and_never_exceed_capacity(up in proptest::collection::vec(0.0_f64..=1.0, 1..5), min_up in 0.0_f64..=1.0) {
            let shares = shares(&up, min_up);
            let sum: f64 = shares.iter().map(|share| share.of_requests).sum();
            prop_assert!((sum - 1.0).abs() < 1e-9 || up.iter().all(|up| *up <= 0.0));
            for (share, up) in shares.iter().zip(&up) {
                prop_assert!(share.of_requests <= 0.0 || *up > 0.0);
                prop_assert!(!share.relieved || share.of_requests <= up / min_up + 1e-9);
            }
        }
    }
}
