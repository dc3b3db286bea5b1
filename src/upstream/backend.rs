//! One backend of an upstream: its name, its configured address and its current socket address.
//!
//! It never resolves a name and never evaluates health: `pool::resolver` updates the address, `health` sets the
//! verdict.

use std::sync::Arc;

use super::sticky::BackendToken;
use crate::backend::BackendState;
use crate::config::schema::{self, Balance};
use crate::config::values::BackendAddress;
use crate::pool::backend_addr::BackendAddr;

/// One backend of an upstream.
#[derive(Debug)]
pub struct Backend {
    /// Name in metrics and logs; the address if the configuration gives no name.
    pub name: Arc<str>,
    /// Address as configured.
    pub address: BackendAddress,
    /// Configured weight, 0 to 256; 0 takes no new requests. Balancers use `weight_now`.
    pub weight: u16,
    /// Tier; tier 0 serves first.
    pub tier: u8,
    /// Its token in affinity cookies, if its upstream has affinity.
    pub token: Option<BackendToken>,
    /// Its live state, shared with every snapshot that has the same (upstream, address).
    pub state: Arc<BackendState>,
    /// Its current socket address, shared in the same way.
    pub addr: Arc<BackendAddr>,
}

impl Backend {
    /// The weight in use: the runtime weight of an operator, else the configured one. `round_robin` ignores the runtime
    /// weight, because it gives all backends equal shares.
    pub fn weight_now(&self, balance: Balance) -> u16 {
        match balance {
            Balance::RoundRobin => self.weight,
            _ => self.state.runtime_weight().unwrap_or(self.weight),
        }
    }

    /// The backend as it is written in the configuration.
    pub fn listed(&self) -> schema::BackendSettings {
        let name = self.name.parse().ok().filter(|_| *self.name != *self.address.to_string());
        schema::BackendSettings { name, address: self.address.clone(), weight: self.weight, tier: self.tier }
    }

    /// Whether both are equal for picks and for display: same state, address, name, weight, tier and token.
    pub fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
            && Arc::ptr_eq(&self.addr, &other.addr)
            && self.name == other.name
            && self.weight == other.weight
            && self.tier == other.tier
            && self.token == other.token
    }
}
