//! Graceful shutdown: `/readyz` answers 503, lame duck, listeners close, requests in progress finish, the remaining
//! connections are aborted.

use std::time::Duration;

use super::RunOutcome;
use super::admin_api::AdminApi;
use super::signals::{SignalCommand, Signals};
use crate::config::schema::Server;

/// How long the access log may take to write its last lines.
pub(super) const LOG_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the requests that are cut may take to be answered 503.
const ABORT_TIMEOUT: Duration = Duration::from_millis(500);

/// Drains as `server` says; a second stop signal ends it at once.
pub(super) async fn drain(api: &AdminApi, server: &Server, signals: &Signals) -> RunOutcome {
    api.lifecycle.set_draining();
    tracing::info!(
        lame_duck = %server.lame_duck,
        grace = %server.shutdown_grace,
        connections = api.listeners.open(),
        "stopping: not ready any more"
    );
    tokio::select! {
        ended = leave(api, server) => ended,
        () = second_stop(signals) => {
            tracing::warn!(connections = api.listeners.open(), "stopped at once by a second signal");
            api.listeners.abort();
            RunOutcome::Now
        }
    }
}

async fn leave(api: &AdminApi, server: &Server) -> RunOutcome {
    tokio::time::sleep(server.lame_duck.get()).await;
    api.listeners.close();
    match tokio::time::timeout(server.shutdown_grace.get(), api.listeners.drained()).await {
        Ok(()) => {
            tracing::info!("stopped: nothing was under way any more");
            RunOutcome::Clean
        }
        Err(_) => {
            let connections = api.listeners.open();
            tracing::warn!(connections, "the grace is over: what was still open was cut");
            api.listeners.abort();
            let _ = tokio::time::timeout(ABORT_TIMEOUT, api.listeners.drained()).await;
            RunOutcome::Cut
        }
    }
}

async fn second_stop(signals: &Signals) {
    while signals.next().await != SignalCommand::Stop {
        tracing::warn!("stopping: only another SIGTERM, SIGINT or SIGQUIT is heard now");
    }
}
