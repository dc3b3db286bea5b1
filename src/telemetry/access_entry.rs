//! The access log entry: writes the record of a request as one JSON object into a reused buffer.
//!
//! It never writes an invalid line, whatever a client sends. Header bytes are escaped, and bytes that are not UTF-8 are
//! replaced.

use std::io::Write;
use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::json::Object;
use super::limit_meters::LimitResult;
use super::request_record::{AttemptRecord, Record};
use crate::backend::labels::PassedOver;

const RFC3339: &[BorrowedFormatItem<'_>] =
    format_description!("\"[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z\"");

/// Writes the entry of this request, with a final line feed.
pub(super) fn write(out: &mut Vec<u8>, record: &Record<'_>) {
    let mut line = Object::open(out);
    time(line.key("time"), record.started);
    line.text("request_id", Some(record.request_id));
    line.text("listener", Some(record.listener));
    // Writing to a Vec cannot fail.
    let _ = write!(line.key("client"), "\"{}\"", record.client.to_canonical());
    line.text("method", Some(record.method.as_str()));
    line.text("host", record.host);
    line.text("path", Some(record.path));
    line.text("scheme", Some(record.scheme));
    line.text("version", Some(version(record.version)));
    line.text("route", record.route.map(|route| route.name().as_bytes()));
    line.text("upstream", record.upstream);
    line.text("backend", record.backend);
    line.number("status", record.status.into());
    line.text("grpc_status", record.grpc_status.map(|status| status.label()));
    line.number("bytes_in", record.bytes_in);
    line.number("bytes_out", record.bytes_out);
    line.millis("duration_ms", Some(record.duration));
    attempts(line.key("attempts"), record.attempts);
    passed_over(line.key("passed_over"), record.passed_over);
    limits(line.key("limits"), record.limits);
    line.text("user", record.user);
    line.text("fault", record.fault.map(|fault| fault.label()));
    line.text("user_agent", record.user_agent);
    line.text("referer", record.referer);
    line.text("trace_id", record.trace_id);
    line.close();
    out.push(b'\n');
}

fn attempts(out: &mut Vec<u8>, attempts: &[AttemptRecord]) {
    out.push(b'[');
    for (at, attempt) in attempts.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let mut object = Object::open(out);
        object.text("backend", Some(attempt.labels.backend.as_bytes()));
        object.text("address", Some(attempt.labels.address.as_bytes()));
        object.text("why", Some(attempt.why.label()));
        passed_over(object.key("passed_over"), attempt.passed_over.as_ref().map(|backends| &***backends));
        object.text("outcome", Some(attempt.outcome.label()));
        let value = object.key("reason");
        // A reason is a label or a status code, so it needs no escapes.
        let _ = match attempt.reason {
            Some(reason) => write!(value, "\"{reason}\""),
            None => write!(value, "null"),
        };
        object.text("error", attempt.error.as_deref());
        object.key("reused").extend_from_slice(if attempt.reused { &b"true"[..] } else { b"false" });
        object.millis("connect_ms", attempt.connect);
        object.millis("first_byte_ms", attempt.first_byte);
        object.close();
    }
    out.push(b']');
}

fn passed_over(out: &mut Vec<u8>, backends: Option<&[PassedOver]>) {
    let Some(backends) = backends else { return out.extend_from_slice(b"null") };
    out.push(b'[');
    for (at, passed) in backends.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let mut object = Object::open(out);
        object.text("backend", Some(passed.backend.as_bytes()));
        object.text("why", Some(passed.why.label()));
        object.close();
    }
    out.push(b']');
}

fn limits(out: &mut Vec<u8>, limits: &[(&str, LimitResult)]) {
    if limits.is_empty() {
        return out.extend_from_slice(b"null");
    }
    out.push(b'[');
    for (at, (name, result)) in limits.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let mut object = Object::open(out);
        object.text("limit", Some(*name));
        object.text("result", Some(result.label()));
        object.close();
    }
    out.push(b']');
}

fn time(out: &mut Vec<u8>, at: SystemTime) {
    let length = out.len();
    if OffsetDateTime::from(at).format_into(out, &RFC3339).is_err() {
        // The clock is beyond the year 9999. The entry is written without a time.
        out.truncate(length);
        out.extend_from_slice(b"null");
    }
}

pub(super) fn version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_09 => "HTTP/0.9",
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2.0",
        http::Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
pub(super) mod tests {
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::backend::Labels;
    use crate::backend::labels::{ExclusionReason, Outcome, PickReason, RetryReason};
    use crate::fault::Fault;
    use crate::telemetry::meters::RouteMeters;

