//! The composition root: binds, compiles, starts, handles signals, drains. `start` shows the whole life of the process
//! in order.
//!
//! Sockets are bound first. Binding is the most frequent failure, and at that point nothing else has been changed.

mod activity;
mod admin_api;
mod admin_socket;
mod api_values;
mod drain;
mod explain;
mod explain_access;
mod explain_answer;
mod explain_cors;
mod explain_limits;
mod explain_path;
mod explain_request;
mod fd_limit;
mod logs;
mod maintenance;
mod pid_file;
mod preflight;
mod privileges;
mod rate_limit_status;
mod runtimes;
mod serve;
mod signals;
mod split_status;
mod upgrade;
mod writable;

use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::acme;
use crate::admin::{self, AdminToken};
use crate::background;
use crate::config::{Problem, ValidatedConfig, values::AdminAddress};
use crate::lifecycle::Lifecycle;
use crate::listener::{BindError, InheritedSockets, ListenerStatus, Listeners};
use crate::pool::connection_pool::ConnectionPool;
use crate::proxy::{Gateway, Proxy};
use crate::reload::{Reloader, ReloaderParts};
use crate::snapshot::{CompileError, CurrentSnapshot, Snapshot};
use crate::telemetry::{Metrics, Recorder, panic_hook, process_log};
use crate::tls::{self, StoreError};
use crate::upstream::manager::UpstreamManager;
use admin_api::AdminApi;
use admin_socket::{AdminSocket, SocketFile};
use logs::BothLogs;
use maintenance::MaintenanceSwitch;
use pid_file::PidFile;
use runtimes::Runtimes;
use serve::serve;
use tokio::sync::oneshot;
use upgrade::{RunningAdmin, Takeover, Upgrades};

pub use preflight::preflight;
pub use privileges::PrivilegeError;
pub use signals::Signals;
pub use upgrade::{FailureReport, Inheritance, Program, TIMEOUT as UPGRADE_TIMEOUT};

/// Poll interval for certificate files. A change is applied when the second poll sees it.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunOutcome {
    /// All requests have finished, or a signal stopped the start.
    Clean,
    /// `server.shutdown_grace` ended while connections were still open.
    Cut,
    /// A second stop signal ended the process at once.
    Now,
}

