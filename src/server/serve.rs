//! The loop that handles signals and requests for upgrades, until a stop or an upgrade.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::admin_api::AdminApi;
use super::signals::{SignalCommand, Signals};
use super::upgrade::{self, NewProcess, UpgradeRequest};
use super::{RunOutcome, drain, notify};
use crate::background;

/// Handles signals until a stop or an upgrade.
pub(super) async fn serve(api: &Arc<AdminApi>, signals: &Signals) -> RunOutcome {
    let mut requests = api.upgrades.requests();
    let mut work = PendingWork::new(api);
    loop {
        tokio::select! {
            command = signals.next() => match command {
                SignalCommand::Reload => work.reload(),
                SignalCommand::ReopenLogs => api.logs.access.reopen(),
                SignalCommand::Upgrade => work.upgrade(UpgradeRequest::of_signal()),
                SignalCommand::Stop => return work.stop(signals).await,
            },
            Some(request) = requests.recv() => work.upgrade(request),
            Some(_) = work.reloading.join_next() => work.go_on(),
            Some(ended) = work.upgrading.join_next() => match ended {
                Ok(Some(successor)) => return work.leave_to(successor, signals).await,
                _ => work.go_on(),
            },
        }
    }
}

/// Reloads and upgrades: one at a time, and at most one of each waits.
struct PendingWork<'a> {
    api: &'a Arc<AdminApi>,
    reloading: JoinSet<()>,
    /// The new process, once it serves.
    upgrading: JoinSet<Option<NewProcess>>,
    reload_again: bool,
    upgrade_next: Option<UpgradeRequest>,
}

impl<'a> PendingWork<'a> {
    fn new(api: &'a Arc<AdminApi>) -> Self {
        let (reloading, upgrading) = (JoinSet::new(), JoinSet::new());
        Self { api, reloading, upgrading, reload_again: false, upgrade_next: None }
    }

    fn is_idle(&self) -> bool {
        self.reloading.is_empty() && self.upgrading.is_empty()
    }

    fn reload(&mut self) {
        if self.is_idle() {
            self.reloading.spawn(reload(Arc::clone(self.api)));
        } else {
            self.reload_again = true;
        }
    }

    fn upgrade(&mut self, request: UpgradeRequest) {
        if self.is_idle() {
            self.upgrading.spawn(upgrade::run(Arc::clone(self.api), request));
        } else if self.upgrading.is_empty() && self.upgrade_next.is_none() {
            self.upgrade_next = Some(request);
        } else {
            request.refuse("an upgrade is under way");
        }
    }

    /// Starts the work that has waited.
    fn go_on(&mut self) {
        if std::mem::take(&mut self.reload_again) {
            self.reload();
        } else if let Some(request) = self.upgrade_next.take() {
            self.upgrade(request);
        }
    }

    async fn stop(mut self, signals: &Signals) -> RunOutcome {
        notify(&[sd_notify::NotifyState::Stopping]);
        self.reloading.detach_all();
        // Kills a new process that does not serve yet.
        self.upgrading.shutdown().await;
        // A reload may have changed the two times of the drain.
        let server = self.api.shared.load().document.server.clone();
        drain::drain(self.api, &server, signals).await
    }

    async fn leave_to(self, successor: NewProcess, signals: &Signals) -> RunOutcome {
        if self.reload_again {
            successor.reload();
        }
        let server = self.api.shared.load().document.server.clone();
        drain::after_upgrade(self.api, &server, signals, successor).await
    }
}

async fn reload(api: Arc<AdminApi>) {
    let now = sd_notify::NotifyState::monotonic_usec_now();
    match now {
        Ok(now) => notify(&[sd_notify::NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no monotonic clock"),
    }
    let same = Arc::clone(&api);
    if let Err(error) = background::run(move || same.reloader.reload()).await {
        tracing::error!(%error, "the reload broke off; the old configuration goes on");
    }
    // systemd takes READY=1 as the end of STOPPING=1.
    if !api.lifecycle.is_draining() {
        notify(&[sd_notify::NotifyState::Ready]);
    }
}
