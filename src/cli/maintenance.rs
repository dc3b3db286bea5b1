//! `weir maintenance`: switches the maintenance of a route of the running process.

use clap::{Args, ValueEnum};

use super::RemoteOptions;
use super::backend_commands::encode;
use super::remote::{CommandOutput, DONE, Remote, TIMEOUT};
use super::remote_commands::ask;
use crate::admin::api::MaintenanceReply;

/// `weir maintenance`.
#[derive(Debug, Args)]
pub(super) struct Maintenance {
    /// The name of the route
    #[arg(value_name = "ROUTE")]
    route: String,
    /// The new state
    #[arg(value_name = "on|off")]
    state: SwitchState,
    #[command(flatten)]
    remote: RemoteOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SwitchState {
    On,
    Off,
}

pub(super) fn maintenance(options: &Maintenance) -> u8 {
    ask(&options.remote, |remote| remote.set_maintenance(&options.route, options.state == SwitchState::On))
}

impl Remote {
    fn set_maintenance(&self, route: &str, on: bool) -> CommandOutput {
        let path = format!("/api/v1/routes/{}/maintenance", encode(route));
        let body = serde_json::json!({ "on": on }).to_string();
        let body = Some(("application/json", body.as_bytes()));
        self.ask("PUT", &path, body, TIMEOUT, |reply: MaintenanceReply| (text(&reply), DONE))
    }
}

fn text(reply: &MaintenanceReply) -> String {
    match &reply.since {
        Some(since) => format!("{}: maintenance on since {since}\n", reply.route),
        None => format!("{}: maintenance off\n", reply.route),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::admin::test_double::Running;
    use crate::cli::remote::FAILED;

    #[test]
    fn a_switch_is_sent_and_its_result_printed() {
        let running = Running::start(None);
        let remote = Remote { url: format!("http://{}", running.address), ..Remote::default() };
        assert_eq!(remote.set_maintenance("a b", true).text, "a b: maintenance on since 2023-11-14T22:13:20Z\n");
        let output = remote.set_maintenance("a b", false);
        assert_eq!((output.text.as_str(), output.code), ("a b: maintenance off\n", DONE));
        let output = remote.set_maintenance("x", true);
        assert!(output.code == FAILED && output.text.contains("there is `a b`"), "{}", output.text);
    }
}
