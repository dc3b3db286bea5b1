//! Cookies of a request by name: reads their values and removes them (RFC 6265 section 4.2). It decodes nothing.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use pingora::http::RequestHeader;

/// The values of all cookies with that name, in their order. HTTP/2 clients may split the list over several fields (RFC
/// 9113 section 8.2.3).
pub fn values<'a>(headers: &'a HeaderMap, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let fields = headers.get_all(header::COOKIE).into_iter();
    fields.flat_map(|field| pairs(field.as_bytes())).filter_map(move |pair| value(pair, name))
}

/// Removes all cookies with that name. A field that becomes empty is removed too.
///
/// # Errors
/// Pingora's, if the header cannot take a field.
pub fn remove(request: &mut RequestHeader, name: &[u8]) -> pingora::Result<()> {
    if values(&request.headers, name).next().is_none() {
        return Ok(());
    }
    let fields: Vec<HeaderValue> = request.headers.get_all(header::COOKIE).iter().cloned().collect();
    request.remove_header(&header::COOKIE);
    for field in fields {
        if let Some(rest) = without(field, name) {
            request.append_header(header::COOKIE, rest)?;
        }
    }
    Ok(())
}

fn without(field: HeaderValue, name: &[u8]) -> Option<HeaderValue> {
    if pairs(field.as_bytes()).all(|pair| value(pair, name).is_none()) {
        return Some(field);
    }
    let mut rest = Vec::with_capacity(field.len());
    for pair in pairs(field.as_bytes()).filter(|pair| !pair.is_empty() && value(pair, name).is_none()) {
        if !rest.is_empty() {
            rest.extend_from_slice(b"; ");
        }
        rest.extend_from_slice(pair);
    }
    // Parts of a valid field value, joined by `; `, are a valid field value.
    HeaderValue::from_maybe_shared(Bytes::from(rest)).ok().filter(|rest| !rest.is_empty())
}

fn pairs(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    field.split(|byte| *byte == b';').map(<[u8]>::trim_ascii)
}

fn value<'a>(pair: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    pair.strip_prefix(name)?.strip_prefix(b"=")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn request(fields: &[&str]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for field in fields {
            request.append_header("Cookie", *field).unwrap();
        }
        request
    }

    #[test]
    fn all_values_of_a_name_are_found_in_order() {
        let request = request(&["a=1; weir=x;weir2=no", "b; weir=", "weir =no; sweir=no;  weir=y=z"]);
        let all: Vec<_> = values(&request.headers, b"weir").collect();
        assert_eq!(all, [&b"x"[..], b"", b"y=z"]);
        assert_eq!(values(&request.headers, b"c").next(), None);
    }

    #[test]
    fn other_cookies_stay_when_one_is_removed() {
        for (before, after) in [
            (vec!["weir=x"], vec![]),
            (vec!["a=1; weir=x; b=2"], vec!["a=1; b=2"]),
            (vec!["weir=x; a=\"1;2\"", "c=3;d=4"], vec!["a=\"1; 2\"", "c=3;d=4"]),
            (vec!["a=1", "weir=x", "weir=y; b=2"], vec!["a=1", "b=2"]),
            (vec!["weird=x; a=1"], vec!["weird=x; a=1"]),
            (vec![], vec![]),
        ] {
            let mut request = request(&before);
            remove(&mut request, b"weir").unwrap();
            let rest: Vec<_> = request.headers.get_all("cookie").iter().collect();
            assert_eq!(rest, after, "{before:?}");
        }
    }
}
