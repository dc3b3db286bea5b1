//! The old process of an upgrade: starts the new one, hands the sockets and the runtime state over, then reports how it
//! drains.

use std::io;
use std::os::fd::AsFd;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::task::spawn_blocking;

use super::frames::{FromNew, FromOld, HandedSocket, Hello, OlderProcess, line};
use super::old_processes::OldProcess;
use super::successor::Successor;
use super::{UpgradeError, UpgradeRequest, Upgrades, state};
use crate::admin::Control;
use crate::admin::api::UpgradeReply;
use crate::listener::{Handed, InheritedSocket};
use crate::server::admin_api::AdminApi;
use crate::server::notify;

/// Interval at which an old process reports its open connections.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// In `LISTEN_FDNAMES`, a colon separates names, and names contain printable characters only.
const ESCAPED: &AsciiSet = &CONTROLS.add(b':').add(b'%');

/// Marks a running upgrade until it is dropped.
struct Running<'a>(&'a Upgrades);

impl<'a> Running<'a> {
    fn new(upgrades: &'a Upgrades) -> Self {
        upgrades.running.store(true, Ordering::Relaxed);
        upgrades.metrics.set_starting_processes(1);
        Self(upgrades)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.metrics.set_starting_processes(0);
        self.0.running.store(false, Ordering::Relaxed);
    }
}

/// The process that has taken over.
#[derive(Debug)]
pub(in crate::server) struct NewProcess {
    pub(in crate::server) pid: u32,
    pub(in crate::server) channel: UnixStream,
}

impl NewProcess {
    /// Sends it SIGHUP: it may have read the configuration before that changed.
    pub(in crate::server) fn reload(&self) {
        // This process is its parent, so the id stays in use until this process ends.
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw)
            && let Err(error) = kill_process(pid, Signal::HUP)
        {
            tracing::warn!(%error, "the new process could not be told to reload");
        }
    }
}

/// Upgrades, and answers the request. Returns the process that has taken over; `None` if nothing has changed. Dropping
/// the future kills a new process that does not serve yet.
pub(in crate::server) async fn run(api: Arc<AdminApi>, request: UpgradeRequest) -> Option<NewProcess> {
    let upgrades = &api.upgrades;
    if let Some(why) = upgrades.refusal() {
        request.refuse(&why);
        return None;
    }
    let running = Running::new(upgrades);
    let ended = upgrade(&api, request.timeout).await;
    drop(running);
    match ended {
        Ok((pid, version, channel)) => {
            tracing::info!(pid, version, "upgraded: the new process serves");
            upgrades.handed_over.store(true, Ordering::Relaxed);
            upgrades.close_admin().await;
            request.answer(Ok(UpgradeReply::Ready { pid, version }));
            Some(NewProcess { pid, channel })
        }
        Err((error, messages)) => {
            tracing::error!("the upgrade failed, and nothing has changed: {error}");
            request.answer(Ok(UpgradeReply::Failed { error, messages }));
            None
        }
    }
}

/// Starts a new process and hands over to it.
///
/// # Errors
/// Why it failed, and the last messages of the new process.
async fn upgrade(api: &Arc<AdminApi>, timeout: Duration) -> Result<(u32, String, UnixStream), (String, Vec<String>)> {
    let started = start(api, timeout).await;
    let (mut successor, hello) = started.map_err(|error| (error.to_string(), Vec::new()))?;
    let agreed = tokio::time::timeout(timeout, agree(api, &mut successor, hello)).await;
    match agreed.unwrap_or(Err(UpgradeError::TimedOut(timeout))) {
        Ok(version) => Ok((successor.pid(), version, successor.release())),
        Err(error) => {
            let ended = spawn_blocking(move || successor.end()).await;
            let (status, messages) = ended.unwrap_or_default();
            Err((describe(&error, status), messages))
        }
    }
}

fn describe(error: &UpgradeError, status: Option<ExitStatus>) -> String {
    match (error, status) {
        (UpgradeError::Ended, Some(status)) => format!("{error} ({status})"),
        _ => error.to_string(),
    }
}

