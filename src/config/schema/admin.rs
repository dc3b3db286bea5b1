//! `admin`: address and access control of the admin listener (metrics, status page, API).

use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::values::AdminAddress;

/// The admin listener. Fixed until a restart, except the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admin {
    /// No admin listener: no status page, no metrics, no API.
    Off,
    /// An admin listener with these settings.
    On(AdminSettings),
}

/// `admin`: metrics, status page and API. `off` disables them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdminSettings {
    /// Listen address: `IP:PORT`, or `unix:/path` (mode 0660). An address other than loopback needs `token_file`.
    pub address: AdminAddress,
    /// A file whose first line is the bearer token. Every request except `/healthz` and `/readyz` must carry it.
    /// Browsers get a login form.
    pub token_file: Option<PathBuf>,
    /// Allow an address other than loopback without a token. Everyone who can reach it then controls Weir.
    pub insecure: bool,
}

impl Admin {
    /// The settings; `None` if the admin listener is off.
    pub fn settings(&self) -> Option<&AdminSettings> {
        match self {
            Self::Off => None,
            Self::On(settings) => Some(settings),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self::On(AdminSettings::default())
    }
}

impl<'de> Deserialize<'de> for Admin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl<'de> Visitor<'de> for Written {
            type Value = Admin;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping or `off`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Admin, E> {
                match text {
                    "off" => Ok(Admin::Off),
                    _ => Err(E::custom(format!(
                        "`{text}` where a mapping or `off` belongs; write `off`, or `{{ address: \"{text}\" }}`"
                    ))),
                }
            }
            fn visit_bool<E: serde::de::Error>(self, on: bool) -> Result<Admin, E> {
                Err(E::custom(format!("`{on}` where a mapping or `off` belongs; write `off` to turn it off")))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Admin, A::Error> {
                AdminSettings::deserialize(MapAccessDeserializer::new(map)).map(Admin::On)
            }
        }
        deserializer.deserialize_any(Written)
    }
}

impl Serialize for Admin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str("off"),
            Self::On(settings) => settings.serialize(serializer),
        }
    }
}

impl JsonSchema for Admin {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Admin".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let settings = generator.subschema_for::<AdminSettings>();
        json_schema!({ "anyOf": [settings, { "type": "string", "const": "off" }] })
    }
}
