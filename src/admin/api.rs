//! The JSON types of the admin API, shared by the server and by `weir status`, `weir reload` and `weir diff`.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub use super::api_split::{SplitReply, SplitTargetReply};
pub use crate::backend::labels::BackendCondition;
use crate::severity::Severity;

/// The response of `GET /api/v1/status`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusReply {
    /// The process id.
    pub pid: u32,
    /// Weir's version.
    pub version: String,
    /// Number of configurations that have been active, including the present one.
    pub generation: u64,
    /// Whether `/readyz` answers 200.
    pub ready: bool,
    /// Whether the process is shutting down.
    pub draining: bool,
    /// All processes: this one first, then the old ones that still drain after upgrades.
    #[serde(default)]
    pub processes: Vec<ProcessReply>,
    /// The last reload. Null if there was none since the start.
    pub last_reload: Option<LastReloadReply>,
    /// In the order of the configuration.
    pub listeners: Vec<ListenerReply>,
    /// The certificates that listeners serve, by name.
    #[serde(default)]
    pub certificates: Vec<CertificateReply>,
    /// The certificates that ACME servers issue, by name.
    #[serde(default)]
    pub acme: Vec<AcmeName>,
    /// The routes in maintenance.
    #[serde(default)]
    pub maintenance: Vec<MaintenanceReply>,
    /// By name.
    pub upstreams: Vec<UpstreamReply>,
    /// The splits, in the order of the routes.
    #[serde(default)]
    pub splits: Vec<SplitReply>,
}

/// A process of this Weir.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessReply {
    /// Its id. 0: an upgrade is starting it.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// `serving`, `draining`, or `starting` during an upgrade.
    pub state: String,
    /// Open connections of clients.
    pub connections: u64,
    /// Since when it drains, RFC 3339. Null: it does not drain, or not because of an upgrade.
    pub since: Option<String>,
}

/// The result of an upgrade.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum UpgradeReply {
    /// The new process serves.
    Ready {
        /// Its process id.
        pid: u32,
        /// Its version.
        version: String,
    },
    /// Nothing has changed.
    Failed {
        /// The reason.
        error: String,
        /// The last lines that the new process wrote to its standard error.
        #[serde(default)]
        messages: Vec<String>,
    },
}

/// The body of `POST /api/v1/upgrade`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpgradeOrder {
    /// The time in which the new process must be ready, in milliseconds. Null: 30 s.
    pub timeout_ms: Option<u64>,
}

/// The maintenance of a route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MaintenanceReply {
    /// The name of the route.
    pub route: String,
    /// Whether it is in maintenance.
    pub on: bool,
    /// Since when, RFC 3339. Null: it is not.
    pub since: Option<String>,
}

/// The result of the last reload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastReloadReply {
    /// `applied` or `rejected`.
    pub result: String,
    /// The time, RFC 3339.
    pub time: String,
    /// The changes.
    #[serde(default)]
    pub changes: Vec<String>,
    /// Why it was rejected.
    #[serde(default)]
    pub problems: Vec<ProblemReply>,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListenerReply {
    /// Its name.
    pub name: String,
    /// Its address, with the real port if the configuration asks for port 0.
    pub address: String,
    /// Whether it is bound.
    pub bound: bool,
    /// Number of open connections.
    pub connections: u64,
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CertificateReply {
    /// The path of its file as configured, or its ACME label.
    pub name: String,
    /// The names that it is for.
    pub names: Vec<String>,
    /// End of validity, RFC 3339.
    pub not_after: String,
    /// Full days until the end of validity. Negative if it has expired.
    pub days_left: i64,
}

/// A DNS name whose certificate an ACME server issues.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AcmeName {
    /// The DNS name.
    pub name: String,
    /// `issued`; `pending` before the first certificate; `failing` if the last order failed.
    pub state: String,
    /// Failed orders since the last success.
    pub failures: u32,
    /// The last error.
    pub error: Option<String>,
    /// When the next order is due, RFC 3339. Null: now.
    pub next_order: Option<String>,
}

/// An upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpstreamReply {
    /// Its name.
    pub name: String,
    /// Its load balancing algorithm.
    pub balance: String,
    /// The state of discovery. Absent if the configuration lists all backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<DiscoveryReply>,
    /// Requests of the last minute that got no backend.
    #[serde(default)]
    pub refused_last_minute: u64,
    /// The latest request that got no backend, however long ago, and why; null: none since the start.
    #[serde(default)]
    pub last_refusal: Option<LastError>,
    /// In the order of the configuration, followed by the discovered backends.
    pub backends: Vec<BackendReply>,
}

/// The state of an upstream's discovery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiscoveryReply {
    /// The source: `dns NAME:PORT`, `srv NAME` or `file PATH`.
    pub source: String,
    /// When discovery last succeeded, RFC 3339. Null: never.
    pub last_success: Option<String>,
    /// The present error. Null: none. Backends that were discovered before stay.
    pub error: Option<String>,
    /// Number of failures in a row.
    pub failures: u64,
}

/// A backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendReply {
    /// Its name.
    pub name: String,
    /// Its address as configured.
    pub address: String,
    /// Its state.
    pub state: BackendCondition,
    /// The reason of the state. Empty if there is none.
    pub reason: String,
    /// When it entered the state, RFC 3339. Null: since the start.
    pub since: Option<String>,
    /// Attempts in flight.
    pub in_flight: u32,
    /// The configured weight.
    pub weight: u32,
    /// The effective weight. Lower than the configured weight during `slow_start`.
    #[serde(serialize_with = "plain")]
    pub effective_weight: f64,
    /// Attempts of the last minute that failed or were answered with an error.
    #[serde(default)]
    pub errors_last_minute: u64,
    /// The latest error, however old; null: none since the start.
    #[serde(default)]
    pub last_error: Option<LastError>,
}

