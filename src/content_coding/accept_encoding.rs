//! Accept-Encoding (RFC 9110 section 12.5.3): which content coding a client prefers.
//!
//! A client without the field gets no coding. RFC 9110 would allow any, but clients that decode send the field.

use http::{HeaderMap, header};

use crate::config::schema::ContentCoding;

/// The weights of a client, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AcceptEncoding {
    zstd: Option<u16>,
    br: Option<u16>,
    gzip: Option<u16>,
    identity: Option<u16>,
    /// The weight of `*`: of codings that have none of their own.
    others: Option<u16>,
}

/// The result of a negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Negotiated {
    /// The client prefers this coding.
    Coding(ContentCoding),
    /// The client prefers no coding, or accepts none of the offered ones.
    Identity,
}

impl AcceptEncoding {
    /// Reads all fields of that name. Elements with an invalid weight are ignored.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut accepted = Self::default();
        for value in headers.get_all(header::ACCEPT_ENCODING) {
            let Ok(value) = value.to_str() else { continue };
            for element in value.split(',') {
                accepted.add(element);
            }
        }
        accepted
    }

    fn add(&mut self, element: &str) {
        let mut parts = element.split(';');
        let name = parts.next().unwrap_or_default().trim();
        let weight = match (parts.next(), parts.next()) {
            (None, _) => Some(1000),
            (Some(parameter), None) => weight(parameter),
            _ => None,
        };
        let Some(weight) = weight else { return };
        let slot = match name {
            _ if name.eq_ignore_ascii_case("zstd") => &mut self.zstd,
            _ if name.eq_ignore_ascii_case("br") => &mut self.br,
            // RFC 9110 section 8.4.1.3: `x-gzip` is the same coding.
            _ if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => &mut self.gzip,
            _ if name.eq_ignore_ascii_case("identity") => &mut self.identity,
            "*" => &mut self.others,
            _ => return,
        };
        *slot = Some(weight.max(slot.unwrap_or(0)));
    }

    /// The weight of a coding, in thousandths. 0: the client does not accept it.
    pub fn weight(&self, coding: ContentCoding) -> u16 {
        let own = match coding {
            ContentCoding::Zstd => self.zstd,
            ContentCoding::Br => self.br,
            ContentCoding::Gzip => self.gzip,
        };
        own.or(self.others).unwrap_or(0)
    }

    /// Whether the client refuses a body without a coding: `identity;q=0`, or `*;q=0` without `identity`.
    pub fn refuses_identity(&self) -> bool {
        self.identity.or(self.others) == Some(0)
    }

    /// Picks the offered coding with the highest weight. Of equal ones, the first.
    pub fn pick(&self, offered: &[ContentCoding]) -> Negotiated {
        let mut best = (0, Negotiated::Identity);
        for coding in offered {
            let weight = self.weight(*coding);
            if weight > best.0 {
                best = (weight, Negotiated::Coding(*coding));
            }
        }
        // Without a weight of its own, identity is acceptable, but not preferred.
        if self.identity.is_some_and(|identity| identity > best.0) { Negotiated::Identity } else { best.1 }
    }
}

/// `q=0.5` in thousandths (RFC 9110 section 12.4.2).
fn weight(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.trim().split_once('=')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, fraction) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    if fraction.len() > 3 || !digits(fraction) {
        return None;
    }
    let thousandths: u16 = if fraction.is_empty() { 0 } else { format!("{fraction:0<3}").parse().ok()? };
    match (whole, thousandths) {
        ("0", thousandths) => Some(thousandths),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use ContentCoding::{Br, Gzip, Zstd};

    const ALL: [ContentCoding; 3] = [Zstd, Br, Gzip];

    fn parsed(values: &[&'static str]) -> AcceptEncoding {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
        }
        AcceptEncoding::of(&headers)
    }

    /// The rules of RFC 9110 section 12.5.3 and 12.4.2.
    #[test]
    fn the_coding_with_the_highest_weight_is_picked_and_identity_only_if_it_is_preferred() {
        let coding = Negotiated::Coding;
        for (field, expected) in [
            ("gzip", coding(Gzip)),
            ("gzip, deflate, br, zstd", coding(Zstd)),
            ("gzip, deflate, br", coding(Br)),
            ("GZip", coding(Gzip)),
            ("x-gzip", coding(Gzip)),
            ("deflate", Negotiated::Identity),
            ("", Negotiated::Identity),
            ("identity", Negotiated::Identity),
            ("*", coding(Zstd)),
            ("*;q=0", Negotiated::Identity),
            ("gzip;q=0", Negotiated::Identity),
            ("gzip;q=0.000", Negotiated::Identity),
            ("gzip;q=0, *", coding(Zstd)),
            ("zstd;q=0, *;q=0.1", coding(Br)),
            ("zstd;q=0, br;q=0, *;q=0.1", coding(Gzip)),
            ("zstd;q=0.5, br;q=0.8, gzip;q=0.2", coding(Br)),
            ("br;q=0.001", coding(Br)),
            ("gzip;q=1.000, br;q=0.999", coding(Gzip)),
            ("gzip;q=0.5, identity", Negotiated::Identity),
            ("gzip;q=0.5, identity;q=0.5", coding(Gzip)),
            ("gzip, identity;q=0", coding(Gzip)),
            ("gzip;q=0.5, *;q=0.1", coding(Gzip)),
            ("gzip ; q=0.5 , br ; Q=0.6", coding(Br)),
            (", ,gzip,,", coding(Gzip)),
            ("gzip;q=2, br;q=0.1", coding(Br)),
            ("gzip;q=-1, br;q=0.1", coding(Br)),
            ("gzip;q=0.1234, br;q=0.1", coding(Br)),
            ("gzip;q=, br;q=0.1", coding(Br)),
            ("gzip;level=9, br;q=0.1", coding(Br)),
            ("gzip;q=1.001, br;q=0.1", coding(Br)),
            ("gzip;q=0, gzip;q=0.3", coding(Gzip)),
            ("gzippo, xgzip", Negotiated::Identity),
        ] {
            assert_eq!(parsed(&[field]).pick(&ALL), expected, "{field:?}");
        }
        assert_eq!(parsed(&[]).pick(&ALL), Negotiated::Identity);
        assert_eq!(parsed(&["br;q=0.4", "gzip;q=0.6"]).pick(&ALL), coding(Gzip), "several fields are one list");
        assert_eq!(parsed(&["br, gzip"]).pick(&[Gzip]), coding(Gzip), "only offered codings are picked");
    }

    #[test]
    fn identity_is_refused_by_its_own_weight_or_by_that_of_all_others() {
        for (field, expected) in [
            ("identity;q=0", true),
            ("gzip, identity;q=0", true),
            ("*;q=0", true),
            ("gzip, *;q=0", true),
            ("identity, *;q=0", false),
            ("identity;q=0.001", false),
            ("gzip", false),
            ("", false),
        ] {
            assert_eq!(parsed(&[field]).refuses_identity(), expected, "{field:?}");
        }
    }
}
