//! Atomic reload: load, bind, make files, compile, swap. Either all of a configuration is applied, or nothing.
//!
//! SIGHUP and the admin API use the same steps. A rejected configuration never changes the running one; its problems
//! are reported.

mod renewed_files;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, MutexGuard};

use crate::config::file_watch::Watch;
use crate::config::schema::Document;
use crate::config::{self, Change, Diff, Problem, ValidatedConfig};
use crate::listener::HttpService;
use crate::listener::{Listeners, Registered};
use crate::snapshot::{CurrentSnapshot, Snapshot};
use crate::telemetry::{Metrics, process_log};
use crate::upstream::manager::UpstreamManager;
use arc_swap::ArcSwap;

/// The hint of a problem that is found only while a configuration is applied.
const STAYS: &str = "The old configuration goes on";

/// The hint if Weir itself holds the address: a new socket is bound before the socket that it replaces is closed.
const IN_TWO_STEPS: &str =
    "Take it in two reloads, the first without that listener; or restart. The old configuration goes on";

/// How long the log may take to write the result before the reload is counted.
const LOG_FLUSH_TIMEOUT: Duration = Duration::from_millis(100);

/// Number of reloads that are remembered.
const MAX_RECENT_RELOADS: usize = 10;

/// The result of a reload.
#[derive(Debug, Clone)]
pub enum ReloadOutcome {
    /// The new configuration is active.
    Applied {
        /// The generation of the snapshot.
        generation: u64,
        /// The changes.
        changes: Vec<String>,
        /// Changed keys that are fixed until a restart.
        fixed: Vec<String>,
        /// The warnings about the configuration.
        warnings: Vec<Problem>,
    },
    /// The old configuration stays active.
    Rejected {
        /// The reasons.
        problems: Vec<Problem>,
    },
}

/// The result of a reload, with its time.
#[derive(Debug, Clone)]
pub struct LastReload {
    /// When it ended.
    pub at: SystemTime,
    /// The result.
    pub result: ReloadOutcome,
}

/// Reconfigures the logs in two steps: prepare, which may fail, and commit.
pub trait Logs: Send + Sync {
    /// Opens new log targets. The returned closure switches to them.
    ///
    /// # Errors
    /// The problem with `access_log.path`.
    fn prepare(&self, before: &Document, after: &Document) -> Result<Box<dyn FnOnce() + '_>, String>;
}

/// Applies the admin token of a configuration that has become active.
pub type TakeToken = Box<dyn Fn(&ValidatedConfig) + Send + Sync>;

/// Applies configurations to the running process, one at a time.
pub struct Reloader<F> {
    path: PathBuf,
    shared: Arc<CurrentSnapshot>,
    manager: Arc<UpstreamManager>,
    listeners: Arc<Listeners>,
    metrics: Arc<Metrics>,
    services: Arc<[Arc<F>]>,
    /// The configuration at start. Keys that are fixed until a restart are compared with it.
    started_with: Arc<Document>,
    logs: Box<dyn Logs>,
    token: TakeToken,
    recent: ArcSwap<Vec<LastReload>>,
    one_at_a_time: Mutex<()>,
    backends: Mutex<BackendFiles>,
}

/// The watch on the files of `upstreams.*.tls`, `routes[].respond`, `allow`, `deny`, `redirects` and conditions.
#[derive(Default)]
struct BackendFiles {
    /// The active configuration; `None` if it names no such files.
    checked: Option<Arc<ValidatedConfig>>,
    /// Empty while `reload_backend_files` uses it.
    watch: Watch,
}

/// The components that a reloader works on.
pub struct ReloaderParts<F> {
    /// The path of the configuration file.
    pub path: PathBuf,
    /// The current snapshot.
    pub shared: Arc<CurrentSnapshot>,
    /// Health checks and resolvers.
    pub manager: Arc<UpstreamManager>,
    /// The listeners.
    pub listeners: Arc<Listeners>,
    /// The metrics in which reloads are counted.
    pub metrics: Arc<Metrics>,
    /// The services to which new listeners pass their requests.
    pub services: Arc<[Arc<F>]>,
    /// The logs.
    pub logs: Box<dyn Logs>,
    /// Applies the admin token, which a reload may change.
    pub token: TakeToken,
}

