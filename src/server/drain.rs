//! Graceful shutdown: `/readyz` answers 503, lame duck, listeners close, requests in progress finish, the remaining
//! connections are aborted.

use std::time::Duration;

use super::RunOutcome;
use super::admin_api::AdminApi;
use super::signals::{SignalCommand, Signals};
use super::upgrade::{NewProcess, report_until_stopped};
use crate::config::schema::Server;

/// How long the access log may take to write its last lines.
pub(super) const LOG_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// How long idle connections may take to send a request after an upgrade.
const IDLE_TIMEOUT: Duration = Duration::from_secs(6);

/// How long the requests that are cut may take to be answered 503.
const ABORT_TIMEOUT: Duration = Duration::from_millis(500);

/// Drains as `server` says; a second stop signal ends it at once.
pub(super) async fn drain(api: &AdminApi, server: &Server, signals: &Signals) -> RunOutcome {
    start_draining(api);
    tracing::info!(
        lame_duck = %server.lame_duck,
        grace = %server.shutdown_grace,
        connections = api.listeners.open(),
        "stopping: not ready any more"
    );
    tokio::select! {
        ended = leave(api, server) => ended,
        () = second_stop(signals) => stop_now(api, "by a second signal"),
    }
}

/// Drains after an upgrade: `successor` serves new connections.
pub(super) async fn after_upgrade(
    api: &AdminApi,
    server: &Server,
    signals: &Signals,
    successor: NewProcess,
) -> RunOutcome {
    start_draining(api);
    api.listeners.hand_over();
    api.upgrades.leave_to_successor().await;
    tracing::info!(grace = %server.shutdown_grace, connections = api.listeners.open(), "upgraded: draining");
    tokio::select! {
        ended = leave_to_successor(api, server) => ended,
        () = stops(api, signals) => stop_now(api, "by a second signal"),
        () = report_until_stopped(successor.channel, || api.listeners.open()) => stop_now(api, "by the new process"),
    }
}

/// A connection ends after its next response. Those that stay idle end a little later, and the rest at the end of the
/// grace period.
async fn leave_to_successor(api: &AdminApi, server: &Server) -> RunOutcome {
    let drained = async {
        if tokio::time::timeout(IDLE_TIMEOUT, api.listeners.drained()).await.is_err() {
            api.listeners.close();
            api.listeners.drained().await;
        }
    };
    finish(api, server, drained).await
}

/// Two stop signals: the first one asks for the drain that is under way.
async fn stops(api: &AdminApi, signals: &Signals) {
    let mut stops = 0;
    while stops < 2 {
        match signals.next().await {
            SignalCommand::Stop => {
                stops += 1;
                tracing::info!("this process drains since the upgrade; another stop signal ends it at once");
            }
            SignalCommand::ReopenLogs => api.logs.access.reopen(),
            SignalCommand::Reload | SignalCommand::Upgrade => {
                tracing::warn!("this process drains since the upgrade: the signal is for the new process");
            }
        }
    }
}

fn start_draining(api: &AdminApi) {
    api.lifecycle.set_draining();
    api.metrics.set_draining();
}

fn stop_now(api: &AdminApi, by: &str) -> RunOutcome {
    tracing::warn!(connections = api.listeners.open(), "stopped at once {by}");
    api.listeners.abort();
    api.upgrades.old.stop();
    RunOutcome::Now
}

async fn leave(api: &AdminApi, server: &Server) -> RunOutcome {
    tokio::time::sleep(server.lame_duck.get()).await;
    api.listeners.close();
    // systemd kills the old processes of upgrades once the main process has ended.
    let drained = async {
        tokio::join!(api.listeners.drained(), api.upgrades.old.none_left());
    };
    finish(api, server, drained).await
}

/// Waits until all is drained, and aborts the rest at the end of the grace period.
async fn finish(api: &AdminApi, server: &Server, drained: impl Future<Output = ()>) -> RunOutcome {
    match tokio::time::timeout(server.shutdown_grace.get(), drained).await {
        Ok(()) => {
            tracing::info!("stopped: nothing was under way any more");
            RunOutcome::Clean
        }
        Err(_) => {
            let connections = api.listeners.open();
            tracing::warn!(connections, "the grace is over: what was still open was cut");
            api.listeners.abort();
            api.upgrades.old.stop();
            let drained = async { tokio::join!(api.listeners.drained(), api.upgrades.old.none_left()) };
            let _ = tokio::time::timeout(ABORT_TIMEOUT, drained).await;
            RunOutcome::Cut
        }
    }
}

async fn second_stop(signals: &Signals) {
    while signals.next().await != SignalCommand::Stop {
        tracing::warn!("stopping: only another SIGTERM, SIGINT or SIGQUIT is heard now");
    }
}
