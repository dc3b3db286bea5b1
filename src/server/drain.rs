//! The end of a process: not ready, lame duck, listeners closed, what is under way finishes, the rest is cut.

use std::time::Duration;

use super::Ended;
use super::admin_api::AdminApi;
use super::signals::{Command, Signals};
use crate::config::schema::Server;

/// How long the access log may take to write its last lines.
pub(super) const FLUSH: Duration = Duration::from_secs(2);

/// Drains as `server` says; a second stop signal ends it at once.
pub(super) async fn drain(room: &AdminApi, server: &Server, signals: &Signals) -> Ended {
    room.life.set_draining();
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
            Ended::Now
        }
    }
}

async fn leave(room: &AdminApi, server: &Server) -> Ended {
    tokio::time::sleep(server.lame_duck.get()).await;
    room.listeners.close();
    match tokio::time::timeout(server.shutdown_grace.get(), room.listeners.drained()).await {
        Ok(()) => {
            tracing::info!("stopped: nothing was under way any more");
            Ended::Clean
        }
        Err(_) => {
            let connections = room.listeners.open();
            tracing::warn!(connections, "the grace is over: what was still open was cut");
            Ended::Cut
        }
    }
}

async fn second_stop(signals: &Signals) {
    while signals.next().await != Command::Stop {
        tracing::warn!("stopping: only another SIGTERM, SIGINT or SIGQUIT is heard now");
    }
}
