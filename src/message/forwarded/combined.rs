//! `forwarded: both` behind a trusted proxy: the X-Forwarded fields and Forwarded describe the same client.
//!
//! A proxy may write one family only, and pass on the other as its clients sent it. So only one family is trusted:
//! X-Forwarded if X-Forwarded-For has an entry, otherwise Forwarded. The other family is rewritten if it differs.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    Hop, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, X_REAL_IP, add_element, address, append, element,
    elements, entries, is_closed, parameter, text_of, value,
};

/// The proxy chain as one family describes it.
struct Chain {
    /// The addresses from the client on. A hidden or unreadable address is `None`.
    addresses: Vec<Option<IpAddr>>,
    /// The scheme that the client used.
    proto: Option<String>,
    /// The host that the client requested.
    host: Option<String>,
}

/// Writes both families.
pub(super) fn write(headers: &mut HeaderMap, hop: &Hop<'_>) {
    let (x, rfc7239) = (Chain::from_x_forwarded(headers), Chain::from_rfc7239(headers));
    let readable = is_readable(headers);
    if x.addresses.is_empty() && !rfc7239.addresses.is_empty() {
        rewrite_x_forwarded(headers, hop, &rfc7239);
        return if readable {
            append(headers, &header::FORWARDED, element(hop));
        } else {
            rewrite_rfc7239(headers, hop, &rfc7239);
        };
    }
    let whole = Chain {
        proto: x.proto.or_else(|| Some(hop.scheme.to_owned())),
        host: x.host.or_else(|| text(hop.host)),
        addresses: x.addresses,
    };
    super::write_x_forwarded(headers, hop, true);
    if readable && !whole.addresses.is_empty() && rfc7239.agrees_with(&whole) {
        append(headers, &header::FORWARDED, element(hop));
    } else {
        rewrite_rfc7239(headers, hop, &whole);
    }
}

impl Chain {
    fn from_x_forwarded(headers: &HeaderMap) -> Self {
        let first = |name: &HeaderName| {
            let first = entries(headers, name).next()?;
            std::str::from_utf8(first).ok().map(str::to_owned)
        };
        Self {
            addresses: entries(headers, &X_FORWARDED_FOR).map(address).collect(),
            proto: first(&X_FORWARDED_PROTO),
            host: first(&X_FORWARDED_HOST),
        }
    }

    fn from_rfc7239(headers: &HeaderMap) -> Self {
        let first = |name: &[u8]| {
            let first = elements(headers).next()?;
            let value = parameter(first, name).filter(|value| is_plain(value))?;
            std::str::from_utf8(value).ok().map(str::to_owned)
        };
        let client = |element: &[u8]| parameter(element, b"for").and_then(address);
        Self { addresses: elements(headers).map(client).collect(), proto: first(b"proto"), host: first(b"host") }
    }

    /// Whether both describe the same chain. A missing scheme or host agrees with any.
    fn agrees_with(&self, other: &Self) -> bool {
        let missing_or_same = |ours: &Option<String>, theirs: &Option<String>| match (ours, theirs) {
            (Some(ours), Some(theirs)) => ours.eq_ignore_ascii_case(theirs),
            (ours, _) => ours.is_none(),
        };
        self.addresses == other.addresses
            && missing_or_same(&self.proto, &other.proto)
            && missing_or_same(&self.host, &other.host)
    }
}

/// Whether Forwarded can be passed on: all quotes are closed, and scheme and host of its first element fit into the
/// X-Forwarded fields.
fn is_readable(headers: &HeaderMap) -> bool {
    let plain = |first: &[u8], name: &[u8]| parameter(first, name).is_none_or(is_plain);
    let first = elements(headers).next();
    elements(headers).all(is_closed) && first.is_none_or(|first| plain(first, b"proto") && plain(first, b"host"))
}

/// Whether a value has the same meaning in a list, in quotes and without quotes.
fn is_plain(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|byte| byte.is_ascii_graphic() && !b"\"\\,;".contains(byte))
}

/// Writes the X-Forwarded fields from a chain.
fn rewrite_x_forwarded(headers: &mut HeaderMap, hop: &Hop<'_>, chain: &Chain) {
    let unknown = || HeaderValue::from_static("unknown");
    let mut list = String::new();
    for address in &chain.addresses {
        let entry = address.map_or_else(unknown, text_of);
        list.extend([entry.to_str().unwrap_or_default(), ", "]);
    }
    list.push_str(hop.peer_text.to_str().unwrap_or_default());
    let mut set = |name: &'static HeaderName, found: Option<HeaderValue>, own: Option<HeaderValue>| match found.or(own)
    {
        Some(value) => drop(headers.insert(name, value)),
        None => drop(headers.remove(name)),
    };
    set(&X_FORWARDED_FOR, value(list), Some(hop.peer_text.clone()));
    set(&X_FORWARDED_PROTO, chain.proto.clone().and_then(value), Some(HeaderValue::from_static(hop.scheme)));
    set(&X_FORWARDED_HOST, chain.host.clone().and_then(value), hop.host.cloned());
    set(&X_REAL_IP, Some(text_of(hop.client)), None);
}

/// Writes Forwarded from a chain, with Weir's own element at the end. The first element contains scheme and host.
fn rewrite_rfc7239(headers: &mut HeaderMap, hop: &Hop<'_>, chain: &Chain) {
    let mut list = String::new();
    let (mut host, mut proto) = (chain.host.as_deref(), chain.proto.as_deref());
    for address in &chain.addresses {
        add_element(&mut list, *address, host.take(), proto.take());
    }
    let own_host = text(hop.host);
    if chain.addresses.is_empty() {
        add_element(&mut list, Some(hop.peer), host, proto);
    } else {
        add_element(&mut list, Some(hop.peer), own_host.as_deref(), Some(hop.scheme));
    }
    headers.remove(&header::FORWARDED);
    if let Some(list) = value(list) {
        headers.insert(header::FORWARDED, list);
    }
}

fn text(value: Option<&HeaderValue>) -> Option<String> {
    value?.to_str().ok().map(str::to_owned)
}
