//! `routes[].cors`: which pages of other origins may read responses. `off` is the default.

use std::borrow::Cow;

use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::values::{Method, Period};
use super::OriginPattern;
use super::section_or_off::{self, SectionOrOff};

/// `routes[].cors`: the settings, or `off`.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Cors {
    /// Weir answers preflights and sets the fields of CORS.
    On(CorsSettings),
    /// Weir passes the fields of CORS on as they are.
    #[default]
    Off,
}

impl Cors {
    /// The settings; `None` if it is off.
    pub fn settings(&self) -> Option<&CorsSettings> {
        match self {
            Self::On(settings) => Some(settings),
            Self::Off => None,
        }
    }
}

/// `routes[].cors`: pages of other origins that may read responses. Weir answers preflights itself and sets the fields on
/// every response of the route. Fields of the backend are replaced.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CorsSettings {
    /// Origins: `https://app.example.org`, `https://*.example.org` (subdomains of any depth), `{ regex: … }` (matches the
    /// whole origin), or `*`.
    pub origins: Vec<OriginPattern>,
    /// Methods that scripts may use. `*`: all.
    pub methods: Vec<Method>,
    /// Header fields that scripts may set, beside those that are always allowed. `*`: all.
    pub headers: Vec<String>,
    /// Header fields of responses that scripts may read, beside those that are always allowed.
    pub expose: Vec<String>,
    /// Scripts may send cookies and other credentials. It excludes `origins: *`.
    pub credentials: bool,
    /// How long a browser may keep the answer to a preflight. 0s: it asks again for each request.
    pub max_age: Period,
    /// Public pages may send requests to this private network (Private Network Access).
    pub private_network: bool,
}

impl Default for CorsSettings {
    fn default() -> Self {
        let methods = ["GET", "HEAD", "POST"].iter().filter_map(|method| method.parse().ok()).collect();
        Self {
            origins: Vec::new(),
            methods,
            headers: Vec::new(),
            expose: Vec::new(),
            credentials: false,
            max_age: Period::from_secs(600),
            private_network: false,
        }
    }
}

impl<'de> Deserialize<'de> for Cors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match SectionOrOff::deserialize(deserializer)? {
            SectionOrOff::On(settings) => Self::On(settings),
            SectionOrOff::Off => Self::Off,
            SectionOrOff::Empty => Self::default(),
        })
    }
}

impl Serialize for Cors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        section_or_off::serialize(self.settings(), serializer)
    }
}

impl JsonSchema for Cors {
    fn schema_name() -> Cow<'static, str> {
        "Cors".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        section_or_off::json_schema::<CorsSettings>(generator)
    }
}
