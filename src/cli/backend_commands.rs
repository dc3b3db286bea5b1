//! `weir disable`, `enable` and `weight`: administrative state of one backend of the running process.
//!
//! The process applies a change at once. `drain --wait` polls the backend until its last request has ended.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::Args;

use super::RemoteOptions;
use super::remote::{CommandOutput, DONE, FAILED, Remote, TIMEOUT};
use super::remote_commands::ask;
use crate::admin::api::BackendReply;

/// Poll interval of the requests in flight.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The backend of a command.
#[derive(Debug, Args)]
pub(super) struct One {
    /// The backend, as UPSTREAM/BACKEND
    #[arg(value_name = "UPSTREAM/BACKEND", value_parser = place)]
    place: BackendPath,
    #[command(flatten)]
    remote: RemoteOptions,
}

/// `weir weight`.
#[derive(Debug, Args)]
pub(super) struct Weight {
    #[command(flatten)]
    one: One,
    /// 0 to 256, or `configured` to undo; 0 takes no new requests
    #[arg(value_name = "N", value_parser = wanted_weight)]
    weight: WantedWeight,
}

/// An upstream and a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BackendPath {
    upstream: String,
    backend: String,
}

/// `None`: the configured weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WantedWeight(Option<u16>);

/// The name of a backend may contain a slash, the name of an upstream may not.
pub(super) fn place(text: &str) -> Result<BackendPath, String> {
    match text.split_once('/') {
        Some((upstream, backend)) if !upstream.is_empty() && !backend.is_empty() => {
            Ok(BackendPath { upstream: upstream.to_owned(), backend: backend.to_owned() })
        }
        _ => Err("write UPSTREAM/BACKEND, such as api/a".to_owned()),
    }
}

fn wanted_weight(text: &str) -> Result<WantedWeight, String> {
    match (text, text.parse()) {
        ("configured", _) => Ok(WantedWeight(None)),
        (_, Ok(weight @ 0..=256)) => Ok(WantedWeight(Some(weight))),
        _ => Err("write 0 to 256, or `configured`".to_owned()),
    }
}

pub(super) fn disable(options: &One) -> u8 {
    ask(&options.remote, |remote| remote.set_state(&options.place, "disabled"))
}

pub(super) fn enable(options: &One) -> u8 {
    ask(&options.remote, |remote| remote.set_state(&options.place, "ready"))
}

pub(super) fn weight(options: &Weight) -> u8 {
    ask(&options.one.remote, |remote| remote.set_weight(&options.one.place, options.weight.0))
}

/// Shows progress on a terminal and erases it at the end.
pub(super) fn show(in_flight: Option<u32>) {
    let mut stderr = std::io::stderr().lock();
    if stderr.is_terminal() {
        let text = in_flight.map(|count| format!("{count} in flight")).unwrap_or_default();
        let _ = write!(stderr, "\r\x1b[K{text}").and_then(|()| stderr.flush());
    }
}

impl BackendPath {
    pub(super) fn new(upstream: &str, backend: &str) -> Self {
        Self { upstream: upstream.to_owned(), backend: backend.to_owned() }
    }

    pub(super) fn path(&self) -> String {
        format!("/api/v1/upstreams/{}/backends/{}", encode(&self.upstream), encode(&self.backend))
    }
}

/// Percent-encodes a path segment or a query value: all bytes except unreserved ones (RFC 3986 section 2.3).
pub(super) fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

impl Remote {
    pub(super) fn set_state(&self, place: &BackendPath, state: &str) -> CommandOutput {
        self.change(place, &serde_json::json!({ "state": state }))
    }

    fn set_weight(&self, place: &BackendPath, weight: Option<u16>) -> CommandOutput {
        self.change(place, &serde_json::json!({ "weight": weight }))
    }

    fn change(&self, place: &BackendPath, body: &serde_json::Value) -> CommandOutput {
        let body = body.to_string();
        let body = Some(("application/json", body.as_bytes()));
        self.ask("PUT", &place.path(), body, TIMEOUT, |backend| (say(place, &backend), DONE))
    }

