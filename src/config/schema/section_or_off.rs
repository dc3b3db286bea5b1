//! A section that can also be `off`, such as `upstreams.*.outlier` and `routes[].compress`.

use std::fmt;
use std::marker::PhantomData;

use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const OFF: &str = "off";

/// The written form.
pub(super) enum SectionOrOff<T> {
    On(T),
    Off,
    /// A key without a value. It is treated as an absent key.
    Empty,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for SectionOrOff<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SectionVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for SectionVisitor<T> {
            type Value = SectionOrOff<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping or `off`")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(SectionOrOff::On)
            }
            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(SectionOrOff::Empty)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                if text == OFF {
                    return Ok(SectionOrOff::Off);
                }
                Err(E::custom(format!("`{text}` where a mapping or `off` belongs; write `off`, or leave the key out")))
            }
        }
        deserializer.deserialize_any(SectionVisitor(PhantomData))
    }
}

/// Writes the section, or `off` for `None`.
pub(super) fn serialize<T: Serialize, S: Serializer>(section: Option<&T>, serializer: S) -> Result<S::Ok, S::Error> {
    match section {
        Some(section) => section.serialize(serializer),
        None => serializer.serialize_str(OFF),
    }
}

/// The JSON Schema of the section or `off`.
pub(super) fn json_schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [generator.subschema_for::<T>(), { "const": OFF }] })
}
