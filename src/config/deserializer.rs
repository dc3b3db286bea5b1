//! A serde deserializer over the tree. It records the place and the reason of an error.
//!
//! It never coerces a value, with one exception: a value from the environment is text in YAML, but is accepted for
//! every scalar type.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::node::{Entry, Node, NodeKind, PathStep};
use super::problem::did_you_mean;

/// The reason why a value was rejected.
#[derive(Debug)]
pub(super) struct Rejected {
    /// The path to the value, innermost step first.
    pub(super) steps: Vec<PathStep>,
    /// Whether the key is invalid, not the value.
    pub(super) on_key: bool,
    /// The problem.
    pub(super) what: String,
    /// The hint.
    pub(super) hint: String,
    /// The name of a missing key, if that is the problem.
    pub(super) missing: Option<&'static str>,
}

impl Rejected {
    fn new(what: String, hint: String) -> Self {
        Self { steps: Vec::new(), on_key: false, what, hint, missing: None }
    }

    fn below(mut self, step: PathStep) -> Self {
        self.steps.push(step);
        self
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Rejected {}

impl de::Error for Rejected {
    /// A message consists of the problem, `; `, and the hint.
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        match message.rsplit_once("; ") {
            Some((what, hint)) => Self::new(what.to_owned(), capital(hint)),
            None => Self::new(message, String::new()),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let hint = match found {
            Unexpected::Unit => "Write a value, or leave the key out",
            Unexpected::Signed(_) | Unexpected::Unsigned(_) | Unexpected::Float(_) | Unexpected::Bool(_) => {
                match expected.to_string().as_str() {
                    "a string" | "path string" | "text" => "Put it in quotes",
                    _ => "",
                }
            }
            _ => "",
        };
        Self::new(format!("{} where {} belongs", describe(found), range(expected)), hint.into())
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("{} where {} belongs", describe(found), range(expected)), String::new())
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("`{variant}` is none of its values"), did_you_mean(variant, expected.iter().copied()))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let hint = match expected {
            [] => "No key belongs here".to_owned(),
            known => did_you_mean(field, known.iter().copied()),
        };
        Self::new(format!("unknown key `{field}`"), hint)
    }

    fn missing_field(field: &'static str) -> Self {
        let missing = Some(field);
        Self { missing, ..Self::new(format!("`{field}` is missing"), format!("Write `{field}: …`")) }
    }
}

fn describe(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Unit | Unexpected::Option => "nothing".into(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a mapping".into(),
        Unexpected::Str(text) => format!("`{text}`"),
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Signed(number) => format!("`{number}`"),
        Unexpected::Unsigned(number) => format!("`{number}`"),
        Unexpected::Float(number) => format!("`{number}`"),
        other => other.to_string(),
    }
}

fn range(expected: &dyn Expected) -> String {
    let expected = expected.to_string();
    match expected.as_str() {
        "u8" => "a number from 0 to 255".into(),
        "u16" => "a number from 0 to 65535".into(),
        "u32" | "u64" | "usize" => "a whole number".into(),
        "a boolean" => "`true` or `false`".into(),
        "a sequence" => "a list".into(),
        "a map" => "a mapping".into(),
        "path string" => "a path".into(),
        "socket address" => "an address such as `0.0.0.0:8080`".into(),
        other if other.starts_with("struct ") => "a mapping".into(),
        _ => expected,
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// A value as a serde deserializer.
#[derive(Clone, Copy)]
pub(super) struct NodeSource<'a>(pub(super) &'a Node);

impl<'a> NodeSource<'a> {
    /// The text of a value from the environment.
    fn loose(self) -> Option<&'a str> {
        match &self.0.kind {
            NodeKind::Text(text) if self.0.raw.is_some() => Some(text.trim()),
            _ => None,
        }
    }
}

