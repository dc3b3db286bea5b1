//! The cost that a response states in its body. Pure.
//!
//! It keeps the last bytes of the body only. Usage comes last: in the last event of a stream, and behind the content in a
//! JSON document.

use std::collections::VecDeque;

use serde_json::Value;

use crate::config::values::MAX_TOKENS;
use crate::telemetry::limit_meters::CostResult;

/// The last bytes of a body that are kept.
const TAIL_BYTES: usize = 64 << 10;

/// Places of a key that are tried, from the end of a cut document. Each needs a look at the rest of the text.
const MAX_PLACES: usize = 100;

/// The end of a body that may state a cost.
#[derive(Debug)]
pub struct CostBody {
    is_events: bool,
    tail: VecDeque<u8>,
    /// The tail is not the whole body.
    is_cut: bool,
}

impl CostBody {
    /// `None`: a body of this type or coding states no cost.
    pub fn new(content_type: Option<&[u8]>, content_encoding: Option<&[u8]>) -> Option<Self> {
        let is_identity = content_encoding.is_none_or(|coding| coding.eq_ignore_ascii_case(b"identity"));
        let kind = content_type.map(|kind| kind.split(|b| *b == b';').next().unwrap_or_default().trim_ascii());
        let is_events = kind.is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"));
        let is_json = kind.is_none_or(|kind| {
            let kind = kind.to_ascii_lowercase();
            kind == b"application/json" || kind.ends_with(b"+json")
        });
        let body = Self { is_events, tail: VecDeque::new(), is_cut: false };
        (is_identity && (is_events || is_json)).then_some(body)
    }

    /// Adds a part of the body.
    pub fn push(&mut self, part: &[u8]) {
        let part = match part.len().checked_sub(TAIL_BYTES) {
            Some(excess) => {
                self.is_cut |= excess > 0 || !self.tail.is_empty();
                self.tail.clear();
                &part[excess..]
            }
            None => part,
        };
        let excess = (self.tail.len() + part.len()).saturating_sub(TAIL_BYTES);
        self.is_cut |= excess > 0;
        self.tail.drain(..excess);
        self.tail.extend(part);
    }

    /// The value at a JSON pointer, in the document or in the last event that has it.
    pub fn value(&mut self, pointer: &str) -> Option<Value> {
        let is_cut = self.is_cut;
        let tail: &[u8] = self.tail.make_contiguous();
        match (self.is_events, is_cut) {
            (true, _) => events(tail, is_cut).iter().rev().find_map(|event| at(event, pointer)),
            (false, false) => at(tail, pointer),
            (false, true) => at_the_end(tail, pointer),
        }
    }
}

/// The number of tokens of a value.
///
/// # Errors
/// It is not a number from 0 to 10^9.
pub fn tokens(value: &Value) -> Result<u64, CostResult> {
    let number = value.as_f64().filter(|number| (0.0..=MAX_TOKENS as f64).contains(number));
    // A part of a token counts as a token.
    number.map(|number| number.ceil() as u64).ok_or(CostResult::Invalid)
}

/// The number of tokens of a header field's value.
///
/// # Errors
/// It is not a number from 0 to 10^9.
pub fn tokens_of_field(field: &[u8]) -> Result<u64, CostResult> {
    let number = std::str::from_utf8(field).ok().and_then(|text| serde_json::from_str::<Value>(text.trim()).ok());
    tokens(&number.ok_or(CostResult::Invalid)?)
}

fn at(document: &[u8], pointer: &str) -> Option<Value> {
    serde_json::from_slice::<Value>(document).ok()?.pointer_mut(pointer).map(Value::take)
}

/// The data of each event (WHATWG HTML, section 9.2.6). A first event that is cut is left out.
fn events(text: &[u8], is_cut: bool) -> Vec<Vec<u8>> {
    let (mut events, mut event, mut skips) = (Vec::new(), Vec::new(), is_cut);
    for line in text.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            let ended = std::mem::take(&mut event);
            if !std::mem::take(&mut skips) && !ended.is_empty() {
                events.push(ended);
            }
        } else if let Some(data) = line.strip_prefix(b"data:") {
            event.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
            event.push(b'\n');
        }
    }
    // The blank line at the very end may be missing.
    events.extend((!skips && !event.is_empty()).then_some(event));
    events
}

/// The value at a pointer in a document whose begin is missing. Its first key must be a key of the outermost object: the
/// rest of the text closes exactly one object behind the value.
fn at_the_end(tail: &[u8], pointer: &str) -> Option<Value> {
    let path = pointer.strip_prefix('/')?;
    let (first, rest) = path.split_once('/').map_or((path, ""), |(first, rest)| (first, rest));
    let key = serde_json::to_string(&first.replace("~1", "/").replace("~0", "~")).ok()?;
    let mut end = tail.len();
    for _ in 0..MAX_PLACES {
        let found = find_last(&tail[..end], key.as_bytes())?;
        end = found;
        // A quotation mark behind a backslash is inside of a string.
        if found.checked_sub(1).is_some_and(|before| tail[before] == b'\\') {
            continue;
        }
        let Some(value) = tail[found + key.len()..].trim_ascii_start().strip_prefix(b":") else { continue };
        let mut values = serde_json::Deserializer::from_slice(value).into_iter::<Value>();
        let Some(Ok(mut value_found)) = values.next() else { continue };
        if closes_one_object(&value[values.byte_offset()..]) {
            let rest = if rest.is_empty() { String::new() } else { format!("/{rest}") };
            return value_found.pointer_mut(&rest).map(Value::take);
        }
    }
    None
}

