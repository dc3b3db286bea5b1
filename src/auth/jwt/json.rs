//! A strict parser for the JSON objects of tokens and key sets.
//!
//! It refuses a repeated member: parsers that take the first and parsers that take the last would disagree on the
//! claims (RFC 8725 section 2.4). It refuses deep nesting, which costs stack.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Maximum nesting of objects and arrays.
const MAX_DEPTH: usize = 16;

/// Parses a JSON object. Nothing but white space may follow it.
///
/// # Errors
/// It is not such an object; the message has the position.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, serde_json::Error> {
    let mut source = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { levels: MAX_DEPTH }.deserialize(&mut source)?;
    source.end()?;
    match value {
        Value::Object(members) => Ok(members),
        _ => Err(serde_json::Error::custom("it is not an object")),
    }
}

/// Visits a value that may have this many levels.
#[derive(Clone, Copy)]
struct Strict {
    levels: usize,
}

impl Strict {
    fn below<E: Error>(self) -> Result<Self, E> {
        let levels = self.levels.checked_sub(1).ok_or_else(|| E::custom("the nesting is too deep"))?;
        Ok(Self { levels })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Value, D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let (below, mut list) = (self.below()?, Vec::new());
        while let Some(element) = elements.next_element_seed(below)? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let (below, mut members) = (self.below()?, Map::new());
        while let Some(name) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(below)?;
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member occurs twice"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_read_as_serde_json_reads_it() {
        let text = br#" {"a":[1,-2,2.5,null,true],"b":{"c":"\u00e9"},"d":18446744073709551615} "#;
        assert_eq!(Value::Object(object(text).unwrap()), serde_json::from_slice::<Value>(text).unwrap());
    }

    #[test]
    fn repeated_members_are_refused_at_each_level() {
        assert!(object(br#"{"a":1,"b":2}"#).is_ok());
        assert!(object(br#"{"a":1,"a":1}"#).is_err());
        assert!(object(br#"{"a":1,"\u0061":2}"#).is_err(), "the names are equal after decoding");
        assert!(object(br#"{"x":[{"a":1,"a":2}]}"#).is_err());
    }

    #[test]
    fn only_one_whole_object_is_accepted() {
        for text in ["", "null", "[]", "1", "\"a\"", "{", "{}}", "{} {}", "{\"a\":1,}", "{'a':1}", "\u{feff}{}"] {
            assert!(object(text.as_bytes()).is_err(), "{text}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_err(), "not UTF-8");
        assert!(object(br#"{"a":1e999}"#).is_err(), "not a finite number");
    }

    #[test]
    fn deep_nesting_is_refused_before_it_costs_stack() {
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(object(nested(MAX_DEPTH - 1).as_bytes()).is_ok());
        assert!(object(nested(MAX_DEPTH).as_bytes()).is_err());
        assert!(object("{\"a\":".repeat(200_000).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn an_accepted_text_has_one_meaning(names in proptest::collection::vec("[a-c]", 0..4)) {
            let members: Vec<String> = names.iter().enumerate().map(|(at, name)| format!("\"{name}\":{at}")).collect();
            let text = format!("{{{}}}", members.join(","));
            let distinct = names.iter().collect::<std::collections::BTreeSet<_>>().len() == names.len();
            prop_assert_eq!(object(text.as_bytes()).is_ok(), distinct);
        }
    }

    #[test]
    fn members_keep_their_values() {
        assert_eq!(Value::Object(object(br#"{"exp":1}"#).unwrap()), json!({"exp": 1}));
    }
}
