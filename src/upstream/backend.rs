//! One member of an upstream: its name, its address and where that is right now.
//!
//! It never resolves and never judges: `resolve` fills the address in, `health` the verdict.

use std::sync::Arc;

use super::sticky::BackendToken;
use crate::backend::BackendState;
use crate::config::schema::{self, Balance};
use crate::config::values::BackendAddress;
use crate::pool::backend_addr::BackendAddr;

/// One member of an upstream.
#[derive(Debug)]
pub struct Backend {
    /// What it is called in metrics and logs; the address where the document names none.
    pub name: Arc<str>,
    /// Where it is, as configured.
    pub address: BackendAddress,
    /// As configured, 0 to 256; 0 takes no new requests. `weight_now` is what counts.
    pub weight: u16,
    /// Tier 0 serves first.
    pub tier: u8,
    /// What stands for it in cookies, where its upstream is sticky.
    pub token: Option<BackendToken>,
    /// Its live cells, shared with every other snapshot that has the same (upstream, address).
    pub state: Arc<BackendState>,
    /// Where it is right now, shared in the same way.
    pub addr: Arc<BackendAddr>,
}

impl Backend {
    /// The weight that counts: an operator's, else the configured one. `round_robin` gives equal turns, so under it
    /// an operator's waits until a balancer that honours it is configured.
    pub fn weight_now(&self, balance: Balance) -> u16 {
        match balance {
            Balance::RoundRobin => self.weight,
            _ => self.state.runtime_weight().unwrap_or(self.weight),
        }
    }

    /// As a document would write it.
    pub fn listed(&self) -> schema::BackendSettings {
        let name = self.name.parse().ok().filter(|_| *self.name != *self.address.to_string());
        schema::BackendSettings { name, address: self.address.clone(), weight: self.weight, tier: self.tier }
    }

    /// Whether the two are the same to everyone who picks or shows them: same cells, same words, same weight, same tier, same token.
    pub fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
            && Arc::ptr_eq(&self.addr, &other.addr)
            && self.name == other.name
            && self.weight == other.weight
            && self.tier == other.tier
            && self.token == other.token
    }
}