fn find_last(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).rposition(|window| window == part)
}

/// Whether this text has one closing brace more than opening ones, at its end.
fn closes_one_object(text: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0i64, false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        if depth < 0 {
            return *byte == b'}' && text[at + 1..].trim_ascii().is_empty();
        }
    }
    false
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    const POINTER: &str = "/usage/total_tokens";

    fn value(kind: &str, parts: &[&str]) -> Option<Value> {
        let mut body = CostBody::new(Some(kind.as_bytes()), None).unwrap();
        parts.iter().for_each(|part| body.push(part.as_bytes()));
        body.value(POINTER)
    }

    #[test]
    fn the_value_is_found_in_a_document_and_in_the_last_event_that_has_it() {
        let json = r#"{"id":"x","usage":{"total_tokens":42}}"#;
        for at in 0..json.len() {
            assert_eq!(value("application/json; charset=utf-8", &[&json[..at], &json[at..]]), Some(42.into()));
        }
        let events = "data: {\"usage\":{\"total_tokens\":1}}\n\ndata: {\"usage\":\r\ndata: {\"total_tokens\":7}}\r\n\r\n\
                      event: x\ndata: {\"usage\":null}\n\ndata: [DONE]\n\n";
        assert_eq!(value("text/event-stream", &[events]), Some(7.into()));
        assert_eq!(value("text/event-stream", &["data: {\"usage\":{\"total_tokens\":9}}"]), Some(9.into()));
        assert_eq!(value("application/json", &["{\"usage\":{}}"]), None);
        assert_eq!(value("application/json", &["{\"usage\":"]), None);
    }

    #[test]
    fn a_long_document_has_its_cost_at_the_end_and_lies_in_strings_are_not_believed() {
        let filler = "x".repeat(100_000);
        for (json, want) in [
            (format!(r#"{{"data":"{filler}","usage":{{"total_tokens":42}}}}"#), Some(42)),
            (format!(r#"{{"data":"{filler}","usage" : {{"total_tokens": 42}} , "more":{{"a":[1]}} }}"#), Some(42)),
            (format!(r#"{{"data":"{filler}","choices":[{{"usage":{{"total_tokens":1}}}}]}}"#), None),
            (format!(r#"{{"data":"{filler}\"usage\":{{\"total_tokens\":1}}}}"}}"#), None),
            (format!(r#"{{"usage":{{"total_tokens":42}},"data":"{filler}"}}"#), None),
        ] {
            assert_eq!(value("application/json", &[&json]), want.map(Value::from), "{}", &json[100_000..]);
            let parts: Vec<_> = json.as_bytes().chunks(1_000).map(|part| std::str::from_utf8(part).unwrap()).collect();
            assert_eq!(value("application/json", &parts), want.map(Value::from));
        }
        let mut body = CostBody::new(None, None).unwrap();
        for _ in 0..100 {
            body.push(filler.as_bytes());
            body.push(b"abc");
            assert!(body.tail.len() <= TAIL_BYTES);
        }
    }

    #[test]
    fn a_document_full_of_the_key_takes_little_time() {
        let document = format!("[{{{}\"usage\":1}}]", "\"usage\":1,".repeat(20_000));
        let started = std::time::Instant::now();
        assert_eq!(value("application/json", &[&document]), None);
        assert!(started.elapsed() < std::time::Duration::from_secs(1), "{:?}", started.elapsed());
    }

    #[test]
    fn a_long_stream_has_its_cost_in_the_last_event() {
        let event = format!("data: {{\"text\":\"{}\"}}\n\n", "x".repeat(10_000));
        let mut parts = vec![event.as_str(); 20];
        parts.push("data: {\"usage\":{\"total_tokens\":5}}\n\ndata: [DONE]\n\n");
        assert_eq!(value("text/event-stream", &parts), Some(5.into()));
        let cut = format!("data: {}{{\"usage\":{{\"total_tokens\":5}}}}\n\n", " ".repeat(TAIL_BYTES));
        assert_eq!(value("text/event-stream", &[&cut]), None, "the begin of the event is missing");
    }

    #[test]
    fn only_numbers_from_0_to_a_billion_are_costs() {
        for (text, want) in
            [("0", Ok(0)), ("12", Ok(12)), ("1.5", Ok(2)), ("1000000000", Ok(1_000_000_000)), (" 7 ", Ok(7))]
        {
            assert_eq!(tokens_of_field(text.as_bytes()), want, "{text}");
        }
        for bad in ["", "-1", "1000000001", "1e99", "NaN", "many", "\"12\"", "1, 2", "null", "{}"] {
            assert_eq!(tokens_of_field(bad.as_bytes()), Err(CostResult::Invalid), "{bad}");
        }
    }

    #[test]
    fn coded_bodies_and_other_types_state_no_cost() {
        assert!(CostBody::new(Some(b"application/json"), Some(b"gzip")).is_none());
        assert!(CostBody::new(Some(b"application/json"), Some(b"identity")).is_some());
        assert!(CostBody::new(Some(b"image/png"), None).is_none());
        assert!(CostBody::new(Some(b"application/problem+json"), None).is_some());
    }
}
