//! Converts DNS answers to a backend list and retains the last good answer of each failed query.
//!
//! It does no I/O. A result never empties a list: if a name, or every target of a service, has no address any more, the
//! last good ones stay. A broken zone is more likely than a service with traffic but without a server. If there really
//! is no server, the addresses fail by themselves. An empty answer for one family (A or AAAA) is accepted if the other
//! has records.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::DiscoveryResult;
use crate::config::schema::BackendSettings;
use crate::config::values::{BackendAddress, is_unicast};

/// Maximum weight of a backend.
const MAX_WEIGHT: u64 = 256;

/// Maximum length of the weighted sequence, and so the maximum sum of scaled weights.
const MAX_SEQUENCE_LENGTH: u64 = 65_536;

/// Maximum number of addresses. The rest of a longer list is dropped and reported.
pub const MAX_BACKENDS: usize = 4_096;

/// The result of one DNS query.
#[derive(Debug, Clone, PartialEq)]
pub enum DnsReply<T> {
    /// Records, and the smallest of their TTLs.
    Records(Vec<T>, Duration),
    /// A server answered that the name does not exist or has no record of this type.
    Nothing,
    /// No answer in time, or an error.
    Failed(String),
}

/// An SRV record (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SrvRecord {
    /// Host name of the target.
    pub target: String,
    /// Port of the target.
    pub port: u16,
    /// Priority; lower values serve first.
    pub priority: u16,
    /// Weight among the records of the same priority.
    pub weight: u16,
}

/// The addresses of one name, from the last good answer of each family.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AddressRecords {
    v4: BTreeSet<IpAddr>,
    v6: BTreeSet<IpAddr>,
}

/// The errors of an answer, and the validity of its good part.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MergedRecords {
    /// The errors, one line each.
    pub wrong: Vec<String>,
    /// The smallest TTL of the successful answers.
    pub ttl: Option<Duration>,
}

impl MergedRecords {
    fn limit_ttl(&mut self, ttl: Duration) {
        self.ttl = Some(self.ttl.map_or(ttl, |known| known.min(ttl)));
    }

    /// Adds the errors and the TTL of another answer.
    pub fn add(&mut self, other: Self) {
        self.wrong.extend(other.wrong);
        other.ttl.into_iter().for_each(|ttl| self.limit_ttl(ttl));
    }
}

impl AddressRecords {
    /// Merges the answers to the A and AAAA queries.
    pub fn take(&mut self, name: &str, v4: DnsReply<IpAddr>, v6: DnsReply<IpAddr>) -> MergedRecords {
        let before = self.clone();
        let mut merged = MergedRecords::default();
        for (family, known, reply) in [("A", &mut self.v4, v4), ("AAAA", &mut self.v6, v6)] {
            match reply {
                DnsReply::Records(records, ttl) => {
                    let (usable, others): (BTreeSet<_>, BTreeSet<_>) =
                        records.into_iter().partition(|ip| is_unicast(*ip));
                    merged
                        .wrong
                        .extend(others.iter().map(|ip| format!("{name} ({family}): {ip} is no host's address")));
                    *known = usable;
                    merged.limit_ttl(ttl);
                }
                DnsReply::Nothing => known.clear(),
                DnsReply::Failed(why) => merged.wrong.push(format!("{name} ({family}): {why}")),
            }
        }
        if self.iter().next().is_none() {
            *self = before;
            if merged.wrong.is_empty() {
                merged.wrong.push(format!("{name}: has no address"));
            }
        }
        merged
    }

    /// All addresses, sorted: servers rotate the order with each answer.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.v4.iter().chain(&self.v6).copied()
    }

    /// The backends at a port, all with weight 1 and tier 0.
    pub fn backends(&self, port: u16) -> Vec<BackendSettings> {
        self.iter().map(|ip| backend(SocketAddr::new(ip, port), 1, 0)).collect()
    }
}

/// An SRV service: the last good records, and the addresses of their targets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SrvRecords {
    records: BTreeSet<SrvRecord>,
    targets: HashMap<String, AddressRecords>,
}

