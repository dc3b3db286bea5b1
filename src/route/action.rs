//! The action of a route, compiled: proxy to an upstream, proxy to one of several, redirect, or respond.
//!
//! It sends nothing and knows no upstream type: `U` is a handle that the snapshot provides.

mod redirect;
mod respond;
mod split;

pub use redirect::Redirect;
pub use respond::Respond;
pub use split::Split;

/// The action of a route.
#[derive(Debug)]
pub enum Action<U> {
    /// Proxy to this upstream.
    Upstream(U),
    /// Proxy to one of several upstreams, by weight.
    Split(Split<U>),
    /// Respond with a redirect.
    Redirect(Redirect),
    /// Respond with a fixed response.
    Respond(Box<Respond>),
}

impl<U> Action<U> {
    /// The upstream for the request, if the action has one. Each call advances a split by one.
    pub fn upstream(&self) -> Option<&U> {
        match self {
            Self::Upstream(upstream) => Some(upstream),
            Self::Split(split) => Some(split.pick()),
            Self::Redirect(_) | Self::Respond(_) => None,
        }
    }
}
