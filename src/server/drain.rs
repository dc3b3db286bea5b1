//! The end of a process: not ready, lame duck, listeners closed, what is under way finishes, the rest is cut.

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
pub(super) async fn drain(room: &AdminApi, server: &Server, signals: &Signals) -> RunOutcome {
    room.lifecycle.set_draining();
    tracing::info!(
        lame_duck = %server.lame_duck,
        grace = %server.shutdown_grace,
        connections = room.listeners.open(),
        "stopping: not ready any more"
    );
    tokio::select! {
        ended = leave(room, server) => ended,
        () = second_stop(signals) => {
            tracing::warn!(connections = room.listeners.open(), "stopped at once by a second signal");
            room.listeners.abort();
            RunOutcome::Now
        }
    }
}

async fn leave(room: &AdminApi, server: &Server) -> RunOutcome {
    tokio::time::sleep(server.lame_duck.get()).await;
    room.listeners.close();
    match tokio::time::timeout(server.shutdown_grace.get(), room.listeners.drained()).await {
        Ok(()) => {
            tracing::info!("stopped: nothing was under way any more");
            RunOutcome::Clean
        }
        Err(_) => {
            let connections = room.listeners.open();
            tracing::warn!(connections, "the grace is over: what was still open was cut");
            room.listeners.abort();
            let _ = tokio::time::timeout(ABORT_TIMEOUT, room.listeners.drained()).await;
            RunOutcome::Cut
        }
    }
}

async fn second_stop(signals: &Signals) {
    while signals.next().await != SignalCommand::Stop {
        tracing::warn!("stopping: only another SIGTERM, SIGINT or SIGQUIT is heard now");
    }
}
