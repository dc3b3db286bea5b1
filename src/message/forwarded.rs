//! The client's address, and the fields that report it to backends: X-Forwarded-For, -Proto, -Host and X-Real-IP, or
//! Forwarded (RFC 7239).
//!
//! It never trusts a field from a peer outside `trusted_proxies`. There are two families of fields: X-Forwarded and
//! Forwarded. A family that is not configured is never trusted. A trusted proxy may write one family only, and pass on
//! the other as its clients sent it.
//!
//! A field that Weir writes is also removed under every name that CGI maps to the same name (`message::cgi_name`).

mod combined;

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::config::schema::Forwarded;
use crate::config::values::Cidr;
use crate::message::cgi_name;
use crate::message::request_framing::is_token;
use crate::message::request_id;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The maximum of list entries that are read, from the end of the list.
const MAX_HOPS: usize = 32;

/// The prefix of the fields that describe a client certificate.
const CLIENT_CERT: &str = "x-client-cert-";

/// The field that marks a copy of a request for a mirror.
const MIRROR: &str = "x-weir-mirror";

/// The prefix of the X-Forwarded fields.
const X_FORWARDED: &str = "x-forwarded-";

/// `forwarded` and `trusted_proxies`, compiled.
#[derive(Debug, Clone)]
pub struct ForwardedHeaders {
    family: Forwarded,
    trusted: Box<[Cidr]>,
}

/// The hop from the peer to Weir.
#[derive(Debug, Clone, Copy)]
pub struct Hop<'a> {
    /// The address of the connection's peer.
    pub peer: IpAddr,
    /// The peer's address as text, created once per connection.
    pub peer_text: &'a HeaderValue,
    /// The client's address, as `client_address` returns it.
    pub client: IpAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Host or `:authority` as the client sent it.
    pub host: Option<&'a HeaderValue>,
}

impl ForwardedHeaders {
    /// Creates the settings.
    pub fn new(family: Forwarded, trusted: &[Cidr]) -> Self {
        Self { family, trusted: trusted.into() }
    }

