//! A connection's place under the limits of the process, of its listener and of its client. It is held as long as the
//! socket lives: a connection that is only being closed takes as much of the system as any other.

use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::listener::client_limits;
use crate::telemetry::meters::OpenConnection;

/// The guards of one connection; dropping them lowers the counts.
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
