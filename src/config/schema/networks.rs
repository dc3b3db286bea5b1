//! `allow` and `deny`: a list of networks, or a file with one network per line.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::values::Cidr;

/// `allow` or `deny`.
#[derive(Debug, Clone, PartialEq)]
pub enum Networks {
    /// These networks.
    List(Vec<Cidr>),
    /// The networks in this file.
    File(PathBuf),
}

impl Networks {
    /// The file.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::List(_) => None,
            Self::File(path) => Some(path),
        }
    }

    /// Whether it is an empty list, which is also the default.
    pub fn is_empty_list(&self) -> bool {
        matches!(self, Self::List(list) if list.is_empty())
    }
}

impl Default for Networks {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

/// `{ file: … }`.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NetworksSection {
    /// A file with one network per line. A comment begins with `#`. A change of the file is applied without a reload.
    file: PathBuf,
}

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrFile;
        impl<'de> Visitor<'de> for ListOrFile {
            type Value = Networks;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of networks such as `[10.0.0.0/8]`, or `{ file: networks.txt }`")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Networks, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Networks::List)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Networks, A::Error> {
                let section = NetworksSection::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Networks::File(section.file))
            }
        }
        deserializer.deserialize_any(ListOrFile)
    }
}

impl Serialize for Networks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::List(list) => list.serialize(serializer),
            Self::File(file) => NetworksSection { file: file.clone() }.serialize(serializer),
        }
    }
}

impl JsonSchema for Networks {
    fn schema_name() -> Cow<'static, str> {
        "Networks".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [generator.subschema_for::<Vec<Cidr>>(), generator.subschema_for::<NetworksSection>()] })
    }
}
