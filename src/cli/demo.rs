//! `weir demo`: embedded backends, a proxy in front of them, the admin page, and commands to try.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use super::run::finish;
use super::{exit, problem_list, say};
use crate::config;
use crate::config::values::AdminAddress;
use crate::demo;
use crate::server::{self, RunningServer, Signals, StartError, Upgradable};

/// Poll interval of the request counts.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Minimum time between two outputs under load, so that they do not fill the screen.
const STEP_PAUSE: Duration = Duration::from_secs(5);
/// Width of the longest bar, in characters.
const BAR: usize = 40;

/// Options of `weir demo`.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// How many backends to embed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    backends: u16,
    /// The listen address of the proxy
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The listen address of the admin page: a loopback address, because the page needs no token
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9180", value_parser = loopback)]
    admin: SocketAddr,
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "write IP:PORT, such as 127.0.0.1:9180".to_owned())?;
    if AdminAddress::Socket(address).is_exposed() {
        return Err(
            "other machines would reach the admin page, which asks for no token here; write 127.0.0.1:PORT".into()
        );
    }
    Ok(address)
}

/// Runs the demo until a signal ends it.
pub(super) fn demo(options: &Demo, signals: &Signals) -> u8 {
    let backends = match demo::Backends::start(options.backends) {
        Ok(backends) => backends,
        Err(error) => {
            say(format_args!("weir: cannot start the embedded backends: {error}"));
            return exit::FAILED;
        }
    };
    let folder = match tempfile::Builder::new().prefix("weir-demo-").tempdir() {
        Ok(folder) => folder,
        Err(error) => {
            say(format_args!("weir: cannot write the demo's configuration: {error}"));
            return exit::FAILED;
        }
    };
    let file = folder.path().join("weir.yaml");
    if let Err(error) = std::fs::write(&file, configuration(options, backends.addresses())) {
        say(format_args!("weir: cannot write {}: {error}", file.display()));
        return exit::FAILED;
    }
    let checked = match config::load(&file) {
        Ok(checked) => checked,
        Err(problems) => {
            problem_list::list(&problems);
            return exit::PROBLEMS;
        }
    };
    let ended = server::run(checked, signals, Upgradable::default(), |running| introduce(running, &file));
    let advice = ended.as_ref().err().and_then(advice);
    let code = finish(ended);
    advice.into_iter().for_each(say);
    code
}

/// A hint for the most frequent failure: a port that is in use. In the demo, ports are set on the command line.
fn advice(error: &StartError) -> Option<&'static str> {
    match error {
        StartError::Bind(_) => Some("weir: choose where the proxy listens: weir demo --listen 127.0.0.1:8081"),
        StartError::Admin { .. } => Some("weir: choose where the admin page is: weir demo --admin 127.0.0.1:9181"),
        _ => None,
    }
}

fn configuration(options: &Demo, backends: &[SocketAddr]) -> String {
    use std::fmt::Write;
    let mut yaml = format!(
        "# The demo's configuration. Change it and send SIGHUP, or run `weir reload`.\n\
         admin: {{ address: \"{}\" }}\n\
         access_log: {{ path: \"off\" }}\n\
         listeners:\n  - {{ name: web, address: \"{}\" }}\n\
         routes:\n  - {{ name: api, match: {{ path_prefix: / }}, upstream: api }}\n\
         upstreams:\n  api:\n    balance: round_robin\n\
         \x20   health_check: {{ http: {{ path: /healthz }}, interval: 2s, timeout: 1s }}\n    backends:\n",
        options.admin, options.listen
    );
    for (number, address) in backends.iter().enumerate() {
        let _ = writeln!(yaml, "      - {{ name: backend-{}, address: \"{address}\" }}", number + 1);
    }
    yaml
}

