//! Reads files again that the active configuration names and that have changed: those of `upstreams.*.tls`,
//! `routes[].respond`, `allow` and `deny`. A file that cannot be used never replaces the old content.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::file_watch::Watch;
use crate::config::{Disk, ValidatedConfig};
use crate::resource_exhaustion::{self, LimitedWarning};
use crate::telemetry::Metrics;

static CANNOT_READ: LimitedWarning = LimitedWarning::new();
const CANNOT_LOOK: &str = "certificates for backends cannot be looked into; that is tried again";
const CANNOT_LOOK_AT_BODIES: &str = "files of response bodies cannot be read; that is tried again";

/// The configuration with the new content of its files.
pub(super) struct RenewedFiles {
    pub(super) config: ValidatedConfig,
    certificates: bool,
    networks: bool,
    bodies: Vec<PathBuf>,
}

impl RenewedFiles {
    /// Logs and counts that the content is served.
    pub(super) fn say(&self, metrics: &Metrics) {
        if self.certificates {
            tracing::info!("certificates for backends renewed from their files");
        }
        if self.networks {
            tracing::info!("networks of clients renewed from their files");
        }
        for file in &self.bodies {
            tracing::info!(file = %file.display(), "response body renewed from its file");
            metrics.body_file_applied();
        }
    }
}

/// Reads the changed files. Returns `None` if no usable content has changed.
pub(super) fn read_again(checked: &ValidatedConfig, watch: &mut Watch, metrics: &Metrics) -> Option<RenewedFiles> {
    let changed = watch.look_on_disk(&checked.watched_files()).unwrap_or_else(|error| {
        CANNOT_READ.say(CANNOT_LOOK, error);
        BTreeSet::new()
    });
    let (exhausted, disk) = (Cell::new(false), Disk::default());
    let read = |path: &Path| {
        let exhaustion = |error: &io::Error| exhausted.set(exhausted.get() || resource_exhaustion::is_passing(error));
        disk.read_named(path).inspect_err(exhaustion)
    };
    let (renewed, unfit) = checked.with_backend_files(&changed, &read);
    for what in unfit {
        if exhausted.get() {
            CANNOT_READ.say(CANNOT_LOOK, what);
        } else {
            tracing::error!("for backends, changed on disk, but cannot be used; the old one goes on: {what}");
        }
    }
    let certificates = renewed.is_some();
    let (with_networks, unfit) = renewed.as_ref().unwrap_or(checked).with_network_files(&changed, &read);
    for what in unfit {
        metrics.network_file_rejected();
        tracing::error!("a file of networks, changed on disk, but cannot be used; the old content goes on: {what}");
    }
    let networks = with_networks.is_some();
    let renewed = with_networks.or(renewed);
    let bodies = renewed.as_ref().unwrap_or(checked).with_body_files(&changed, &read);
    for what in bodies.unfit {
        if exhausted.get() {
            CANNOT_READ.say(CANNOT_LOOK_AT_BODIES, what);
        } else {
            tracing::error!("a response body, changed on disk, but cannot be used; the old one goes on: {what}");
            metrics.body_file_rejected();
        }
    }
    if exhausted.get() {
        watch.again(&changed);
    }
    let config = bodies.config.or(renewed)?;
    Some(RenewedFiles { config, certificates, networks, bodies: bodies.changed })
}
