//! `weir proxy`: a proxy without a configuration file.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::PossibleValuesParser;
use clap::{Args, CommandFactory};

use super::proxy_addresses::{ProxyBackend, Scheme, any, backend, listen_address};
use super::proxy_yaml::{Settings, Tls, yaml};
use super::run::finish;
use super::{exit, problem_list, say};
use crate::config;
use crate::server::{self, RunningServer, Signals, StartError, Upgradable};

/// The first port of the status page.
const ADMIN_PORT: u16 = 9180;
/// How many ports are tried for the status page.
const ADMIN_PORTS: u16 = 100;

pub(super) const AFTER: &str = "\
Examples:
  weir proxy --to 127.0.0.1:3000
  weir proxy --from :8080 --to 127.0.0.1:3001 --to 127.0.0.1:3002 --health /healthz
  weir proxy --tls-names example.com,www.example.com --to 127.0.0.1:3000
  weir proxy --from :8080 --to 127.0.0.1:3000 --print-config > weir.yaml

The environment variables serve containers. An option takes precedence over its variable, and an empty variable counts as absent.
It says `listening NAME ADDRESS` on stderr for each listener and for the status page, then `ready`. Requests are logged on stdout.

Signals:
  HUP              a reload is refused, because there is no file to read: use --print-config and `weir run`
  TERM, INT, QUIT  stop gracefully; a second one stops now
  USR1             reopen the access log's file

Exit status: 0 nothing was cut, 1 something was cut or it could not start, 2 problems in the configuration, 64 usage.";

/// The options of `weir proxy`.
#[derive(Debug, Args)]
pub(super) struct ProxyOptions {
    /// The address to listen on: `:8080` for every address of the host, or `IP:PORT`. Default: `:8080`, or `:443` with
    /// --tls-names
    #[arg(long, value_name = "ADDRESS", env = "WEIR_FROM", value_parser = listen_address)]
    from: Option<SocketAddr>,
    /// A backend: `IP:PORT`, `NAME:PORT`, `:PORT`, `unix:/path`, or a URL with http, https or h2c and no path; may be
    /// repeated
    #[arg(long, value_name = "BACKEND", env = "WEIR_TO", required = true, value_delimiter = ',', value_parser = backend)]
    to: Vec<ProxyBackend>,
    /// The load balancing algorithm; consistent_hash goes by the client's address
    #[arg(long, env = "WEIR_BALANCE", default_value = "round_robin", value_parser = balance_parser())]
    balance: String,
    /// Check the health of backends by GET on this path; a status of 200 to 299 passes
    #[arg(long, value_name = "PATH", env = "WEIR_HEALTH")]
    health: Option<String>,
    /// The Host field that backends receive: `keep` (that of the client), `backend` or a name
    #[arg(long, value_name = "HOST", env = "WEIR_HOST")]
    host: Option<String>,
    /// Serve https for these names, with certificates from Let's Encrypt, whose terms of service you thereby accept
    #[arg(long, value_name = "NAMES", env = "WEIR_TLS_NAMES", value_delimiter = ',')]
    tls_names: Vec<String>,
    /// The contact address for the ACME account
    #[arg(long, value_name = "EMAIL", env = "WEIR_TLS_EMAIL", requires = "tls_names")]
    tls_email: Option<String>,
    /// The URL of another ACME directory
    #[arg(long, value_name = "URL", env = "WEIR_TLS_DIRECTORY", requires = "tls_names")]
    tls_directory: Option<String>,
    /// A PEM file of CA certificates that verify that directory
    #[arg(long, value_name = "FILE", env = "WEIR_TLS_DIRECTORY_CA", requires = "tls_directory")]
    tls_directory_ca: Option<String>,
    /// The address that answers ACME challenges and redirects to https. Default: port 80 on the host of --from
    #[arg(long, value_name = "ADDRESS", env = "WEIR_HTTP", requires = "tls_names", value_parser = listen_address)]
    http: Option<SocketAddr>,
    /// The folder of accounts and certificates. Default: /var/lib/weir for root, else $XDG_STATE_HOME/weir or
    /// ~/.local/state/weir
    #[arg(long, value_name = "FOLDER", env = "WEIR_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// The address of the status page, or `off`. Default: 127.0.0.1 with the first free port from 9180 on
    #[arg(long, value_name = "ADDRESS", env = "WEIR_ADMIN_ADDRESS")]
    admin: Option<AdminPage>,
    /// A file whose first line is the bearer token of the status page; needed for an address other than loopback
    #[arg(long, value_name = "FILE", env = "WEIR_ADMIN_TOKEN_FILE")]
    admin_token_file: Option<String>,
    /// The access log: `stdout`, `off` or a file
    #[arg(long, value_name = "PATH", env = "WEIR_ACCESS_LOG", default_value = "stdout")]
    access_log: String,
    /// Print the equivalent configuration as YAML, and exit
    #[arg(long)]
    print_config: bool,
}

