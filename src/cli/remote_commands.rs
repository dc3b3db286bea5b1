//! `weir status`, `weir reload` and `weir diff`, and the function with which all remote commands find the admin
//! address.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::remote::{CommandOutput, Remote};
use super::{RemoteOptions, exit, problem_list, say};
use crate::config::values::{AdminAddress, Period};
use crate::config::{self, Problem};

/// `weir status`.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Show the rate limits, with the 20 keys that have the largest debt of each
    #[arg(long)]
    limits: bool,
    #[command(flatten)]
    remote: RemoteOptions,
}

/// `weir upgrade`.
#[derive(Debug, Args)]
pub(super) struct Upgrade {
    /// The time in which the new process must be ready, such as 1m; default: 30s
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Period>,
    #[command(flatten)]
    remote: RemoteOptions,
}

/// Shows the state of the running process.
pub(super) fn status(options: &Status) -> u8 {
    ask(&options.remote, |remote| if options.limits { remote.limits() } else { remote.status() })
}

/// Makes the running process reload its configuration.
pub(super) fn reload(options: &RemoteOptions) -> u8 {
    ask(options, |remote| remote.reload())
}

/// Replaces the running process with the binary on disk.
pub(super) fn upgrade(options: &Upgrade) -> u8 {
    ask(&options.remote, |remote| remote.upgrade(options.timeout.map(Period::get)))
}

/// Shows the changes that a reload would make.
pub(super) fn diff(options: &RemoteOptions) -> u8 {
    let file = match options.file.find() {
        Ok(file) => file,
        Err(none) => return print(&remote(options, String::new()).fail(&none.to_string())),
    };
    let yaml = match config::read_text(&file) {
        Ok(yaml) => yaml,
        Err(problems) => {
            problem_list::list(&problems);
            return exit::FAILED;
        }
    };
    let address = || config::admin_address_in(&file, &yaml);
    ask_at(options, url(options, Some((&file, &address))), |remote| remote.diff(yaml.as_bytes()))
}

/// Finds the admin address, runs the request there and prints the result.
pub(super) fn ask(options: &RemoteOptions, question: impl FnOnce(&Remote) -> CommandOutput) -> u8 {
    let file = options.file.find().ok();
    let address = |file: &PathBuf| config::admin_address(file);
    let url = match &file {
        Some(file) => url(options, Some((file, &|| address(file)))),
        None => url(options, None),
    };
    ask_at(options, url, question)
}

type Found<'a> = (&'a Path, &'a dyn Fn() -> Result<Option<AdminAddress>, Vec<Problem>>);

/// Why there is no address to ask at.
enum NoAddress {
    /// `admin: off` in this file.
    Off(PathBuf),
    Problems(Vec<Problem>),
}

/// The admin address: `--admin` or `$WEIR_ADMIN`, else that of the configuration, else the default one.
fn url(options: &RemoteOptions, file: Option<Found<'_>>) -> Result<String, NoAddress> {
    if let Some(url) = &options.admin {
        return Ok(url.clone());
    }
    let Some((file, address)) = file else { return Ok(format!("http://{}", AdminAddress::default())) };
    match address() {
        Ok(Some(address @ AdminAddress::Unix(_))) => Ok(address.to_string()),
        Ok(Some(address)) => Ok(format!("http://{address}")),
        Ok(None) => Err(NoAddress::Off(file.to_owned())),
        Err(problems) => Err(NoAddress::Problems(problems)),
    }
}

fn ask_at(
    options: &RemoteOptions,
    url: Result<String, NoAddress>,
    question: impl FnOnce(&Remote) -> CommandOutput,
) -> u8 {
    match url {
        Ok(url) => print(&question(&remote(options, url))),
        Err(NoAddress::Off(file)) => print(&remote(options, String::new()).fail(&off(&file))),
        Err(NoAddress::Problems(problems)) => {
            problem_list::list(&problems);
            say("weir: admin.address was looked for there; --admin URL needs no file");
            exit::PROBLEMS
        }
    }
}

fn remote(options: &RemoteOptions, url: String) -> Remote {
    let token = std::env::var("WEIR_ADMIN_TOKEN").ok().filter(|token| !token.is_empty());
    Remote { url, token, json: options.json }
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