    /// Waits until no request is in flight. Two consecutive polls must show this. A request may have chosen the backend
    /// just before the state changed, and only the second poll counts it.
    pub(super) fn wait(
        &self,
        place: &BackendPath,
        limit: Option<Duration>,
        show: &mut dyn FnMut(Option<u32>),
    ) -> CommandOutput {
        let started = Instant::now();
        let mut idle = 0;
        loop {
            let mut in_flight = None;
            let output = self.ask("GET", &place.path(), None, TIMEOUT, |backend: BackendReply| {
                in_flight = Some(backend.in_flight);
                (say(place, &backend), DONE)
            });
            show(in_flight);
            idle = if in_flight == Some(0) { idle + 1 } else { 0 };
            if in_flight.is_none() || idle == 2 {
                show(None);
                return output;
            }
            if limit.is_some_and(|limit| started.elapsed() >= limit) {
                show(None);
                return if self.json {
                    CommandOutput { code: FAILED, ..output }
                } else {
                    self.fail(&format!("timed out: {}", output.text.trim_end()))
                };
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

fn say(place: &BackendPath, backend: &BackendReply) -> String {
    let (BackendPath { upstream, backend: name }, state) = (place, backend.state.label());
    let (weight, in_flight) = (backend.effective_weight, backend.in_flight);
    format!("{upstream}/{name}: {state}, weight {weight}, {in_flight} in flight\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::admin::test_double::Running;

    fn remote(running: &Running) -> Remote {
        Remote { url: format!("http://{}", running.address), ..Remote::default() }
    }

    #[test]
    fn places_and_weights_are_parsed() {
        let backend = place("api/unix:/run/a.sock").unwrap();
        assert_eq!(backend.path(), "/api/v1/upstreams/api/backends/unix%3A%2Frun%2Fa.sock");
        assert!(["api", "/a", "api/", ""].iter().all(|text| place(text).is_err()));
        assert_eq!(wanted_weight("0"), Ok(WantedWeight(Some(0))));
        assert_eq!(wanted_weight("configured"), Ok(WantedWeight(None)));
        assert!(["257", "-1", "", "x"].iter().all(|text| wanted_weight(text).is_err()));
    }

    #[test]
    fn a_change_is_sent_and_its_result_printed() {
        let running = Running::start(None);
        let output = remote(&running).set_state(&place("a/b c").unwrap(), "draining");
        assert_eq!(output, CommandOutput { text: "a/b c: draining, weight 1, 0 in flight\n".into(), code: DONE });
        let output = Remote { json: true, ..remote(&running) }.set_weight(&place("a/b c").unwrap(), None);
        assert!(output.code == DONE && serde_json::from_str::<BackendReply>(&output.text).is_ok(), "{}", output.text);
        let asked = running.fake.asked.lock().unwrap().join(" ");
        assert!(asked.contains("Draining") && asked.contains("weight: Some(None)"), "{asked}");
        let output = remote(&running).set_state(&place("a/x").unwrap(), "ready");
        assert!(output.code == FAILED && output.text.contains("there is `b c`"), "{}", output.text);
    }

    #[test]
    fn a_wait_ends_with_the_last_request_or_at_its_limit() {
        let running = Running::start(None);
        let at = place("a/b c").unwrap();
        running.fake.in_flight.store(3, Ordering::Relaxed);
        let mut seen = Vec::new();
        let output = remote(&running).wait(&at, None, &mut |count| seen.push(count));
        assert_eq!((output.code, seen), (DONE, vec![Some(3), Some(2), Some(1), Some(0), Some(0), None]));
        running.fake.in_flight.store(1_000, Ordering::Relaxed);
        let output = remote(&running).wait(&at, Some(Duration::ZERO), &mut |_| {});
        assert!(output.code == FAILED && output.text.contains("1000 in flight"), "{}", output.text);
    }
}