/// The latest error of a backend or an upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastError {
    /// When, RFC 3339.
    pub time: String,
    /// The cause in a few words, such as `refused`.
    pub cause: String,
}

impl std::fmt::Display for LastError {
    /// The cause, and how long ago it was.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let age = age(&self.time, OffsetDateTime::now_utc());
        write!(f, "{} ({} ago)", self.cause, age.as_deref().unwrap_or("some time"))
    }
}

/// Serializes a whole number as an integer: `2`, not `2.0`.
fn plain<S: serde::Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if number.fract() == 0.0 { serializer.serialize_u64(*number as u64) } else { serializer.serialize_f64(*number) }
}

/// What a reload did, or would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum ReloadReply {
    /// The configuration is active.
    Applied {
        /// The generation that is active now.
        generation: u64,
        /// The changes, one per line.
        changes: Vec<String>,
        /// Changed keys that take effect only after a restart.
        fixed: Vec<String>,
        /// The warnings about the configuration. Absent if there is none.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<ProblemReply>,
    },
    /// The document is valid. Only a diff returns this.
    Valid {
        /// The active generation.
        generation: u64,
        /// The changes that a reload would make, one per line.
        changes: Vec<String>,
        /// Changed keys that take effect only after a restart.
        fixed: Vec<String>,
        /// The warnings about the document. Absent if there is none.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<ProblemReply>,
    },
    /// The document is invalid. Nothing has changed.
    Rejected {
        /// All problems.
        problems: Vec<ProblemReply>,
    },
}

/// A problem of a configuration document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProblemReply {
    /// Whether it rejects the document.
    #[serde(default)]
    pub severity: Severity,
    /// The file. Empty if there is none.
    pub file: String,
    /// The line, from 1. 0 if unknown.
    pub line: u64,
    /// The column, from 1. 0 if unknown.
    pub column: u64,
    /// The key.
    pub path: String,
    /// The problem.
    pub what: String,
    /// A suggestion. Empty if there is none.
    pub hint: String,
}

impl std::fmt::Display for ProblemReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        } else if !self.file.is_empty() {
            write!(f, "{}: ", self.file)?;
        }
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, ". {}", self.hint) }
    }
}

/// Formats milliseconds since the Unix epoch as RFC 3339. `None` for 0.
pub fn rfc3339(ms: u64) -> Option<String> {
    let nanos = i128::from(ms) * 1_000_000;
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok().filter(|_| ms > 0)?;
    at.format(&Rfc3339).ok()
}

/// The age of an RFC 3339 time in short form: `42s`, `5m 2s`, `3h 7m`, `12d 4h`.
pub fn age(time: &str, now: OffsetDateTime) -> Option<String> {
    let at = OffsetDateTime::parse(time, &Rfc3339).ok()?;
    // The age is negative if the clock was set back.
    let seconds = (now - at).whole_seconds().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    Some(match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {}m", minutes % 60),
        (days, hours, _) => format!("{days}d {}h", hours % 24),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn replies_have_the_documented_json_form() {
        let applied =
            ReloadReply::Applied { generation: 2, changes: vec!["c".into()], fixed: vec![], warnings: vec![] };
        let expected = json!({ "result": "applied", "generation": 2, "changes": ["c"], "fixed": [] });
        assert_eq!(serde_json::to_value(applied).unwrap(), expected);
        let rejected = ReloadReply::Rejected { problems: vec![ProblemReply::default()] };
        let problem = json!({
            "severity": "error", "file": "", "line": 0, "column": 0, "path": "", "what": "", "hint": ""
        });
        let expected = json!({ "result": "rejected", "problems": [problem] });
        assert_eq!(serde_json::to_value(rejected).unwrap(), expected);
    }

    #[test]
    fn a_problem_reads_as_on_the_command_line() {
        let [file, path, what, hint] = ["weir.yaml", "routes[0].upstream", "no such upstream", "Did you mean `api`?"];
        let mut problem = ProblemReply {
            severity: Severity::Error,
            file: file.into(),
            line: 3,
            column: 5,
            path: path.into(),
            what: what.into(),
            hint: hint.into(),
        };
        let expected = "weir.yaml:3:5: routes[0].upstream: no such upstream. Did you mean `api`?";
        assert_eq!(problem.to_string(), expected);
        problem = ProblemReply { what: "unreadable".into(), file: "weir.yaml".into(), ..ProblemReply::default() };
        assert_eq!(problem.to_string(), "weir.yaml: unreadable");
        problem =
            ProblemReply { severity: Severity::Warning, path: "upstreams.a".into(), line: 2, column: 1, ..problem };
        assert_eq!(problem.to_string(), "weir.yaml:2:1: warning: upstreams.a: unreadable");
    }

    #[test]
    fn times_are_rfc3339() {
        assert_eq!(rfc3339(1_700_000_000_000).unwrap(), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339(0), None);
    }

    #[test]
    fn ages_have_two_units_at_most() {
        let now = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        let ago = |seconds: u64| age(&rfc3339((1_700_000_000 - seconds) * 1_000).unwrap(), now).unwrap();
        assert_eq!([ago(0), ago(59), ago(302), ago(11_220), ago(1_051_200)], ["0s", "59s", "5m 2s", "3h 7m", "12d 4h"]);
        assert_eq!(age("2123-11-14T22:13:20Z", now).unwrap(), "0s");
        assert_eq!(age("then", now), None);
    }
}
