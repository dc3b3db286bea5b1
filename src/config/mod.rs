//! The configuration: schema, parser, validation, named files, and the diff of two documents. It contains all I/O on
//! configuration files, and never handles a request or a socket.
//!
//! ```text
//! text → yaml (tree with positions, ${…} replaced) → deserialize (document) → check, files → ValidatedConfig
//! ```

pub mod file_watch;
pub mod listener_key;
pub mod pem;
pub mod schema;
pub mod values;

mod admin_address;
mod auth_files;
mod auth_reload;
mod authority;
mod backend_list;
mod backend_tls_reload;
mod body_file_reload;
mod change;
mod check;
mod client_filter;
mod defaults;
mod deserialize;
mod deserializer;
mod diff;
mod disk;
mod env;
mod error_page;
mod error_page_files;
mod file_reload;
mod files;
mod foreign_words;
mod hints;
mod in_memory;
mod io_error;
mod json_schema;
mod labels;
mod list_files;
mod list_reload;
mod listener_filters;
mod load;
mod masked_view;
mod network_files;
mod network_reload;
mod network_set;
mod node;
mod pem_blocks;
mod positions;
mod problem;
mod redirect_file;
mod scalar;
mod secret_files;
mod shares;
mod state_dir;
mod stdin;
mod syntax_hint;
mod template;
mod value_hints;
mod yaml;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod reference;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

pub use crate::severity::Severity;
pub use admin_address::{admin_address, admin_address_in};
pub use backend_list::{backends_in, parse_backends};
pub use change::{Change, Diff, Subject};
pub use check::{OWN_LISTENER, overlap};
pub use client_filter::{ClientFilter, RefusedBy};
pub use diff::{diff, diff_of_backends, fixed};
pub use disk::{Disk, FILE_TIMEOUT, must_be_regular, read_named};
pub use error_page::{BadPage, MAX_PAGE_BYTES, PageFormat, page_template};
pub use file_reload::RenewedContent;
pub use json_schema::json_schema;
pub use listener_filters::ListenerFilters;
pub use load::{Inspection, ValidatedConfig, inspect, load, load_in_memory, parse, parse_in_place, read_text};
pub use masked_view::{effective_settings, masked};
pub use network_set::NetworkSet;
pub use problem::Problem;
pub use redirect_file::{REDIRECT_STATUSES, RedirectLine, RedirectTable};
pub use template::{Template, TemplatePiece, TemplateUse, UnknownVariable, Variable};
