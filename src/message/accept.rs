//! Content negotiation by Accept (RFC 9110 section 12.5.1) for error responses.

use std::cmp::Reverse;

use crate::config::PageFormat;

/// The maximum number of media ranges that are read from an Accept field.
const RANGES: usize = 32;

/// The order without a preference of the client. People read plain text best where no browser shows it.
const USUAL: [PageFormat; 3] = [PageFormat::Text, PageFormat::Html, PageFormat::Json];

/// How well a type matches an Accept field: its weight, the precision of the range, and its position (earlier is
/// better).
type Fit = (u16, u8, Reverse<usize>);

/// The format for a client with this Accept. `configured` are the formats that the operator has written: they come first
/// where the client has no preference. A page for people in one format also serves people who prefer the other.
pub fn choose(accept: &[u8], configured: &[PageFormat]) -> PageFormat {
    let order = configured.iter().chain(USUAL.iter().filter(|format| !configured.contains(format)));
    let mut best: Option<(Fit, PageFormat)> = None;
    for format in order {
        if let Some(fit) = fit_of(accept, *format).filter(|fit| best.is_none_or(|(other, _)| *fit > other)) {
            best = Some((fit, *format));
        }
    }
    let first = *configured.first().unwrap_or(&USUAL[0]);
    let Some((_, best)) = best else { return first };
    let other = match best {
        PageFormat::Html => PageFormat::Text,
        PageFormat::Text => PageFormat::Html,
        PageFormat::Json => return best,
    };
    let takes_other = !configured.contains(&best) && configured.contains(&other) && fit_of(accept, other).is_some();
    if takes_other { other } else { best }
}

/// The best match of a format. `None` if the client does not accept it.
fn fit_of(accept: &[u8], format: PageFormat) -> Option<Fit> {
    let fit = match format {
        PageFormat::Html => fit(accept, b"text", b"html"),
        PageFormat::Text => fit(accept, b"text", b"plain"),
        PageFormat::Json => fit(accept, b"application", b"json").max(fit(accept, b"application", b"problem+json")),
    };
    fit.filter(|(weight, ..)| *weight > 0)
}

/// The best match of a type. The most precise range that covers the type defines its weight.
fn fit(accept: &[u8], kind: &[u8], subtype: &[u8]) -> Option<Fit> {
    let mut best: Option<Fit> = None;
    for (at, range) in accept.split(|b| *b == b',').take(RANGES).enumerate() {
        let mut parts = range.split(|b| *b == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let slash = name.iter().position(|b| *b == b'/').unwrap_or(name.len());
        let (range_kind, range_subtype) = (&name[..slash], name.get(slash + 1..).unwrap_or_default());
        let precision = match (range_kind, range_subtype) {
            (b"*", b"*") => 0,
            (k, b"*") if k.eq_ignore_ascii_case(kind) => 1,
            (k, s) if k.eq_ignore_ascii_case(kind) && s.eq_ignore_ascii_case(subtype) => 2,
            _ => continue,
        };
        if best.is_none_or(|(_, seen, _)| precision > seen) {
            best = Some((quality(parts), precision, Reverse(at)));
        }
    }
    best
}

/// The weight `q=0.5` in thousandths. A value that is not valid is 0 (RFC 9110 section 12.4.2).
fn quality<'a>(parameters: impl Iterator<Item = &'a [u8]>) -> u16 {
    for parameter in parameters {
        let [b'q' | b'Q', b'=', number @ ..] = parameter else { continue };
        let number = std::str::from_utf8(number).ok().and_then(|text| text.parse::<f32>().ok());
        // The value is in range, so the cast is exact enough. NaN becomes 0.
        return number.map_or(0, |number| (number.clamp(0.0, 1.0) * 1000.0) as u16);
    }
    1000
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROWSER: &[u8] = b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";

    #[test]
    fn json_is_used_only_if_the_client_prefers_it() {
        for (accept, want) in [
            ("", false),
            ("*/*", false),
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/json, text/plain, */*", true),
            ("text/plain, application/json", false),
            ("application/json;q=0.5, text/plain", false),
            ("application/json, text/plain;q=0.5", true),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false),
            ("application/*, */*", true),
            ("application/json;q=0", false),
            ("application/json;q=0, */*", false),
            ("application/json;q=x", false),
            ("text/*;q=0.3, application/json;q=0.4", true),
            ("image/png", false),
            (",;/,q=,json", false),
        ] {
            assert_eq!(choose(accept.as_bytes(), &[]) == PageFormat::Json, want, "{accept}");
        }
    }

    #[test]
    fn browsers_get_html_and_tools_get_text() {
        assert_eq!(choose(BROWSER, &[]), PageFormat::Html);
        for accept in [&b""[..], b"*/*", b"image/png", b"text/*", b"text/html;q=0, */*"] {
            assert_eq!(choose(accept, &[]), PageFormat::Text);
        }
    }

    #[test]
    fn a_configured_page_is_sent_unless_the_client_prefers_json() {
        use PageFormat::{Html, Json, Text};
        for (accept, configured, want) in [
            (BROWSER, &[Text][..], Text),
            (BROWSER, &[Html], Html),
            (BROWSER, &[Json], Html),
            (b"*/*", &[Html], Html),
            (b"*/*", &[Json], Json),
            (b"", &[Html], Html),
            (b"text/plain", &[Html], Text),
            (b"application/json", &[Html, Text], Json),
            (b"application/problem+json", &[Text], Json),
            (b"application/json, text/plain, */*", &[Html], Json),
            (b"text/plain, application/json", &[Html, Json], Text),
        ] {
            assert_eq!(choose(accept, configured), want, "{} {configured:?}", String::from_utf8_lossy(accept));
        }
    }
}