impl<F: HttpService> Reloader<F> {
    /// A reloader for the life of the process. `checked` is the configuration at start.
    pub fn new(parts: ReloaderParts<F>, checked: &ValidatedConfig) -> Self {
        let started_with = Arc::clone(&parts.shared.load().document);
        let this = Self {
            path: parts.path,
            shared: parts.shared,
            manager: parts.manager,
            listeners: parts.listeners,
            metrics: parts.metrics,
            services: parts.services,
            started_with,
            logs: parts.logs,
            token: parts.token,
            recent: ArcSwap::default(),
            one_at_a_time: Mutex::new(()),
            backends: Mutex::default(),
        };
        this.watch_backend_files(checked);
        this
    }

    /// Reads the file again and applies it. Blocks on the file system.
    pub fn reload(&self) -> ReloadOutcome {
        let _guard = self.one_at_a_time.lock();
        let result = match config::load(&self.path).and_then(|checked| self.apply(checked)) {
            Ok(applied) => applied,
            Err(problems) => ReloadOutcome::Rejected { problems },
        };
        self.note(&result);
        result
    }

    /// Polls the files that the configuration names, and applies their changes to new connections, requests and
    /// responses. Blocks on the file system, but holds no lock meanwhile, so that a reload never waits for it. Call it
    /// periodically and never concurrently: a
    /// change is applied when the second poll sees it.
    pub fn reload_backend_files(&self) {
        let (checked, mut watch) = {
            let mut backends = self.backends();
            let Some(checked) = backends.checked.clone() else { return };
            (checked, std::mem::take(&mut backends.watch))
        };
        let renewed = renewed_files::read_again(&checked, &mut watch, &self.metrics);
        let _guard = self.one_at_a_time.lock();
        let mut backends = self.backends();
        // A configuration that became active meanwhile has read its files itself.
        if backends.checked.as_ref().is_none_or(|now| !Arc::ptr_eq(now, &checked)) {
            return;
        }
        backends.watch = watch;
        let Some(renewed) = renewed else { return };
        let before = self.shared.load();
        match Snapshot::compile(&renewed.config, Some(&before), &self.manager, &self.metrics) {
            Ok(snapshot) => {
                // The configuration is unchanged, so the generation is as well.
                let snapshot = Arc::new(Snapshot { generation: before.generation, ..snapshot });
                self.shared.store(Arc::clone(&snapshot));
                snapshot.activate(&self.manager);
                self.listeners.renew_filters(&snapshot.listener_filters);
                renewed.say(&self.metrics);
                backends.checked = Some(Arc::new(renewed.config));
            }
            Err(error) => tracing::error!(%error, "changed files could not be put in; the old ones go on"),
        }
    }

    fn watch_backend_files(&self, checked: &ValidatedConfig) {
        let mut backends = self.backends();
        backends.watch = checked.watch();
        backends.checked = (!checked.watched_files().is_empty()).then(|| Arc::new(checked.clone()));
    }