/// A value of `--admin`.
#[derive(Debug, Clone, Copy)]
enum AdminPage {
    Off,
    At(SocketAddr),
}

impl FromStr for AdminPage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" { Ok(Self::Off) } else { listen_address(text).map(Self::At) }
    }
}

fn balance_parser() -> PossibleValuesParser {
    PossibleValuesParser::new(["round_robin", "least_connections", "p2c", "peak_ewma", "consistent_hash", "random"])
}

/// Runs the proxy until a signal ends it.
pub(super) fn proxy(options: &ProxyOptions, signals: &Signals) -> u8 {
    let text = match configuration(options) {
        Ok(text) => text,
        Err(wrong) => {
            let error = super::Cli::command().error(clap::error::ErrorKind::ValueValidation, wrong);
            let _ = error.print();
            return exit::USAGE;
        }
    };
    if options.print_config {
        super::print_bytes(text.as_bytes());
        return exit::DONE;
    }
    // An error is reported as a problem of `server.state_dir`.
    let _ = make_parent_of_state(options);
    let checked = match config::load_in_memory(&text) {
        Ok(checked) => checked,
        Err(problems) => {
            problem_list::list(&problems);
            return exit::PROBLEMS;
        }
    };
    let ended = server::run(checked, signals, Upgradable::default(), introduce);
    let advice = ended.as_ref().err().and_then(advice);
    let code = finish(ended);
    advice.into_iter().for_each(say);
    code
}

