//! Who the client is, and how backends are told: X-Forwarded-For, -Proto, -Host and X-Real-IP, or Forwarded (RFC 7239).
//!
//! It never believes a field from a peer outside `trusted_proxies`, and never one of the family that is not chosen: a
//! trusted proxy that keeps only the other family passes what its own clients write there. A field that Weir vouches for
//! is removed in every spelling that CGI takes for the same name (`policy::cgi_name`).

mod agree;

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::config::schema::Forwarded;
use crate::config::values::Cidr;
use crate::policy::cgi_name;
use crate::policy::framing::is_token;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Entries of a list that are looked at, from its end.
const HOPS: usize = 32;

/// What the names of fields begin with that tell of a client's certificate.
const CLIENT_CERT: &str = "x-client-cert-";

/// `forwarded` and `trusted_proxies`, compiled.
/// What the names of the X-Forwarded fields begin with.
const X_FORWARDED: &str = "x-forwarded-";

#[derive(Debug, Clone)]
pub struct Forwarding {
    family: Forwarded,
    trusted: Box<[Cidr]>,
}

/// What is known of the hop from the peer to Weir.
#[derive(Debug, Clone, Copy)]
pub struct Hop<'a> {
    /// The other end of the connection.
    pub peer: IpAddr,
    /// The same as text, made once a connection.
    pub peer_text: &'a HeaderValue,
    /// Who the client is: `client_address`'s answer.
    pub client: IpAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Host or `:authority` as the client sent it.
    pub host: Option<&'a HeaderValue>,
}

impl Forwarding {
    /// From the document.
    pub fn new(family: Forwarded, trusted: &[Cidr]) -> Self {
        Self { family, trusted: trusted.into() }
    }

    /// Whether what this address says of clients is believed.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(address))
    }

    /// The client's address: the right-most one of the list that is not a trusted proxy's, if the peer is one.
    ///
    /// Walks at most 32 entries; an entry that is no address ends the walk at the proxy that wrote it.
    pub fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return peer;
        }
        let hops = match self.family {
            Forwarded::Rfc7239 => rfc7239_hops(headers),
            Forwarded::Both if !headers.contains_key("x-forwarded-for") => rfc7239_hops(headers),
            Forwarded::XForwarded | Forwarded::Both => x_forwarded_hops(headers),
        };
        let mut client = peer;
        for hop in hops {
            let Some(address) = hop else { break };
            client = address;
            if !self.trusts(address) {
                break;
            }
        }
        client
    }

    /// Whether the peer is a trusted proxy and says that its client came over TLS.
    pub fn says_https(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        if !self.trusts(peer.to_canonical()) {
            return false;
        }
        let https = |value: &[u8]| unquote(value.trim_ascii()).eq_ignore_ascii_case(b"https");
        // The first entry of either is of the hop from the client.
        let first = |name: &str| Some(*split_unquoted(headers.get(name)?.as_bytes(), b',').first()?);
        let x_forwarded = || first("x-forwarded-proto").is_some_and(https);
        let proto = |pair: &[u8]| {
            let at = pair.iter().position(|b| *b == b'=')?;
            pair[..at].trim_ascii().eq_ignore_ascii_case(b"proto").then(|| https(&pair[at + 1..]))
        };
        let rfc7239 =
            || first("forwarded").and_then(|element| split_unquoted(element, b';').into_iter().find_map(proto));
        match self.family {
            Forwarded::XForwarded => x_forwarded(),
            Forwarded::Rfc7239 => rfc7239() == Some(true),
            Forwarded::Both => x_forwarded() || rfc7239() == Some(true),
        }
    }

    /// Writes the chosen families for a backend. What an untrusted peer sent of them is replaced, what a trusted one
    /// sent is appended to; Proto and Host, which are no lists, stay as a trusted peer sent them.
    pub fn apply(&self, headers: &mut HeaderMap, hop: &Hop<'_>) {
        let trusted = self.trusts(hop.peer);
        let x_forwarded = self.family != Forwarded::Rfc7239;
        let rfc7239 = self.family != Forwarded::XForwarded;
        remove(headers, |family| match family {
            Family::X => !(trusted && x_forwarded),
            Family::Rfc7239 => !(trusted && rfc7239),
            Family::Other => !trusted,
            Family::Stray => true,
        });
        if x_forwarded {
            write_x_forwarded(headers, hop, trusted);
        }
        if rfc7239 {
            append(headers, &header::FORWARDED, element(hop));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    X,
    Rfc7239,
    /// What else begins with `X-Forwarded-`: Port, Server, User… Trusted proxies may have a use for it, nobody else.
    Other,
    /// Nobody's to send: what a handshake says of the client, and underscores, as CGI-like backends cannot tell such a
    /// name from ours.
    Stray,
}

/// Which family a field belongs to. One look at each name the request has is cheaper than a look-up for each it may
/// have.
fn family(name: &HeaderName) -> Option<Family> {
    let name = name.as_str();
    match name {
        "forwarded" => return Some(Family::Rfc7239),
        "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" | "x-real-ip" => return Some(Family::X),
        _ if name.starts_with(CLIENT_CERT) => return Some(Family::Stray),
        _ if name.starts_with("x-forwarded-") => {}
        _ if name.starts_with('x') && name.contains('_') => {}
        _ => return None,
    }
    if !cgi_name::is_alias(name) {
        return name.starts_with(X_FORWARDED).then_some(Family::Other);
    }
    let whole = [X_REAL_IP.as_str(), request_id::NAME.as_str()];
    let ours = [X_FORWARDED, CLIENT_CERT].iter().any(|prefix| cgi_name::begins(name, prefix))
        || whole.iter().any(|known| cgi_name::same(name, known));
    ours.then_some(Family::Stray)
}

fn remove(headers: &mut HeaderMap, goes: impl Fn(Family) -> bool) {
    let found = |headers: &HeaderMap| headers.keys().find(|name| family(name).is_some_and(&goes)).cloned();
    // Each round takes one name away with all its values, so it ends.
    while let Some(name) = found(headers) {
        headers.remove(&name);
    }
}

fn write_x_forwarded(headers: &mut HeaderMap, hop: &Hop<'_>, trusted: bool) {
    let peer = hop.peer_text.clone();
    let client = if hop.client == hop.peer { peer.clone() } else { text_of(hop.client) };
    headers.insert(&X_REAL_IP, client);
    // Of an untrusted peer's fields none is left: there is nothing to look for.
    let has = |headers: &HeaderMap, name: &HeaderName| trusted && headers.contains_key(name);
    if has(headers, &X_FORWARDED_FOR) {
        append(headers, &X_FORWARDED_FOR, Some(peer));
    } else {
        headers.insert(&X_FORWARDED_FOR, peer);
    }
    if !has(headers, &X_FORWARDED_PROTO) {
        headers.insert(&X_FORWARDED_PROTO, HeaderValue::from_static(hop.scheme));
    }
    if !has(headers, &X_FORWARDED_HOST)
        && let Some(host) = hop.host
    {
        headers.insert(&X_FORWARDED_HOST, host.clone());
    }
}

/// Adds to the end of the list: into the one field there is, as software that reads but the first line is common.
fn append(headers: &mut HeaderMap, name: &'static HeaderName, entry: Option<HeaderValue>) {
    let Some(entry) = entry else { return };
    let mut list = Vec::new();
    for line in headers.get_all(name) {
        list.extend_from_slice(line.as_bytes());
        list.extend_from_slice(b", ");
    }
    if list.is_empty() {
        headers.insert(name, entry);
        return;
    }
    list.extend_from_slice(entry.as_bytes());
    let list = HeaderValue::from_maybe_shared(Bytes::from(list));
    headers.insert(name, list.unwrap_or(entry));
}

/// An address as a field's value; IPv4-mapped ones as IPv4.
pub fn text_of(address: IpAddr) -> HeaderValue {
    value(address.to_canonical().to_string()).expect("an address is printable ASCII")
}

fn value(text: String) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
}

