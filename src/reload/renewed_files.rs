//! Reads files again that the active configuration names and that have changed: those of `upstreams.*.tls`,
//! `routes[].respond`, `auth`, `allow`, `deny`, `redirects` and conditions. A file that cannot be used never replaces the
//! old content.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::file_watch::Watch;
use crate::config::{Disk, ValidatedConfig};
use crate::resource_exhaustion::{self, LimitedWarning};
use crate::telemetry::Metrics;

static CANNOT_READ: LimitedWarning = LimitedWarning::new();
const CANNOT_LOOK: &str = "files of the configuration cannot be looked into; that is tried again";

/// The configuration with the new content of its files.
pub(super) struct RenewedFiles {
    pub(super) config: ValidatedConfig,
    certificates: bool,
    networks: bool,
    auth: Vec<PathBuf>,
    bodies: Vec<PathBuf>,
    lists: Vec<PathBuf>,
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
        for file in &self.auth {
            tracing::info!(file = %file.display(), "users or keys of an access policy renewed from their file");
        }
        for file in &self.bodies {
            tracing::info!(file = %file.display(), "response body renewed from its file");
            metrics.body_file_applied();
        }
        for file in &self.lists {
            tracing::info!(file = %file.display(), "list renewed from its file");
            metrics.list_file_applied();
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
    let backends = checked.with_backend_files(&changed, &read);
    let networks = backends.config.as_ref().unwrap_or(checked).with_network_files(&changed, &read);
    let newest = networks.config.as_ref().or(backends.config.as_ref()).unwrap_or(checked);
    let auth = newest.with_auth_files(&changed, &read);
    let newest = auth.config.as_ref().unwrap_or(newest);
    let bodies = newest.with_body_files(&changed, &read);
    let newest = bodies.config.as_ref().unwrap_or(newest);
    let lists = newest.with_list_files(&changed, &read);
    let report = |purpose: &str, unfit: Vec<String>, count: &dyn Fn()| {
        for what in unfit {
            if exhausted.get() {
                CANNOT_READ.say(CANNOT_LOOK, what);
            } else {
                tracing::error!("{purpose}, changed on disk, but cannot be used; the old one goes on: {what}");
                count();
            }
        }
    };
    report("for backends", backends.unfit, &|| {});
    report("a file of networks", networks.unfit, &|| metrics.network_file_rejected());
    report("a file of an access policy", auth.unfit, &|| metrics.auth_file_rejected());
    report("a response body", bodies.unfit, &|| metrics.body_file_rejected());
    report("a list", lists.unfit, &|| metrics.list_file_rejected());
    if exhausted.get() {
        watch.again(&changed);
    }
    let (certificates, of_clients) = (backends.config.is_some(), networks.config.is_some());
    let config = lists.config.or(bodies.config).or(auth.config).or(networks.config).or(backends.config)?;
    let (auth, bodies, lists) = (auth.changed, bodies.changed, lists.changed);
    Some(RenewedFiles { config, certificates, networks: of_clients, auth, bodies, lists })
}