/// Why a run could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The admin address cannot be bound.
    #[error("cannot listen on {address} (admin.address): {source}{}", admin_socket::advice(.address, .source))]
    Admin {
        /// The address.
        address: AdminAddress,
        /// The cause.
        source: io::Error,
    },
    /// Key files or `server.state_dir` have problems.
    #[error("the configuration has problems")]
    Config(Vec<Problem>),
    /// `server.user` cannot be applied.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// The document passed validation but cannot be compiled: a gap in the checks.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A certificate passed validation but cannot be used: a gap in the checks.
    #[error(transparent)]
    Tls(#[from] StoreError),
    /// The file of `access_log.path`, `server.pid_file` or `server.state_dir` cannot be used.
    #[error("{what}: {source}")]
    File {
        /// The key and the path.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// The new process of an upgrade cannot take over.
    #[error("cannot take over: {0}")]
    TakeOver(String),
    /// Threads or descriptors are not available.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// The descriptors from the process before, and the program of the process after.
#[derive(Debug, Default)]
pub struct Upgradable {
    /// The inherited descriptors.
    pub inheritance: Inheritance,
    /// The program that an upgrade starts. `None`: no upgrade is possible.
    pub program: Option<Program>,
}

/// A view of the running process.
#[derive(Clone)]
pub struct RunningServer {
    api: Arc<AdminApi>,
    admin: Option<AdminAddress>,
}

impl RunningServer {
    /// The listeners as bound.
    pub fn listeners(&self) -> Vec<ListenerStatus> {
        self.api.listeners.status()
    }

    /// The admin address as bound; `None` if the admin listener is off.
    pub fn admin(&self) -> Option<&AdminAddress> {
        self.admin.as_ref()
    }

    /// Name of each backend and the number of its finished attempts.
    pub fn answered(&self) -> Vec<(String, u64)> {
        let snapshot = self.api.shared.load();
        let backends = snapshot.upstreams.values().flat_map(|upstream| upstream.backends().to_vec());
        backends.map(|backend| (backend.name.to_string(), backend.state.attempts())).collect()
    }
}

/// Runs until a signal ends the process. `ready` is called once, when all listeners accept connections.
///
/// # Errors
/// Any failure of the start. Nothing is left half-started.
pub fn run(
    checked: ValidatedConfig,
    signals: &Signals,
    upgradable: Upgradable,
    ready: impl FnOnce(&RunningServer),
) -> Result<RunOutcome, StartError> {
    // The guard also flushes the log if this thread panics.
    let _flush = FlushLog;
    if signals.stop_asked() {
        return Ok(RunOutcome::Clean);
    }
    start(checked, signals, upgradable, ready)
}

/// Flushes the process log on drop.
struct FlushLog;

impl Drop for FlushLog {
    fn drop(&mut self) {
        process_log::flush(signals::LOG_FLUSH_TIMEOUT);
    }
}

fn start(
    checked: ValidatedConfig,
    signals: &Signals,
    Upgradable { inheritance, program }: Upgradable,
    ready: impl FnOnce(&RunningServer),
) -> Result<RunOutcome, StartError> {
    let Inheritance { mut sockets, mut takeover } = inheritance;
    let folder = checked.path().parent().unwrap_or(Path::new("")).to_owned();
    let metrics = Metrics::new(crate::VERSION, crate::COMMIT.get().copied().unwrap_or("unknown"));
    panic_hook::install_hook();
    tls::install();

    // Order: sockets and files that only root may create, then the user, then the threads. Capabilities are per thread.
    let bound = crate::listener::bind_all(&checked.document().listeners, &mut sockets)?;
    let admin = open_admin(&checked, &mut sockets, takeover.as_ref())?;
    let checked = checked.make_files().map_err(StartError::Config)?;
    let document = checked.document();
    let pid_path = document.server.pid_file.as_deref().map(|path| folder.join(path));
    let mut pid_file = match (&pid_path, &takeover) {
        (Some(path), None) => Some(PidFile::write(path)?),
        // The file names the old process until this one is the main process.
        (Some(path), Some(_)) => pid_file::check(path).map(|()| None)?,
        (None, _) => None,
    };
    if let Some(user) = &document.server.user {
        privileges::hand_over(user, checked.made())?;
        let socket_file = admin.as_ref().and_then(|admin| admin.file.as_ref());
        privileges::hand_over(user, socket_file.map(|file| file.path().to_owned()).as_slice())?;
        // The new process of an upgrade writes it as the user.
        privileges::hand_over(user, pid_path.as_slice())?;
        privileges::become_user(user)?;
    }
    if let Some(state_dir) = &document.server.state_dir {
        let path = folder.join(state_dir);
        let what = || format!("server.state_dir: {}", path.display());
        acme::prove(&path).map_err(|source| StartError::File { what: what(), source })?;
    }
    let logs = BothLogs::open(document, &folder, &metrics)?;
    log_start(&checked);
    sockets.close_rest();
    if let Some(user) = &document.server.user {
        tell_of_closed_files(user, &checked);
    }
    let reserved = fd_limit::raise_open_files(Runtimes::wanted(&document.server))?;
    let runtimes = Runtimes::start(&document.server)?;
    let _control = runtimes.control().enter();
    let upgrades = Upgrades::new(program, Arc::clone(&metrics));
    let api =
        build_components(&checked, bound, (&runtimes, reserved), (&metrics, logs), (upgrades, takeover.as_mut()))?;
    let (admin, socket_file) = admin.map(|admin| serve_admin(admin, &api, &runtimes)).transpose()?.unzip();
    if !signals.end_start() {
        return Ok(RunOutcome::Clean);
    }
    if let Some(takeover) = takeover {
        takeover.finish(&api.upgrades.old);
        pid_file = pid_path.and_then(|path| PidFile::write(&path).map_err(|error| tracing::error!("{error}")).ok());
    }
    runtimes.control().spawn(look_after_certificates(Arc::clone(&api)));
    api.upgrades.add_main_task(runtimes.control().spawn(Arc::clone(&api.acme).run()).abort_handle());
    runtimes.control().spawn(reap_snapshots(Arc::clone(&api.shared)));
    announce(&api, admin.as_ref());
    ready(&RunningServer { api: Arc::clone(&api), admin });
    let ended = runtimes.block_on(serve(&api, signals));
    if api.upgrades.has_handed_over() {
        socket_file.flatten().into_iter().for_each(SocketFile::leave);
    }
    drop(pid_file);
    // The access log closes last, so that aborted requests are logged as well.
    runtimes.end(|| api.logs.access.close(drain::LOG_FLUSH_TIMEOUT));
    Ok(ended)
}

/// Opens the socket of the admin listener, or takes the inherited one.
fn open_admin(
    checked: &ValidatedConfig,
    inherited: &mut InheritedSockets,
    takeover: Option<&Takeover>,
) -> Result<Option<AdminSocket>, StartError> {
    let owns_file = takeover.is_some_and(Takeover::removes_admin_file);
    let settings = checked.document().admin.settings();
    settings.map(|settings| AdminSocket::open(&settings.address, inherited, owns_file)).transpose()
}

/// The first line of the process log: the build and the file that this process runs. Then the warnings about the file.
fn log_start(checked: &ValidatedConfig) {
    let (version, commit, pid) =
        (crate::VERSION, crate::COMMIT.get().copied().unwrap_or("unknown"), std::process::id());
    tracing::info!(version, commit, file = %checked.path().display(), pid, "weir starts");
    for warning in checked.warnings() {
        tracing::warn!("{warning}");
    }
}

/// Builds all components and starts the listeners. After an upgrade, the old process accepts until they start.
fn build_components(
    checked: &ValidatedConfig,
    bound: Vec<crate::listener::Bound>,
    (runtimes, reserved): (&Runtimes, RawFd),
    (metrics, logs): (&Arc<Metrics>, BothLogs),
    (upgrades, takeover): (Upgrades, Option<&mut Takeover>),
) -> Result<Arc<AdminApi>, StartError> {
    let document = checked.document();
    let lifecycle = Arc::<Lifecycle>::default();
    let (backend_state, meters) = (Arc::clone(metrics), Arc::clone(metrics));
    let manager = UpstreamManager::new(
        runtimes.control().clone(),
        move |labels| backend_state.backend_state(labels),
        move |upstream| meters.upstream(upstream),
    );
    let state_dir = document.server.state_dir.as_ref().map(|state_dir| checked.folder().join(state_dir));
    let maintenance = MaintenanceSwitch::restore(state_dir.as_deref(), metrics);
    let snapshot = Snapshot::compile(checked, None, &manager, metrics)?;
    snapshot.activate(&manager);
    let shared = Arc::new(CurrentSnapshot::new(snapshot));
    let recorder = Arc::new(Recorder::new(Arc::clone(metrics), Arc::clone(&logs.access)));
    // Called once per traffic thread, so that each thread has its own connection pool.
    let idle = document.server.upstream_idle_connections;
    let gateway = || {
        Gateway::new(
            Arc::clone(&shared),
            Arc::clone(&recorder),
            Arc::clone(&lifecycle),
            Arc::new(ConnectionPool::new(idle)),
        )
    };
    let services = (0..runtimes.threads()).map(|_| Arc::new(Proxy::new(gateway()))).collect();
    let listeners = Arc::new(Listeners::new(runtimes.traffic(), Arc::clone(metrics), reserved));
    let tls = listeners.prepare(checked)?;
    let filters = &shared.load().listener_filters;
    let registered = listeners.register(bound)?;
    if let Some(takeover) = takeover {
        let not_ready = || admin_api::pending_verdict(&shared.load());
        takeover.take_over(&shared.load(), &manager, not_ready).map_err(StartError::TakeOver)?;
    }
    listeners.apply((document, filters).into(), tls, registered, &services);
    lifecycle.set_bound();
    metrics.started(1, SystemTime::now());
    let token = AdminToken::new(checked.admin_token().map(str::to_owned));
    let parts = ReloaderParts {
        path: checked.path().to_owned(),
        shared: Arc::clone(&shared),
        manager: Arc::clone(&manager),
        listeners: Arc::clone(&listeners),
        metrics: Arc::clone(metrics),
        services,
        logs: Box::new(logs.clone()),
        token: Box::new({
            let token = token.clone();
            let exposed = document.admin.settings().is_some_and(|settings| settings.address.is_exposed());
            move |checked| take_token(&token, exposed, checked)
        }),
    };
    let reloader = Reloader::new(parts, checked);
    let metrics = Arc::clone(metrics);
    let acme = acme::AcmeManager::new(Arc::clone(listeners.certificates()), Arc::clone(&metrics));
    Ok(Arc::new(AdminApi {
        acme,
        metrics,
        lifecycle,
        shared,
        listeners,
        manager,
        reloader,
        logs,
        token,
        upgrades,
        maintenance,
    }))
}

/// Warns about named files that the new user cannot read. They were read before the user changed.
fn tell_of_closed_files(user: &str, checked: &ValidatedConfig) {
    for path in checked.forbidden() {
        let path = path.display();
        tracing::warn!(
            "server.user: `{user}` may not read {path}: a reload will be refused, and no change of it is seen"
        );
    }
}

/// Serves the admin API on the control runtime. Returns the address, and the socket file to keep until the end.
fn serve_admin(
    admin: AdminSocket,
    api: &Arc<AdminApi>,
    runtimes: &Runtimes,
) -> io::Result<(AdminAddress, Option<SocketFile>)> {
    let (control, token) = (Arc::clone(api) as Arc<dyn admin::Control>, api.token.clone());
    let socket = admin.socket.copy()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let (closing, closed) = oneshot::channel::<()>();
    let ended = runtimes.control().spawn(async move {
        let shutdown = async move {
            let _ = stopped.await;
            drop(closing);
        };
        if let Err(error) = admin::serve(admin.socket, control, token, shutdown).await {
            tracing::error!(%error, "the admin listener has ended");
        }
    });
    let configured = api.shared.load().document.admin.settings().map(|settings| settings.address.to_string());
    let (configured, removes_file) = (configured.unwrap_or_default(), admin.file.is_some());
    api.upgrades.set_admin(RunningAdmin {
        socket,
        configured,
        removes_file,
        stop: Some(stop),
        closed: Some(closed),
        ended,
    });
    Ok((admin.address, admin.file))
}

/// Applies the admin token of a reload. The admin address is fixed until a restart. A reload may change the address to
/// loopback and remove the token. The running, exposed address must then keep its token until the restart.
fn take_token(token: &AdminToken, exposed: bool, checked: &ValidatedConfig) {
    let insecure = checked.document().admin.settings().is_some_and(|settings| settings.insecure);
    let new = checked.admin_token();
    if new.is_none() && exposed && !insecure {
        tracing::warn!("admin: other machines reach the address until a restart, so the token stays until then");
        return;
    }
    token.set(new.map(str::to_owned));
}

/// Prints the lines that scripts wait for.
fn announce(api: &AdminApi, admin: Option<&AdminAddress>) {
    for listener in api.listeners.status() {
        process_log::say(&format!("listening {} {}", listener.name, listener.address));
    }
    if let Some(admin) = admin {
        process_log::say(&format!("listening admin {admin}"));
    }
    process_log::say("ready");
    notify(&[sd_notify::NotifyState::Ready]);
}

/// Notifies systemd, if it started the process.
fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// Reloads certificates whose files have changed, until the process ends.
async fn look_after_certificates(api: Arc<AdminApi>) {
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let same = Arc::clone(&api);
        let look = move || {
            same.listeners.certificates().refresh();
            same.reloader.reload_backend_files();
        };
        if background::run(look).await.is_err() {
            tracing::error!("looking at the files of certificates broke off; it is tried again");
        }
    }
}

/// Drops replaced snapshots after the last request that uses them has ended.
async fn reap_snapshots(shared: Arc<CurrentSnapshot>) {
    let mut turns = tokio::time::interval(Duration::from_millis(250));
    loop {
        turns.tick().await;
        if !shared.has_replaced() {
            continue;
        }
        let same = Arc::clone(&shared);
        // Dropping a large snapshot takes long enough to delay health checks.
        if background::run(move || same.reap()).await.is_err() {
            tracing::error!("a replaced configuration could not be taken apart");
        }
    }
}
