//! Access policies: each decides by the credentials of a request who sends it. They know no route and no document.

pub mod identity;
pub mod jwt;

pub use identity::Identity;
