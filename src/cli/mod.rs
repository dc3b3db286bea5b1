//! The command line: arguments, subcommands and exit statuses. Results and problems go to stdout, the process log to
//! stderr.

mod backend_commands;
mod check;
mod columns;
mod completions;
mod config_file;
mod demo;
mod drain;
mod explain;
mod hash_key;
mod help;
pub mod http_client;
mod limits;
mod maintenance;
mod man;
mod problem_list;
mod proxy;
mod proxy_addresses;
mod proxy_yaml;
pub mod remote;
mod remote_commands;
mod rolling_drain;
mod run;
mod split;
mod version;

use std::io;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::server::{Inheritance, Signals};
use config_file::{ConfigArgument, ConfigFile};

/// The documented exit statuses.
mod exit {
    pub(super) const DONE: u8 = 0;
    pub(super) const FAILED: u8 = 1;
    pub(super) const PROBLEMS: u8 = 2;
    pub(super) const USAGE: u8 = 64;
}

/// An edge proxy and load balancer: routes, balances, checks, measures, reloads.
#[derive(Debug, Parser)]
#[command(name = "weir", version = crate::VERSION, max_term_width = 100, after_help = AFTER, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "\
Exit status: 0 done, 1 failed at run time, 2 problems in the configuration or a reload rejected, 3 `diff` found changes, \
64 usage.
Results and problems go to stdout, the process's own log to stderr.

Start here:  weir demo";

const AFTER_RUN: &str = "\
Says `listening NAME ADDRESS` on stderr for each listener and for the admin, then `ready`.

Signals:
  HUP              read the configuration again; a file with problems changes nothing
  TERM, INT, QUIT  stop gracefully: /readyz turns 503, then server.lame_duck, then server.shutdown_grace; a second one stops now
  USR1             reopen the access log's file, after a rotation
  USR2             upgrade: start the binary on disk, hand the sockets over and drain; a failure changes nothing

Exit status: 0 nothing was cut, 1 something was cut or it could not start, 2 problems in the configuration.";

const AFTER_CHECK: &str = "\
The same judgement as at the start and at a reload. Facts about this host and this user are warnings that begin with \
`this host:`: run the check on the host of Weir and as its user. What passes with --strict there also starts there, unless \
an address is in use. Names are not resolved. Exit status: 0 no error, 2 errors, or warnings with --strict.";

const AFTER_DEMO: &str = "\
The backends answer POST /api/data (any JSON body), GET /api/data, GET /healthz and the page /. They keep what they are sent in \
one store in memory, up to 16 MiB, and listen on free ports of the loopback address.";

const AFTER_SCHEMA: &str = "\
For editors: weir schema > weir.schema.json, and in the YAML's first line
# yaml-language-server: $schema=weir.schema.json";

const AFTER_DIFF: &str = "\
The file goes to the running process, which compares it with what is in force and changes nothing. Exit status: 0 no \
change, 3 changes, 2 problems in the file, 1 the process cannot be reached.";

const AFTER_RELOAD: &str = "\
The process reads the file that it was started with; -c here only serves to find its admin address, and \
with --admin it is not looked at. Exit status: 0 \
applied, 2 rejected (the problems are listed, the old configuration goes on), 1 the process cannot be reached.";

const AFTER_UPGRADE: &str = "\
The process starts the file at the path that it was started by, with the same arguments, and hands its listening sockets \
over. Once the new process serves, the old one drains for server.shutdown_grace and ends. No connection is refused. \
Exit status: 0 the new process serves, 1 it failed (its last messages are listed, and nothing has changed) or the process \
cannot be reached.";

const AFTER_STATUS: &str = "\
FOR is how long a backend has been in its state; `-` is since the start. WEIGHT is shown as effective/configured where \
the two differ. Exit status: 0 done, 1 the process cannot be reached.";

const AFTER_DRAIN: &str = "\
With UPSTREAM, for each backend in turn:
  1  drain it, and wait until no request is in flight
  2  run --exec COMMAND; without it, wait for Enter or for `weir enable UPSTREAM/BACKEND`
  3  enable it, and wait until it is up; a backend without a health check counts as up

