//! Parameters of a simulation: the algorithm, its limits and the probability of faults.

use crate::config::schema::{self, Balance, Outlier, OutlierDetection};
use crate::config::values::RetryWhen;
use crate::config::values::{Percent, Period};
use crate::upstream::balance::rng::Prng;

/// A kind of simulation.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub balance: Balance,
    pub load_factor: Option<f64>,
    /// Without limit, queue, retry and ejection: no turn is skipped, so shares are exact.
    pub calm: bool,
}

const fn rough(balance: Balance) -> Plan {
    Plan { balance, load_factor: None, calm: false }
}

const fn calm(balance: Balance) -> Plan {
    Plan { balance, load_factor: None, calm: true }
}

/// Each algorithm, and again those with exact shares without the features that disturb them.
pub const WORLDS: [Plan; 11] = [
    rough(Balance::RoundRobin),
    rough(Balance::WeightedRoundRobin),
    rough(Balance::LeastConnections),
    rough(Balance::P2c),
    rough(Balance::PeakEwma),
    rough(Balance::Random),
    rough(Balance::ConsistentHash),
    Plan { balance: Balance::ConsistentHash, load_factor: Some(1.25), calm: false },
    calm(Balance::RoundRobin),
    calm(Balance::WeightedRoundRobin),
    Plan { balance: Balance::ConsistentHash, load_factor: Some(1.5), calm: true },
];

impl Plan {
    /// Whether members change less often: the hash tables of `consistent_hash` take long to build.
    pub fn changes_seldom(&self) -> bool {
        self.balance == Balance::ConsistentHash
    }

    /// The settings of the upstream; new ones at each reload.
    pub fn settings(&self, rng: &mut Prng) -> schema::UpstreamSettings {
        let mut settings = schema::UpstreamSettings {
            balance: self.balance,
            hash: self.load_factor.map(|factor| schema::Hash { load_factor: Some(factor), ..Default::default() }),
            health_check: Some(schema::HealthCheck { rise: 2, fall: 2, ..Default::default() }),
            fail_open: rng.below(4) > 0,
            slow_start: Period::from_secs([0, 0, 1][rng.below(3) as usize]),
            ..schema::UpstreamSettings::default()
        };
        if self.calm {
            settings.outlier = OutlierDetection::Off;
        } else {
            settings.tier_min_up = Percent::new([0.0, 0.0, 60.0][rng.below(3) as usize]);
            settings.panic_threshold = Percent::new([0.0, 0.0, 50.0][rng.below(3) as usize]);
            settings.max_in_flight = [0, 2, 3, 5, 8][rng.below(5) as usize];
            let size = 1 + rng.below(20) as u32;
            let timeout = millis(5 + rng.below(400));
            settings.queue = (rng.below(5) > 0).then_some(schema::QueueSettings { size, timeout });
            settings.outlier = match rng.below(5) {
                0 => OutlierDetection::Off,
                _ => OutlierDetection::On(outlier(rng)),
            };
        }
        settings
    }

    /// The retry settings of the route.
    pub fn retry(&self, rng: &mut Prng) -> schema::Retry {
        let when = vec![RetryWhen::Connect, RetryWhen::Reset, RetryWhen::Timeout, RetryWhen::Status(503)];
        let attempts = if self.calm { 1 } else { 2 + rng.below(4) as u8 };
        let backoff = millis(rng.below(3) * 20);
        let budget = Percent::new([0.0, 10.0, 20.0, 50.0][rng.below(4) as usize]);
        schema::Retry { attempts, when, budget, floor: rng.below(3) as u32, backoff }
    }
}

fn outlier(rng: &mut Prng) -> Outlier {
    let (consecutive, consecutive_5xx) = [(0, 4), (3, 0), (5, 8)][rng.below(3) as usize];
    Outlier {
        consecutive,
        consecutive_5xx,
        error_ratio: Percent::new([0.0, 50.0][rng.below(2) as usize]),
        window: Period::from_secs(5),
        min_requests: 10,
        eject: millis(300),
        max_eject: Period::from_secs(3),
        max_ejected: Percent::new([1.0, 34.0, 50.0, 100.0][rng.below(4) as usize]),
    }
}

fn millis(number: u64) -> Period {
    format!("{number}ms").parse().unwrap()
}
