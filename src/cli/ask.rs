//! `weir status`, `weir reload`, `weir diff`, and the door for the others that ask: finds the admin address and asks there.

use std::io::Write;

use super::remote::{Remote, Said};
use super::{RemoteOptions, check, exit, say};
use crate::config;

/// Shows the running process.
pub(super) fn status(options: &RemoteOptions) -> u8 {
    ask(options, |remote| remote.status())
}

/// Has it read its configuration again.
pub(super) fn reload(options: &RemoteOptions) -> u8 {
    ask(options, |remote| remote.reload())
}

/// Shows what a reload would change.
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

/// Finds the admin address, asks there and says what it said.
pub(super) fn ask(options: &RemoteOptions, question: impl FnOnce(&Remote) -> Said) -> u8 {
    let url = match &options.admin {
        Some(url) => url.clone(),
        None => match config::admin_address(&options.file.config) {
            Ok(address) => format!("http://{address}"),
            Err(problems) => {
                check::list(&problems);
                say("weir: admin.address was looked for there; --admin URL needs no file");
                return exit::PROBLEMS;
            }
        },
    };
    let token = std::env::var("WEIR_ADMIN_TOKEN").ok().filter(|token| !token.is_empty());
    let said = question(&Remote { url, token, json: options.json });
    let _ = std::io::stdout().lock().write_all(said.text.as_bytes());
    said.code
}
