//! The process log on stderr, with level and format from the `log:` section. A reload can change both.
//!
//! It never writes a library's `info` line below level `trace`. Problems of single requests belong in the access log,
//! because otherwise a client could fill this log. A separate thread writes the lines (`line_queue`), so a blocked
//! stderr blocks nothing else. Lines that find the queue full are dropped and counted.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Format, Full, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt as lines, reload};

use super::json::Object;
use super::line_queue::LineQueue;
use super::sink::Sink;
use crate::config::schema::{Log, LogFormat, LogLevel};
use crate::instruments::Counter;

/// The queue to stderr, one per process.
static LINES: OnceLock<LineQueue> = OnceLock::new();
/// Whether the present format is JSON, for the lines of `say`.
static JSON: AtomicBool = AtomicBool::new(false);
static DROPPED: LazyLock<Arc<Counter>> = LazyLock::new(Arc::default);

/// Modules whose lines may use the reserved capacity of the queue: start and stop of the process, and panics.
const IMPORTANT: [&str; 2] = ["weir::server", PANIC_TARGET];

/// The target of events that report a panic.
pub(super) const PANIC_TARGET: &str = "weir::panic";

fn is_important(target: &str) -> bool {
    IMPORTANT.iter().any(|module| target.starts_with(module))
}

/// Number of lost lines of the process log.
pub fn dropped() -> u64 {
    DROPPED.get()
}

/// Starts the thread that writes to stderr. A second call does nothing.
///
/// # Errors
/// No thread or file descriptor is available.
pub fn start() -> io::Result<()> {
    if LINES.get().is_none() {
        let _ = LINES.set(LineQueue::start("process-log", Sink::stderr()?, Arc::clone(&DROPPED))?);
    }
    Ok(())
}

/// Writes a line to stderr, in order with the lines of the log. With `log.format: json` it is the message of an object.
pub fn say(line: &str) {
    let mut bytes = Vec::new();
    if JSON.load(Ordering::Relaxed) {
        let mut object = Object::open(&mut bytes);
        object.text("timestamp", OffsetDateTime::now_utc().format(&Rfc3339).ok());
        object.text("level", Some("INFO"));
        object.text("message", Some(line));
        object.close();
    } else {
        bytes.extend_from_slice(line.as_bytes());
    }
    bytes.push(b'\n');
    match LINES.get() {
        Some(lines) => lines.push_important(&bytes),
        None => drop(io::stderr().lock().write_all(&bytes)),
    }
}

/// Waits until the lines so far are written, at most `wait`.
pub fn flush(wait: Duration) {
    if let Some(lines) = LINES.get() {
        lines.flush(wait);
    }
}

/// The handle by which a reload changes the process log.
#[derive(Debug, Clone)]
pub struct ProcessLog {
    filter: reload::Handle<Targets, Registry>,
    json: Arc<AtomicBool>,
}

impl ProcessLog {
    /// Installs the log for the lifetime of the process. Records of the `log` crate are included.
    pub fn init(settings: &Log) -> Result<Self, String> {
        let json = Arc::new(AtomicBool::new(settings.format == LogFormat::Json));
        JSON.store(settings.format == LogFormat::Json, Ordering::Relaxed);
        let (filter, handle) = reload::Layer::new(targets(settings.level));
        let shape = Shape::new(Arc::clone(&json));
        let ansi = io::stderr().is_terminal();
        let lines = lines::layer().event_format(shape).with_ansi(ansi).with_writer(ToStderr);
        tracing_subscriber::registry().with(filter).with(lines).try_init().map_err(|error| error.to_string())?;
        let log = Self { filter: handle, json };
        log.let_records_in();
        Ok(log)
    }

    /// Applies other settings.
    pub fn set(&self, settings: &Log) -> Result<(), String> {
        self.json.store(settings.format == LogFormat::Json, Ordering::Relaxed);
        JSON.store(settings.format == LogFormat::Json, Ordering::Relaxed);
        self.filter.reload(targets(settings.level)).map_err(|error| error.to_string())?;
        self.let_records_in();
        Ok(())
    }

    /// Adjusts the maximum level of the `log` crate, which does not follow the tracing filter.
    fn let_records_in(&self) {
        log::set_max_level(match LevelFilter::current().into_level() {
            None => log::LevelFilter::Off,
            Some(tracing::Level::ERROR) => log::LevelFilter::Error,
            Some(tracing::Level::WARN) => log::LevelFilter::Warn,
            Some(tracing::Level::INFO) => log::LevelFilter::Info,
            Some(tracing::Level::DEBUG) => log::LevelFilter::Debug,
            Some(tracing::Level::TRACE) => log::LevelFilter::Trace,
        });
    }
}

/// Makes the writers that put events into the queue.
#[derive(Debug, Clone, Copy)]
struct ToStderr;

impl<'a> MakeWriter<'a> for ToStderr {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter { important: false }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Self::Writer {
        LineWriter { important: is_important(meta.target()) }
    }
}

