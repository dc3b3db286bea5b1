//! Checks the request target: its four forms (RFC 9112 section 3.2), and whether its authority equals Host.
//!
//! It never decodes or normalises. Some bytes that clients send cannot be in a URI: non-ASCII, `" < > { } \` and
//! backtick. They are percent-encoded before the check, in path and query only.
//!
//! Spaces, controls, `#`, and a `%` without two hex digits in a path are refused, because parsers treat them
//! differently. `|`, `^`, and such a `%` in a query pass.

use std::borrow::Cow;

use bytes::BytesMut;
use http::uri::Authority;

use super::BadHead;
use crate::message::host;
use crate::path;

/// Checks a path and query from an HTTP/2 `:path` (RFC 9113 section 8.3.1) as strictly as one from HTTP/1.
///
/// # Errors
/// The reason why it is not valid.
pub fn check_path_and_query(text: &[u8]) -> Result<(), BadHead> {
    if !matches!(text, [b'/', ..] | b"*") {
        return Err(BadHead::bad("path without a slash at its front"));
    }
    bytes(text).and_then(|()| path_and_query(text))
}

/// Checks the target and Host together.
pub(super) fn check(method: &str, target: &[u8], host: Option<&[u8]>) -> Result<(), BadHead> {
    bytes(target)?;
    if let Some(host) = host {
        host::parse(host).ok_or(BadHead::bad("invalid Host"))?;
    }
    match target {
        _ if method == "CONNECT" => authority_form(target, host),
        b"*" if method == "OPTIONS" => Ok(()),
        [b'/', ..] => path_and_query(target),
        _ => absolute_form(target, host),
    }
}

/// The head with the unusual bytes of its path and query percent-encoded. `None` if there are none.
pub(super) fn encode(head: &[u8]) -> Option<BytesMut> {
    let (from, to) = path_and_query_in(head)?;
    let Cow::Owned(encoded) = path::encode_unusual(&head[from..to]) else { return None };
    let mut changed = BytesMut::with_capacity(head.len() + encoded.len() - (to - from));
    for part in [&head[..from], &encoded, &head[to..]] {
        changed.extend_from_slice(part);
    }
    Some(changed)
}

/// The position of the path and query in a head. The authority is excluded, because unusual bytes in it are refused.
fn path_and_query_in(head: &[u8]) -> Option<(usize, usize)> {
    let start = if head.starts_with(b"\r\n") { 2 } else { 0 };
    let line = &head[start..];
    let line = &line[..line.iter().position(|b| *b == b'\r')?];
    let before = line.iter().position(|b| *b == b' ')? + 1;
    let target = &line[before..];
    let target = &target[..target.iter().position(|b| *b == b' ')?];
    let path = match target {
        [b'/', ..] => 0,
        _ => {
            let authority = target.windows(3).position(|three| three == b"://")? + 3;
            authority + target[authority..].iter().position(|b| b"/?".contains(b))?
        }
    };
    Some((start + before + path, start + before + target.len()))
}

fn bytes(target: &[u8]) -> Result<(), BadHead> {
    // Graphic ASCII without `"`, `#`, `<`, `>`, `\`, backtick, `{` and `}`.
    let fits = |b: &u8| matches!(b, b'!' | b'$'..=b';' | b'=' | b'?'..=b'[' | b']'..=b'_' | b'a'..=b'z' | b'|' | b'~');
    if target.iter().all(fits) { Ok(()) } else { Err(BadHead::bad("invalid byte in the target")) }
}

/// Checks the authority-form, which CONNECT uses. It must have a port (RFC 9112 section 3.2.3). Host may omit the port,
/// because Pingora allows that.
fn authority_form(target: &[u8], host: Option<&[u8]>) -> Result<(), BadHead> {
    let bad = BadHead::bad("CONNECT's target is not host:port");
    let parsed = host::parse(target).filter(|parsed| parsed.port.is_some()).ok_or(bad)?;
    authority(target)?;
    match host {
        Some(host) if host != target && host != parsed.host.as_bytes() => {
            Err(BadHead::bad("Host differs from the target"))
        }
        _ => Ok(()),
    }
}

/// RFC 9112 section 3.2.2 gives the target priority over a different Host. But two different hosts are a typical
/// attack, because two parsers may each choose another one. So they are refused, as in Pingora.
fn absolute_form(target: &[u8], host: Option<&[u8]>) -> Result<(), BadHead> {
    let colon = target.iter().position(|b| *b == b':').ok_or(BadHead::bad("target in none of the four forms"))?;
    let (scheme, rest) = target.split_at(colon);
    let rest = rest.strip_prefix(b"://").ok_or(BadHead::bad("target in none of the four forms"))?;
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(BadHead::bad("target of another scheme"));
    }
    let end = rest.iter().position(|b| b"/?".contains(b)).unwrap_or(rest.len());
    let (named, path) = rest.split_at(end);
    if host::parse(named).is_none() {
        return Err(BadHead::bad("invalid authority in the target"));
    }
    authority(named)?;
    if host.is_some_and(|host| host != named) {
        return Err(BadHead::bad("Host differs from the target"));
    }
    path_and_query(path)
}

/// Pingora parses the authority later with the http crate, so that crate must accept it.
fn authority(text: &[u8]) -> Result<(), BadHead> {
    Authority::try_from(text).map(drop).map_err(|_| BadHead::bad("invalid authority in the target"))
}

fn path_and_query(text: &[u8]) -> Result<(), BadHead> {
    let end = text.iter().position(|b| *b == b'?').unwrap_or(text.len());
    let mut rest = &text[..end];
    while let Some((&first, tail)) = rest.split_first() {
        rest = match (first, tail) {
            (b'%', [a, b, tail @ ..]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => tail,
            (b'%', _) => return Err(BadHead::bad("`%` without two digits in the path")),
            (_, tail) => tail,
        };
    }
    Ok(())
}
