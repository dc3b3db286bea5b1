//! `auth`: access policies by name, and their use in a route.

use std::borrow::Cow;
use std::fmt;

use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::values::Name;

mod api_keys;
mod basic;
mod client_certificate;
mod forward;
mod jwt;

pub use api_keys::ApiKeySettings;
pub use basic::BasicAuthSettings;
pub use client_certificate::ClientCertificateSettings;
pub use forward::{AuthFailure, ForwardAuthSettings};
pub use jwt::{JwtAuth, JwtRequirements, KeySetSource, TokenPlace};

/// One of `auth`: exactly one of these keys.
#[derive(Debug, Clone, PartialEq)]
pub enum AuthSettings {
    /// Keys of programs.
    ApiKeys(ApiKeySettings),
    /// Users and passwords.
    Basic(BasicAuthSettings),
    /// Certificates of clients.
    ClientCertificate(ClientCertificateSettings),
    /// An authorization server.
    Forward(ForwardAuthSettings),
    /// Tokens.
    Jwt(Box<JwtAuth>),
}

/// The mapping of a policy.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct AuthSection {
    /// Keys of programs: a file with their hashes, and the place of the key in a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_keys: Option<ApiKeySettings>,
    /// Users and passwords by HTTP Basic authentication (RFC 7617).
    #[serde(skip_serializing_if = "Option::is_none")]
    basic: Option<BasicAuthSettings>,
    /// The client certificates that may pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate: Option<ClientCertificateSettings>,
    /// The upstream of an authorization server, which decides about each request.
    #[serde(skip_serializing_if = "Option::is_none")]
    forward: Option<ForwardAuthSettings>,
    /// Signed tokens (JWT, RFC 7519).
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<JwtAuth>,
}

const KINDS: &str = "write exactly one of `api_keys`, `basic`, `client_certificate`, `forward` and `jwt`";

impl AuthSettings {
    /// The settings of a `jwt` policy.
    pub fn jwt(&self) -> Option<&JwtAuth> {
        match self {
            Self::Jwt(settings) => Some(settings),
            _ => None,
        }
    }

    /// The key of the policy.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ApiKeys(_) => "api_keys",
            Self::Basic(_) => "basic",
            Self::ClientCertificate(_) => "client_certificate",
            Self::Forward(_) => "forward",
            Self::Jwt(_) => "jwt",
        }
    }
}

impl TryFrom<AuthSection> for AuthSettings {
    type Error = String;

    fn try_from(section: AuthSection) -> Result<Self, String> {
        let written = [
            section.api_keys.map(Self::ApiKeys),
            section.basic.map(Self::Basic),
            section.client_certificate.map(Self::ClientCertificate),
            section.forward.map(Self::Forward),
            section.jwt.map(|jwt| Self::Jwt(Box::new(jwt))),
        ];
        let mut written = written.into_iter().flatten();
        match (written.next(), written.next()) {
            (Some(policy), None) => Ok(policy),
            (None, _) => Err(format!("this policy checks nothing; {KINDS}")),
            _ => Err(format!("this policy has two kinds; {KINDS}")),
        }
    }
}

impl<'de> Deserialize<'de> for AuthSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        AuthSection::deserialize(deserializer)?.try_into().map_err(D::Error::custom)
    }
}

impl Serialize for AuthSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut section = AuthSection::default();
        match self.clone() {
            Self::ApiKeys(settings) => section.api_keys = Some(settings),
            Self::Basic(settings) => section.basic = Some(settings),
            Self::ClientCertificate(settings) => section.client_certificate = Some(settings),
            Self::Forward(settings) => section.forward = Some(settings),
            Self::Jwt(settings) => section.jwt = Some(*settings),
        }
        section.serialize(serializer)
    }
}

impl JsonSchema for AuthSettings {
    fn schema_name() -> Cow<'static, str> {
        "AuthSettings".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<AuthSection>()
    }
}

/// `routes[].auth`: the policies that a request must satisfy.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RouteAuth {
    /// The policies, in the order in which they are applied.
    pub policies: Vec<Name>,
    /// Whether one policy is enough. Otherwise all are required.
    pub any: bool,
    /// Requests that need no policy.
    pub except: Vec<AuthException>,
}

