//! `auth.*.jwt`: access with a signed token.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::super::values::{ClaimValue, HttpUrl, Period};
use crate::auth::jwt::JwtAlgorithm;

/// `auth.*.jwt`: access with a signed token, a JWT (RFC 7519). Its signature, issuer, audience and times are verified.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JwtAuth {
    /// The issuer: tokens must have exactly this `iss`. Without `jwks`, the keys are found by its discovery document
    /// (`/.well-known/openid-configuration`).
    pub issuer: Option<String>,
    /// The key set (JWKS) of the issuer: a URL, or `{ file: keys.json }`. Keys from a URL are fetched without waiting for
    /// a request, and the last ones stay in use when a fetch fails.
    pub jwks: Option<KeySetSource>,
    /// A PEM file of CA certificates for the server of the keys. They replace those of the system.
    pub ca: Option<PathBuf>,
    /// The names of this service. Tokens must have one of them in `aud`.
    pub audience: Vec<String>,
    /// With `true`, tokens for every service of the issuer are accepted.
    pub any_audience: bool,
    /// The accepted signature algorithms.
    pub algorithms: Vec<JwtAlgorithm>,
    /// Tolerance for the clock of the issuer: for `exp` and `nbf`.
    pub leeway: Period,
    /// Requirements on the claims. A token that lacks one is answered with 403.
    pub require: JwtRequirements,
    /// Claims for the backend: the name of a header field, and the claim, such as `sub` or `realm_access.roles`. The
    /// client's own fields of these names are removed.
    pub headers: BTreeMap<String, String>,
    /// Where the token is: `authorization`, or a section.
    pub from: TokenPlace,
    /// With `false`, the token is removed before the request is sent to the backend. A token in the query is always
    /// removed.
    pub forward_token: bool,
}

/// `auth.*.jwt.require`: requirements on the claims of a token.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JwtRequirements {
    /// With `false`, tokens without an expiry (`exp`) are accepted.
    pub exp: bool,
    /// Claims by name, such as `realm_access.roles: [admin]`. The claim, or an element of it, must be one of the values.
    /// An empty list accepts every value.
    pub claims: BTreeMap<String, Vec<ClaimValue>>,
    /// Scopes. A token must have all of them.
    pub scopes: Vec<String>,
}

impl Default for JwtAuth {
    fn default() -> Self {
        Self {
            issuer: None,
            jwks: None,
            ca: None,
            audience: Vec::new(),
            any_audience: false,
            algorithms: vec![JwtAlgorithm::RS256, JwtAlgorithm::ES256],
            leeway: Period::from_secs(30),
            require: JwtRequirements::default(),
            headers: BTreeMap::new(),
            from: TokenPlace::default(),
            forward_token: true,
        }
    }
}

impl Default for JwtRequirements {
    fn default() -> Self {
        Self { exp: true, claims: BTreeMap::new(), scopes: Vec::new() }
    }
}

/// `auth.*.jwt.jwks`: the place of a key set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySetSource {
    /// On the network.
    Url(HttpUrl),
    /// A file.
    File(PathBuf),
}

impl KeySetSource {
    /// The file.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Url(_) => None,
            Self::File(path) => Some(path),
        }
    }
}

/// `{ file: … }`.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KeySetFileSection {
    /// A file with a JSON Web Key Set. A change of the file is applied without a reload.
    file: PathBuf,
}

impl<'de> Deserialize<'de> for KeySetSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct UrlOrFile;
        impl<'de> Visitor<'de> for UrlOrFile {
            type Value = KeySetSource;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL such as `https://id.example/keys`, or `{ file: keys.json }`")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<KeySetSource, E> {
                text.parse().map(KeySetSource::Url).map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<KeySetSource, A::Error> {
                let section = KeySetFileSection::deserialize(MapAccessDeserializer::new(map))?;
                Ok(KeySetSource::File(section.file))
            }
        }
        deserializer.deserialize_any(UrlOrFile)
    }
}

impl Serialize for KeySetSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Url(url) => url.serialize(serializer),
            Self::File(file) => KeySetFileSection { file: file.clone() }.serialize(serializer),
        }
    }
}

impl JsonSchema for KeySetSource {
    fn schema_name() -> Cow<'static, str> {
        "KeySetSource".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [generator.subschema_for::<HttpUrl>(), generator.subschema_for::<KeySetFileSection>()] })
    }
}

/// `auth.*.jwt.from`: the place of the token in a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TokenPlace {
    /// `Authorization: Bearer TOKEN`.
    #[default]
    Authorization,
    /// A header field.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A query parameter.
    Query(String),
}

/// `auth.*.jwt.from`: exactly one of these keys.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct TokenPlaceSection {
    /// This header field, with or without `Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    /// This cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    cookie: Option<String>,
    /// This query parameter. It is removed before the request is logged and sent to the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<String>,
}

const ONE_PLACE: &str = "write `authorization`, or exactly one of `header`, `cookie` and `query`";

impl TokenPlace {
    fn of(section: TokenPlaceSection) -> Result<Self, String> {
        match (section.header, section.cookie, section.query) {
            (Some(name), None, None) => Ok(Self::Header(name)),
            (None, Some(name), None) => Ok(Self::Cookie(name)),
            (None, None, Some(name)) => Ok(Self::Query(name)),
            _ => Err(format!("a token has one place; {ONE_PLACE}")),
        }
    }
}

impl<'de> Deserialize<'de> for TokenPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PlaceOrWord;
        impl<'de> Visitor<'de> for PlaceOrWord {
            type Value = TokenPlace;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`authorization`, or a section such as `{ cookie: session }`")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TokenPlace, A::Error> {
                let section = TokenPlaceSection::deserialize(MapAccessDeserializer::new(map))?;
                TokenPlace::of(section).map_err(A::Error::custom)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<TokenPlace, E> {
                match text {
                    "authorization" => Ok(TokenPlace::Authorization),
                    _ => Err(E::custom(format!("`{text}` is not a place of a token; {ONE_PLACE}"))),
                }
            }
        }
        deserializer.deserialize_any(PlaceOrWord)
    }
}

impl Serialize for TokenPlace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut section = TokenPlaceSection::default();
        match self.clone() {
            Self::Authorization => return serializer.serialize_str("authorization"),
            Self::Header(name) => section.header = Some(name),
            Self::Cookie(name) => section.cookie = Some(name),
            Self::Query(name) => section.query = Some(name),
        }
        section.serialize(serializer)
    }
}

impl JsonSchema for TokenPlace {
    fn schema_name() -> Cow<'static, str> {
        "TokenPlace".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [generator.subschema_for::<TokenPlaceSection>(), { "const": "authorization" }] })
    }
}