/// The writer of one event. tracing formats the event before it calls `write`.
#[derive(Debug, Clone, Copy)]
struct LineWriter {
    important: bool,
}

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match LINES.get() {
            Some(lines) if self.important => lines.push_important(line),
            Some(lines) => lines.push(line),
            None => return io::stderr().write(line),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The levels per module. Pingora logs each failed request as an error. rustls logs each unexpected client message as a
/// warning, and h2 each connection with too many resets. None of these lines identifies the client, so any client could
/// fill the log.
fn targets(level: LogLevel) -> Targets {
    let (weir, chatty, others) = match level {
        LogLevel::Error => (LevelFilter::ERROR, LevelFilter::OFF, LevelFilter::ERROR),
        LogLevel::Warn => (LevelFilter::WARN, LevelFilter::OFF, LevelFilter::WARN),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::OFF, LevelFilter::WARN),
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::WARN, LevelFilter::WARN),
        LogLevel::Trace => (LevelFilter::TRACE, LevelFilter::TRACE, LevelFilter::INFO),
    };
    let targets = Targets::new().with_default(others).with_target("weir", weir);
    targets.with_target("pingora", chatty).with_target("rustls", chatty).with_target("h2", chatty)
}

/// The event format, text or JSON. The flag is read for each event, because a reload can change it.
struct Shape {
    json: Arc<AtomicBool>,
    as_text: Format<Full>,
    as_json: Format<Json>,
}

impl Shape {
    fn new(json: Arc<AtomicBool>) -> Self {
        let as_json = Format::default().json().flatten_event(true).with_current_span(false).with_span_list(false);
        Self { json, as_text: Format::default().with_target(false), as_json }
    }
}

impl<S, N> FormatEvent<S, N> for Shape
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if self.json.load(Ordering::Relaxed) {
            self.as_json.format_event(ctx, writer, event)
        } else {
            self.as_text.format_event(ctx, writer, event)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::Mutex;

    use tracing::Level;

    use super::*;

    #[test]
    fn lines_of_the_server_module_and_of_panics_use_the_reserved_capacity() {
        // A type name without its last part is the module path, which tracing uses as the target of events.
        let server = std::any::type_name::<crate::server::RunOutcome>();
        assert!(is_important(server.trim_end_matches("::RunOutcome")) && is_important(PANIC_TARGET));
        assert!(!is_important("weir::proxy"));
    }

    #[test]
    fn library_lines_that_clients_can_cause_need_level_debug() {
        let heard = |level, target, what: Level| targets(level).would_enable(target, &what);
        assert!(heard(LogLevel::Info, "weir::reload", Level::INFO));
        assert!(!heard(LogLevel::Info, "weir::reload", Level::DEBUG));
        assert!(!heard(LogLevel::Info, "pingora_proxy::proxy", Level::ERROR));
        assert!(heard(LogLevel::Debug, "pingora_proxy::proxy", Level::WARN));
        assert!(!heard(LogLevel::Info, "rustls::common_state", Level::WARN));
        assert!(heard(LogLevel::Debug, "rustls::common_state", Level::WARN));
        assert!(!heard(LogLevel::Debug, "pingora_core::server", Level::DEBUG));
        assert!(heard(LogLevel::Trace, "pingora_core::server", Level::TRACE));
        assert!(!heard(LogLevel::Info, "h2::proto::streams::recv", Level::WARN));
        assert!(heard(LogLevel::Debug, "h2::proto::streams::recv", Level::WARN));
        assert!(heard(LogLevel::Info, "hickory_resolver", Level::WARN));
        assert!(!heard(LogLevel::Trace, "hickory_resolver", Level::TRACE));
    }

    #[test]
    fn a_reload_changes_the_maximum_level_of_the_log_crate() {
        let heard = |target: &str, level| log::log_enabled!(target: target, level);
        let settings = |level| Log { level, format: LogFormat::Text };
        let log = ProcessLog::init(&settings(LogLevel::Error)).unwrap();
        assert!(heard("weir", log::Level::Error) && !heard("weir", log::Level::Warn));
        assert!(!heard("pingora_core", log::Level::Error));
        log.set(&settings(LogLevel::Debug)).unwrap();
        assert!(heard("weir", log::Level::Debug) && heard("pingora_core", log::Level::Warn));
        assert!(!heard("pingora_core", log::Level::Info));
        assert!(ProcessLog::init(&settings(LogLevel::Info)).is_err(), "there is one a process");
    }

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_format_changes_between_two_lines() {
        let (buffer, json) = (Buffer::default(), Arc::new(AtomicBool::new(false)));
        let writer = buffer.clone();
        let layer = lines::layer().event_format(Shape::new(Arc::clone(&json))).with_ansi(false);
        let subscriber = tracing_subscriber::registry().with(layer.with_writer(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(n = 1, "plain");
            json.store(true, Ordering::Relaxed);
            tracing::warn!(n = 2, "shaped");
        });
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        let (first, second) = text.trim_end().split_once('\n').unwrap();
        assert!(first.ends_with("WARN plain n=1"), "{first}");
        let second: serde_json::Value = serde_json::from_str(second).unwrap();
        assert_eq!((&second["message"], &second["n"]), (&"shaped".into(), &2.into()));
    }
}
