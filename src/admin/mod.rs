//! The operator's own listener: status page, metrics, API. It shows what the rooms below know and passes wishes on;
//! it keeps no state but the sessions of browsers, and decides nothing. Never on a public address.
//!
//! `api` has the types of the API, `control` the door to the running process, `router` what is answered where,
//! `api_explain` those of a question, `backends` steering, `status_page` the page for people, `metrics_endpoint` the metrics, `server` the
//! connections. `auth` authorizes requests: `token` has the credentials, `login` the form, `attempts` its bound, `origin` the origins.

mod attempts;
mod auth;
mod backends;
mod caller;
mod login;
mod metrics_endpoint;
mod origin;
mod respond;
mod router;
mod server;
mod status_page;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
pub(crate) mod test_double;
mod token;

pub mod api;
pub mod api_explain;
pub mod control;
mod explain_endpoint;

pub use control::Control;
pub use server::{BoundSocket, serve};
pub use token::AdminToken;
