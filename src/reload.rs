//! A configuration's way into the running process: load → bind → make files → compile → swap. All of it, or nothing.
//!
//! The start, SIGHUP and the admin API take the same way. What is refused changes nothing and says why.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, MutexGuard};

use crate::config::file_watch::Watch;
use crate::config::schema::Document;
use crate::config::{self, Change, Diff, Disk, Problem, ValidatedConfig};
use crate::listener::HttpService;
use crate::listener::{Listeners, Registered};
use crate::resource_exhaustion::{self, LimitedWarning};
use crate::snapshot::{CurrentSnapshot, Snapshot};
use crate::telemetry::{Metrics, process_log};
use crate::upstream::manager::Registry;
use arc_swap::ArcSwap;

static CANNOT_READ: LimitedWarning = LimitedWarning::new();
const CANNOT_LOOK: &str = "certificates for backends cannot be looked into; that is tried again";

/// The advice of a problem that shows only when a configuration is put in force.
const STAYS: &str = "The old configuration goes on";

/// The same where it is us who are in the way: a socket is bound before the one that it replaces is closed.
const IN_TWO_STEPS: &str =
    "Take it in two reloads, the first without that listener; or restart. The old configuration goes on";

/// How long the log may take to write the verdict before it is counted.
const LOG_FLUSH_TIMEOUT: Duration = Duration::from_millis(100);

/// What a reload came to.
#[derive(Debug, Clone)]
pub enum ReloadOutcome {
    /// The new configuration is in force.
    Applied {
        /// The number of the snapshot.
        generation: u64,
        /// What is different now.
        changes: Vec<String>,
        /// What differs but is fixed for the life of the process.
        fixed: Vec<String>,
    },
    /// The old configuration goes on.
    Rejected {
        /// Why.
        problems: Vec<Problem>,
    },
}

/// A reload and when it was.
#[derive(Debug, Clone)]
pub struct LastReload {
    /// When.
    pub at: SystemTime,
    /// What it came to.
    pub result: ReloadOutcome,
}

/// Logs as the configuration wants them: first whether it can be done, then doing it.
pub trait Logs: Send + Sync {
    /// Opens what is new; the result makes it so.
    ///
    /// # Errors
    /// What is wrong with `access_log.path`.
    fn prepare(&self, before: &Document, after: &Document) -> Result<Box<dyn FnOnce() + '_>, String>;
}

/// Takes the admin's token from a configuration that is in force.
pub type TakeToken = Box<dyn Fn(&ValidatedConfig) + Send + Sync>;

/// Brings configurations into the running process, one at a time.
pub struct Reloader<F> {
    path: PathBuf,
    shared: Arc<CurrentSnapshot>,
    registry: Arc<Registry>,
    listeners: Arc<Listeners>,
    metrics: Arc<Metrics>,
    fronts: Arc<[Arc<F>]>,
    /// What the process started with: the keys that are fixed are compared with these.
    started_with: Arc<Document>,
    logs: Box<dyn Logs>,
    token: TakeToken,
    last: ArcSwap<Option<LastReload>>,
    one_at_a_time: Mutex<()>,
    backends: Mutex<BackendFiles>,
}

/// What looks after the files of `upstreams.*.tls`.
#[derive(Default)]
struct BackendFiles {
    /// What is in force, where it names such files.
    checked: Option<Arc<ValidatedConfig>>,
    /// Empty while a refresh has it.
    watch: Watch,
}

/// What a reloader works on.
pub struct ReloaderParts<F> {
    /// The file that is read again.
    pub path: PathBuf,
    /// The snapshot of the moment.
    pub shared: Arc<CurrentSnapshot>,
    /// Probers and resolvers.
    pub registry: Arc<Registry>,
    /// Accept loops.
    pub listeners: Arc<Listeners>,
    /// Where reloads are counted.
    pub metrics: Arc<Metrics>,
    /// What new listeners hand their requests to.
    pub fronts: Arc<[Arc<F>]>,
    /// The parts that are not the snapshot's.
    pub logs: Box<dyn Logs>,
    /// Takes the admin's token, which a reload may change.
    pub token: TakeToken,
}

impl<F: HttpService> Reloader<F> {
    /// For the life of the process, which begins with this configuration.
    pub fn new(parts: ReloaderParts<F>, checked: &ValidatedConfig) -> Self {
        let started_with = Arc::clone(&parts.shared.load().document);
        let this = Self {
            path: parts.path,
            shared: parts.shared,
            registry: parts.registry,
            listeners: parts.listeners,
            metrics: parts.metrics,
            fronts: parts.fronts,
            started_with,
            logs: parts.logs,
            token: parts.token,
            last: ArcSwap::from_pointee(None),
            one_at_a_time: Mutex::new(()),
            backends: Mutex::default(),
        };
        this.watch_backend_files(checked);
        this
    }

    /// Reads the file again and applies it. Blocks on the file system.
    pub fn reload(&self) -> ReloadOutcome {
        let _turn = self.one_at_a_time.lock();
        let result = match config::load(&self.path).and_then(|checked| self.apply(checked)) {
            Ok(applied) => applied,
            Err(problems) => ReloadOutcome::Rejected { problems },
        };
        self.note(&result);
        result
    }

