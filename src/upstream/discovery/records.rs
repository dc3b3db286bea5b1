//! What the answers of DNS make of a list of backends. Pure: answers in, list out, with the last good answer kept for
//! what failed.
//!
//! A look never empties a list: where a name, or every target of a service, has no address any more, the last good ones
//! stay. That a zone is broken is likelier than that a service with traffic has no server, and if it has none, its
//! addresses fail by themselves. One family (A or AAAA) that goes while the other stays is believed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::DiscoveryResult;
use crate::config::schema::BackendSettings;
use crate::config::values::{BackendAddress, is_unicast};

/// The largest weight of a backend.
const MAX_WEIGHT: u64 = 256;

/// The longest sequence of weighted turns, and so the sum that weights are scaled to.
const MAX_SEQUENCE_LENGTH: u64 = 65_536;

/// More addresses than this are not taken: the rest of a longer list is left out, and said.
pub const MAX_BACKENDS: usize = 4_096;

/// What one question came to.
#[derive(Debug, Clone, PartialEq)]
pub enum DnsReply<T> {
    /// Records, and the smallest of their TTLs.
    Records(Vec<T>, Duration),
    /// There are none, by the word of a server: the name does not exist, or has none of this type.
    Nothing,
    /// Nobody knows: no answer in time, or an error.
    Failed(String),
}

/// What SRV says of a target (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SrvRecord {
    /// Where it is.
    pub target: String,
    /// On which port.
    pub port: u16,
    /// Lower ones serve first.
    pub priority: u16,
    /// Its share among those of its priority.
    pub weight: u16,
}

/// The addresses of one name, by the last good answer of each family.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AddressRecords {
    v4: BTreeSet<IpAddr>,
    v6: BTreeSet<IpAddr>,
}

/// What was wrong with an answer, and how long what was right may be relied on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MergedRecords {
    /// A line each.
    pub wrong: Vec<String>,
    /// The smallest TTL of the answers that came.
    pub ttl: Option<Duration>,
}

impl MergedRecords {
    fn holds(&mut self, ttl: Duration) {
        self.ttl = Some(self.ttl.map_or(ttl, |known| known.min(ttl)));
    }

    /// And what another answer came to.
    pub fn add(&mut self, other: Self) {
        self.wrong.extend(other.wrong);
        other.ttl.into_iter().for_each(|ttl| self.holds(ttl));
    }
}

impl AddressRecords {
    /// Takes the answers to the questions for A and AAAA.
    pub fn take(&mut self, name: &str, v4: DnsReply<IpAddr>, v6: DnsReply<IpAddr>) -> MergedRecords {
        let before = self.clone();
        let mut judged = MergedRecords::default();
        for (family, known, reply) in [("A", &mut self.v4, v4), ("AAAA", &mut self.v6, v6)] {
            match reply {
                DnsReply::Records(records, ttl) => {
                    let (usable, others): (BTreeSet<_>, BTreeSet<_>) =
                        records.into_iter().partition(|ip| is_unicast(*ip));
                    judged
                        .wrong
                        .extend(others.iter().map(|ip| format!("{name} ({family}): {ip} is no host's address")));
                    *known = usable;
                    judged.holds(ttl);
                }
                DnsReply::Nothing => known.clear(),
                DnsReply::Failed(why) => judged.wrong.push(format!("{name} ({family}): {why}")),
            }
        }
        if self.iter().next().is_none() {
            *self = before;
            if judged.wrong.is_empty() {
                judged.wrong.push(format!("{name}: has no address"));
            }
        }
        judged
    }

    /// All of them, in order: servers turn theirs round with each answer.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.v4.iter().chain(&self.v6).copied()
    }

    /// The backends at a port, all alike.
    pub fn backends(&self, port: u16) -> Vec<BackendSettings> {
        self.iter().map(|ip| backend(SocketAddr::new(ip, port), 1, 0)).collect()
    }
}

/// A service: the last good records, and the addresses of their targets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SrvRecords {
    records: BTreeSet<SrvRecord>,
    targets: HashMap<String, AddressRecords>,
}

impl SrvRecords {
    /// Takes the answer to the question for SRV; the targets that are to be asked for next.
    pub fn take(&mut self, name: &str, reply: DnsReply<SrvRecord>) -> (MergedRecords, BTreeSet<String>) {
        let mut judged = MergedRecords::default();
        match reply {
            DnsReply::Records(records, ttl) => {
                judged.holds(ttl);
                // `.` says that the service is decidedly not there.
                let records: BTreeSet<_> = records.into_iter().filter(|record| record.target != ".").collect();
                if records.is_empty() {
                    judged.wrong.push(format!("{name}: the service is not available"));
                } else {
                    self.records = records;
                }
            }
            DnsReply::Nothing => judged.wrong.push(format!("{name}: has no SRV record")),
            DnsReply::Failed(why) => judged.wrong.push(format!("{name} (SRV): {why}")),
        }
        let targets: BTreeSet<_> = self.records.iter().map(|record| record.target.clone()).collect();
        self.targets.retain(|target, _| targets.contains(target));
        (judged, targets)
    }

    /// Takes what became of one target.
    pub fn take_target(&mut self, target: &str, v4: DnsReply<IpAddr>, v6: DnsReply<IpAddr>) -> MergedRecords {
        self.targets.entry(target.to_owned()).or_default().take(target, v4, v6)
    }

    /// The backends: each address of each target once, priorities as tiers from 0 on, weights scaled by tier.
    pub fn backends(&self) -> Vec<BackendSettings> {
        let priorities: BTreeSet<u16> = self.records.iter().map(|record| record.priority).collect();
        let mut found: BTreeMap<SocketAddr, (u8, u64)> = BTreeMap::new();
        for (tier, priority) in priorities.into_iter().enumerate() {
            let tier = u8::try_from(tier).unwrap_or(u8::MAX);
            for record in self.records.iter().filter(|record| record.priority == priority) {
                for ip in self.targets.get(&record.target).into_iter().flat_map(AddressRecords::iter) {
                    let at = SocketAddr::new(ip, record.port);
                    // One address in two tiers serves in the first; twice in one tier it has both shares.
                    let (_, sum) = *found.get(&at).unwrap_or(&(tier, 0));
                    if found.get(&at).is_none_or(|(known, _)| *known == tier) {
                        found.insert(at, (tier, sum + u64::from(record.weight)));
                    }
                }
            }
        }
        let mut all = Vec::new();
        for tier in found.values().map(|(tier, _)| *tier).collect::<BTreeSet<_>>() {
            let of_tier: Vec<_> = found.iter().filter(|(_, (of, _))| *of == tier).collect();
            let weights = scale(&of_tier.iter().map(|(_, (_, weight))| *weight).collect::<Vec<_>>());
            all.extend(of_tier.iter().zip(weights).map(|((at, _), weight)| backend(**at, weight, tier)));
        }
        all
    }
}

/// The weights of SRV (0 to 65,535, 0 for "a very small chance") as ours (1 to 256; 0 would take no request at all): in
/// proportion, a 0 beside others as little as can be, and all of them 0 as all alike.
pub fn scale(weights: &[u64]) -> Vec<u16> {
    let heaviest = weights.iter().copied().max().unwrap_or(0);
    if heaviest == 0 {
        return vec![1; weights.len()];
    }
    // Kept as they are where they fit, so that what the zone says is what is shown.
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

/// A look at a list: too long a one is cut, an empty one is none.
pub fn look(mut list: Vec<BackendSettings>, judged: MergedRecords) -> DiscoveryResult {
    let MergedRecords { mut wrong, ttl } = judged;
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