fn introduce(running: &RunningServer, file: &Path) {
    let (Some(web), Some(admin)) = (running.listeners().into_iter().next(), running.admin()) else { return };
    let (web, file, pid) = (web.address, shell_word(file), std::process::id());
    let weir = shell_word(&this_command());
    say(format_args!(
        "\nWeir runs, with {backends} backends behind http://{web}. Try:\n\n\
         \x20 curl -s -X POST http://{web}/api/data -H 'content-type: application/json' -d '{{\"name\":\"Ada\"}}'\n\
         \x20 curl -s http://{web}/api/data\n\n\
         The backends share one store, so each of them lists the data of all. Or from the browser's console on\n\
         http://{web}/, or from Node:\n\n\
         \x20 await (await fetch('http://{web}/api/data', {{ method: 'POST',\n\
         \x20   headers: {{ 'content-type': 'application/json' }}, body: JSON.stringify({{ name: 'Ada' }}) }})).json()\n\n\
         Status page    http://{admin}/\n\
         Metrics        http://{admin}/metrics\n\
         Status         {weir} status --admin http://{admin}\n\
         Configuration  {file}\n\
         \x20              change it, then: {weir} diff -c {file} --admin http://{admin}; kill -HUP {pid}\n\
         Stop           Ctrl-C\n",
        backends = running.answered().len(),
    ));
    let status = running.clone();
    std::thread::spawn(move || show_shares(&status));
}

/// The program as a shell finds it from any folder: by name if it was found on `PATH`, else by its path.
fn this_command() -> PathBuf {
    let typed = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let by_name = typed.components().count() == 1 && !typed.as_os_str().is_empty();
    if by_name { typed } else { std::env::current_exe().unwrap_or(typed) }
}

/// A path as one word of a shell.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Prints the share of each backend: soon after the last response, or every `STEP_PAUSE` under load.
fn show_shares(running: &RunningServer) {
    let bars = std::io::stdout().is_terminal();
    let mut shown = running.answered();
    let (mut before, mut at) = (shown.clone(), Instant::now());
    loop {
        std::thread::sleep(POLL_INTERVAL);
        let now = running.answered();
        if now != shown && (now == before || at.elapsed() >= STEP_PAUSE) {
            say(shares(&now, bars));
            (shown, at) = (now.clone(), Instant::now());
        }
        before = now;
    }
}

fn shares(answered: &[(String, u64)], bars: bool) -> String {
    use std::fmt::Write;
    let total: u64 = answered.iter().map(|(_, count)| count).sum();
    let widest = answered.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (backend, count) in answered {
        let share = *count as f64 / total.max(1) as f64;
        let bar = if bars { "█".repeat((share * BAR as f64).round() as usize) } else { String::new() };
        // Writing to a String cannot fail.
        let line = format!("  {backend:<widest$}  {:>5.1} %  {count:>7} answered  {bar}", share * 100.0);
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demos_configuration_has_no_problem() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let backends = [SocketAddr::from(([127, 0, 0, 1], 3001)), SocketAddr::from(([127, 0, 0, 1], 3002))];
        let yaml = configuration(&Demo { backends: 2, listen: any, admin: any }, &backends);
        let read = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
        let parsed = config::parse(Path::new("demo.yaml"), &yaml, &|_| None, &read);
        assert!(parsed.is_ok(), "{yaml}\n{:?}", parsed.err());
    }

    #[test]
    fn a_path_with_blanks_or_quotes_is_one_word_of_a_shell() {
        assert_eq!(shell_word(Path::new("/opt/weir-0.1/weir")), "/opt/weir-0.1/weir");
        assert_eq!(shell_word(Path::new("/my files/it's")), "'/my files/it'\\''s'");
    }

    #[test]
    fn shares_are_a_line_a_backend() {
        let answered = [("a".to_owned(), 3), ("backend-2".to_owned(), 1)];
        let text = shares(&answered, false);
        assert_eq!(text, "  a           75.0 %        3 answered\n  backend-2   25.0 %        1 answered\n");
        assert_eq!(shares(&answered, true).matches('█').count(), BAR);
        assert!(shares(&[("a".to_owned(), 0)], true).contains("0.0 %"));
    }
}