It drains no backend while another one is draining, or if no other one is up. It skips disabled backends. Ctrl-C enables the
backend that it is draining, and stops. If COMMAND fails, the backend stays draining. --timeout limits step 1 and step 3.

  weir drain api --timeout 1m --exec 'ssh \"$WEIR_BACKEND\" systemctl restart app'

Exit status: 0 done, 1 it stopped before the last backend, or the process cannot be reached.";

const AFTER_MAINTENANCE: &str = "\
Clients get 503 with Retry-After and the error page of the route; those in `maintenance.allow` use the route as before. Requests \
in progress finish. It survives reloads, and with `server.state_dir` restarts and upgrades. `weir status` shows the routes in \
maintenance. Exit status: 0 done, 1 there is no such route, or the process cannot be reached.";
const AFTER_SPLIT: &str = "\
An upstream that is not named keeps its weight. The weights survive reloads while the split has the same upstreams.

  weir split shop                    show the shares
  weir split shop v1=90 v2=10        set them
  weir split shop configured         undo

Exit status: 0 done, 1 refused, or the process cannot be reached.";

const AFTER_EXPLAIN: &str = "\
Asking changes nothing. Exit status: 0 a route or `redirect_https` answers, 1 no route matches, or the process cannot be \
reached.";

const AFTER_HASH_KEY: &str = "\
Without --generate, the key is the first line of standard input, at least 16 characters. The line goes to stdout, the new key to
stderr:

  weir hash-key acme --generate >> keys.txt

The hash is a plain SHA-256: that suffices for random keys of 128 bits or more, and for nothing that people choose. Exit status: \
0 done, 1 the key cannot be used.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run in the foreground
    #[command(after_help = AFTER_RUN)]
    Run(ConfigArgument),
    /// Validate the configuration and list every problem as FILE:LINE:COL: [warning:] path: what. hint
    #[command(after_help = AFTER_CHECK)]
    Check(check::CheckOptions),
    /// Run embedded backends, a proxy in front of them and the admin page, and show commands to try
    #[command(after_help = AFTER_DEMO)]
    Demo(demo::Demo),
    /// Run a proxy without a configuration file, from one address to backends
    #[command(after_help = proxy::AFTER)]
    Proxy(proxy::ProxyOptions),
    /// Print the JSON Schema of the configuration
    #[command(after_help = AFTER_SCHEMA)]
    Schema,
    /// Show what a reload would change in the running process
    #[command(after_help = AFTER_DIFF)]
    Diff(RemoteOptions),
    /// Make the running process read its configuration again
    #[command(after_help = AFTER_RELOAD)]
    Reload(RemoteOptions),
    /// Replace the running process with the binary on disk; no connection is lost
    #[command(after_help = AFTER_UPGRADE)]
    Upgrade(remote_commands::Upgrade),
    /// Show listeners, upstreams and backends of the running process
    #[command(after_help = AFTER_STATUS)]
    Status(remote_commands::Status),
    /// Stop new requests to a backend, or to each backend of an upstream in turn; requests in progress finish
    #[command(after_help = AFTER_DRAIN)]
    Drain(drain::Drain),
    /// Take a backend out of use
    Disable(backend_commands::One),
    /// Undo drain and disable
    Enable(backend_commands::One),
    /// Switch the maintenance of a route on or off: its clients get 503
    #[command(after_help = AFTER_MAINTENANCE)]
    Maintenance(maintenance::Maintenance),
    /// Override the configured weight of a backend, until undone
    Weight(backend_commands::Weight),
    /// Show the shares of a route's split, or override them, until undone
    #[command(after_help = AFTER_SPLIT)]
    Split(split::SplitOptions),
    /// Show which route and which backend a request would get, and why not the others
    #[command(after_help = AFTER_EXPLAIN)]
    Explain(explain::Explain),
    /// Print the line of an API key for the file of `auth.*.api_keys`
    #[command(after_help = AFTER_HASH_KEY)]
    HashKey(hash_key::HashKey),
    /// Print the version, and what the binary was built from
    Version,
    /// Print the completions of a shell, to be saved where the shell looks for them
    #[command(after_help = completions::AFTER)]
    Completions(completions::Completions),
    /// Print the manual page weir(1) in roff; `weir man | man -l -` shows it
    Man,
}

