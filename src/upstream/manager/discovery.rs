//! Merges discovered backends into all generations of an upstream, and owns the discovery tasks.
//!
//! A backend that is no longer discovered leaves like one that is no longer configured. It gets no new request,
//! finishes its requests in flight, and then its series disappear.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::MutexGuard;
use tokio_util::task::AbortOnDropHandle;

use super::super::Upstream;
use super::super::backend::Backend;
use super::super::discovery::{self, DiscoverySource, state::DiscoveryState};
use super::super::sticky::Sticky;
use super::{FileReader, UpstreamManager, Upstreams};
use crate::config::schema::{self, Discover};
use crate::config::{self, Change};

/// An upstream of the current configuration with a discovery task.
pub(super) struct RunningDiscovery {
    upstream: Arc<Upstream>,
    discovery: DiscoverySettings,
    task: AbortOnDropHandle<()>,
}

/// The settings of a discovery task. While they are equal, a reload leaves the task running.
#[derive(Debug, Clone, PartialEq)]
struct DiscoverySettings {
    settings: Discover,
    folder: PathBuf,
    /// For a file: the settings that the list is validated with.
    upstream: Option<schema::UpstreamSettings>,
}

impl DiscoverySettings {
    fn of(upstream: &Upstream, settings: &Discover, folder: &Path) -> Self {
        let judged_by = settings.file.is_some().then(|| upstream.settings().clone());
        Self { settings: settings.clone(), folder: folder.to_owned(), upstream: judged_by }
    }
}

impl UpstreamManager {
    /// The discovery state of an upstream. It comes from the previous generation if that has the same source. Else it
    /// is new. It starts with the list of the file that was read with the configuration, if there is one. Otherwise it
    /// starts with the previous list, until the first success.
    pub(super) fn previous_state(
        &self,
        upstream: &Arc<str>,
        settings: &schema::UpstreamSettings,
        folder: &Path,
        file: &FileReader<'_>,
        previous: Option<&Arc<Upstream>>,
    ) -> Option<Arc<DiscoveryState>> {
        let source = settings.discover.as_ref()?;
        let before = previous.and_then(|previous| previous.discovered());
        if let Some(same) = before.filter(|discovery_state| discovery_state.is_of(source, folder)) {
            return Some(Arc::clone(same));
        }
        let listed = source.file.as_deref().and_then(|path| Some((folder.join(path), file(path)?)));
        let list = listed.and_then(|(path, bytes)| config::parse_backends(&path, &bytes, settings).ok());
        let list = list.or_else(|| before.map(|discovery_state| discovery_state.list().to_vec()));
        let meters = (self.meters_of)(upstream);
        Some(Arc::new(DiscoveryState::new(upstream, source, folder, list.unwrap_or_default(), meters)))
    }

    /// The backends of an upstream: first the configured ones, then the discovered ones at other addresses. `sticky`:
    /// makes their tokens. `known`: backends whose states are reused.
    pub(super) fn backends(
        &self,
        upstream: &Arc<str>,
        settings: &schema::UpstreamSettings,
        discovery_state: Option<&DiscoveryState>,
        sticky: Option<&Sticky>,
        known: &[Arc<Backend>],
    ) -> Vec<Arc<Backend>> {
        let known: HashMap<_, _> = known.iter().rev().map(|backend| (&backend.address, backend)).collect();
        let list = discovery_state.map(DiscoveryState::list).unwrap_or_default();
        let (mut addresses, mut names) = (HashSet::new(), HashSet::new());
        let mut all = Vec::with_capacity(settings.backends.len() + list.len());
        for configured in settings.backends.iter().chain(list.iter()) {
            if !addresses.insert(&configured.address) {
                continue;
            }
            let mut configured = configured.clone();
            if !names.insert(configured.label()) {
                // The name is taken by a configured backend, so this one is named by its address.
                configured.name = None;
            }
            all.push(self.backend(upstream, &configured, sticky, known.get(&configured.address).copied()));
        }
        all
    }

    /// Merges the discovered list into an upstream.
    pub(super) fn merge_discovered(&self, upstream: &Upstream) {
        if let Some(discovery_state) = upstream.discovered() {
            let known = upstream.backends();
            let (name, settings) = (upstream.name(), upstream.settings());
            upstream.set_backends(self.backends(name, settings, Some(discovery_state), upstream.sticky(), &known));
        }
    }

