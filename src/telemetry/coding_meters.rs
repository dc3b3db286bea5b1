//! The instruments of compression and decompression of a route's responses.

use crate::config::schema::ContentCoding;
use crate::instruments::Counter;

/// The action on a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodingAction {
    /// Weir compressed it.
    Compress,
    /// Weir decompressed it.
    Decompress,
}

impl CodingAction {
    const ALL: [Self; 2] = [Self::Compress, Self::Decompress];

    /// The value of the `action` label.
    const fn label(self) -> &'static str {
        match self {
            Self::Compress => "compress",
            Self::Decompress => "decompress",
        }
    }
}

/// The counters of one action and one coding.
#[derive(Debug, Default)]
pub struct CodingCounters {
    /// Responses whose body was coded, also those that failed.
    pub responses: Counter,
    /// Bytes of backends.
    pub before: Counter,
    /// Bytes for clients.
    pub after: Counter,
    /// Responses that ended as incomplete because their body could not be coded.
    pub failures: Counter,
}

/// The counters of one route.
#[derive(Debug, Default)]
pub struct CodingMeters([[CodingCounters; ContentCoding::ALL.len()]; CodingAction::ALL.len()]);

impl CodingMeters {
    /// The counters of this action and coding.
    pub fn of(&self, action: CodingAction, coding: ContentCoding) -> &CodingCounters {
        &self.0[action as usize][coding as usize]
    }

    /// The labels and counters of each action and coding that was used.
    pub(super) fn used(&self) -> impl Iterator<Item = ([&'static str; 2], &CodingCounters)> {
        let all = CodingAction::ALL.into_iter().flat_map(|action| ContentCoding::ALL.map(|coding| (action, coding)));
        all.map(|(action, coding)| ([action.label(), coding.name()], self.of(action, coding)))
            .filter(|(_, counters)| counters.responses.get() > 0)
    }
}
