//! Limits the log lines about failed attempts at one backend: one a minute for each kind of failure.
//!
//! It decides only whether a line is due. The proxy writes the line.

use crate::fault::Fault;
use crate::instruments::throttle::Throttle;

/// The faults of a backend that are logged.
const FAULTS: [Fault; 5] = [Fault::Connect, Fault::Tls, Fault::Timeout, Fault::Reset, Fault::Protocol];

/// The limits of the log lines about one backend.
#[derive(Debug, Default)]
pub struct FailureLog {
    faults: [Throttle; FAULTS.len()],
    server_errors: Throttle,
    grpc_errors: Throttle,
}

impl FailureLog {
    /// Counts a failed attempt. If a line is due, returns the number of such failures since the last line. Faults that
    /// are not the backend's are never due.
    pub fn count_fault(&self, fault: Fault, now_ms: u64) -> Option<u64> {
        let at = FAULTS.iter().position(|each| *each == fault)?;
        self.faults[at].count(now_ms)
    }

    /// Counts a response with a status from 500 to 599. If a line is due, returns the number of such responses since the
    /// last line.
    pub fn count_server_error(&self, now_ms: u64) -> Option<u64> {
        self.server_errors.count(now_ms)
    }

    /// Counts a call of gRPC that ended with an error. If a line is due, returns the number of such calls since the last
    /// line.
    pub fn count_grpc_error(&self, now_ms: u64) -> Option<u64> {
        self.grpc_errors.count(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Blame;

    #[test]
    fn each_kind_of_fault_of_a_backend_has_a_limit_of_its_own() {
        let log = FailureLog::default();
        for fault in Fault::ALL {
            let due = (fault.blame() == Blame::Backend).then_some(1);
            assert_eq!(log.count_fault(fault, 1), due, "{fault:?}");
            assert_eq!(log.count_fault(fault, 2), None, "{fault:?}");
        }
        assert_eq!(log.count_server_error(2), Some(1));
        assert_eq!(log.count_grpc_error(2), Some(1));
        assert_eq!(log.count_fault(Fault::Reset, 60_001), Some(2));
    }
}
