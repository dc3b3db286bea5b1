//! Tests of families, labels and values in the rendered metrics.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::super::grpc_status::GrpcStatus;
use super::*;
use crate::backend::error_cause::ErrorCause;
use crate::backend::labels::{AdminState, Health, Outcome, RetryReason};
use crate::fault::Fault;
use crate::telemetry::meters::ConnectionResult;

fn labels(upstream: &str, backend: &str, address: &str) -> Labels {
    Labels { upstream: upstream.into(), backend: backend.into(), address: address.into() }
}

/// Parses the text into values by series name with labels.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let series = text.lines().filter(|line| !line.starts_with('#'));
    let parsed = series.map(|line| line.rsplit_once(' ').unwrap());
    parsed.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

/// The instruments of a registry with every family. While they are held, their series are rendered.
type Instruments = (Arc<RouteMeters>, Arc<ListenerMeters>, Arc<UpstreamMeters>);

fn full() -> (Arc<Metrics>, Instruments, Arc<BackendState>) {
    let metrics = Metrics::new("1.2.3", "abc");
    let route = metrics.route("api");
    route.record(&http::Method::GET, 200, Duration::from_millis(3), None);
    route.record(&http::Method::GET, 502, Duration::from_millis(3), Some(Fault::Connect));
    metrics.no_route().record(&http::Method::POST, 404, Duration::ZERO, Some(Fault::NoRoute));
    route.record_stream(Duration::from_secs(90));
    route.record_grpc(GrpcStatus::of_code(14));
    let listener = metrics.listener("web");
    listener.count(ConnectionResult::Accepted);
    let upstream = metrics.upstream("api");
    upstream.count_fail_open();
    drop(upstream.start_waiting());
    let backend_state = metrics.backend_state(labels("api", "a", "10.0.0.1:80"));
    backend_state.set_weights(5, 4.0);
    backend_state.set_health(Health::Up, "", 1);
    backend_state.count_attempt(Outcome::Reset);
    backend_state.count_error(ErrorCause::Refused, "refused".into(), 1);
    backend_state.count_retry(RetryReason::Fault(Fault::Reset));
    backend_state.count_retry(RetryReason::Status(503));
    backend_state.count_response(204);
    backend_state.count_bytes(10, 20);
    backend_state.observe_connect(Duration::from_micros(200));
    backend_state.observe_response(Duration::from_millis(20));
    backend_state.observe_check(true, Duration::from_millis(2));
    metrics.started(1, UNIX_EPOCH + Duration::from_secs(1000));
    metrics.reload_rejected(UNIX_EPOCH + Duration::from_secs(2000));
    (metrics, (route, listener, upstream), backend_state)
}

