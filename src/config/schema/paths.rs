//! `listeners[].paths`: how a listener reads the paths of requests before routes are matched.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::path::Rules;

/// `listeners[].paths`: how paths are read before routes are matched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerPaths {
    /// How `%2F` in a path is read: as part of its segment (`keep`), as a slash (`decode`), or not at all: 400 (`reject`).
    pub encoded_slash: EncodedSlash,
    /// Whether slashes in a row count as one.
    pub merge_slashes: bool,
}

/// How a percent-encoded slash in a path is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EncodedSlash {
    /// As part of its segment.
    #[default]
    Keep,
    /// Not at all: the request is answered 400.
    Reject,
    /// As a slash.
    Decode,
}

impl ListenerPaths {
    /// For `path::normalise`.
    pub fn rules(self) -> Rules {
        Rules { decode_slash: self.encoded_slash == EncodedSlash::Decode, merge_slashes: self.merge_slashes }
    }

    /// Whether `%2F` is refused.
    pub fn rejects_encoded_slash(self) -> bool {
        self.encoded_slash == EncodedSlash::Reject
    }
}
