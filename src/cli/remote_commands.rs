//! `weir status`, `weir reload` and `weir diff`, and the function with which all remote commands find the admin
//! address.

use std::io::Write;
use std::path::Path;

use super::remote::{CommandOutput, Remote};
use super::{RemoteOptions, check, exit, say};
use crate::config;
use crate::config::values::AdminAddress;

/// Shows the state of the running process.
pub(super) fn status(options: &RemoteOptions) -> u8 {
    ask(options, |remote| remote.status())
}

/// Makes the running process reload its configuration.
pub(super) fn reload(options: &RemoteOptions) -> u8 {
    ask(options, |remote| remote.reload())
}

/// Shows the changes that a reload would make.
pub(super) fn diff(options: &RemoteOptions) -> u8 {
    let yaml = match std::fs::read(&options.file.config) {
        Ok(yaml) => yaml,
        Err(error) => {
            say(format_args!("weir: {}: cannot be read: {error}", options.file.config.display()));
            return exit::FAILED;
        }
    };
    ask(options, |remote| remote.diff(&yaml))
}

/// Finds the admin address, runs the request there and prints the result.
pub(super) fn ask(options: &RemoteOptions, question: impl FnOnce(&Remote) -> CommandOutput) -> u8 {
    let token = std::env::var("WEIR_ADMIN_TOKEN").ok().filter(|token| !token.is_empty());
    let remote = |url| Remote { url, token: token.clone(), json: options.json };
    let url = match &options.admin {
        Some(url) => url.clone(),
        None => match config::admin_address(&options.file.config) {
            Ok(Some(address @ AdminAddress::Unix(_))) => address.to_string(),
            Ok(Some(address)) => format!("http://{address}"),
            Ok(None) => return print(&remote(String::new()).fail(&off(&options.file.config))),
            Err(problems) => {
                check::list(&problems);
                say("weir: admin.address was looked for there; --admin URL needs no file");
                return exit::PROBLEMS;
            }
        },
    };
    print(&question(&remote(url)))
}

fn print(output: &CommandOutput) -> u8 {
    let _ = std::io::stdout().lock().write_all(output.text.as_bytes());
    output.code
}

fn off(file: &Path) -> String {
    format!(
        "{}: `admin: off`: the process takes no commands and has no metrics; SIGHUP reloads it, SIGTERM stops it",
        file.display()
    )
}
