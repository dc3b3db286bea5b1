//! The operator's own listener: status page, metrics, API. It shows what the rooms below know and passes wishes on;
//! it keeps no state but the sessions of browsers, and decides nothing. Never on a public address.
//!
//! `reply` has the words of the API, `control` the door to the running process, `routes` what is answered where,
//! `explained` those of a question, `backends` steering, `page` the page for people, `scrape` the metrics, `serve` the
//! connections. `guard` authorizes requests: `token` has the credentials, `login` the form, `attempts` its bound, `origin` the origins.

mod attempts;
mod auth;
mod backends;
mod login;
mod metrics_endpoint;
mod origin;
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

pub use control::Control;
pub use server::{Socket, serve};
pub use token::Token;
