//! Removes the request fields that Connection nominates (RFC 9110 section 7.6.1), and their connection options.
//!
//! Pingora does this too. But it returns 400 for more than nine options, and for options that name Host or an
//! X-Forwarded field. Such options are meaningless but harmless, so they are removed before Pingora sees them. It never
//! removes fields that frame the request: Pingora reads them later.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use pingora::http::RequestHeader;

use super::request_framing::is_token;

/// With more options than this, the request is left to Pingora, which refuses it.
const MAX_NOMINATIONS: usize = 32;

/// Removes the options that name fields, and these fields. A value that is not a list of tokens is left to Pingora,
/// which refuses it.
pub fn remove(request: &mut RequestHeader) {
    let Some(nominated) = nominated(&request.headers) else { return };
    let options: Vec<&str> = ["close", "keep-alive", "upgrade", "te"]
        .into_iter()
        .filter(|option| super::hop_by_hop::connection_names(&request.headers, option.as_bytes()))
        .collect();
    request.remove_header(&header::CONNECTION);
    if !options.is_empty() {
        // The header had this field before, so it can take it again.
        let _ = request.insert_header(header::CONNECTION, options.join(", "));
    }
    for name in nominated {
        request.remove_header(&name);
    }
}

/// The fields to remove. `None` if nothing must be changed.
fn nominated(headers: &HeaderMap) -> Option<Vec<HeaderName>> {
    // A scan of the names is cheaper than a look-up by hash, because most requests have few fields and no Connection.
    if !headers.keys().any(|name| name == header::CONNECTION) {
        return None;
    }
    let lines = || headers.get_all(header::CONNECTION).iter();
    if lines().all(is_usual) {
        return None;
    }
    let options = lines().flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let options: Vec<&[u8]> = options.filter(|option| !option.is_empty()).take(MAX_NOMINATIONS + 1).collect();
    if options.len() > MAX_NOMINATIONS || !options.iter().all(|option| is_token(option)) {
        return None;
    }
    let names = options.into_iter().filter_map(|option| HeaderName::from_bytes(option).ok());
    Some(names.filter(|name| !stays(name)).collect())
}

/// Whether the value is one of the usual single options, which name no other field.
fn is_usual(line: &HeaderValue) -> bool {
    ["keep-alive", "close", "upgrade"].iter().any(|usual| line.as_bytes().eq_ignore_ascii_case(usual.as_bytes()))
}

/// Fields that an option cannot remove. They frame the request or name its host, have their own rules
/// (`message::forwarded`), or belong to the connection in any case.
fn stays(name: &HeaderName) -> bool {
    let name = name.as_str();
    let ours = [
        "close",
        "connection",
        "content-length",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-real-ip",
    ];
    ours.contains(&name) || name.starts_with("x-forwarded-")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn rest_of(connection: &[&str], others: &[&'static str]) -> Vec<String> {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for line in connection {
            request.append_header("Connection", *line).unwrap();
        }
        for name in others {
            request.append_header(*name, "1").unwrap();
        }
        remove(&mut request);
        let mut rest: Vec<_> = request.headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        rest.sort();
        rest
    }

    #[test]
    fn host_and_framing_fields_cannot_be_nominated() {
        for name in ["host", "content-length", "transfer-encoding", "x-forwarded-for", "forwarded", "expect"] {
            assert_eq!(rest_of(&[name], &[name]), [format!("{name}: 1")], "{name}");
        }
    }

    #[test]
    fn nominated_fields_are_removed_and_other_options_stay() {
        let lines = ["X-A, Close", "host,,x-b", "TE", "Upgrade"];
        let want = ["connection: close, upgrade, te", "host: 1", "te: 1", "x-c: 1"];
        assert_eq!(rest_of(&lines, &["x-a", "x-b", "x-c", "te", "host"]), want);
        let many = (0..20).map(|n| format!("x-{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(rest_of(&[&many], &["x-0", "x-19", "x-c"]), ["x-c: 1"]);
    }

    #[test]
    fn an_invalid_or_too_long_list_is_not_changed() {
        let many = vec!["x-a"; MAX_NOMINATIONS + 1].join(",");
        for line in ["\"x-a\"", "x-a, :authority", "x a", &many, "keep-alive", "Upgrade"] {
            assert_eq!(rest_of(&[line], &["x-a"]), [format!("connection: {line}"), "x-a: 1".to_owned()], "{line}");
        }
    }
}
