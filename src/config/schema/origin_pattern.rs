//! A pattern of origins (RFC 6454 section 6.1): exact, by labels, a regular expression, or any.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use regex::Regex;
use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::values::Pattern;

/// The forms that can be written.
const FORMS: &str = "write `https://app.example.org`, `https://*.example.org`, `{ regex: … }` or `*`";

/// An element of `cors.origins`.
#[derive(Debug, Clone)]
pub enum OriginPattern {
    /// Every origin.
    Any,
    /// This origin, as browsers write it: in lower case and without a default port.
    Exact(Box<str>),
    /// The subdomains of a host, of any depth. The scheme with `://`, and the host with its dot in front and its port.
    Below(Box<str>, Box<str>),
    /// The expression matches the whole origin. The second one is anchored.
    Regex(Pattern, Regex),
}

impl OriginPattern {
    /// Whether the origin of a request matches. The comparison is exact, because browsers send origins in lower case.
    /// `null` matches only `*`: it is the origin of every sandboxed page and of many redirects.
    pub fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => origin == &**exact,
            Self::Below(scheme, parent) => {
                let labels = origin.strip_prefix(&**scheme).and_then(|rest| rest.strip_suffix(&**parent));
                labels.is_some_and(|labels| labels.split('.').all(is_label))
            }
            Self::Regex(_, anchored) => is_origin(origin) && anchored.is_match(origin),
        }
    }
}

fn is_label(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

/// Whether this has the form of an origin with a host: `scheme://host` or `scheme://host:port`.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let is_scheme = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    !scheme.is_empty()
        && scheme.bytes().all(is_scheme)
        && !authority.is_empty()
        && authority.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b))
}

impl FromStr for OriginPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let wrong = || format!("`{text}` is not an origin; {FORMS}");
        match &*lower {
            "*" => return Ok(Self::Any),
            "null" => {
                let why = "is the origin of every sandboxed page";
                return Err(format!("`null` {why}; list real origins, or write `*` without `credentials`"));
            }
            _ => {}
        }
        let Some((scheme, authority)) = lower.split_once("://") else { return Err(wrong()) };
        if authority.contains(['/', '?', '#', '@']) {
            let end = authority.find(['/', '?', '#']).unwrap_or(authority.len());
            return Err(format!(
                "`{text}` is more than an origin, which has no path; write `{scheme}://{}`",
                &authority[..end]
            ));
        }
        let default_port = if scheme == "https" { ":443" } else { ":80" };
        let authority = authority.strip_suffix(default_port).unwrap_or(authority);
        let (is_below, host) = match authority.strip_prefix('*') {
            Some(parent) if parent.starts_with('.') => (true, parent),
            Some(_) => return Err(wrong()),
            None => (false, authority),
        };
        if host.contains('*') {
            return Err(format!("`{text}` has a `*` that is not its first label; {FORMS}"));
        }
        let bare = host.trim_start_matches('.');
        let port = bare.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map(|(_, port)| port);
        if bare.is_empty()
            || !is_origin(&format!("{scheme}://{bare}"))
            || port.is_some_and(|port| port.parse::<u16>().is_err())
        {
            return Err(wrong());
        }
        Ok(match is_below {
            true => Self::Below(format!("{scheme}://").into(), host.into()),
            false => Self::Exact(format!("{scheme}://{host}").into()),
        })
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(exact) => f.write_str(exact),
            Self::Below(scheme, parent) => write!(f, "{scheme}*{parent}"),
            Self::Regex(written, _) => write!(f, "{written}"),
        }
    }
}

impl PartialEq for OriginPattern {
    fn eq(&self, other: &Self) -> bool {
        let is_regex = |pattern: &Self| matches!(pattern, Self::Regex(..));
        is_regex(self) == is_regex(other) && self.to_string() == other.to_string()
    }
}

/// The section form.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OriginSection {
    /// A regular expression that matches the whole origin, such as `https://pr-\d+\.example\.org`.
    regex: Pattern,
}

