//! The action of a route, compiled: proxy to an upstream, proxy to one of several, redirect, or respond.
//!
//! It sends nothing and knows no upstream type: `U` is a handle that the snapshot provides.

mod redirect;
mod redirect_list;
mod respond;
mod split;
mod split_key;

pub use redirect::Redirect;
pub use redirect_list::CompiledRedirects;
pub use respond::Respond;
pub use split::{Split, SplitShare};
pub use split_key::{CompiledSplitKey, hash as split_hash};

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
    /// The split, if the action is one.
    pub fn split(&self) -> Option<&Split<U>> {
        match self {
            Self::Split(split) => Some(split),
            Self::Upstream(_) | Self::Redirect(_) | Self::Respond(_) => None,
        }
    }
}
