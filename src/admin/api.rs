//! The words of the admin API, written by the process and read by `weir status`, `reload` and `diff`: one set of
//! types for both ends.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::backend::labels::BackendCondition;

/// `GET /api/v1/status`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusReply {
    /// The process.
    pub pid: u32,
    /// Weir's version.
    pub version: String,
    /// How many configurations have been in force.
    pub generation: u64,
    /// Whether `/readyz` says 200.
    pub ready: bool,
    /// Whether the process is on its way out.
    pub draining: bool,
    /// The last reload; null: none since the start.
    pub last_reload: Option<LastReloadReply>,
    /// In the order of the configuration.
    pub listeners: Vec<ListenerReply>,
    /// Those that listeners show, by name.
    #[serde(default)]
    pub certificates: Vec<CertificateReply>,
    /// Those that ACME servers issue, by name.
    #[serde(default)]
    pub acme: Vec<AcmeName>,
    /// By name.
    pub upstreams: Vec<UpstreamReply>,
}

/// What became of the last reload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastReloadReply {
    /// `applied` or `rejected`.
    pub result: String,
    /// When, RFC 3339.
    pub time: String,
    /// What it changed.
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
    /// Its address; the real port where 0 was asked for.
    pub address: String,
    /// Whether it is bound.
    pub bound: bool,
    /// Connections open now.
    pub connections: u64,
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CertificateReply {
    /// The path of its file as configured.
    pub name: String,
    /// The names it is for.
    pub names: Vec<String>,
    /// When it ends, RFC 3339.
    pub not_after: String,
    /// Whole days until then; less than none: it has expired.
    pub days_left: i64,
}

/// A name whose certificate an ACME server issues.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AcmeName {
    /// The name.
    pub name: String,
    /// `issued`, `pending` while there is none yet, `failing` where the last order failed.
    pub state: String,
    /// Orders that have failed since the last that went well.
    pub failures: u32,
    /// What went wrong the last time.
    pub error: Option<String>,
    /// When the next order is due, RFC 3339; null: now.
    pub next_order: Option<String>,
}

/// An upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpstreamReply {
    /// Its name.
    pub name: String,
    /// Its balancer.
    pub balance: String,
    /// How looking for backends goes; left out where the configuration names all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<DiscoveryReply>,
    /// In the order of the configuration, and then those that were found.
    pub backends: Vec<BackendReply>,
}

/// How looking for an upstream's backends goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiscoveryReply {
    /// Where it is looked: `dns NAME:PORT`, `srv NAME` or `file PATH`.
    pub source: String,
    /// When a look last went well, RFC 3339; null: never.
    pub last_success: Option<String>,
    /// What is wrong now; null: nothing. What was found before stays.
    pub error: Option<String>,
    /// Looks in a row that went wrong.
    pub failures: u64,
}

/// A backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendReply {
    /// Its name.
    pub name: String,
    /// Its address as configured.
    pub address: String,
    /// The one state that is shown.
    pub state: BackendCondition,
    /// Why; empty where there is nothing to say.
    pub reason: String,
    /// Since when, RFC 3339; null: since the start.
    pub since: Option<String>,
    /// Attempts under way.
    pub in_flight: u32,
    /// The weight as configured.
    pub weight: u32,
    /// The weight as used now: a part of it while it grows (`slow_start`).
    #[serde(serialize_with = "plain")]
    pub effective_weight: f64,
    /// Attempts of the last minute that failed or were answered with an error.
    #[serde(default)]
    pub errors_last_minute: u64,
    /// The latest error, however old; null: none since the start.
    #[serde(default)]
    pub last_error: Option<LastError>,
}

/// The latest error of a backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastError {
    /// When, RFC 3339.
    pub time: String,
    /// The cause in a few words, such as `connect: connection refused`.
    pub cause: String,
}

impl std::fmt::Display for LastError {
    /// The cause, and how long ago it was.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let age = age(&self.time, OffsetDateTime::now_utc());
        write!(f, "{} ({} ago)", self.cause, age.as_deref().unwrap_or("some time"))
    }
}

/// A whole number as one, `2` and not `2.0`.
fn plain<S: serde::Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if number.fract() == 0.0 { serializer.serialize_u64(*number as u64) } else { serializer.serialize_f64(*number) }
}

/// What a reload did, or would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum ReloadReply {
    /// It is in force.
    Applied {
        /// The generation that is in force now.
        generation: u64,
        /// What differs, a line each.
        changes: Vec<String>,
        /// Keys that differ but are fixed for the process's life.
        fixed: Vec<String>,
    },
    /// It could be applied; the answer of a diff.
    Valid {
        /// The generation that is in force.
        generation: u64,
        /// What would differ, a line each.
        changes: Vec<String>,
        /// Keys that differ but are fixed for the process's life.
        fixed: Vec<String>,
    },
    /// Nothing has changed.
    Rejected {
        /// Everything that is wrong.
        problems: Vec<ProblemReply>,
    },
}

/// One thing wrong with a document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProblemReply {
    /// The file; empty where there is none.
    pub file: String,
    /// The line, from 1; 0: not known.
    pub line: u64,
    /// The column, from 1; 0: not known.
    pub column: u64,
    /// The key.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What to do; empty where there is no advice.
    pub hint: String,
}

impl std::fmt::Display for ProblemReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        } else if !self.file.is_empty() {
            write!(f, "{}: ", self.file)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, ". {}", self.hint) }
    }
}

/// Milliseconds since 1970 as RFC 3339; `None` for 0.
pub fn rfc3339(ms: u64) -> Option<String> {
    let nanos = i128::from(ms) * 1_000_000;
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok().filter(|_| ms > 0)?;
    at.format(&Rfc3339).ok()
}

/// How long ago an RFC 3339 time was, as people say it: `42s`, `5m 2s`, `3h 7m`, `12d 4h`.
pub fn age(time: &str, now: OffsetDateTime) -> Option<String> {
    let at = OffsetDateTime::parse(time, &Rfc3339).ok()?;
    // A clock that was set back meanwhile.
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
    fn replies_are_as_the_contract_has_them() {
        let applied = ReloadReply::Applied { generation: 2, changes: vec!["c".into()], fixed: vec![] };
        let expected = json!({ "result": "applied", "generation": 2, "changes": ["c"], "fixed": [] });
        assert_eq!(serde_json::to_value(applied).unwrap(), expected);
        let rejected = ReloadReply::Rejected { problems: vec![ProblemReply::default()] };
        let problem = json!({ "file": "", "line": 0, "column": 0, "path": "", "what": "", "hint": "" });
        let expected = json!({ "result": "rejected", "problems": [problem] });
        assert_eq!(serde_json::to_value(rejected).unwrap(), expected);
    }

    #[test]
    fn a_problem_reads_as_on_the_command_line() {
        let [file, path, what, hint] = ["weir.yaml", "routes[0].upstream", "no such upstream", "Did you mean `api`?"];
        let mut problem = ProblemReply {
            file: file.into(),
            line: 3,
            column: 5,
            path: path.into(),
            what: what.into(),
            hint: hint.into(),
        };
        let said = "weir.yaml:3:5: routes[0].upstream: no such upstream. Did you mean `api`?";
        assert_eq!(problem.to_string(), said);
        problem = ProblemReply { what: "unreadable".into(), file: "weir.yaml".into(), ..ProblemReply::default() };
        assert_eq!(problem.to_string(), "weir.yaml: unreadable");
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