/// Options for reaching the running process.
#[derive(Debug, Args)]
struct RemoteOptions {
    #[command(flatten)]
    file: ConfigFile,
    /// The admin address, such as http://127.0.0.1:9180 or unix:/run/weir/admin.sock; default: admin.address of the
    /// configuration. A bearer token comes from WEIR_ADMIN_TOKEN
    #[arg(long, value_name = "URL", env = "WEIR_ADMIN")]
    admin: Option<String>,
    /// Print JSON, for machines
    #[arg(long)]
    json: bool,
}

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    // Descriptors are taken first: their numbers must not be in use for anything else.
    let first = std::env::args_os().nth(1);
    let is = |commands: &[&str]| first.as_ref().is_some_and(|first| commands.iter().any(|command| first == command));
    let inheritance = is(&["run"]).then(Inheritance::take).transpose();
    // Signals are caught next: most signals kill the process until then. Only the commands that serve catch signals.
    let serves = is(&["run", "demo", "proxy"]);
    let signals = serves.then(Signals::catch);
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::DONE });
        }
    };
    ExitCode::from(match cli.command {
        Command::Run(file) => with(signals, |signals| run::run(&file, signals, inheritance)),
        Command::Check(options) => check::check(&options),
        Command::Demo(options) => with(signals, |signals| demo::demo(&options, signals)),
        Command::Proxy(options) => with(signals, |signals| proxy::proxy(&options, signals)),
        Command::Schema => check::schema(),
        Command::Diff(options) => remote_commands::diff(&options),
        Command::Reload(options) => remote_commands::reload(&options),
        Command::Upgrade(options) => remote_commands::upgrade(&options),
        Command::Status(options) => remote_commands::status(&options),
        Command::Drain(options) => drain::drain(&options),
        Command::Disable(options) => backend_commands::disable(&options),
        Command::Enable(options) => backend_commands::enable(&options),
        Command::Explain(options) => explain::explain(&options),
        Command::HashKey(options) => hash_key::hash_key(&options),
        Command::Maintenance(options) => maintenance::maintenance(&options),
        Command::Split(options) => split::split(&options),
        Command::Weight(options) => backend_commands::weight(&options),
        Command::Version => version::version(),
        Command::Completions(options) => completions::completions(&options, command()),
        Command::Man => man::man(command()),
    })
}

/// Parses the arguments.
fn parse() -> Result<Cli, clap::Error> {
    let matches = command().try_get_matches_from(help::normalize(std::env::args_os()))?;
    Cli::from_arg_matches(&matches)
}

/// The command line as clap knows it. `--version` says as much as `weir version`; the commit is known only now.
fn command() -> clap::Command {
    let command = Cli::command().long_version(version::LONG.as_str());
    command.mut_subcommands(|subcommand| subcommand.mut_args(ignore_empty_variable))
}

/// An empty environment variable counts as absent. A container often sets each variable, some of them to nothing.
fn ignore_empty_variable(argument: clap::Arg) -> clap::Arg {
    let value = argument.get_env().and_then(std::env::var_os);
    if value.is_some_and(|value| value.is_empty()) { argument.env(None::<&str>) } else { argument }
}

/// Runs a command that needs signals, after they are caught.
fn with(caught: Option<io::Result<Signals>>, serve: impl FnOnce(&Signals) -> u8) -> u8 {
    match caught.unwrap_or_else(Signals::catch) {
        Ok(signals) => serve(&signals),
        Err(error) => {
            say(format_args!("weir: cannot catch signals: {error}"));
            exit::FAILED
        }
    }
}

/// Prints to stdout. A closed pipe is not an error.
fn say(text: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Prints a generated text as it is. A closed pipe is not an error.
fn print_bytes(text: &[u8]) {
    use std::io::Write;
    let _ = io::stdout().lock().write_all(text);
}
