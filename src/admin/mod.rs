//! The admin listener: status page, metrics and API for operators. Never expose it on a public address.
//!
//! It makes no decisions and keeps no state except browser sessions. It reads the state of the other modules and passes
//! changes to them by `Control`.
//!
//! - `api`, `api_explain`, `api_limits`: JSON types. `limits_table` is a part of the status page.
//! - `control`: the interface to the running process.
//! - `router`: routes and handlers. `backends`, `explain_endpoint`, `metrics_endpoint` and `status_page` are single
//!   endpoints.
//! - `server`: connections.
//! - `auth`: authorization. `caller` identifies the client, `token` has the credentials, `login` the form, `attempts`
//!   its rate limit, `origin` the check of Origin.

pub mod api_split;
mod attempts;
mod auth;
mod backends;
mod caller;
mod limits_table;
mod login;
mod maintenance;
mod metrics_endpoint;
mod origin;
mod respond;
mod router;
mod server;
mod split_endpoint;
mod splits_table;
mod status_page;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
pub(crate) mod test_double;
mod token;

pub mod api;
pub mod api_explain;
pub mod api_limits;
pub mod control;
mod explain_endpoint;

pub use control::Control;
pub use server::{BoundSocket, serve};
pub use token::AdminToken;