/// `routes[].auth.except`: requests that need no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuthException {
    /// CORS preflight requests: OPTIONS with Access-Control-Request-Method. Browsers send no credentials with them.
    Preflight,
}

/// The mapping of `routes[].auth`.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RouteAuthSection {
    /// Names of `auth`. All of them must let the request pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<Vec<Name>>,
    /// Names of `auth`. One of them must let the request pass. They are tried in this order.
    #[serde(skip_serializing_if = "Option::is_none")]
    any: Option<Vec<Name>>,
    /// Requests that need no policy: `preflight`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    except: Vec<AuthException>,
}

impl RouteAuth {
    /// Whether no policy applies, which is the default.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    fn of(section: RouteAuthSection) -> Result<Self, String> {
        let except = section.except;
        match (section.all, section.any) {
            (Some(policies), None) => Ok(Self { policies, any: false, except }),
            (None, Some(policies)) if !policies.is_empty() => Ok(Self { policies, any: true, except }),
            (None, Some(_)) => {
                Err("`any` of no policy would refuse every request; name one, or write `auth: []`".into())
            }
            (None, None) => Err("no policy; write `auth: [NAME]`, or one of `all` and `any`".into()),
            (Some(_), Some(_)) => Err("write only one of `all` and `any`".into()),
        }
    }
}

impl<'de> Deserialize<'de> for RouteAuth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrSection;
        impl<'de> Visitor<'de> for ListOrSection {
            type Value = RouteAuth;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of policies such as `[staff]`, or `{ any: [staff, keys] }`")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<RouteAuth, A::Error> {
                let policies = Vec::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(RouteAuth { policies, ..RouteAuth::default() })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RouteAuth, A::Error> {
                RouteAuth::of(RouteAuthSection::deserialize(MapAccessDeserializer::new(map))?).map_err(A::Error::custom)
            }
            fn visit_unit<E: Error>(self) -> Result<RouteAuth, E> {
                Ok(RouteAuth::default())
            }
            /// One name stands for a list of one.
            fn visit_str<E: Error>(self, text: &str) -> Result<RouteAuth, E> {
                let name = text.parse().map_err(E::custom)?;
                Ok(RouteAuth { policies: vec![name], ..RouteAuth::default() })
            }
        }
        deserializer.deserialize_any(ListOrSection)
    }
}

impl Serialize for RouteAuth {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.any && self.except.is_empty() {
            return self.policies.serialize(serializer);
        }
        let policies = Some(self.policies.clone());
        let (all, any) = if self.any { (None, policies) } else { (policies, None) };
        RouteAuthSection { all, any, except: self.except.clone() }.serialize(serializer)
    }
}

impl JsonSchema for RouteAuth {
    fn schema_name() -> Cow<'static, str> {
        "RouteAuth".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            generator.subschema_for::<Vec<Name>>(), generator.subschema_for::<RouteAuthSection>()
        ] })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn auth(yaml: &str) -> Result<RouteAuth, String> {
        serde_yaml::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_means_all_and_any_is_written_out() {
        let list = auth("[a, b]").unwrap();
        assert!(!list.any && list.policies.len() == 2);
        assert_eq!(auth("{ all: [a, b] }").unwrap(), list);
        assert!(auth("{ any: [a], except: [preflight] }").unwrap().any);
        for bad in ["{ any: [] }", "{ all: [a], any: [b] }", "{ except: [preflight] }", "{ any: [a], except: [GET] }"] {
            assert!(auth(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_written_value_reads_back() {
        for yaml in ["[]", "[a]", "{ any: [a, b] }", "{ all: [a], except: [preflight] }"] {
            let value = auth(yaml).unwrap();
            assert_eq!(auth(&serde_yaml::to_string(&value).unwrap()).unwrap(), value, "{yaml}");
        }
    }

    #[test]
    fn a_policy_has_exactly_one_kind() {
        let policy = |yaml: &str| serde_yaml::from_str::<AuthSettings>(yaml);
        assert_eq!(policy("{ client_certificate: { san: [a] } }").unwrap().kind(), "client_certificate");
        let two = "{ client_certificate: { san: [a] }, forward: { upstream: u, path: / } }";
        assert!(policy(two).unwrap_err().to_string().contains("two kinds"));
        assert!(policy("{}").unwrap_err().to_string().contains("exactly one"));
    }
}
