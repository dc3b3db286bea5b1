//! `routes[].split`: a list of upstreams with weights, or a section that also names the key of a sticky split.

use std::borrow::Cow;
use std::fmt;

use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::values::{Name, Period};
use super::Whole;

/// `routes[].split`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SplitSettings {
    /// The upstreams with their weights.
    pub targets: Vec<SplitTarget>,
    /// The key that keeps a user on the same upstream. `None`: each request is distributed alone.
    pub by: Option<SplitKey>,
}

/// One of `routes[].split`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitTarget {
    /// The upstream.
    pub upstream: Name,
    /// Its share of the sum of all weights.
    pub weight: u16,
}

/// `routes[].split.by`: the part of a request that identifies the user. Write exactly one of `cookie`, `header` and
/// `client`. Requests without this part are distributed by the weights alone.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SplitKey {
    /// The value of this cookie.
    pub cookie: Option<String>,
    /// The value of this header field.
    pub header: Option<String>,
    /// The client's address: `{}`.
    pub client: Option<Whole>,
    /// With `cookie`: Weir sets the cookie for this time, at least 1s, to a random value for clients that have none.
    /// Default: the application sets the cookie.
    pub ttl: Option<Period>,
}

/// `{ by: …, targets: … }`.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SplitSection {
    /// The part of a request that identifies the user. The same user stays on the same upstream.
    by: SplitKey,
    /// The upstreams with their weights.
    targets: Vec<SplitTarget>,
}

impl<'de> Deserialize<'de> for SplitSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrSplitSection;
        impl<'de> Visitor<'de> for ListOrSplitSection {
            type Value = SplitSettings;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list such as `[{ upstream: v1, weight: 95 }]`, or `{ by: …, targets: … }`")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<SplitSettings, A::Error> {
                let targets = Vec::deserialize(SeqAccessDeserializer::new(list))?;
                Ok(SplitSettings { targets, by: None })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SplitSettings, A::Error> {
                let section = SplitSection::deserialize(MapAccessDeserializer::new(map))?;
                Ok(SplitSettings { targets: section.targets, by: Some(section.by) })
            }
        }
        deserializer.deserialize_any(ListOrSplitSection)
    }
}

impl Serialize for SplitSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.by.clone() {
            None => self.targets.serialize(serializer),
            Some(by) => SplitSection { by, targets: self.targets.clone() }.serialize(serializer),
        }
    }
}

impl JsonSchema for SplitSettings {
    fn schema_name() -> Cow<'static, str> {
        "Split".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [generator.subschema_for::<SplitSection>(), generator.subschema_for::<Vec<SplitTarget>>()]
        })
    }
}
