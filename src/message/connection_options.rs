//! Connection options of a request that name fields (RFC 9110 section 7.6.1): the fields that they name end here.
//!
//! Pingora does this too, but answers 400 to options that name Host or an X-Forwarded field, and to more than nine. Those
//! options have no meaning and are no fault of the request, so they are taken out before Pingora sees them. It never takes
//! away what frames the request: Pingora reads these fields later.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use pingora::http::RequestHeader;

use super::request_framing::is_token;

/// More options than these are left to Pingora, which refuses the request.
const MAX_NOMINATIONS: usize = 32;

/// Takes out the options that name fields, and the fields. What is no list of tokens is left to Pingora, which refuses it.
pub fn remove(request: &mut RequestHeader) {
    let Some(nominated) = nominated(&request.headers) else { return };
    let kept: Vec<&str> = ["close", "keep-alive", "upgrade", "te"]
        .into_iter()
        .filter(|option| super::hop_by_hop::connection_names(&request.headers, option.as_bytes()))
        .collect();
    request.remove_header(&header::CONNECTION);
    if !kept.is_empty() {
        // A header that had the field takes it again.
        let _ = request.insert_header(header::CONNECTION, kept.join(", "));
    }
    for name in nominated {
        request.remove_header(&name);
    }
}

/// The fields to take away. Nothing: there is nothing to do.
fn nominated(headers: &HeaderMap) -> Option<Vec<HeaderName>> {
    // Cheaper than a look-up, which hashes the name: most requests have few fields and not this one.
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

/// Nearly all requests that have the field: no option names another field.
fn is_usual(line: &HeaderValue) -> bool {
    ["keep-alive", "close", "upgrade"].iter().any(|usual| line.as_bytes().eq_ignore_ascii_case(usual.as_bytes()))
}

/// What an option cannot take away: it frames the request or says whom it is for, has rules of its own
/// (`message::forwarded`), or belongs to the connection anyway.
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

    fn left(connection: &[&str], others: &[&'static str]) -> Vec<String> {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for line in connection {
            request.append_header("Connection", *line).unwrap();
        }
        for name in others {
            request.append_header(*name, "1").unwrap();
        }
        remove(&mut request);
        let mut left: Vec<_> = request.headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        left.sort();
        left
    }

    #[test]
    fn an_option_that_names_host_or_framing_takes_nothing_away() {
        for name in ["host", "content-length", "transfer-encoding", "x-forwarded-for", "forwarded", "expect"] {
            assert_eq!(left(&[name], &[name]), [format!("{name}: 1")], "{name}");
        }
    }

    #[test]
    fn fields_that_are_named_go_and_other_options_stay() {
        let lines = ["X-A, Close", "host,,x-b", "TE", "Upgrade"];
        let want = ["connection: close, upgrade, te", "host: 1", "te: 1", "x-c: 1"];
        assert_eq!(left(&lines, &["x-a", "x-b", "x-c", "te", "host"]), want);
        let many = (0..20).map(|n| format!("x-{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(left(&[&many], &["x-0", "x-19", "x-c"]), ["x-c: 1"]);
    }

    #[test]
    fn what_is_no_list_of_tokens_stays_as_it_is() {
        let many = vec!["x-a"; MAX_NOMINATIONS + 1].join(",");
        for line in ["\"x-a\"", "x-a, :authority", "x a", &many, "keep-alive", "Upgrade"] {
            assert_eq!(left(&[line], &["x-a"]), [format!("connection: {line}"), "x-a: 1".to_owned()], "{line}");
        }
    }
}
