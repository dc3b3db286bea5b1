//! The permit of a connection: its slots under the limits of the process, the listener and the client.
//!
//! It lives as long as the socket, because a connection in its lingering close still uses system resources.

use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::listener::client_limits;
use crate::telemetry::meters::OpenConnection;

/// The guards of one connection. Their drop lowers the counts.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    _process: TaskTrackerToken,
    _listener: OpenConnection,
    _client: Option<client_limits::ClientConnectionGuard>,
}

impl ConnectionPermit {
    pub(super) fn new(
        process: TaskTrackerToken,
        listener: OpenConnection,
        client: Option<client_limits::ClientConnectionGuard>,
    ) -> Self {
        Self { _process: process, _listener: listener, _client: client }
    }
}