/// Methods that parse a value from the environment as the requested type.
macro_rules! read_loose {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Rejected> {
            match self.loose().and_then(|text| text.parse::<$type>().ok()) {
                Some(value) => visitor.$visit(value),
                None => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> de::Deserializer<'de> for NodeSource<'_> {
    type Error = Rejected;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Rejected> {
        match &self.0.kind {
            NodeKind::Null | NodeKind::Pruned => visitor.visit_unit(),
            NodeKind::Bool(value) => visitor.visit_bool(*value),
            NodeKind::Int(number) => match (u64::try_from(*number), i64::try_from(*number)) {
                (Ok(number), _) => visitor.visit_u64(number),
                (_, Ok(number)) => visitor.visit_i64(number),
                _ => Err(Rejected::new(format!("`{number}` is out of range"), String::new())),
            },
            NodeKind::Float(number) => visitor.visit_f64(*number),
            NodeKind::Text(text) => visitor.visit_str(text),
            NodeKind::List(items) => visitor.visit_seq(Items { items: items.iter().enumerate() }),
            NodeKind::Map(entries) => visitor.visit_map(MapEntries { entries: entries.iter(), current: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Rejected> {
        match &self.0.kind {
            NodeKind::Null => visitor.visit_none(),
            _ if self.loose() == Some("") => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        values: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Rejected> {
        match &self.0.kind {
            NodeKind::Text(text) => visitor.visit_enum(IntoDeserializer::<Rejected>::into_deserializer(text.as_str())),
            kind => {
                let names: Vec<String> = values.iter().map(|v| format!("`{v}`")).collect();
                let what = format!("{} where a name belongs", kind_words(kind));
                Err(Rejected::new(what, format!("Write one of {}", names.join(", "))))
            }
        }
    }

    /// Only a mapping is accepted. Derived types would also accept a list, in the order of their fields.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Rejected> {
        match &self.0.kind {
            NodeKind::List(_) => Err(de::Error::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    /// One value stands for a list of one.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Rejected> {
        match &self.0.kind {
            NodeKind::Null | NodeKind::Pruned | NodeKind::List(_) => self.deserialize_any(visitor),
            NodeKind::Map(_) => visitor.visit_seq(Single(Some(self.0))).map_err(not_a_list_of_one),
            _ => visitor.visit_seq(Single(Some(self.0))),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Rejected> {
        visitor.visit_newtype_struct(self)
    }

    read_loose! {
        deserialize_bool visit_bool bool;
        deserialize_i8 visit_i64 i64;
        deserialize_i16 visit_i64 i64;
        deserialize_i32 visit_i64 i64;
        deserialize_i64 visit_i64 i64;
        deserialize_u8 visit_u64 u64;
        deserialize_u16 visit_u64 u64;
        deserialize_u32 visit_u64 u64;
        deserialize_u64 visit_u64 u64;
        deserialize_f32 visit_f64 f64;
        deserialize_f64 visit_f64 f64;
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct map identifier ignored_any
    }
}

fn kind_words(kind: &NodeKind) -> String {
    match kind {
        NodeKind::Bool(value) => format!("`{value}`"),
        NodeKind::Int(number) => format!("`{number}`"),
        NodeKind::Float(number) => format!("`{number}`"),
        NodeKind::List(_) => "a list".into(),
        NodeKind::Map(_) => "a mapping".into(),
        _ => "nothing".into(),
    }
}

struct Items<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Rejected;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Rejected> {
        let next = self.items.by_ref().find(|(_, node)| !node.is_pruned());
        let Some((index, node)) = next else { return Ok(None) };
        seed.deserialize(NodeSource(node)).map(Some).map_err(|refusal| refusal.below(PathStep::Index(index)))
    }
}

/// A value as the only element of a list. Its problems are its own: the list adds no step to the way to it.
struct Single<'a>(Option<&'a Node>);

impl<'de> de::SeqAccess<'de> for Single<'_> {
    type Error = Rejected;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Rejected> {
        self.0.take().map(|node| seed.deserialize(NodeSource(node))).transpose()
    }
}

/// A mapping whose own keys are unknown, or that is no element at all, was not meant as a list of one.
fn not_a_list_of_one(refusal: Rejected) -> Rejected {
    let of_the_mapping = refusal.steps.is_empty() || (refusal.on_key && refusal.steps.len() == 1);
    let meant = refusal.hint.starts_with("Did you mean") || refusal.missing.is_some();
    if of_the_mapping && !meant {
        Rejected::new("a mapping where a list belongs".into(), String::new())
    } else {
        refusal
    }
}

struct MapEntries<'a> {
    entries: std::slice::Iter<'a, Entry>,
    current: Option<&'a Entry>,
}

impl<'de> de::MapAccess<'de> for MapEntries<'_> {
    type Error = Rejected;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Rejected> {
        self.current = self.entries.by_ref().find(|entry| !entry.value.is_pruned());
        let Some(entry) = self.current else { return Ok(None) };
        let key: StrDeserializer<'_, Rejected> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|refusal| {
            let refusal = refusal.below(PathStep::Key(entry.key.clone()));
            Rejected { on_key: true, ..refusal }
        })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Rejected> {
        let Some(entry) = self.current else { return Err(de::Error::custom("a value without a key")) };
        seed.deserialize(NodeSource(&entry.value)).map_err(|refusal| refusal.below(PathStep::Key(entry.key.clone())))
    }
}
