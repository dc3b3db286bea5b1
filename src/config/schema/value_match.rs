//! A condition on a value of a request: equal, a regular expression, present, or the opposite of another condition.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::values::Pattern;
use super::text_list::TextList;

/// The conditions that can be written.
const ONE: &str = "write a value, `{ regex: … }`, `{ file: … }`, `{ present: true }` or `{ not: … }`";

/// A condition on a header field, a query parameter or a cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueMatch {
    /// One of its values equals this text.
    Equals(String),
    /// The expression is found in one of its values.
    Regex(Pattern),
    /// A text of this file is found in one of its values.
    File(TextList),
    /// Whether it exists.
    Present(bool),
    /// The condition does not hold.
    Not(Box<ValueMatch>),
}

impl ValueMatch {
    /// Whether the condition holds for these values.
    pub fn holds<'v>(&self, mut values: impl Iterator<Item = Cow<'v, [u8]>>) -> bool {
        let (mut condition, mut wanted) = (self, true);
        while let Self::Not(inner) = condition {
            (condition, wanted) = (inner, !wanted);
        }
        let found = match condition {
            Self::Equals(text) => values.any(|value| *value == *text.as_bytes()),
            Self::Regex(pattern) => {
                values.any(|value| std::str::from_utf8(&value).is_ok_and(|text| pattern.regex().is_match(text)))
            }
            Self::File(list) => values.any(|value| list.finds(&value)),
            Self::Present(present) => values.next().is_some() == *present,
            Self::Not(_) => true,
        };
        found == wanted
    }

    /// The file, also inside of `not`.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(list) => Some(&list.path),
            Self::Not(inner) => inner.file(),
            Self::Equals(_) | Self::Regex(_) | Self::Present(_) => None,
        }
    }

    /// The condition with the texts of its file.
    ///
    /// # Errors
    /// The file was not read, or a line is not valid.
    pub fn loaded(mut self, file: &dyn Fn(&Path) -> Option<Vec<u8>>) -> Result<Self, String> {
        let mut condition = &mut self;
        while let Self::Not(inner) = condition {
            condition = inner;
        }
        if let Self::File(list) = condition {
            list.load(file)?;
        }
        Ok(self)
    }

    /// The text of an `Equals`, also inside of `not`.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Equals(text) => Some(text),
            Self::Not(inner) => inner.text(),
            Self::Regex(_) | Self::File(_) | Self::Present(_) => None,
        }
    }
}

impl fmt::Display for ValueMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equals(text) => write!(f, "equals `{text}`"),
            Self::Regex(pattern) => write!(f, "matches `{pattern}`"),
            Self::File(list) => write!(f, "contains a text of `{}`", list.path.display()),
            Self::Present(true) => f.write_str("is present"),
            Self::Present(false) => f.write_str("is absent"),
            Self::Not(inner) => write!(f, "not: {inner}"),
        }
    }
}

/// The section form.
#[derive(Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ValueMatchSection {
    /// A regular expression that is searched for in a value (not anchored).
    #[serde(skip_serializing_if = "Option::is_none")]
    regex: Option<Pattern>,
    /// A file with one text per line. A value must contain one of them, in any case. A change of the file is applied
    /// without a reload.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    /// `true`: any value. `false`: absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    present: Option<bool>,
    /// A value or a condition that must not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    not: Option<Box<ValueMatch>>,
}

impl<'de> Deserialize<'de> for ValueMatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrSection;
        impl<'de> Visitor<'de> for TextOrSection {
            type Value = ValueMatch;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a condition such as `{ regex: … }`")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<ValueMatch, E> {
                Ok(ValueMatch::Equals(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ValueMatch, A::Error> {
                match ValueMatchSection::deserialize(MapAccessDeserializer::new(map))? {
                    ValueMatchSection { regex: Some(regex), file: None, present: None, not: None } => {
                        Ok(ValueMatch::Regex(regex))
                    }
                    ValueMatchSection { regex: None, file: Some(path), present: None, not: None } => {
                        Ok(ValueMatch::File(TextList::new(path)))
                    }
                    ValueMatchSection { regex: None, file: None, present: Some(is), not: None } => {
                        Ok(ValueMatch::Present(is))
                    }
                    ValueMatchSection { regex: None, file: None, present: None, not: Some(not) } => {
                        Ok(ValueMatch::Not(not))
                    }
                    _ => Err(A::Error::custom(format!("not exactly one condition; {ONE}"))),
                }
            }
        }
        deserializer.deserialize_any(TextOrSection)
    }
}

impl Serialize for ValueMatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut section = ValueMatchSection::default();
        match self.clone() {
            Self::Equals(text) => return text.serialize(serializer),
            Self::Regex(pattern) => section.regex = Some(pattern),
            Self::File(list) => section.file = Some(list.path),
            Self::Present(is) => section.present = Some(is),
            Self::Not(inner) => section.not = Some(inner),
        }
        section.serialize(serializer)
    }
}

impl JsonSchema for ValueMatch {
    fn schema_name() -> Cow<'static, str> {
        "ValueMatch".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, generator.subschema_for::<ValueMatchSection>()] })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn holds(yaml: &str, values: &[&str]) -> bool {
        let condition: ValueMatch = serde_yaml::from_str(yaml).unwrap();
        condition.holds(values.iter().map(|value| Cow::Borrowed(value.as_bytes())))
    }

    #[test]
    fn each_condition_holds_if_one_of_the_values_fulfils_it() {
        assert!(holds("a", &["b", "a"]) && !holds("a", &["ab"]) && !holds("a", &[]));
        assert!(holds("{ regex: '^a' }", &["b", "ab"]) && !holds("{ regex: '^a' }", &["ba"]));
        assert!(holds("{ present: true }", &[""]) && !holds("{ present: true }", &[]));
        assert!(holds("{ present: false }", &[]) && !holds("{ present: false }", &["a"]));
    }

    #[test]
    fn not_holds_if_no_value_fulfils_the_inner_condition() {
        assert!(holds("{ not: a }", &[]) && holds("{ not: a }", &["b"]) && !holds("{ not: a }", &["b", "a"]));
        assert!(holds("{ not: { present: true } }", &[]) && !holds("{ not: { regex: a } }", &["ba"]));
        assert!(holds("{ not: { not: a } }", &["a"]));
    }

    #[test]
    fn exactly_one_condition_is_written() {
        for yaml in ["{}", "{ regex: a, present: true }", "{ regex: a, file: b }", "{ other: a }", "[a]", "1"] {
            assert!(serde_yaml::from_str::<ValueMatch>(yaml).is_err(), "{yaml}");
        }
    }
}