/// The sockets that pass: those of the listeners, and that of the admin listener.
fn sockets(api: &AdminApi) -> io::Result<Vec<InheritedSocket>> {
    let mut sockets = api.listeners.sockets()?;
    if let Some(admin) = &*api.upgrades.admin.lock() {
        let handed = Some(Handed { configured: admin.configured.clone(), admin: true });
        sockets.push(InheritedSocket { name: "admin".to_owned(), handed, fd: admin.socket.try_clone()? });
    }
    Ok(sockets)
}

/// Starts the new process. Returns it with the first message to it.
async fn start(api: &Arc<AdminApi>, timeout: Duration) -> Result<(Successor, Hello), UpgradeError> {
    let upgrades = &api.upgrades;
    let Some(program) = upgrades.program.clone() else { return Err(UpgradeError::Ended) };
    let failed = {
        let path = program.path().to_owned();
        move |source| UpgradeError::Start { path, source }
    };
    tracing::info!(program = %program.path().display(), "upgrade: starting a new process");
    let sockets = match sockets(api) {
        Ok(sockets) => sockets,
        Err(source) => return Err(failed(source)),
    };
    let older = upgrades.old.all();
    let handed = |socket: &InheritedSocket| {
        let Handed { configured, admin } = socket.handed.clone().unwrap_or_default();
        HandedSocket { name: socket.name.clone(), configured, admin }
    };
    let about =
        |process: &Arc<OldProcess>| OlderProcess { connections: process.connections(), ..process.about.clone() };
    let hello = Hello {
        pid: std::process::id(),
        version: crate::VERSION.to_owned(),
        ready: api.ready().ready,
        timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        sockets: sockets.iter().map(handed).collect(),
        removes_admin_file: upgrades.admin.lock().as_ref().is_some_and(|admin| admin.removes_file),
        older: older.iter().map(about).collect(),
    };
    // Not on the background threads: the new process would inherit their low priority.
    let spawned = spawn_blocking(move || {
        let name = |socket: &InheritedSocket| utf8_percent_encode(&socket.name, ESCAPED).to_string();
        let sockets = sockets.iter().map(|socket| (name(socket), socket.fd.as_fd())).collect();
        let older: Vec<_> = older.iter().map(|process| process.channel().as_fd()).collect();
        Successor::start(&program, sockets, &older)
    });
    match spawned.await.map_err(io::Error::other).flatten() {
        Ok(successor) => Ok((successor, hello)),
        Err(source) => Err(failed(source)),
    }
}

/// Exchanges the messages up to the moment at which the new process is the main process. Returns its version.
async fn agree(api: &Arc<AdminApi>, successor: &mut Successor, hello: Hello) -> Result<String, UpgradeError> {
    let generation = api.shared.load().generation;
    successor.send(&FromOld::Hello(hello)).await?;
    if successor.receive().await? != FromNew::Prepared {
        return Err(UpgradeError::protocol());
    }
    let snapshot = api.shared.load();
    if snapshot.generation != generation {
        return Err(UpgradeError::Reloaded);
    }
    let state = spawn_blocking(move || state::capture(&snapshot)).await.unwrap_or_default();
    successor.send(&FromOld::Take { state }).await?;
    let FromNew::Ready { version } = successor.receive().await? else { return Err(UpgradeError::protocol()) };
    // systemd accepts messages of the main process only, so this comes before the READY=1 of the new process.
    notify(&[sd_notify::NotifyState::MainPid(successor.pid())]);
    successor.send(&FromOld::Main).await?;
    Ok(version)
}

/// Reports the open connections to the new process, and completes when the new process asks for the end.
pub(in crate::server) async fn report_until_stopped(mut channel: UnixStream, connections: impl Fn() -> usize) {
    let (read, mut write) = channel.split();
    let report = async {
        loop {
            let message = FromOld::Draining { connections: connections() as u64 };
            if write.write_all(&line(&message)).await.is_err() {
                // The new process has ended. This one finishes what it has.
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(REPORT_INTERVAL).await;
        }
    };
    let stopped = async {
        let mut lines = BufReader::new(read).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if serde_json::from_str::<FromNew>(&line).is_ok_and(|message| message == FromNew::Stop) {
                return;
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = report => {}
        () = stopped => {}
    }
}