/// RFC 7239 section 4: `for=…;host=…;proto=…`. Values that are no tokens are quoted, IPv6 addresses bracketed (section
/// 6). `by` stays out: which address took the request is not the backend's business (section 8.3).
fn element(hop: &Hop<'_>) -> Option<HeaderValue> {
    let mut text = String::with_capacity(96);
    let _ = match hop.peer.to_canonical() {
        IpAddr::V4(v4) => write!(text, "for={v4}"),
        IpAddr::V6(v6) => write!(text, "for=\"[{v6}]\""),
    };
    match hop.host.and_then(|host| host.to_str().ok()) {
        // Hosts that `policy::host` lets through have neither quotes nor backslashes.
        Some(host) if host.bytes().any(|b| b == b'"' || b == b'\\') => {}
        Some(host) if is_token(host.as_bytes()) => text.extend([";host=", host]),
        Some(host) => text.extend([";host=\"", host, "\""]),
        None => {}
    }
    text.extend([";proto=", hop.scheme]);
    value(text)
}

/// The addresses of X-Forwarded-For from its end; `None` for an entry that is none. Nothing is allocated for it.
fn x_forwarded_hops(headers: &HeaderMap) -> Box<dyn Iterator<Item = Option<IpAddr>> + '_> {
    let entries =
        headers.get_all("x-forwarded-for").iter().rev().flat_map(|line| line.as_bytes().rsplit(|b| *b == b','));
    Box::new(entries.take(HOPS).map(|entry| address(entry.trim_ascii())))
}

/// The `for` of each element of Forwarded, from its end.
fn rfc7239_hops(headers: &HeaderMap) -> Box<dyn Iterator<Item = Option<IpAddr>> + '_> {
    let elements = headers.get_all("forwarded").iter().rev().flat_map(|line| {
        let mut elements = split_unquoted(line.as_bytes(), b',');
        elements.reverse();
        elements
    });
    Box::new(elements.take(HOPS).map(|element| {
        split_unquoted(element, b';').into_iter().find_map(|pair| {
            let at = pair.iter().position(|b| *b == b'=')?;
            let (name, value) = (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii());
            name.eq_ignore_ascii_case(b"for").then(|| address(unquote(value))).flatten()
        })
    }))
}

/// Splits where the separator stands outside quotes (RFC 9110 section 5.6.4).
fn split_unquoted(text: &[u8], separator: u8) -> Vec<&[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(|&byte| {
        let splits = byte == separator && !quoted;
        (quoted, escaped) = match byte {
            _ if escaped => (quoted, false),
            b'\\' if quoted => (quoted, true),
            b'"' => (!quoted, false),
            _ => (quoted, false),
        };
        splits
    })
    .collect()
}

/// Addresses need no escapes, so one that has some is no address.
fn unquote(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or(value)
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
#[path = "forwarded_tests.rs"]
mod tests;