    /// Whether this address is a trusted proxy.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(address))
    }

    /// The client's address. If the peer is a trusted proxy, it is the right-most address of the list that is not a
    /// trusted proxy. Otherwise it is the peer's.
    ///
    /// It reads 32 entries at most. An entry that is not an address ends the search, and the proxy that wrote the entry
    /// counts as the client.
    pub fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return peer;
        }
        let hops = match self.family {
            Forwarded::Rfc7239 => rfc7239_hops(headers),
            Forwarded::Both if !has_x_forwarded_for(headers) => rfc7239_hops(headers),
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

    /// Whether the peer is a trusted proxy and reports that its client used TLS.
    pub fn says_https(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        if !self.trusts(peer.to_canonical()) {
            return false;
        }
        let is_https = |value: &[u8]| value.eq_ignore_ascii_case(b"https");
        // In both families the first entry describes the hop from the client.
        let x_forwarded = || entries(headers, &X_FORWARDED_PROTO).next().is_some_and(|first| is_https(unquote(first)));
        let rfc7239 = || elements(headers).next().and_then(|first| parameter(first, b"proto")).is_some_and(is_https);
        match self.family {
            Forwarded::XForwarded => x_forwarded(),
            Forwarded::Rfc7239 => rfc7239(),
            Forwarded::Both if has_x_forwarded_for(headers) || elements(headers).next().is_none() => x_forwarded(),
            Forwarded::Both => rfc7239(),
        }
    }

    /// Writes the configured families for a backend. Fields of an untrusted peer are replaced, and lists of a trusted
    /// peer are appended to. Proto and Host are not lists, so those of a trusted peer stay. If both families are
    /// configured, they have the same content.
    pub fn apply(&self, headers: &mut HeaderMap, hop: &Hop<'_>) {
        let trusted = self.trusts(hop.peer);
        let x_forwarded = self.family != Forwarded::Rfc7239;
        let rfc7239 = self.family != Forwarded::XForwarded;
        remove(headers, |family| match family {
            ForwardedFamily::X => !(trusted && x_forwarded),
            ForwardedFamily::Rfc7239 => !(trusted && rfc7239),
            ForwardedFamily::Other => !trusted,
            ForwardedFamily::Stray => true,
        });
        if trusted && x_forwarded && rfc7239 {
            return combined::write(headers, hop);
        }
        if x_forwarded {
            write_x_forwarded(headers, hop, trusted);
        }
        if rfc7239 {
            append(headers, &header::FORWARDED, element(hop));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ForwardedFamily {
    X,
    Rfc7239,
    /// Other fields that begin with `X-Forwarded-`, such as Port, Server or User, and the mark of a copy. Only trusted
    /// proxies may send them.
    Other,
    /// Removed from every request: fields that describe a client certificate, and CGI aliases of the names that Weir
    /// writes.
    Stray,
}

/// The family of a field. One check of each existing name is cheaper than a look-up for each possible name.
fn family(name: &HeaderName) -> Option<ForwardedFamily> {
    let name = name.as_str();
    match name {
        "forwarded" => return Some(ForwardedFamily::Rfc7239),
        "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" | "x-real-ip" => return Some(ForwardedFamily::X),
        _ if !name.starts_with('x') => return None,
        _ if name.starts_with(CLIENT_CERT) => return Some(ForwardedFamily::Stray),
        _ => {}
    }
    if !cgi_name::is_alias(name) {
        return (name.starts_with(X_FORWARDED) || name == MIRROR).then_some(ForwardedFamily::Other);
    }
    let whole = [X_REAL_IP.as_str(), request_id::NAME.as_str(), MIRROR];
    let ours = [X_FORWARDED, CLIENT_CERT].iter().any(|prefix| cgi_name::begins(name, prefix))
        || whole.iter().any(|known| cgi_name::same(name, known));
    ours.then_some(ForwardedFamily::Stray)
}

fn remove(headers: &mut HeaderMap, goes: impl Fn(ForwardedFamily) -> bool) {
    let next = |headers: &HeaderMap| headers.keys().find(|name| family(name).is_some_and(&goes)).cloned();
    // Each round removes one name with all its values, so the loop ends.
    while let Some(name) = next(headers) {
        headers.remove(&name);
    }
}

fn write_x_forwarded(headers: &mut HeaderMap, hop: &Hop<'_>, trusted: bool) {
    let peer = hop.peer_text.clone();
    let client = if hop.client == hop.peer { peer.clone() } else { text_of(hop.client) };
    headers.insert(&X_REAL_IP, client);
    // The fields of an untrusted peer have been removed already, so no look-up is needed.
    let has = |headers: &HeaderMap, name: &HeaderName| trusted && entries(headers, name).next().is_some();
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

/// Appends an entry to the list. It joins the list into one field line, because much software reads only the first
/// line.
fn append(headers: &mut HeaderMap, name: &'static HeaderName, entry: Option<HeaderValue>) {
    let Some(entry) = entry else { return };
    let mut list = Vec::new();
    let mut add = |member: &[u8]| {
        list.extend_from_slice(member);
        list.extend_from_slice(b", ");
    };
    if *name == header::FORWARDED {
        elements(headers).for_each(&mut add);
    } else {
        entries(headers, name).for_each(&mut add);
    }
    if list.is_empty() {
        headers.insert(name, entry);
        return;
    }
    list.extend_from_slice(entry.as_bytes());
    let list = HeaderValue::from_maybe_shared(Bytes::from(list));
    headers.insert(name, list.unwrap_or(entry));
}

/// An address as a field value. IPv4-mapped addresses become IPv4.
pub fn text_of(address: IpAddr) -> HeaderValue {
    value(address.to_canonical().to_string()).expect("an address is printable ASCII")
}

fn value(text: String) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
}

/// Weir's own element: `for=…;host=…;proto=…`. It has no `by`, because a backend does not need the address that
/// accepted the request (RFC 7239 section 8.3).
fn element(hop: &Hop<'_>) -> Option<HeaderValue> {
    let mut text = String::with_capacity(96);
    add_element(&mut text, Some(hop.peer), hop.host.and_then(|host| host.to_str().ok()), Some(hop.scheme));
    value(text)
}

/// Appends an element (RFC 7239 section 4). Values that are not tokens are quoted, and IPv6 addresses are in brackets
/// (section 6).
fn add_element(list: &mut String, client: Option<IpAddr>, host: Option<&str>, proto: Option<&str>) {
    if !list.is_empty() {
        list.push_str(", ");
    }
    let _ = match client.map(|address| address.to_canonical()) {
        Some(IpAddr::V4(v4)) => write!(list, "for={v4}"),
        Some(IpAddr::V6(v6)) => write!(list, "for=\"[{v6}]\""),
        None => write!(list, "for=unknown"),
    };
    let plain = |byte: u8| (byte.is_ascii_graphic() || byte == b' ') && byte != b'"' && byte != b'\\';
    match host {
        Some(host) if is_token(host.as_bytes()) => list.extend([";host=", host]),
        // A host that passed `message::host` has no quotes and no backslashes. A host that a proxy reports may have
        // them.
        Some(host) if host.bytes().all(plain) => list.extend([";host=\"", host, "\""]),
        Some(_) | None => {}
    }
    if let Some(proto) = proto.filter(|proto| is_token(proto.as_bytes())) {
        list.extend([";proto=", proto]);
    }
}

/// The entries of an X-Forwarded field over all its field lines, without empty ones (RFC 9110 section 5.6.1.2). It does
/// not allocate.
fn entries<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl DoubleEndedIterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
    lines.flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty())
}

/// The elements of Forwarded over all its field lines, without empty ones.
fn elements(headers: &HeaderMap) -> impl DoubleEndedIterator<Item = &[u8]> {
    let lines = headers.get_all(&header::FORWARDED).into_iter().map(HeaderValue::as_bytes);
    let elements = lines.flat_map(|line| split_unquoted(line, b','));
    elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// A parameter of a Forwarded element, without its quotes.
fn parameter<'a>(element: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    split_unquoted(element, b';').into_iter().find_map(|pair| {
        let at = pair.iter().position(|b| *b == b'=')?;
        let (name, value) = (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii());
        name.eq_ignore_ascii_case(wanted).then(|| unquote(value))
    })
}

