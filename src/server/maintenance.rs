//! Maintenance of routes: the switch, and the file in `server.state_dir` that keeps it over restarts and upgrades.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::api_values::list;
use crate::admin::api::{self, MaintenanceReply};
use crate::admin::control::ControlError;
use crate::clock;
use crate::secure_file;
use crate::snapshot::Snapshot;
use crate::telemetry::Metrics;
use crate::telemetry::meters::RouteMeters;

/// The file in `server.state_dir`.
const FILE: &str = "maintenance.json";

/// The content of the file.
#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
struct StoredMaintenance {
    /// The routes in maintenance, and since when, in milliseconds since the Unix epoch.
    routes: BTreeMap<String, u64>,
}

/// Switches the maintenance of routes.
#[derive(Debug)]
pub(super) struct MaintenanceSwitch {
    /// `None` without `server.state_dir`.
    file: Option<PathBuf>,
    one_at_a_time: Mutex<()>,
}

impl MaintenanceSwitch {
    /// Switches on the maintenance of the routes that the file in this folder names.
    pub(super) fn restore(state_dir: Option<&Path>, metrics: &Metrics) -> Self {
        let file = state_dir.map(|folder| folder.join(FILE));
        let stored = file.as_deref().map(read).transpose().unwrap_or_else(|error| {
            tracing::error!(%error, "{FILE} in server.state_dir cannot be read: no route is in maintenance");
            None
        });
        for (route, since_ms) in stored.unwrap_or_default().routes {
            metrics.route(&route).maintenance().switch(true, since_ms);
            tracing::warn!(route, "the route is in maintenance");
        }
        Self { file, one_at_a_time: Mutex::new(()) }
    }

    /// The maintenance of a route.
    pub(super) fn of(&self, snapshot: &Snapshot, route: &str) -> Result<MaintenanceReply, ControlError> {
        find(snapshot, route).map(reply)
    }

    /// Switches the maintenance of a route. If the file cannot be written, nothing has changed.
    pub(super) fn set(&self, snapshot: &Snapshot, route: &str, on: bool) -> Result<MaintenanceReply, ControlError> {
        let meters = find(snapshot, route)?;
        let _guard = self.one_at_a_time.lock();
        let now_ms = clock::unix_ms();
        if let Some(file) = &self.file {
            store(file, route, on, now_ms)
                .map_err(|error| ControlError::Impossible(format!("{} cannot be written: {error}", file.display())))?;
        }
        if meters.maintenance().switch(on, now_ms) {
            let state = if on { "on" } else { "off" };
            tracing::info!(route, maintenance = state, "changed by operator");
        }
        Ok(reply(meters))
    }

    /// The routes of this configuration that are in maintenance.
    pub(super) fn all_on(snapshot: &Snapshot) -> Vec<MaintenanceReply> {
        let routes = snapshot.routes.targets().map(|route| &*route.meters);
        routes.filter(|meters| meters.maintenance().is_on()).map(reply).collect()
    }
}

fn find<'s>(snapshot: &'s Snapshot, route: &str) -> Result<&'s RouteMeters, ControlError> {
    let found = snapshot.routes.targets().map(|each| &*each.meters).find(|meters| **meters.name() == *route);
    found.ok_or_else(|| {
        let names = list(snapshot.routes.targets().map(|route| &**route.meters.name()));
        ControlError::NotThere(format!("no route `{route}`; there is {names}"))
    })
}

fn reply(meters: &RouteMeters) -> MaintenanceReply {
    let since = meters.maintenance().since_ms();
    MaintenanceReply { route: meters.name().to_string(), on: since.is_some(), since: since.and_then(api::rfc3339) }
}

/// A file that does not exist is empty.
fn read(file: &Path) -> io::Result<StoredMaintenance> {
    match std::fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(StoredMaintenance::default()),
        Err(error) => Err(error),
    }
}

fn store(file: &Path, route: &str, on: bool, now_ms: u64) -> io::Result<()> {
    let mut stored = read(file)?;
    if on {
        stored.routes.entry(route.to_owned()).or_insert(now_ms);
    } else if stored.routes.remove(route).is_none() {
        return Ok(());
    }
    secure_file::write(file, &serde_json::to_vec(&stored)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_route_in_maintenance_is_restored_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        store(&file, "api", true, 7).unwrap();
        store(&file, "api", true, 9).unwrap();
        store(&file, "other", true, 8).unwrap();
        store(&file, "other", false, 10).unwrap();
        let metrics = Metrics::new("1", "c");
        let _switch = MaintenanceSwitch::restore(Some(folder.path()), &metrics);
        assert_eq!(metrics.route("api").maintenance().since_ms(), Some(7));
        assert!(!metrics.route("other").maintenance().is_on());
    }

    #[test]
    fn a_file_that_cannot_be_read_does_not_prevent_the_start() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        let metrics = Metrics::new("1", "c");
        let _switch = MaintenanceSwitch::restore(Some(folder.path()), &metrics);
        assert!(!metrics.route("api").maintenance().is_on());
        assert!(store(&folder.path().join(FILE), "api", true, 1).is_err(), "nor is it overwritten");
    }
}
