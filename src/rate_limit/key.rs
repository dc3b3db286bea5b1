//! The key of a bucket: the part of a request that a limit counts by.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

/// Characters of a header field or a cookie that are shown to the operator.
const SHOWN_CHARS: usize = 4;

/// Longest name that a label keeps, in bytes: the maximum length of a host name.
const MAX_NAME_BYTES: usize = 253;

/// The value of a key in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyValue<'a> {
    /// The client's address or network.
    Address(IpAddr),
    /// The value of a header field or of a cookie. It may be a secret.
    Secret(&'a [u8]),
    /// A host.
    Host(&'a str),
    /// The same bucket for all requests of a route.
    Route(&'a str),
    /// The verified sender, or a claim of its token.
    Identity(&'a str),
}

/// A key, hashed with a secret of this process. A client cannot choose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyHash(u64);

/// The secret of the hashes. Buckets that pass to another process keep their hashes, so the secret passes too.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashSecret(u64, u64);

static SECRET: OnceLock<HashSecret> = OnceLock::new();

/// A key as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyLabel {
    /// An address in clear.
    Address(IpAddr),
    /// The first characters of a value that may be a secret.
    Secret([u8; SHOWN_CHARS]),
    /// A name in clear.
    Name(Box<str>),
}

impl KeyValue<'_> {
    /// The hash of the value.
    pub fn hash(&self) -> KeyHash {
        let secret = HashSecret::of_process();
        KeyHash(match self {
            Self::Address(IpAddr::V4(address)) => secret.hash_one(address.to_bits()),
            Self::Address(IpAddr::V6(address)) => secret.hash_one(address.to_bits()),
            Self::Secret(value) => secret.hash_one((0u8, value)),
            Self::Host(name) => secret.hash_one((1u8, name)),
            Self::Route(name) => secret.hash_one((2u8, name)),
            Self::Identity(name) => secret.hash_one((3u8, name)),
        })
    }

    /// The label of the value.
    pub fn label(&self) -> KeyLabel {
        match self {
            Self::Address(address) => KeyLabel::Address(*address),
            Self::Secret(value) => {
                let mut shown = [b' '; SHOWN_CHARS];
                for (to, from) in shown.iter_mut().zip(value.iter()) {
                    *to = if from.is_ascii_graphic() { *from } else { b'?' };
                }
                KeyLabel::Secret(shown)
            }
            Self::Host(name) | Self::Route(name) | Self::Identity(name) => {
                let end = name.floor_char_boundary(MAX_NAME_BYTES);
                KeyLabel::Name(name[..end].into())
            }
        }
    }
}

impl HashSecret {
    /// The secret of this process. It is random unless the process has adopted another.
    pub fn of_process() -> Self {
        *SECRET.get_or_init(|| Self(RandomState::new().hash_one(0u8), RandomState::new().hash_one(1u8)))
    }

    /// Makes this the secret of the process. `false` if a key has been hashed before.
    pub fn adopt(self) -> bool {
        *SECRET.get_or_init(|| self) == self
    }

    fn hash_one(self, value: impl Hash) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.0, self.1);
        value.hash(&mut hasher);
        hasher.finish()
    }
}

impl fmt::Debug for HashSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashSecret")
    }
}

impl KeyHash {
    /// A hash from its number.
    #[cfg(test)]
    pub(super) fn new(hash: u64) -> Self {
        Self(hash)
    }

    /// The number, to choose a part of a table.
    pub(super) fn number(self) -> u64 {
        self.0
    }
}

impl KeyLabel {
    /// The label of a key of which only the hash is known.
    pub(super) const UNKNOWN: Self = Self::Secret(*b"?   ");

    /// The text for the operator. `prefix`: the length of IPv6 networks.
    pub fn text(&self, key: KeyHash, prefix: u8) -> String {
        match self {
            Self::Address(IpAddr::V6(network)) if prefix < 128 => format!("{network}/{prefix}"),
            Self::Address(address) => address.to_string(),
            Self::Secret(shown) => {
                let shown = String::from_utf8_lossy(shown);
                format!("{}… #{key}", shown.trim_end())
            }
            Self::Name(name) => name.to_string(),
        }
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The network of a client: the IPv4 address, or the first `prefix` bits of the IPv6 address. An IPv4-mapped address is
/// an IPv4 address.
pub fn network(client: IpAddr, prefix: u8) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
        v4 => v4,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_its_ipv4_address_or_its_ipv6_network() {
        for (client, prefix, want) in [
            ("192.0.2.1", 64, "192.0.2.1"),
            ("::ffff:192.0.2.1", 64, "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::"),
            ("2001:db8:1:2:3:4:5:6", 128, "2001:db8:1:2:3:4:5:6"),
            ("2001:db8:1:2:3:4:5:6", 0, "::"),
        ] {
            assert_eq!(network(client.parse().unwrap(), prefix), want.parse::<IpAddr>().unwrap(), "{client}");
        }
    }

    #[test]
    fn a_label_shows_no_more_than_four_characters_of_a_secret() {
        let value = KeyValue::Secret(b"sk-verysecret");
        let text = value.label().text(value.hash(), 64);
        assert!(text.starts_with("sk-v… #") && text.len() == "sk-v… #".len() + 16, "{text}");
        let other = KeyValue::Secret(b"sk-verysecrez");
        assert_ne!(value.hash(), other.hash());
        let v6 = KeyValue::Address("2001:db8::".parse().unwrap());
        assert_eq!(v6.label().text(v6.hash(), 64), "2001:db8::/64");
        assert_eq!(KeyValue::Secret(b"a\n").label(), KeyLabel::Secret(*b"a?  "));
    }

    #[test]
    fn values_of_different_kinds_have_different_hashes() {
        let values = [KeyValue::Secret(b"a"), KeyValue::Host("a"), KeyValue::Route("a"), KeyValue::Identity("a")];
        assert!(values.iter().enumerate().all(|(at, one)| values[..at].iter().all(|two| one.hash() != two.hash())));
    }
}