impl SrvRecords {
    /// Merges the answer to the SRV query. Also returns the targets to look up next.
    pub fn take(&mut self, name: &str, reply: DnsReply<SrvRecord>) -> (MergedRecords, BTreeSet<String>) {
        let mut merged = MergedRecords::default();
        match reply {
            DnsReply::Records(records, ttl) => {
                merged.limit_ttl(ttl);
                // The target `.` means that the service is not available (RFC 2782).
                let records: BTreeSet<_> = records.into_iter().filter(|record| record.target != ".").collect();
                if records.is_empty() {
                    merged.wrong.push(format!("{name}: the service is not available"));
                } else {
                    self.records = records;
                }
            }
            DnsReply::Nothing => merged.wrong.push(format!("{name}: has no SRV record")),
            DnsReply::Failed(why) => merged.wrong.push(format!("{name} (SRV): {why}")),
        }
        let targets: BTreeSet<_> = self.records.iter().map(|record| record.target.clone()).collect();
        self.targets.retain(|target, _| targets.contains(target));
        (merged, targets)
    }

    /// Merges the address answers of one target.
    pub fn take_target(&mut self, target: &str, v4: DnsReply<IpAddr>, v6: DnsReply<IpAddr>) -> MergedRecords {
        self.targets.entry(target.to_owned()).or_default().take(target, v4, v6)
    }

    /// The backends: each address of each target once, priorities as tiers from 0, weights scaled per tier.
    pub fn backends(&self) -> Vec<BackendSettings> {
        let priorities: BTreeSet<u16> = self.records.iter().map(|record| record.priority).collect();
        let mut by_address: BTreeMap<SocketAddr, (u8, u64)> = BTreeMap::new();
        for (tier, priority) in priorities.into_iter().enumerate() {
            let tier = u8::try_from(tier).unwrap_or(u8::MAX);
            for record in self.records.iter().filter(|record| record.priority == priority) {
                for ip in self.targets.get(&record.target).into_iter().flat_map(AddressRecords::iter) {
                    let at = SocketAddr::new(ip, record.port);
                    // An address in two tiers serves in the first. An address twice in one tier gets the sum of both
                    // weights.
                    let (_, sum) = *by_address.get(&at).unwrap_or(&(tier, 0));
                    if by_address.get(&at).is_none_or(|(known, _)| *known == tier) {
                        by_address.insert(at, (tier, sum + u64::from(record.weight)));
                    }
                }
            }
        }
        let mut all = Vec::new();
        for tier in by_address.values().map(|(tier, _)| *tier).collect::<BTreeSet<_>>() {
            let of_tier: Vec<_> = by_address.iter().filter(|(_, (of, _))| *of == tier).collect();
            let weights = scale(&of_tier.iter().map(|(_, (_, weight))| *weight).collect::<Vec<_>>());
            all.extend(of_tier.iter().zip(weights).map(|((at, _), weight)| backend(**at, weight, tier)));
        }
        all
    }
}

/// Scales SRV weights (0 to 65,535, 0 for "a very small chance") to 1 to 256, in proportion. Backend weight 0 would
/// take no requests, so an SRV weight of 0 becomes 1. If all are 0, all get 1.
pub fn scale(weights: &[u64]) -> Vec<u16> {
    let heaviest = weights.iter().copied().max().unwrap_or(0);
    if heaviest == 0 {
        return vec![1; weights.len()];
    }
    // Weights that fit are not scaled, so that the displayed weights are those of the zone.
    let stretch = heaviest > MAX_WEIGHT || weights.contains(&0);
    let mut top = if stretch { MAX_WEIGHT } else { heaviest };
    loop {
        let one = |weight: u64| (weight * top + heaviest / 2) / heaviest;
        let scaled: Vec<u64> = weights.iter().map(|weight| one(*weight).clamp(1, MAX_WEIGHT)).collect();
        if top == 1 || scaled.iter().sum::<u64>() <= MAX_SEQUENCE_LENGTH {
            return scaled.into_iter().map(|weight| u16::try_from(weight).unwrap_or(1)).collect();
        }
        top /= 2;
    }
}

/// Builds the result: truncates a list that is too long; an empty list becomes `None`.
pub fn to_result(mut list: Vec<BackendSettings>, merged: MergedRecords) -> DiscoveryResult {
    let MergedRecords { mut wrong, ttl } = merged;
    if list.len() > MAX_BACKENDS {
        wrong.push(format!("{} addresses; the first {MAX_BACKENDS} are taken", list.len()));
        list.truncate(MAX_BACKENDS);
    }
    DiscoveryResult { list: Some(list).filter(|list| !list.is_empty()), wrong, ttl }
}

fn backend(at: SocketAddr, weight: u16, tier: u8) -> BackendSettings {
    BackendSettings { name: None, address: BackendAddress::Socket(at), weight, tier }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "answer_tests.rs"]
mod tests;
