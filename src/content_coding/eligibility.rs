//! Which responses are compressed or decompressed.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use pingora::http::ResponseHeader;

use super::accept_encoding::{AcceptEncoding, Negotiated};
use crate::config::schema::{CompressSettings, ContentCoding};

/// What happens to a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodingDecision {
    /// It passes unchanged, for each client.
    Unchanged,
    /// It passes unchanged, but another client would get another form.
    Varies,
    /// There is no body, but the response tells a cache about one that may be compressed.
    NotModified,
    /// It is compressed.
    Compress(ContentCoding),
    /// Its coding is removed.
    Decompress(ContentCoding),
}

/// The facts of a request on which a decision depends. They are taken before the request is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accepted {
    encodings: AcceptEncoding,
    no_transform: bool,
}

impl Accepted {
    /// The facts of this request.
    pub fn of(headers: &HeaderMap) -> Self {
        Self { encodings: AcceptEncoding::of(headers), no_transform: has_no_transform(headers) }
    }

    /// Decides about a response.
    pub fn decide(
        &self,
        method: &Method,
        compress: Option<&CompressSettings>,
        decompress: bool,
        response: &ResponseHeader,
    ) -> CodingDecision {
        let headers = &response.headers;
        if self.no_transform || !may_change(response) {
            return CodingDecision::Unchanged;
        }
        let decision = match coding_of(headers) {
            ResponseCoding::Not => {
                compress.map_or(CodingDecision::Unchanged, |settings| self.compression(settings, response))
            }
            ResponseCoding::By(coding) if decompress => match self.encodings.weight(coding) {
                0 => CodingDecision::Decompress(coding),
                _ => CodingDecision::Varies,
            },
            ResponseCoding::By(_) | ResponseCoding::Otherwise => CodingDecision::Unchanged,
        };
        match decision {
            CodingDecision::Compress(_) | CodingDecision::Decompress(_) if *method == Method::HEAD => {
                CodingDecision::Varies
            }
            decision => decision,
        }
    }

    fn compression(&self, settings: &CompressSettings, response: &ResponseHeader) -> CodingDecision {
        let picked = self.encodings.pick(&settings.encodings);
        if response.status == StatusCode::NOT_MODIFIED {
            return if picked == Negotiated::Identity { CodingDecision::Varies } else { CodingDecision::NotModified };
        }
        let media_type = media_type(&response.headers);
        if is_grpc(media_type) || (is_event_stream(media_type) && !settings.streams) {
            return CodingDecision::Unchanged;
        }
        // A client that refuses identity gets a coding for each type and length.
        let wanted = self.encodings.refuses_identity() && picked != Negotiated::Identity;
        if !wanted && !is_listed(settings, media_type, length(&response.headers)) {
            return CodingDecision::Unchanged;
        }
        match picked {
            Negotiated::Coding(coding) => CodingDecision::Compress(coding),
            Negotiated::Identity => CodingDecision::Varies,
        }
    }
}

/// Whether the settings name this type and length.
fn is_listed(settings: &CompressSettings, media_type: &str, length: Option<u64>) -> bool {
    let long = length.is_none_or(|length| length >= settings.min.get());
    long && (is_event_stream(media_type) || settings.types.iter().any(|pattern| pattern.matches(media_type)))
}

/// Whether the body may be changed at all: there is one, it is whole, and `no-transform` is absent (RFC 9111 section
/// 5.2.2.6).
fn may_change(response: &ResponseHeader) -> bool {
    let (status, headers) = (response.status, &response.headers);
    let bodiless = status.is_informational() || status == StatusCode::NO_CONTENT || length(headers) == Some(0);
    let partial = status == StatusCode::PARTIAL_CONTENT || headers.contains_key(header::CONTENT_RANGE);
    // The trailers may be a digest of the body.
    !bodiless && !partial && !headers.contains_key(header::TRAILER) && !has_no_transform(headers)
}

/// The coding of a response.
enum ResponseCoding {
    Not,
    By(ContentCoding),
    /// By another coding, or by several.
    Otherwise,
}

fn coding_of(headers: &HeaderMap) -> ResponseCoding {
    let mut names = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity"));
    let Some(first) = names.next() else { return ResponseCoding::Not };
    let first = if first.eq_ignore_ascii_case(b"x-gzip") { b"gzip" } else { first };
    let known = ContentCoding::ALL.into_iter().find(|coding| first.eq_ignore_ascii_case(coding.name().as_bytes()));
    match (known, names.next()) {
        (Some(coding), None) => ResponseCoding::By(coding),
        _ => ResponseCoding::Otherwise,
    }
}

fn has_no_transform(headers: &HeaderMap) -> bool {
    headers.get_all(header::CACHE_CONTROL).iter().any(|value| {
        value.as_bytes().split(|byte| *byte == b',').any(|name| name.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
    })
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// The media type without its parameters. Empty if there is none.
fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| HeaderValue::to_str(value).ok());
    value.and_then(|value| value.split(';').next()).unwrap_or_default().trim()
}

fn is_grpc(media_type: &str) -> bool {
    let prefix = "application/grpc";
    media_type.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn is_event_stream(media_type: &str) -> bool {
    media_type.eq_ignore_ascii_case("text/event-stream")
}

#[cfg(test)]
#[path = "eligibility_tests.rs"]
mod tests;
