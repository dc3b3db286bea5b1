//! Cross-origin resource sharing (CORS, the Fetch standard): which fields a response has, and the answer to a preflight.
//!
//! It works on header fields only. It never refuses a request: browsers do that.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::config::schema::{CorsSettings, OriginPattern};

static ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");
static REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");

/// The fields of responses that CORS defines. Those of a backend are removed.
pub static RESPONSE_FIELDS: [HeaderName; 7] = [
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
    HeaderName::from_static("access-control-allow-private-network"),
];

/// The maximum bytes of Access-Control-Request-Headers that are repeated in a response.
const MAX_REQUESTED_BYTES: usize = 4 << 10;

/// Fields to set on a response.
pub type CorsFields = Vec<(HeaderName, HeaderValue)>;

/// `routes[].cors`, compiled.
#[derive(Debug, Clone)]
pub struct CorsPolicy {
    origins: Box<[OriginPattern]>,
    /// Every origin may read responses, without credentials. Then responses do not depend on the origin.
    is_public: bool,
    credentials: bool,
    methods: AllowedNames,
    headers: AllowedNames,
    expose: Option<HeaderValue>,
    max_age: HeaderValue,
    private_network: bool,
}

/// The value of Access-Control-Allow-Methods or -Headers.
#[derive(Debug, Clone)]
enum AllowedNames {
    /// What the preflight asks for. A literal `*` would not cover credentials and Authorization.
    Requested,
    Listed(HeaderValue),
    None,
}

impl CorsPolicy {
    /// Compiles the settings.
    ///
    /// # Errors
    /// A name is not valid.
    pub fn compile(settings: &CorsSettings) -> Result<Self, String> {
        let methods: Vec<&str> = settings.methods.iter().map(|method| method.as_http().as_str()).collect();
        let headers: Vec<&str> = settings.headers.iter().map(String::as_str).collect();
        let expose: Vec<&str> = settings.expose.iter().map(String::as_str).collect();
        let is_any = |pattern: &OriginPattern| matches!(pattern, OriginPattern::Any);
        Ok(Self {
            origins: settings.origins.clone().into(),
            is_public: settings.origins.iter().any(is_any) && !settings.credentials,
            credentials: settings.credentials,
            methods: AllowedNames::compile(&methods)?,
            headers: AllowedNames::compile(&headers)?,
            expose: Some(expose).filter(|expose| !expose.is_empty()).map(|expose| list(&expose)).transpose()?,
            max_age: HeaderValue::from(settings.max_age.get().as_secs()),
            private_network: settings.private_network,
        })
    }

    /// Whether scripts of this origin may read responses. Bytes that no origin has never match.
    pub fn allows(&self, origin: &HeaderValue) -> bool {
        let text = origin.to_str().unwrap_or_default();
        !text.is_empty() && self.origins.iter().any(|pattern| pattern.matches(text))
    }

    /// The fields of a response other than that to a preflight, without Vary.
    pub fn response_fields(&self, request: &HeaderMap) -> CorsFields {
        let Some(allowed) = self.allowed_origin(request) else { return Vec::new() };
        let mut fields = self.common_fields(allowed);
        fields.extend(self.expose.iter().map(|expose| (ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone())));
        fields
    }

    /// The value of Vary. `None` if responses do not depend on the origin.
    ///
    /// It does not depend on whether the request has an origin. Otherwise a cache could store a response without CORS and
    /// give it to every page.
    pub fn vary(&self) -> Option<HeaderValue> {
        (!self.is_public).then(|| HeaderValue::from_static("Origin"))
    }