    fn backends(&self) -> MutexGuard<'_, BackendFiles> {
        self.backends.lock()
    }

    /// The changes that a reload with this text would make. The generation is the current one.
    pub fn diff(&self, yaml: &str) -> ReloadOutcome {
        match config::parse_in_place(&self.path, yaml) {
            Ok(checked) => {
                let snapshot = self.shared.load();
                let diff = config::diff(&snapshot.document, checked.document());
                let fixed = config::fixed(&self.started_with, checked.document());
                let (changes, warnings) = (self.describe(&diff), checked.warnings().to_vec());
                ReloadOutcome::Applied { generation: snapshot.generation, changes, fixed, warnings }
            }
            Err(problems) => ReloadOutcome::Rejected { problems },
        }
    }

    /// Calls this with the current snapshot. No reload replaces the snapshot meanwhile.
    pub fn exclusively<T>(&self, change: impl FnOnce(&Snapshot) -> T) -> T {
        let _guard = self.one_at_a_time.lock();
        change(&self.shared.load())
    }

    /// The last reload; `None` if there was none.
    pub fn last(&self) -> Option<LastReload> {
        self.recent.load().first().cloned()
    }

    /// The latest reloads, newest first.
    pub fn recent(&self) -> Arc<Vec<LastReload>> {
        self.recent.load_full()
    }

    /// Steps that can fail come first. Among them, those that write files come last.
    fn apply(&self, checked: ValidatedConfig) -> Result<ReloadOutcome, Vec<Problem>> {
        let before = self.shared.load();
        if self.listeners.are_closed() {
            return Err(vec![checked.problem("document", "the process is stopping".to_owned(), "Start it again")]);
        }
        let new = self.bind(&checked)?;
        let logs = self.logs.prepare(&before.document, checked.document());
        let switch_logs = logs.map_err(|what| vec![checked.problem("access_log.path", what, STAYS)])?;
        let checked = &checked.make_files()?;
        let document = checked.document();
        let compiled = Snapshot::compile(checked, Some(&before), &self.manager, &self.metrics);
        let snapshot = Arc::new(compiled.map_err(|error| vec![checked.problem(&error.path, error.what, STAYS)])?);
        let tls = self.listeners.prepare(checked);
        let tls = tls.map_err(|error| vec![checked.problem(&error.path, error.what, STAYS)])?;
        let diff = config::diff(&before.document, document);
        let fixed = config::fixed(&self.started_with, document);
        // Described before the swap, so that a removed backend still shows its requests in flight.
        let changes = self.describe(&diff);
        self.shared.store(Arc::clone(&snapshot));
        snapshot.warn_of_lost_weights(&before);
        snapshot.activate(&self.manager);
        self.listeners.apply((document, &snapshot.listener_filters).into(), tls, new, &self.services);
        switch_logs();
        (self.token)(checked);
        self.watch_backend_files(checked);
        let warnings = checked.warnings().to_vec();
        Ok(ReloadOutcome::Applied { generation: snapshot.generation, changes, fixed, warnings })
    }

    fn bind(&self, checked: &ValidatedConfig) -> Result<Vec<Registered>, Vec<Problem>> {
        let listeners = &checked.document().listeners;
        self.listeners.bind_new(listeners).map_err(|error| {
            let at = listeners.iter().position(|listener| listener.address == error.address).unwrap_or_default();
            let ours = (error.source.kind() == io::ErrorKind::AddrInUse).then(|| self.holder_of(error.address));
            vec![match ours.flatten() {
                Some((name, holds)) => {
                    let what = format!("cannot listen on {}: Weir itself has {holds} as `{name}`", error.address);
                    checked.listener_problem(at, what, IN_TWO_STEPS)
                }
                None => checked.listener_problem(at, error.to_string(), STAYS),
            }]
        })
    }

    /// Which socket of this process conflicts with this address, and the address of that socket.
    fn holder_of(&self, wanted: SocketAddr) -> Option<(Arc<str>, SocketAddr)> {
        let running = self.listeners.status().into_iter().map(|listener| (listener.name, listener.address));
        let admin = self.started_with.admin.settings().and_then(|settings| settings.address.socket());
        let admin = admin.map(|address| ("admin".into(), address));
        running.chain(admin).find(|(_, holds)| config::overlap(*holds, wanted))
    }

    fn describe(&self, diff: &Diff) -> Vec<String> {
        let snapshot = self.shared.load();
        let in_flight = |upstream: &str, backend: &str| {
            let upstream = snapshot.upstreams.iter().find(|(name, _)| name.as_str() == upstream)?.1;
            upstream.backends().iter().find(|b| &*b.name == backend).map(|b| b.state.in_flight())
        };
        diff.render(|change| match change {
            Change::BackendRemoved { upstream, backend, .. } => {
                in_flight(upstream, backend).map(|count| format!("draining, {count} in flight"))
            }
            _ => None,
        })
    }

    /// The counters are updated last: a reader that sees the new count also finds the log lines.
    fn note(&self, result: &ReloadOutcome) {
        let at = SystemTime::now();
        // `one_at_a_time` is locked, so no other reload replaces the list meanwhile.
        let before = self.recent.load();
        let earlier = before.iter().take(MAX_RECENT_RELOADS - 1).cloned();
        let recent = std::iter::once(LastReload { at, result: result.clone() }).chain(earlier).collect();
        self.recent.store(Arc::new(recent));
        match result {
            ReloadOutcome::Applied { generation, changes, fixed, warnings } => {
                tracing::info!(generation, changes = changes.len(), "configuration reloaded");
                for change in changes {
                    tracing::info!("{change}");
                }
                for key in fixed {
                    tracing::warn!("{key}: fixed while the process lives; `weir upgrade` or a restart applies it");
                }
                for warning in warnings {
                    tracing::warn!("{warning}");
                }
                process_log::flush(LOG_FLUSH_TIMEOUT);
                self.metrics.reload_applied(*generation, at);
            }
            ReloadOutcome::Rejected { problems } => {
                tracing::error!(problems = problems.len(), "configuration rejected; the old one goes on");
                for problem in problems {
                    tracing::error!("{problem}");
                }
                process_log::flush(LOG_FLUSH_TIMEOUT);
                self.metrics.reload_rejected(at);
            }
        }
    }
}