    pub(in crate::telemetry) fn plain() -> Record<'static> {
        Record {
            started: UNIX_EPOCH + Duration::from_millis(1_700_000_000_007),
            duration: Duration::from_micros(12_345),
            stream_header: None,
            grpc_status: None,
            request_id: "id-1",
            listener: "web",
            scheme: "http",
            client: "::ffff:192.0.2.1".parse().unwrap(),
            method: &http::Method::GET,
            host: None,
            path: b"/",
            version: http::Version::HTTP_11,
            route: None,
            upstream: None,
            backend: None,
            status: 200,
            bytes_in: 0,
            bytes_out: 9,
            attempts: &[],
            passed_over: None,
            limits: &[],
            user: None,
            fault: None,
            user_agent: None,
            referer: None,
            trace_id: None,
        }
    }

    fn written(record: &Record<'_>) -> Value {
        let mut out = Vec::new();
        write(&mut out, record);
        assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 1);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn absent_values_are_null() {
        let expected = json!({
            "time": "2023-11-14T22:13:20.007Z", "request_id": "id-1", "listener": "web", "client": "192.0.2.1",
            "method": "GET", "host": null, "path": "/", "scheme": "http", "version": "HTTP/1.1", "route": null,
            "upstream": null, "backend": null, "status": 200, "grpc_status": null, "bytes_in": 0, "bytes_out": 9, "duration_ms": 12.345, "attempts": [],
            "passed_over": null, "limits": null, "user": null,
            "fault": null, "user_agent": null, "referer": null, "trace_id": null,
        });
        assert_eq!(written(&plain()), expected);
    }

    #[test]
    fn attempts_are_listed_in_order() {
        let route = RouteMeters::new("api");
        let labels = Arc::new(Labels { upstream: "u".into(), backend: "b".into(), address: "10.0.0.1:1".into() });
        let failed = AttemptRecord {
            labels,
            why: PickReason::Sticky,
            passed_over: None,
            outcome: Outcome::ConnectError,
            reason: Some(RetryReason::Fault(Fault::Connect)),
            error: Some("refused".into()),
            reused: false,
            connect: None,
            first_byte: None,
        };
        let took = Some(Duration::from_micros(1500));
        let served = AttemptRecord {
            why: PickReason::StickyTried,
            passed_over: Some(Arc::new(vec![
                PassedOver { backend: "c".into(), why: ExclusionReason::Draining },
                PassedOver { backend: "d".into(), why: ExclusionReason::Down },
            ])),
            outcome: Outcome::Ok,
            reason: None,
            error: None,
            reused: true,
            connect: took,
            first_byte: took,
            ..failed.clone()
        };
        let record = Record { attempts: &[failed, served], route: Some(&route), fault: Some(Fault::Reset), ..plain() };
        let line = written(&record);
        assert_eq!((&line["route"], &line["fault"]), (&json!("api"), &json!("reset")));
        assert_eq!(
            line["attempts"],
            json!([
                { "backend": "b", "address": "10.0.0.1:1", "why": "sticky", "passed_over": null, "outcome": "connect_error",
                  "reason": "connect", "error": "refused", "reused": false, "connect_ms": null, "first_byte_ms": null },
                { "backend": "b", "address": "10.0.0.1:1", "why": "sticky_tried", "outcome": "ok",
                  "passed_over": [{ "backend": "c", "why": "draining" }, { "backend": "d", "why": "down" }],
                  "reason": null, "error": null, "reused": true, "connect_ms": 1.5, "first_byte_ms": 1.5 },
            ])
        );
    }

    #[test]
    fn a_request_that_tried_nothing_names_the_backends_that_could_not_be_picked() {
        let passed = [
            PassedOver { backend: "c".into(), why: ExclusionReason::Down },
            PassedOver { backend: "d".into(), why: ExclusionReason::Full },
        ];
        let line = written(&Record { passed_over: Some(&passed), ..plain() });
        assert_eq!(line["passed_over"], json!([{ "backend": "c", "why": "down" }, { "backend": "d", "why": "full" }]));
    }

    proptest! {
        #[test]
        fn no_client_bytes_break_a_log_line(
            path in proptest::collection::vec(any::<u8>(), 0..99),
            agent in proptest::collection::vec(any::<u8>(), 0..99),
        ) {
            let line = written(&Record { path: &path, host: Some(&path), user_agent: Some(&agent), ..plain() });
            prop_assert_eq!(line["path"].as_str().unwrap(), String::from_utf8_lossy(&path));
            prop_assert_eq!(line["user_agent"].as_str().unwrap(), String::from_utf8_lossy(&agent));
        }
    }
}