#[test]
fn a_scrape_contains_the_counted_values() {
    let (metrics, _instruments, backend_state) = full();
    let (first, _second, _request) = (backend_state.raise(), backend_state.raise(), metrics.request_started());
    drop(first);
    let values = parse(&metrics.render());
    let backend = r#"upstream="api",backend="a",address="10.0.0.1:80""#;
    for (series, value) in [
        (r#"weir_requests_total{route="api",method="GET",status="200"}"#.to_owned(), 1.0),
        (r#"weir_requests_total{route="-",method="POST",status="404"}"#.to_owned(), 1.0),
        (r#"weir_faults_total{route="api",fault="connect"}"#.to_owned(), 1.0),
        (r#"weir_request_duration_seconds_bucket{route="api",le="0.0025"}"#.to_owned(), 0.0),
        (r#"weir_request_duration_seconds_bucket{route="api",le="0.005"}"#.to_owned(), 2.0),
        (r#"weir_request_duration_seconds_bucket{route="api",le="+Inf"}"#.to_owned(), 2.0),
        (r#"weir_request_duration_seconds_sum{route="api"}"#.to_owned(), 0.006),
        ("weir_requests_in_flight".to_owned(), 1.0),
        (format!("weir_backend_in_flight{{{backend}}}"), 1.0),
        (format!("weir_backend_requests_total{{{backend},class=\"2xx\"}}"), 1.0),
        (format!("weir_backend_attempts_total{{{backend},outcome=\"reset\"}}"), 1.0),
        (format!("weir_backend_attempts_total{{{backend},outcome=\"ok\"}}"), 0.0),
        (format!("weir_backend_errors_total{{{backend},cause=\"refused\"}}"), 1.0),
        (format!("weir_backend_retries_total{{{backend},reason=\"reset\"}}"), 1.0),
        (format!("weir_backend_retries_total{{{backend},reason=\"503\"}}"), 1.0),
        (format!("weir_backend_weight{{{backend},kind=\"configured\"}}"), 5.0),
        (format!("weir_backend_weight{{{backend},kind=\"effective\"}}"), 4.0),
        (format!("weir_backend_up{{{backend}}}"), 1.0),
        (format!("weir_backend_bytes_total{{{backend},direction=\"received\"}}"), 20.0),
        (format!("weir_backend_checks_total{{{backend},result=\"fail\"}}"), 0.0),
        (format!("weir_backend_state_changes_total{{{backend},to=\"up\"}}"), 1.0),
        (r#"weir_upstream_fail_open_total{upstream="api"}"#.to_owned(), 1.0),
        (r#"weir_grpc_requests_total{route="api",grpc_status="UNAVAILABLE"}"#.to_owned(), 1.0),
        (r#"weir_stream_duration_seconds_bucket{route="api",le="300"}"#.to_owned(), 1.0),
        (r#"weir_upstream_queue_depth{upstream="api"}"#.to_owned(), 0.0),
        (r#"weir_upstream_queue_seconds_count{upstream="api"}"#.to_owned(), 1.0),
        (r#"weir_listener_connections_total{listener="web",result="accepted"}"#.to_owned(), 1.0),
        (r#"weir_listener_connections_total{listener="web",result="timeout"}"#.to_owned(), 0.0),
        (r#"weir_config_reloads_total{result="rejected"}"#.to_owned(), 1.0),
        ("weir_config_last_reload_success".to_owned(), 0.0),
        ("weir_config_last_reload_timestamp_seconds".to_owned(), 2000.0),
        ("weir_config_generation".to_owned(), 1.0),
        (r#"weir_build_info{version="1.2.3",commit="abc"}"#.to_owned(), 1.0),
    ] {
        assert_eq!(values.get(&series), Some(&value), "{series}\n{values:#?}");
    }
}

#[test]
fn exactly_one_state_is_set() {
    let (metrics, .., backend_state) = full();
    for mark in [AdminState::Ready, AdminState::Draining, AdminState::Disabled] {
        backend_state.set_admin_state(mark, 5);
        let values = parse(&metrics.render());
        let states: Vec<_> = values.iter().filter(|(name, _)| name.starts_with("weir_backend_state{")).collect();
        assert_eq!(states.len(), 8);
        let set: Vec<_> = states.iter().filter(|(_, value)| **value == 1.0).collect();
        assert!(matches!(set[..], [(name, _)] if name.contains(backend_state.state().label())), "{set:?}");
    }
}

#[test]
fn every_family_has_type_and_help_and_passes_promtool() {
    let text = full().0.render();
    let of = |what: &str| -> BTreeSet<String> {
        text.lines().filter_map(|l| l.strip_prefix(what)?.split(' ').next().map(str::to_owned)).collect()
    };
    assert_eq!(of("# HELP "), of("# TYPE "));
    assert_eq!(of("# HELP weir_").len(), 40, "{text}");
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = promtool.spawn() else {
        println!("skipped: no promtool on PATH");
        return;
    };
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let messages = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && messages.is_empty(), "{messages}");
}

#[test]
fn a_histogram_appears_with_its_first_observation() {
    let metrics = Metrics::new("1", "c");
    let backend_state = metrics.backend_state(labels("u", "b", "a:1"));
    assert!(!metrics.render().contains("weir_backend_connect_seconds"));
    backend_state.observe_connect(Duration::from_millis(1));
    assert!(metrics.render().contains("weir_backend_connect_seconds_bucket"));
}

#[test]
fn a_removed_backend_is_hidden_after_its_drain_and_its_counters_continue_later() {
    let metrics = Metrics::new("1", "c");
    let backend_state = metrics.backend_state(labels("u", "b", "a:1"));
    backend_state.count_attempt(Outcome::Ok);
    let guard = backend_state.raise();
    backend_state.set_member(false, 7);
    drop(backend_state);
    assert!(metrics.render().contains("weir_backend_in_flight"), "one attempt is under way");
    drop(guard);
    assert!(!metrics.render().contains("weir_backend_"), "drained");
    let back = metrics.backend_state(labels("u", "renamed", "a:1"));
    back.set_member(true, 9);
    back.count_attempt(Outcome::Ok);
    let series = r#"weir_backend_attempts_total{upstream="u",backend="renamed",address="a:1",outcome="ok"}"#;
    assert_eq!(parse(&metrics.render())[series], 2.0);
}

#[test]
fn a_backend_of_a_configuration_that_was_never_applied_is_not_shown() {
    let metrics = Metrics::new("1", "c");
    drop(metrics.backend_state(labels("u", "b", "a:1")));
    assert!(!metrics.render().contains("weir_backend_"));
}

#[test]
fn counters_of_a_route_never_decrease() {
    let metrics = Metrics::new("1", "c");
    let series = r#"weir_requests_total{route="r",method="GET",status="200"}"#;
    for times in 1..5 {
        let route = metrics.route("r");
        route.record(&http::Method::GET, 200, Duration::ZERO, None);
        assert_eq!(parse(&metrics.render())[series], f64::from(times));
        drop(route);
        assert!(!metrics.render().contains(series));
    }
}

#[test]
fn counts_of_many_threads_add_up() {
    let metrics = Metrics::new("1", "c");
    let backend_state = metrics.backend_state(labels("u", "b", "a:1"));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..1000_u16 {
                    let (_request, _attempt) = (metrics.request_started(), backend_state.raise());
                    metrics.no_route().record(&http::Method::GET, 200 + n % 300, Duration::ZERO, None);
                }
            });
        }
    });
    assert_eq!((metrics.requests_in_flight(), backend_state.in_flight()), (0, 0));
    assert_eq!(metrics.no_route().requests().map(|(_, _, n)| n).sum::<u64>(), 4000);
}

#[test]
fn a_large_scrape_has_pieces_of_complete_lines_and_each_family_once_in_order() {
    let metrics = Metrics::new("1", "c");
    let backends: Vec<_> =
        (0..2000).map(|n| metrics.backend_state(labels("u", &format!("b{n}"), &format!("a:{n}")))).collect();
    backends.iter().for_each(|backend_state| backend_state.observe_check(true, Duration::from_millis(2)));
    let pieces: Vec<_> = metrics.scrape().collect();
    assert!(pieces.len() > 10 && pieces.iter().all(|piece| piece.ends_with('\n') && piece.len() < 256 << 10));
    let text = pieces.concat();
    let types: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE weir_")).collect();
    assert!(types.is_sorted_by(|one, next| one < next), "{types:?}");
    for series in ["weir_backend_up{", "weir_backend_check_seconds_count{"] {
        assert_eq!(text.lines().filter(|line| line.starts_with(series)).count(), backends.len());
    }
}

#[test]
fn an_unfinished_scrape_keeps_no_instrument_visible() {
    let metrics = Metrics::new("1", "c");
    let (route, backend_state) = (metrics.route("r"), metrics.backend_state(labels("u", "b", "a:1")));
    route.record(&http::Method::GET, 200, Duration::ZERO, None);
    let begun = metrics.scrape();
    drop((route, backend_state));
    let text = metrics.render();
    assert!(!text.contains("route=\"r\"") && !text.contains("weir_backend_"), "{text}");
    assert!(begun.collect::<String>().contains("weir_build_info"));
}