fn introduce(running: &RunningServer) {
    if let Some(admin) = running.admin() {
        // One write, because the process log writes to stderr from another thread.
        let line = format!("status page: http://{admin}/\n");
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

/// A hint for the most frequent failure: an address that is in use.
fn advice(error: &StartError) -> Option<&'static str> {
    match error {
        StartError::Bind(_) => Some("weir: choose another address: weir proxy --from :8081 --to …"),
        StartError::Admin { .. } => Some("weir: choose another address: weir proxy --admin 127.0.0.1:9181 --to …"),
        _ => None,
    }
}

/// The YAML of the options.
///
/// # Errors
/// Two options contradict each other.
fn configuration(options: &ProxyOptions) -> Result<String, String> {
    let has_tls = !options.tls_names.is_empty();
    let from = options.from.unwrap_or_else(|| any(if has_tls { 443 } else { 8080 }));
    let state_dir = state_dir(options).display().to_string();
    let tls = has_tls.then(|| Tls {
        names: &options.tls_names,
        email: options.tls_email.as_deref(),
        directory: options.tls_directory.as_deref(),
        directory_ca: options.tls_directory_ca.as_deref(),
        state_dir: &state_dir,
        http: options.http.unwrap_or(SocketAddr::new(from.ip(), 80)),
    });
    Ok(yaml(&Settings {
        admin: admin(options.admin),
        admin_token_file: options.admin_token_file.as_deref(),
        access_log: &options.access_log,
        from,
        tls,
        to: &options.to,
        server_name: server_name(&options.to)?,
        host: options.host.as_deref(),
        balance: &options.balance,
        health: options.health.as_deref(),
    }))
}

/// The name of the certificates of all backends; `None` for backends without TLS.
fn server_name(targets: &[ProxyBackend]) -> Result<Option<String>, String> {
    let Some(first) = targets.first() else { return Ok(None) };
    if targets.iter().any(|target| target.scheme != first.scheme) {
        return Err("the backends have different schemes; one upstream has one, so use a configuration file".into());
    }
    let name = (first.scheme == Scheme::Https).then(|| first.server_name()).flatten();
    if name.is_some() && targets.iter().any(|target| target.server_name() != name) {
        return Err("the https backends have different names, and one upstream has one `tls.server_name`; \
                    use a configuration file"
            .into());
    }
    Ok(name)
}

/// The address of the status page. Without the option, it is the first free one.
fn admin(option: Option<AdminPage>) -> Option<SocketAddr> {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match option {
        Some(AdminPage::Off) => None,
        Some(AdminPage::At(address)) => Some(address),
        None => {
            let mut ports = ADMIN_PORT..ADMIN_PORT + ADMIN_PORTS;
            Some(local(ports.find(|port| TcpListener::bind(local(*port)).is_ok()).unwrap_or(ADMIN_PORT)))
        }
    }
}

fn state_dir(options: &ProxyOptions) -> PathBuf {
    options.state_dir.clone().unwrap_or_else(|| {
        let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let of_user = || variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
        let of_user = if nix::unistd::Uid::effective().is_root() { None } else { of_user() };
        of_user.unwrap_or_else(|| "/var/lib".into()).join("weir")
    })
}

/// Creates the folder above the default state folder. Weir itself creates only the last one.
fn make_parent_of_state(options: &ProxyOptions) -> std::io::Result<()> {
    let path = state_dir(options);
    match path.parent().filter(|_| !options.tls_names.is_empty() && options.state_dir.is_none()) {
        Some(parent) => std::fs::create_dir_all(parent),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: ProxyOptions,
    }

    fn text(arguments: &str) -> Result<String, String> {
        let words = ["proxy"].into_iter().chain(arguments.split(' '));
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        configuration(&line.options)
    }

    #[test]
    fn every_combination_of_options_has_a_configuration_without_a_problem() {
        let lines = [
            "--to 127.0.0.1:3000",
            "--from :8080 --to :3001 --to localhost:3002,10.0.0.1:80 --balance peak_ewma --health /healthz?a=${B}",
            "--to 127.0.0.1:1 --to 127.0.0.1:2 --balance consistent_hash --access-log off --admin off",
            "--to https://api.test --host backend --admin 127.0.0.1:0",
            "--to h2c://127.0.0.1:50051 --access-log /tmp/access.log --host a.test",
            "--tls-names a.test,b.test --to 3000 --tls-email ops@a.test --state-dir /tmp/state",
            "--tls-names a.test --to 3000 --from 127.0.0.1:8443 --http 127.0.0.1:8080 --tls-directory https://ca.test/dir",
        ];
        for line in lines {
            let yaml = text(line).unwrap();
            let read = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
            let parsed = config::parse(Path::new("proxy.yaml"), &yaml, &|_| None, &read);
            assert!(parsed.is_ok(), "{line}\n{yaml}\n{:?}", parsed.err());
        }
    }

    #[test]
    fn certificates_by_acme_have_a_listener_that_redirects_to_https() {
        let yaml = text("--tls-names a.test --to 3000 --from 10.0.0.1:8443").unwrap();
        assert!(yaml.contains("{ name: http, address: \"10.0.0.1:80\", redirect_https: 8443 }"), "{yaml}");
        assert!(yaml.contains("tls: { acme: { names: [\"a.test\"] } }"), "{yaml}");
        assert!(text("--tls-names a.test --to 3000").unwrap().contains(":443\""));
    }

    #[test]
    fn backends_of_different_kinds_are_refused_with_a_reason() {
        assert!(text("--to https://a.test,http://a.test").unwrap_err().contains("different schemes"));
        assert!(text("--to https://a.test --to https://b.test").unwrap_err().contains("different names"));
        assert!(text("--to https://a.test --to https://a.test:8443").is_ok());
        assert!(text("--to 127.0.0.1:1 --tls-email a@b.c").unwrap_err().contains("--tls-names"));
    }
}