    /// Starts, continues and stops the discovery tasks.
    pub(super) fn find(&self, upstreams: &Upstreams) {
        let mut tasks = self.running();
        let mut before = std::mem::take(&mut *tasks);
        for upstream in upstreams.values() {
            let (Some(settings), Some(discovery_state)) = (&upstream.settings().discover, upstream.discovered()) else {
                continue;
            };
            let wanted = DiscoverySettings::of(upstream, settings, discovery_state.folder());
            let name = Arc::clone(upstream.name());
            let running = before.remove(&name).filter(|was| was.discovery == wanted && was.is_for(discovery_state));
            let task = running.map(|running| running.task).or_else(|| self.start(upstream, settings, discovery_state));
            tasks.extend(
                task.map(|task| (name, RunningDiscovery { upstream: Arc::clone(upstream), discovery: wanted, task })),
            );
        }
    }

    fn start(
        &self,
        upstream: &Upstream,
        settings: &Discover,
        discovery_state: &Arc<DiscoveryState>,
    ) -> Option<AbortOnDropHandle<()>> {
        let source = DiscoverySource::of(upstream.settings(), discovery_state.folder())?;
        let (weak_self, name, same) =
            (Weak::clone(&self.weak_self), Arc::clone(upstream.name()), Arc::clone(discovery_state));
        let changed = Arc::new(move || {
            if let Some(manager) = weak_self.upgrade() {
                manager.refresh(&name, &same);
            }
        });
        let task = discovery::run(source, settings.clone(), Arc::clone(discovery_state), changed);
        Some(AbortOnDropHandle::new(self.handle.spawn(task)))
    }

    /// Applies a new list to every generation with the same discovery state.
    fn refresh(&self, name: &Arc<str>, discovery_state: &Arc<DiscoveryState>) {
        let mut active = self.active.lock();
        // A task that is being aborted can still get here.
        let current =
            self.running().get(name).filter(|running| running.is_for(discovery_state)).map(|f| Arc::clone(&f.upstream));
        let Some(current) = current else { return };
        let before = current.backends();
        self.merge_discovered(&current);
        let context = self.context(&current);
        let now = current.backends();
        let others = self.live.generations(name);
        let others = others.iter().filter(|other| !Arc::ptr_eq(other, &current));
        for other in others.filter(|other| other.discovered().is_some_and(|of| Arc::ptr_eq(of, discovery_state))) {
            let known = [&other.backends()[..], &now[..]].concat();
            other.set_backends(self.backends(name, other.settings(), Some(discovery_state), other.sticky(), &known));
        }
        for backend in now.iter() {
            let identity = (Arc::clone(name), backend.address.clone());
            let renamed = backend.state.labels().backend != backend.name;
            if renamed || !active.contains_key(&identity) {
                let was = active.remove(&identity);
                active.insert(identity, self.activate_one(&context, backend, was));
            }
        }
        say(name, &before, &now);
        self.activate_detector(&current);
        discovery_state.set_looked_for();
        self.live.rebuild(name);
        // Last, because requests could pick these backends until the members were replaced.
        let stays: HashSet<_> = now.iter().map(|backend| &backend.address).collect();
        for gone in before.iter().filter(|backend| !stays.contains(&backend.address)) {
            active.remove(&(Arc::clone(name), gone.address.clone())).into_iter().for_each(super::Active::leave);
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Arc<str>, RunningDiscovery>> {
        self.running_discoveries.lock()
    }
}

impl RunningDiscovery {
    fn is_for(&self, discovery_state: &Arc<DiscoveryState>) -> bool {
        self.upstream.discovered().is_some_and(|of| Arc::ptr_eq(of, discovery_state))
    }
}

/// Logs the difference, in the format of a reload.
fn say(upstream: &str, before: &[Arc<Backend>], now: &[Arc<Backend>]) {
    let listed = |backends: &[Arc<Backend>]| backends.iter().map(|backend| backend.listed()).collect::<Vec<_>>();
    let diff = config::diff_of_backends(upstream, &listed(before), &listed(now));
    let in_flight = |change: &Change| match change {
        Change::BackendRemoved { backend, .. } => {
            let gone = before.iter().find(|each| *each.name == **backend)?;
            Some(format!("draining, {} in flight", gone.state.in_flight()))
        }
        _ => None,
    };
    for line in diff.render(in_flight) {
        tracing::info!("{line}");
    }
}
