//! The admin listener: status page, metrics and API for operators. Never expose it on a public address.
//!
//! It makes no decisions and keeps no state except browser sessions. It reads the state of the other modules and passes
//! changes to them by `Control`.
//!
//! - `api`, `api_explain`, `api_limits`: JSON types. `limits_table` is a part of the status page.
//! - `control`: the interface to the running process.
//! - `router`: routes and handlers. `backends`, `explain_endpoint`, `metrics_endpoint` and `status_page` are single
//!   endpoints.
//! - `status_page`: the HTML page. `history` has its ring buffers, `page_model`, `page_rows` and `verdict` its content,
//!   `page_markup`, `page_elements`, `upstream_markup` and `sparkline` its HTML. `live` sends the changes to viewers.
//! - `server`: connections.
//! - `auth`: authorization. `caller` identifies the client, `token` has the credentials, `login` the form, `attempts`
//!   its rate limit, `origin` the check of Origin.

pub mod api_split;
mod attempts;
mod auth;
mod backends;
mod caller;
mod history;
mod limits_table;
mod live;
mod login;
mod maintenance;
mod metrics_endpoint;
mod origin;
mod page_elements;
mod page_markup;
mod page_model;
mod page_rows;
mod respond;
mod router;
mod server;
mod sparkline;
mod split_endpoint;
mod splits_table;
mod status_page;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
pub(crate) mod test_double;
mod token;
mod upstream_markup;
mod verdict;

pub mod activity;
pub mod api;
pub mod api_explain;
pub mod api_limits;
pub mod control;
mod explain_endpoint;

pub use control::Control;
pub use server::{BoundSocket, serve};
pub use token::AdminToken;