    /// Looks at the files of `upstreams.*.tls` and puts in what has changed: connections from here on are made by it. Blocks
    /// on the file system, but holds no lock meanwhile, so that a reload does not wait for it. To be called again and again, one
    /// at a time: a change is taken up at the second look that sees it.
    pub fn reload_backend_files(&self) {
        let (checked, mut watch) = {
            let mut backends = self.backends();
            let Some(checked) = backends.checked.clone() else { return };
            (checked, std::mem::take(&mut backends.watch))
        };
        let renewed = read_again(&checked, &mut watch);
        let _turn = self.one_at_a_time.lock();
        let mut backends = self.backends();
        // Another configuration that came into force meanwhile has read its files itself.
        if backends.checked.as_ref().is_none_or(|now| !Arc::ptr_eq(now, &checked)) {
            return;
        }
        backends.watch = watch;
        let Some(renewed) = renewed else { return };
        let before = self.shared.load();
        match Snapshot::compile(&renewed, Some(&before), &self.registry, &self.metrics) {
            Ok(snapshot) => {
                // The configuration is the one that it was.
                let snapshot = Arc::new(Snapshot { generation: before.generation, ..snapshot });
                self.shared.store(Arc::clone(&snapshot));
                self.registry.activate(&snapshot.upstreams);
                tracing::info!("certificates for backends renewed from their files");
                backends.checked = Some(Arc::new(renewed));
            }
            Err(error) => tracing::error!(%error, "certificates for backends could not be put in; the old ones go on"),
        }
    }

    fn watch_backend_files(&self, checked: &ValidatedConfig) {
        let mut backends = self.backends();
        backends.watch = checked.watch();
        backends.checked = (!checked.backend_files().is_empty()).then(|| Arc::new(checked.clone()));
    }

    fn backends(&self) -> MutexGuard<'_, BackendFiles> {
        self.backends.lock()
    }

    /// What a reload with this text would change; the generation is that of now.
    pub fn diff(&self, yaml: &str) -> ReloadOutcome {
        match config::parse_in_place(&self.path, yaml) {
            Ok(checked) => {
                let snapshot = self.shared.load();
                let diff = config::diff(&snapshot.document, checked.document());
                let fixed = config::fixed(&self.started_with, checked.document());
                ReloadOutcome::Applied { generation: snapshot.generation, changes: self.describe(&diff), fixed }
            }
            Err(problems) => ReloadOutcome::Rejected { problems },
        }
    }

    /// The last reload, if there was one.
    pub fn last(&self) -> Option<LastReload> {
        (**self.last.load()).clone()
    }

    /// The steps that may fail come first, and those among them that write files come last.
    fn apply(&self, checked: ValidatedConfig) -> Result<ReloadOutcome, Vec<Problem>> {
        let before = self.shared.load();
        if self.listeners.are_closed() {
            return Err(vec![checked.problem("document", "the process is stopping".to_owned(), "Start it again")]);
        }
        let new = self.bind(&checked)?;
        let logs = self.logs.prepare(&before.document, checked.document());
        let switch_logs = logs.map_err(|what| vec![checked.access_log_problem(what, STAYS)])?;
        let checked = &checked.make_files()?;
        let document = checked.document();
        let compiled = Snapshot::compile(checked, Some(&before), &self.registry, &self.metrics);
        let snapshot = Arc::new(compiled.map_err(|error| vec![checked.problem(&error.path, error.what, STAYS)])?);
        let tls = self.listeners.prepare(checked);
        let tls = tls.map_err(|error| vec![checked.problem(&error.path, error.what, STAYS)])?;
        let diff = config::diff(&before.document, document);
        let fixed = config::fixed(&self.started_with, document);
        // Described before it is done, so that what leaves still shows what it has in flight.
        let changes = self.describe(&diff);
        self.shared.store(Arc::clone(&snapshot));
        self.registry.activate(&snapshot.upstreams);
        self.listeners.apply(document.into(), tls, new, &self.fronts);
        switch_logs();
        (self.token)(checked);
        self.watch_backend_files(checked);
        Ok(ReloadOutcome::Applied { generation: snapshot.generation, changes, fixed })
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

    /// Which of our own sockets is in the way of one at this address, and where.
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

    /// The counters come last: who has waited for them finds the rest said.
    fn note(&self, result: &ReloadOutcome) {
        let at = SystemTime::now();
        self.last.store(Arc::new(Some(LastReload { at, result: result.clone() })));
        match result {
            ReloadOutcome::Applied { generation, changes, fixed } => {
                tracing::info!(generation, changes = changes.len(), "configuration reloaded");
                for change in changes {
                    tracing::info!("{change}");
                }
                for key in fixed {
                    tracing::warn!("{key}: fixed while the process lives; a restart applies it");
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

/// Reads the files of `upstreams.*.tls` that have changed; nothing where all that can be used is as it was.
fn read_again(checked: &ValidatedConfig, watch: &mut Watch) -> Option<ValidatedConfig> {
    let changed = watch.look_on_disk(&checked.backend_files()).unwrap_or_else(|error| {
        CANNOT_READ.say(CANNOT_LOOK, error);
        BTreeSet::new()
    });
    let (lacks, disk) = (Cell::new(false), Disk::default());
    let read = |path: &Path| {
        let exhaustion = |error: &io::Error| lacks.set(lacks.get() || resource_exhaustion::is_passing(error));
        disk.read_named(path).inspect_err(exhaustion)
    };
    let (renewed, unfit) = checked.with_backend_files(&changed, &read);
    for what in unfit {
        if lacks.get() {
            CANNOT_READ.say(CANNOT_LOOK, what);
        } else {
            tracing::error!("for backends, changed on disk, but cannot be used; the old one goes on: {what}");
        }
    }
    if lacks.get() {
        watch.again(&changed);
    }
    renewed
}
