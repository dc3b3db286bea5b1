//! The one exit of what Weir knows: live cells, metric families, access log, the process's own log. Only this room
//! touches metric families.
//!
//! ```text
//! vitals, meters (made of cells) ──── read at a scrape by ──→ families → metrics::render
//! record → Recorder ─┬→ meters
//!                    └→ line → access_log → line_queue → sink
//! tracing events ─────→ process_log ──────→ line_queue → sink
//! ```

mod cells;
mod families;
mod family;
mod json;
mod kept;
mod line;
mod line_queue;
mod process;
mod scrape;
mod words;

pub mod access_log;
pub mod meters;
pub mod metrics;
pub mod orders;
pub mod panics;
pub mod process_log;
pub mod record;
pub mod score;
pub mod sink;
pub mod vitals;

pub use access_log::AccessLog;
pub use cells::Counter;
pub use metrics::Metrics;
pub use record::{AttemptRecord, Record, Recorder};
pub use scrape::Scrape;
pub use sink::Sink;