    /// The fields of the response to a preflight. An origin that is not allowed gets only Vary.
    pub fn preflight_fields(&self, request: &HeaderMap) -> CorsFields {
        let vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        let vary = (VARY, HeaderValue::from_static(vary));
        let Some(allowed) = self.allowed_origin(request) else { return vec![vary] };
        let mut fields = self.common_fields(allowed);
        let mut add = |name: HeaderName, value: Option<HeaderValue>| fields.extend(value.map(|value| (name, value)));
        add(ACCESS_CONTROL_ALLOW_METHODS, self.methods.value(request.get(ACCESS_CONTROL_REQUEST_METHOD)));
        add(ACCESS_CONTROL_ALLOW_HEADERS, self.headers.value(request.get(ACCESS_CONTROL_REQUEST_HEADERS)));
        add(ACCESS_CONTROL_MAX_AGE, Some(self.max_age.clone()));
        let asks = request.get(&REQUEST_PRIVATE_NETWORK).is_some_and(|value| value == "true");
        let allows = (asks && self.private_network).then(|| HeaderValue::from_static("true"));
        add(ALLOW_PRIVATE_NETWORK.clone(), allows);
        fields.push(vary);
        fields
    }

    fn common_fields(&self, allowed: HeaderValue) -> CorsFields {
        let mut fields = vec![(ACCESS_CONTROL_ALLOW_ORIGIN, allowed)];
        if self.credentials {
            fields.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
        }
        fields
    }

    /// The value of Access-Control-Allow-Origin.
    fn allowed_origin(&self, request: &HeaderMap) -> Option<HeaderValue> {
        if self.is_public {
            return Some(HeaderValue::from_static("*"));
        }
        the_only(request, &ORIGIN).filter(|origin| self.allows(origin)).cloned()
    }
}

impl AllowedNames {
    fn compile(names: &[&str]) -> Result<Self, String> {
        match names {
            [] => Ok(Self::None),
            names if names.contains(&"*") => Ok(Self::Requested),
            names => list(names).map(Self::Listed),
        }
    }

    fn value(&self, requested: Option<&HeaderValue>) -> Option<HeaderValue> {
        match self {
            Self::Requested => requested.filter(|value| value.len() <= MAX_REQUESTED_BYTES && is_list(value)).cloned(),
            Self::Listed(listed) => Some(listed.clone()),
            Self::None => None,
        }
    }
}

/// The method of the request that a preflight asks about. `None`: the request is no preflight.
pub fn asked_method(method: &Method, headers: &HeaderMap) -> Option<Method> {
    if *method != Method::OPTIONS {
        return None;
    }
    the_only(headers, &ORIGIN)?;
    Method::from_bytes(the_only(headers, &ACCESS_CONTROL_REQUEST_METHOD)?.as_bytes()).ok()
}

/// The value of a field that occurs once.
fn the_only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn list(names: &[&str]) -> Result<HeaderValue, String> {
    let text = names.join(", ");
    HeaderValue::from_str(&text).map_err(|_| format!("`{text}` is not a list of names"))
}

