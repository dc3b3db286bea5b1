//! `routes[].mirror`, compiled.

use std::sync::Arc;
use std::time::Duration;

use super::RouteTarget;
use crate::config::schema::MirrorSettings;

/// Where copies of requests go, and their bounds.
#[derive(Debug)]
pub struct Mirror {
    /// The upstream of the copies.
    pub target: Arc<RouteTarget>,
    /// The share of requests that are mirrored, 0 to 1.
    pub share: f64,
    /// Maximum bytes of a request body.
    pub max_body: usize,
    /// Maximum copies at one time.
    pub max_in_flight: u32,
    /// Maximum time of a copy.
    pub timeout: Duration,
}

impl Mirror {
    /// Compiles the settings. `target`: their upstream.
    pub fn compile(settings: &MirrorSettings, target: Arc<RouteTarget>) -> Self {
        Self {
            target,
            share: settings.share.fraction(),
            max_body: usize::try_from(settings.body.get()).unwrap_or(usize::MAX),
            max_in_flight: settings.in_flight,
            timeout: settings.timeout.get(),
        }
    }
}