/// Whether X-Forwarded-For has an entry. If both families are configured, X-Forwarded is used then.
fn has_x_forwarded_for(headers: &HeaderMap) -> bool {
    entries(headers, &X_FORWARDED_FOR).next().is_some()
}

/// The addresses of X-Forwarded-For, from its end. `None` for an entry that is not an address.
fn x_forwarded_hops(headers: &HeaderMap) -> Box<dyn Iterator<Item = Option<IpAddr>> + '_> {
    Box::new(entries(headers, &X_FORWARDED_FOR).rev().take(MAX_HOPS).map(address))
}

/// The `for` address of each Forwarded element, from its end. `None` if it is not an address.
fn rfc7239_hops(headers: &HeaderMap) -> Box<dyn Iterator<Item = Option<IpAddr>> + '_> {
    Box::new(elements(headers).rev().take(MAX_HOPS).map(|element| parameter(element, b"for").and_then(address)))
}

/// Splits at separators outside quotes (RFC 9110 section 5.6.4). If a quote is not closed, all quotes are ignored.
/// Otherwise a client could hide the entry of a proxy behind an open quote.
fn split_unquoted(text: &[u8], separator: u8) -> Vec<&[u8]> {
    if !is_closed(text) {
        return text.split(|byte| *byte == separator).collect();
    }
    let mut quotes = Quotes::default();
    text.split(|&byte| !quotes.takes(byte) && byte == separator).collect()
}

/// Whether all quotes are closed.
fn is_closed(text: &[u8]) -> bool {
    let mut quotes = Quotes::default();
    for byte in text {
        quotes.takes(*byte);
    }
    !quotes.quoted
}

/// The quoting state at a position of a text.
#[derive(Default)]
struct Quotes {
    quoted: bool,
    escaped: bool,
}

impl Quotes {
    /// Processes the next byte. Returns whether it is inside quotes.
    fn takes(&mut self, byte: u8) -> bool {
        let between = self.quoted;
        (self.quoted, self.escaped) = match byte {
            _ if self.escaped => (self.quoted, false),
            b'\\' if self.quoted => (self.quoted, true),
            b'"' => (!self.quoted, false),
            _ => (self.quoted, false),
        };
        between
    }
}

/// Removes the quotes. It does not process escapes: addresses need none, so a value with escapes is not an address.
fn unquote(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or(value)
}

/// Parses `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
#[path = "forwarded_tests.rs"]
mod tests;
