//! Tests of the access log, including the written file.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use super::*;
use crate::config::values::LogTarget;
use crate::telemetry::Recorder;
use crate::telemetry::access_entry::tests::plain;
use crate::telemetry::line_queue::GATHER_INTERVAL;
use crate::telemetry::registry::Metrics;

const LONG: Duration = Duration::from_secs(10);

/// Blocks in its first write until the sender is dropped.
struct Stuck(mpsc::Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_overflow_is_counted_and_blocks_no_caller() {
    let (free, stuck) = mpsc::channel();
    let dropped = Arc::new(Counter::new());
    let log = AccessLog::start(Sink::to(Box::new(Stuck(stuck))), Arc::clone(&dropped)).unwrap();
    let more = 1000;
    let began = Instant::now();
    for _ in 0..2 * MAX_QUEUED_LINES + more {
        log.push(b"line\n");
    }
    assert!(began.elapsed() < LONG);
    // At most one full queue is being written while another full queue waits.
    assert!(dropped.get() >= more as u64, "{}", dropped.get());
    assert!(!log.close(Duration::from_millis(20)), "the writer is stuck");
    drop(free);
    assert!(log.close(LONG));
}

#[test]
fn bytes_are_bounded_too() {
    let (_free, stuck) = mpsc::channel();
    let dropped = Arc::new(Counter::new());
    let log = AccessLog::start(Sink::to(Box::new(Stuck(stuck))), Arc::clone(&dropped)).unwrap();
    let line = vec![b'x'; 1 << 20];
    for _ in 0..3 * MAX_QUEUED_BYTES / line.len() {
        log.push(&line);
    }
    assert!(dropped.get() >= (MAX_QUEUED_BYTES / line.len()) as u64 - 1);
}

#[test]
fn lines_reach_the_file_and_follow_a_rotation_and_a_switch() {
    let folder = tempfile::tempdir().unwrap();
    let [first, rotated, second] = ["a.log", "a.log.1", "b.log"].map(|name| folder.path().join(name));
    let open = |path: &std::path::Path| Sink::open(&LogTarget::File(path.into())).unwrap();
    let log = AccessLog::start(open(&first), Arc::default()).unwrap();
    log.push(b"1\n");
    wait_for(&first, "1\n");
    fs::rename(&first, &rotated).unwrap();
    log.push(b"2\n");
    wait_for(&rotated, "1\n2\n");
    log.reopen();
    wait_for(&first, "");
    log.push(b"3\n");
    wait_for(&first, "3\n");
    log.switch(open(&second));
    wait_until(|| log.lines.is_switched());
    // The pause is longer than the gather time, so the writer thread waits for the next line.
    thread::sleep(3 * GATHER_INTERVAL);
    log.push(b"4\n");
    assert!(log.close(LONG));
    assert_eq!(fs::read_to_string(&second).unwrap(), "4\n");
    assert_eq!(fs::read_to_string(&first).unwrap(), "3\n");
}

#[test]
fn off_needs_no_lines_and_a_switch_turns_the_log_on() {
    let log = AccessLog::start(Sink::off(), Arc::default()).unwrap();
    assert!(!log.is_on());
    log.switch(Sink::to(Box::new(io::sink())));
    assert!(log.is_on());
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_before_any_change() {
    assert!(Sink::open(&LogTarget::File("/no/such/folder/a.log".into())).is_err());
}

#[test]
fn records_of_many_threads_are_counted_and_written_completely() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    let metrics = Metrics::new("1", "c");
    let log = AccessLog::start(Sink::open(&LogTarget::File(path.clone())).unwrap(), metrics.log_dropped()).unwrap();
    let recorder = Recorder::new(Arc::clone(&metrics), Arc::new(log));
    assert!(recorder.wants_line());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| recorder.record(&plain())));
        }
    });
    assert!(recorder.log().close(LONG));
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 2000);
    assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    assert!(metrics.render().contains(r#"weir_requests_total{route="-",method="GET",status="200"} 2000"#));
    assert!(metrics.render().contains("weir_access_log_dropped_total 0"));
}

fn wait_for(path: &std::path::Path, text: &str) {
    wait_until(|| fs::read_to_string(path).is_ok_and(|now| now == text));
}

fn wait_until(done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < LONG, "it did not happen");
        thread::sleep(Duration::from_millis(2));
    }
}
