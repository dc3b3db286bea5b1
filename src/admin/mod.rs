//! The operator's own listener: status page, metrics, API. It shows what the rooms below know and passes wishes on;
//! it keeps no state but the sessions of browsers, and decides nothing. Never on a public address.
//!
//! `reply` has the words of the API, `control` the door to the running process, `routes` what is answered where,
//! `explained` those of a question, `backends` steering, `page` the page for people, `scrape` the metrics, `serve` the
//! connections. `guard` authorizes requests: `token` has the credentials, `login` the form, `attempts` its bound, `origin` the origins.

mod attempts;
mod backends;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
pub(crate) mod fake;
mod guard;
mod login;
mod origin;
mod page;
mod routes;
mod scrape;
mod serve;
mod token;

pub mod control;
pub mod explained;
pub mod reply;

pub use control::Control;
pub use serve::{Socket, serve};
pub use token::Token;
