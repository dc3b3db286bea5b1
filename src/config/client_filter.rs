//! The networks of `allow` and `deny`, compiled: decides whether a client address passes. Also parses files of networks.

use std::net::IpAddr;
use std::path::Path;

use super::network_set::NetworkSet;
use super::schema::Networks;
use super::values::Cidr;

/// `allow` and `deny` of a listener or a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFilter {
    /// `None`: all clients.
    allow: Option<NetworkSet>,
    deny: NetworkSet,
}

/// The key that refuses a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedBy {
    /// `allow` does not list it.
    Allow,
    /// `deny` lists it.
    Deny,
}

impl ClientFilter {
    /// Compiles both keys; `None` if they let every client pass. `file` returns the content of a file.
    ///
    /// # Errors
    /// A file is missing or has a bad line, although both were checked.
    pub fn compile(
        allow: &Networks,
        deny: &Networks,
        file: &dyn Fn(&Path) -> Option<Vec<u8>>,
    ) -> Result<Option<Self>, String> {
        let (allowed, deny) = (set(allow, file)?, set(deny, file)?);
        let allow = Some(allowed).filter(|_| !allow.is_empty_list());
        Ok((allow.is_some() || !deny.is_empty()).then_some(Self { allow, deny }))
    }

    /// The key that refuses a client with this address.
    pub fn refuses(&self, client: IpAddr) -> Option<RefusedBy> {
        if self.deny.contains(client) {
            return Some(RefusedBy::Deny);
        }
        let unlisted = self.allow.as_ref().is_some_and(|allow| !allow.contains(client));
        unlisted.then_some(RefusedBy::Allow)
    }

    /// Whether a connection from this peer is refused. A trusted proxy is not the client, so only `deny` applies to it:
    /// each of its requests is checked with its own client address.
    pub fn refuses_peer(&self, peer: IpAddr, trusted: &[Cidr]) -> bool {
        match self.refuses(peer) {
            None => false,
            Some(RefusedBy::Deny) => true,
            Some(RefusedBy::Allow) => !trusted.iter().any(|network| network.contains(peer)),
        }
    }
}

fn set(networks: &Networks, file: &dyn Fn(&Path) -> Option<Vec<u8>>) -> Result<NetworkSet, String> {
    match networks {
        Networks::List(list) => Ok(NetworkSet::new(list.iter().copied())),
        Networks::File(path) => {
            let bytes = file(path).ok_or_else(|| format!("{} was not read", path.display()))?;
            let listed = networks_in(&bytes).map_err(|bad| format!("{}: {}", path.display(), bad[0]))?;
            Ok(NetworkSet::new(listed))
        }
    }
}

/// A line of a file of networks that is not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct BadLine {
    /// From 1.
    pub line: usize,
    /// The problem.
    pub what: String,
}

/// The networks in a file: one per line. A comment begins with `#`, and empty lines do not count.
///
/// # Errors
/// All bad lines, at least one.
pub fn networks_in(bytes: &[u8]) -> Result<Vec<Cidr>, Vec<BadLine>> {
    let (mut networks, mut bad) = (Vec::new(), Vec::new());
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = String::from_utf8_lossy(line);
        let text = line.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        match text.parse() {
            Ok(network) => networks.push(network),
            Err(what) => bad.push(BadLine { line: index + 1, what }),
        }
    }
    if bad.is_empty() { Ok(networks) } else { Err(bad) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn filter(allow: &str, deny: &str) -> Option<ClientFilter> {
        let [allow, deny] = [allow, deny].map(|yaml| serde_yaml::from_str::<Networks>(yaml).unwrap());
        ClientFilter::compile(&allow, &deny, &|_| Some(b"10.9.0.0/16 # lab\n\n# none\n".to_vec())).unwrap()
    }

    #[test]
    fn deny_takes_precedence_over_allow_and_an_allow_denies_the_rest() {
        let by = |allow, deny, ip: &str| filter(allow, deny).and_then(|filter| filter.refuses(ip.parse().unwrap()));
        assert_eq!(filter("[]", "[]"), None);
        assert_eq!(by("[10.0.0.0/8]", "[10.1.0.0/16]", "10.2.0.1"), None);
        assert_eq!(by("[10.0.0.0/8]", "[10.1.0.0/16]", "10.1.0.1"), Some(RefusedBy::Deny));
        assert_eq!(by("[10.0.0.0/8]", "[]", "11.0.0.1"), Some(RefusedBy::Allow));
        assert_eq!(by("[10.0.0.0/8]", "[]", "fd00::1"), Some(RefusedBy::Allow));
        assert_eq!(by("[]", "{ file: f }", "10.9.1.1"), Some(RefusedBy::Deny));
        assert_eq!(by("{ file: f }", "[]", "10.8.1.1"), Some(RefusedBy::Allow));
    }

    #[test]
    fn a_trusted_proxy_may_connect_unless_it_is_denied() {
        let (proxy, trusted) = ("192.0.2.1".parse().unwrap(), ["192.0.2.0/24".parse().unwrap()]);
        assert!(!filter("[10.0.0.0/8]", "[]").unwrap().refuses_peer(proxy, &trusted));
        assert!(filter("[10.0.0.0/8]", "[]").unwrap().refuses_peer(proxy, &[]));
        assert!(filter("[10.0.0.0/8]", "[192.0.2.1]").unwrap().refuses_peer(proxy, &trusted));
    }

    #[test]
    fn each_bad_line_of_a_file_is_reported_with_its_number() {
        assert_eq!(networks_in(b"\xef\xbb\xbf10.0.0.1\r\n # all\nfd00::/8#x").unwrap().len(), 2);
        let bad = networks_in(b"10.0.0.0/8\nnowhere\n10.0.0.0/33\n\xff\n").unwrap_err();
        assert_eq!(bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [2, 3, 4]);
    }
}
