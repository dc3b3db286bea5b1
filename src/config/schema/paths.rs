//! `listeners[].paths`: how a listener normalizes request paths before routes are matched.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::path::Rules;

/// `listeners[].paths`: how paths are normalized before routes are matched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerPaths {
    /// How `%2F` in a path is read: as part of its segment (`keep`) or as a slash (`decode`). With `reject` the answer
    /// is 400.
    pub encoded_slash: EncodedSlash,
    /// Treat several consecutive slashes as one.
    pub merge_slashes: bool,
}

/// How a percent-encoded slash in a path is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EncodedSlash {
    /// As part of its segment.
    #[default]
    Keep,
    /// The request is rejected with 400.
    Reject,
    /// As a slash.
    Decode,
}

impl ListenerPaths {
    /// The rules for `path::normalise`.
    pub fn rules(self) -> Rules {
        Rules { decode_slash: self.encoded_slash == EncodedSlash::Decode, merge_slashes: self.merge_slashes }
    }

    /// Whether `%2F` is rejected.
    pub fn rejects_encoded_slash(self) -> bool {
        self.encoded_slash == EncodedSlash::Reject
    }
}
