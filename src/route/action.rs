//! What a route does with a request, compiled: send it to an upstream, to one of several, redirect it, answer it.
//!
//! It never sends anything, and knows no upstream: `U` is whatever handle the snapshot puts in.

mod redirect;
mod respond;
mod split;

pub use redirect::{Redirect, Requested};
pub use respond::Respond;
pub use split::Split;

/// One of the four.
#[derive(Debug)]
pub enum Action<U> {
    /// Send to this upstream.
    Upstream(U),
    /// Send to one of several, by weight.
    Split(Split<U>),
    /// Answer with a redirect.
    Redirect(Redirect),
    /// Answer with this.
    Respond(Box<Respond>),
}

impl<U> Action<U> {
    /// Where the request goes, for those two that send it anywhere. Moves a split on by one.
    pub fn upstream(&self) -> Option<&U> {
        match self {
            Self::Upstream(upstream) => Some(upstream),
            Self::Split(split) => Some(split.pick()),
            Self::Redirect(_) | Self::Respond(_) => None,
        }
    }
}
