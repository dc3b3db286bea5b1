//! Requests of the commands to the admin API of the running process.
//!
//! This module never prints: each function returns the text for stdout and the exit status.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::admin::api::{ProblemReply, ReloadReply, StatusReply, UpgradeOrder, UpgradeReply};

use super::columns;
use super::http_client::{Base, Call, Response};

/// Success.
pub const DONE: u8 = 0;
/// Failure at run time: the admin API cannot be reached, or it refused.
pub const FAILED: u8 = 1;
/// The configuration has problems.
pub const PROBLEMS: u8 = 2;
/// `diff` found changes.
pub const CHANGES: u8 = 3;

pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// A reload may take longer: it reads files and binds sockets.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// The running process.
#[derive(Debug, Clone, Default)]
pub struct Remote {
    /// The admin address: `http://host:port` or `unix:/path`.
    pub url: String,
    /// The bearer token, if one is needed.
    pub token: Option<String>,
    /// Print the JSON of the response unchanged.
    pub json: bool,
}

/// The output and the exit status of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutput {
    /// For stdout. Ends with a line feed unless it is empty.
    pub text: String,
    /// The documented exit status.
    pub code: u8,
}

impl Remote {
    /// `weir status`.
    pub fn status(&self) -> CommandOutput {
        self.ask("GET", "/api/v1/status", None, TIMEOUT, |status: StatusReply| (columns::status(&status), DONE))
    }

    /// `weir reload`.
    pub fn reload(&self) -> CommandOutput {
        self.ask("POST", "/api/v1/reload", Some(("application/json", b"{}")), RELOAD_TIMEOUT, reloaded)
    }

    /// `weir upgrade`.
    pub fn upgrade(&self, limit: Option<Duration>) -> CommandOutput {
        let timeout_ms = limit.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        let order = serde_json::to_vec(&UpgradeOrder { timeout_ms }).unwrap_or_default();
        let timeout = limit.unwrap_or(crate::server::UPGRADE_TIMEOUT) + TIMEOUT;
        self.ask("POST", "/api/v1/upgrade", Some(("application/json", &order)), timeout, upgraded)
    }

    /// `weir diff`: the changes that a reload with this document would make.
    pub fn diff(&self, yaml: &[u8]) -> CommandOutput {
        self.ask("POST", "/api/v1/diff", Some(("application/yaml", yaml)), RELOAD_TIMEOUT, differs)
    }

    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<(&str, &[u8])>,
        timeout: Duration,
        say: impl FnOnce(T) -> (String, u8),
    ) -> CommandOutput {
        let call = Call { method, path, token: self.token.as_deref(), body, timeout };
        let answer = match Base::parse(&self.url) {
            Ok(base) => base.call(call).map_err(|error| format!("the admin address {} fails: {error}", self.url)),
            Err(wrong) => Err(wrong),
        };
        match answer {
            Ok(answer) if matches!(answer.status, 200 | 422) => self.say(&answer, say),
            Ok(answer) => self.fail(&refusal(&answer)),
            Err(what) => self.fail(&what),
        }
    }

    fn say<T: DeserializeOwned>(&self, answer: &Response, say: impl FnOnce(T) -> (String, u8)) -> CommandOutput {
        let Ok(reply) = serde_json::from_slice(&answer.body) else {
            if answer.status == 422 {
                return self.fail(&refusal(answer));
            }
            return self.fail(&format!("what answers at {} is not Weir's admin API", self.url));
        };
        let (text, code) = say(reply);
        if !self.json {
            return CommandOutput { text, code };
        }
        CommandOutput { text: format!("{}\n", String::from_utf8_lossy(&answer.body).trim_end()), code }
    }

    pub(super) fn fail(&self, what: &str) -> CommandOutput {
        let text = if self.json { serde_json::json!({ "error": what }).to_string() } else { format!("weir: {what}") };
        CommandOutput { text: text + "\n", code: FAILED }
    }
}

fn reloaded(reply: ReloadReply) -> (String, u8) {
    match reply {
        ReloadReply::Applied { generation, changes, fixed, warnings }
        | ReloadReply::Valid { generation, changes, fixed, warnings } => {
            let mut text = changed(&changes, &fixed);
            text.extend(warnings.iter().map(|warning| format!("{warning}\n")));
            text += &format!("applied: generation {generation}\n");
            (text, DONE)
        }
        ReloadReply::Rejected { problems } => (rejected(&problems), PROBLEMS),
    }
}

fn upgraded(reply: UpgradeReply) -> (String, u8) {
    match reply {
        UpgradeReply::Ready { pid, version } => (format!("upgraded: weir {version}, pid {pid}\n"), DONE),
        UpgradeReply::Failed { error, messages } => {
            let mut text: String = messages.iter().map(|message| format!("  {message}\n")).collect();
            text += &format!("failed, and nothing has changed: {error}\n");
            (text, FAILED)
        }
    }
}

fn differs(reply: ReloadReply) -> (String, u8) {
    match reply {
        ReloadReply::Applied { changes, fixed, .. } | ReloadReply::Valid { changes, fixed, .. } => {
            let code = if changes.is_empty() && fixed.is_empty() { DONE } else { CHANGES };
            let text = if code == DONE { "no changes\n".to_owned() } else { changed(&changes, &fixed) };
            (text, code)
        }
        ReloadReply::Rejected { problems } => (rejected(&problems), PROBLEMS),
    }
}

fn changed(changes: &[String], fixed: &[String]) -> String {
    let mut text: String = changes.iter().map(|change| format!("{change}\n")).collect();
    text.extend(
        fixed
            .iter()
            .map(|key| format!("{key}: fixed while the process lives; `weir upgrade` or a restart applies it\n")),
    );
    text
}

fn rejected(problems: &[ProblemReply]) -> String {
    let text: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
    text + "rejected: the configuration in force goes on\n"
}

fn refusal(answer: &Response) -> String {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let why = body["error"].as_str().unwrap_or("no reason given");
    format!("the admin address refused with {}: {why}", answer.status)
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