/// Whether this is a list of tokens (RFC 9110 section 5.6.1).
fn is_list(value: &HeaderValue) -> bool {
    value.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~, \t".contains(b))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(yaml: &str) -> CorsPolicy {
        CorsPolicy::compile(&serde_yaml::from_str(yaml).unwrap()).unwrap()
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn shown(fields: &CorsFields) -> Vec<String> {
        let short = |name: &HeaderName| name.as_str().replace("access-control-", "");
        fields.iter().map(|(name, value)| format!("{}: {}", short(name), value.to_str().unwrap())).collect()
    }

    const APP: &str = "origins: ['https://app.example']";

    #[test]
    fn an_allowed_origin_is_named_and_another_gets_no_field() {
        let cors = policy(&format!("{{ {APP}, credentials: true, expose: [x-total, etag] }}"));
        let of = |fields: &[(&'static str, &str)]| shown(&cors.response_fields(&headers(fields)));
        let expected =
            ["allow-origin: https://app.example", "allow-credentials: true", "expose-headers: x-total, etag"];
        assert_eq!(of(&[("origin", "https://app.example")]), expected);
        for hostile in
            ["https://app.example.evil.test", "null", "HTTPS://APP.EXAMPLE", "https://app.example:444", "*", ""]
        {
            assert!(of(&[("origin", hostile)]).is_empty(), "{hostile}");
        }
        assert!(of(&[]).is_empty());
        let twice = [("origin", "https://app.example"), ("origin", "https://app.example")];
        assert!(of(&twice).is_empty(), "a request has one origin");
        assert_eq!(cors.vary().unwrap(), "Origin");
    }

    #[test]
    fn any_origin_without_credentials_is_a_star_that_does_not_vary() {
        let cors = policy("{ origins: ['*'] }");
        for origin in ["https://a", "null"] {
            assert_eq!(shown(&cors.response_fields(&headers(&[("origin", origin)]))), ["allow-origin: *"]);
        }
        assert_eq!((shown(&cors.response_fields(&headers(&[]))).len(), cors.vary()), (1, None));
    }

    #[test]
    fn a_preflight_is_answered_with_the_lists() {
        let cors = policy(&format!("{{ {APP}, methods: [PUT, DELETE], headers: [content-type], max_age: 1m }}"));
        let ask = headers(&[("origin", "https://app.example"), ("access-control-request-method", "PUT")]);
        assert_eq!(
            shown(&cors.preflight_fields(&ask)),
            [
                "allow-origin: https://app.example",
                "allow-methods: PUT, DELETE",
                "allow-headers: content-type",
                "max-age: 60",
                "vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
            ]
        );
        let other = headers(&[("origin", "https://evil.test"), ("access-control-request-method", "PUT")]);
        assert_eq!(cors.preflight_fields(&other).len(), 1, "only Vary");
    }

    #[test]
    fn a_star_repeats_the_names_of_the_preflight_if_they_are_names() {
        let cors =
            policy(&format!("{{ {APP}, methods: ['*'], headers: ['*'], credentials: true, private_network: true }}"));
        let ask = |names: &str, private: &str| {
            let ask = headers(&[
                ("origin", "https://app.example"),
                ("access-control-request-method", "PATCH"),
                ("access-control-request-headers", names),
                ("access-control-request-private-network", private),
            ]);
            shown(&cors.preflight_fields(&ask)).join("\n")
        };
        let all = ask("authorization, x-a", "true");
        for expected in ["allow-methods: PATCH", "allow-headers: authorization, x-a", "allow-private-network: true"] {
            assert!(all.contains(expected), "{all}");
        }
        let none = ask("x-a; \"b\"", "1");
        assert!(!none.contains("allow-headers") && !none.contains("private"), "{none}");
    }

    #[test]
    fn a_preflight_is_options_with_one_origin_and_one_method() {
        let ask = [("origin", "https://a"), ("access-control-request-method", "PUT")];
        assert_eq!(asked_method(&Method::OPTIONS, &headers(&ask)), Some(Method::PUT));
        assert_eq!(asked_method(&Method::GET, &headers(&ask)), None);
        assert_eq!(asked_method(&Method::OPTIONS, &headers(&ask[..1])), None);
        assert_eq!(asked_method(&Method::OPTIONS, &headers(&ask[1..])), None);
        assert_eq!(asked_method(&Method::OPTIONS, &headers(&[ask[0], ask[1], ask[1]])), None);
        assert_eq!(asked_method(&Method::OPTIONS, &headers(&[ask[0], (ask[1].0, "a b")])), None);
    }

    proptest! {
        #[test]
        fn only_listed_origins_get_a_field(origin in "[a-z:/.*?#@A-Z0-9 -]{0,30}") {
            let cors = policy("{ origins: ['https://app.example', 'https://*.b.example'], credentials: true }");
            let allowed = !cors.response_fields(&headers(&[("origin", &origin)])).is_empty();
            let below = origin.starts_with("https://") && origin.ends_with(".b.example");
            prop_assert!(!allowed || origin == "https://app.example" || below, "{}", origin);
        }
    }
}