impl<'de> Deserialize<'de> for OriginPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OriginForm;
        impl<'de> Visitor<'de> for OriginForm {
            type Value = OriginPattern;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an origin such as `https://app.example.org`, or `{ regex: … }`")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<OriginPattern, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OriginPattern, A::Error> {
                let written = OriginSection::deserialize(MapAccessDeserializer::new(map))?.regex;
                // `path_regex` is searched for. Here that would let `https://example.org.evil.test` in.
                let anchored = Regex::new(&format!(r"\A(?:{written})\z"));
                let anchored = anchored.map_err(|_| {
                    A::Error::custom(format!("`{written}` cannot match a whole origin; close its groups and comments"))
                })?;
                Ok(OriginPattern::Regex(written, anchored))
            }
        }
        deserializer.deserialize_any(OriginForm)
    }
}

impl Serialize for OriginPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Regex(written, _) => OriginSection { regex: written.clone() }.serialize(serializer),
            other => serializer.collect_str(other),
        }
    }
}

impl JsonSchema for OriginPattern {
    fn schema_name() -> Cow<'static, str> {
        "OriginPattern".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, generator.subschema_for::<OriginSection>()] })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(yaml: &str) -> OriginPattern {
        serde_yaml::from_str(yaml).unwrap()
    }

    #[test]
    fn an_exact_origin_matches_only_itself() {
        let exact = pattern("HTTPS://App.Example.org:443");
        assert!(exact.matches("https://app.example.org"));
        for hostile in [
            "https://app.example.org:443",
            "https://app.example.org:8443",
            "http://app.example.org",
            "https://APP.example.org",
            "https://app.example.org.evil.test",
            "https://evil-app.example.org",
            "https://app.example.org/",
            "https://app.example.org ",
            "null",
            "",
            "*",
        ] {
            assert!(!exact.matches(hostile), "{hostile}");
        }
        assert!(pattern("http://[::1]:3000").matches("http://[::1]:3000"));
        assert!(pattern("chrome-extension://abcdef").matches("chrome-extension://abcdef"));
    }

    #[test]
    fn a_wildcard_matches_whole_labels() {
        let below = pattern("'https://*.example.org:8443'");
        for origin in ["https://a.example.org:8443", "https://a-1.b_2.example.org:8443"] {
            assert!(below.matches(origin), "{origin}");
        }
        for hostile in [
            "https://example.org:8443",
            "https://.example.org:8443",
            "https://a..example.org:8443",
            "https://evilexample.org:8443",
            "https://a.example.org",
            "https://a.example.org:8443.evil.test",
            "https://evil.test/.example.org:8443",
            "https://evil.test#.example.org:8443",
            "https://user@a.example.org:8443",
            "http://a.example.org:8443",
            "https://A.example.org:8443",
            "null",
        ] {
            assert!(!below.matches(hostile), "{hostile}");
        }
    }

    #[test]
    fn a_regular_expression_matches_the_whole_origin() {
        let regex = pattern(r"{ regex: 'https://pr-\d+\.example\.org|https://a' }");
        assert!(regex.matches("https://pr-7.example.org") && regex.matches("https://a"));
        for hostile in
            ["https://pr-7.example.org.evil.test", "xhttps://a", "https://ab", "https://pr-7.example.org\n", "null"]
        {
            assert!(!regex.matches(hostile), "{hostile}");
        }
        assert!(!pattern("{ regex: '.*' }").matches("null") && pattern("{ regex: '.*' }").matches("https://a"));
    }

    #[test]
    fn what_is_no_origin_is_refused_with_a_hint() {
        for bad in [
            "example.org",
            "https://",
            "https://*",
            "'https://a.*.org'",
            "'https://*a.org'",
            "https://a:99999",
            "'null'",
            "''",
        ] {
            let error = serde_yaml::from_str::<OriginPattern>(bad).unwrap_err().to_string();
            assert!(error.contains("write `"), "{bad}: {error}");
        }
        let error = "https://a.example/path".parse::<OriginPattern>().unwrap_err();
        assert!(error.ends_with("write `https://a.example`"), "{error}");
    }

    proptest! {
        #[test]
        fn a_wildcard_never_matches_another_parent(front in "[a-z0-9.:/@#?_-]{0,12}", end in "[a-z.:/@#?-]{1,12}") {
            let below = pattern("'https://*.example.org'");
            let origin = format!("https://{front}example.org{end}");
            prop_assert!(!below.matches(&origin) || origin.ends_with(".example.org"), "{}", origin);
        }
    }
}
