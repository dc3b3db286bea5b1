//! Telemetry: metrics, access log and process log. No other module writes metric families.
//!
//! ```text
//! backend_state, meters (made of instruments) ── read at a scrape by ──→ families → registry::render
//! record → Recorder ─┬→ meters, failed_requests
//!                    └→ access_rules → access_entry → access_log → line_queue → sink
//! tracing events ─────→ process_log ──────→ line_queue → sink
//! ```

mod access_entry;
mod access_rules;
mod common_log;
mod families;
mod family_spec;
mod instrument_set;
mod json;
mod line_queue;
mod process;
mod scrape;
mod text_format;

pub mod access_log;
pub mod access_meters;
pub mod acme;
pub mod coding_meters;
pub mod failed_requests;
pub mod grpc_status;
pub mod limit_meters;
pub mod maintenance_state;
pub mod meters;
pub mod mirror_meters;
pub mod panic_hook;
pub mod process_log;
pub mod recorder;
pub mod registry;
pub mod request_record;
pub mod sink;

pub use access_log::AccessLog;
pub use access_rules::AccessRules;
pub use recorder::Recorder;
pub use registry::Metrics;
pub use request_record::{AttemptRecord, Record};
pub use scrape::Scrape;
pub use sink::Sink;
