//! `auth`: access policies by name.

use std::borrow::Cow;

use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod api_keys;
mod basic;

pub use api_keys::ApiKeySettings;
pub use basic::BasicAuthSettings;

/// One of `auth`: exactly one of these keys.
#[derive(Debug, Clone, PartialEq)]
pub enum AuthSettings {
    /// Keys of programs.
    ApiKeys(ApiKeySettings),
    /// Users and passwords.
    Basic(BasicAuthSettings),
}

/// The mapping of a policy.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct AuthSection {
    /// API keys: a file with their hashes, and the place of the key in a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_keys: Option<ApiKeySettings>,
    /// Users and passwords by HTTP Basic authentication (RFC 7617).
    #[serde(skip_serializing_if = "Option::is_none")]
    basic: Option<BasicAuthSettings>,
}

const KINDS: &str = "write exactly one of `api_keys` and `basic`";

impl AuthSettings {
    /// The key of the policy.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ApiKeys(_) => "api_keys",
            Self::Basic(_) => "basic",
        }
    }
}

impl TryFrom<AuthSection> for AuthSettings {
    type Error = String;

    fn try_from(section: AuthSection) -> Result<Self, String> {
        let written = [section.api_keys.map(Self::ApiKeys), section.basic.map(Self::Basic)];
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
