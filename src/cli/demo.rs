//! `weir demo`: embedded backends, the proxy before them, the admin page, and what to try next.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::run::finish;
use super::{check, exit, say};
use crate::config;
use crate::demo;
use crate::server::{self, Running};

/// How often the shares are shown, if anything came.
const SHARES: Duration = Duration::from_secs(5);

/// Options of `weir demo`.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// How many backends to embed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    backends: u16,
    /// Where the proxy listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where the admin page is
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9180")]
    admin: SocketAddr,
}

/// Runs it until a signal ends it.
pub(super) fn demo(options: &Demo) -> u8 {
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
            check::list(&problems);
            return exit::PROBLEMS;
        }
    };
    finish(server::run(checked, |running| introduce(running, &file)))
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

fn introduce(running: &Running, file: &Path) {
    let Some(web) = running.listeners().into_iter().next() else { return };
    let (web, admin) = (web.address, running.admin());
    say(format_args!(
        "\nWeir runs. Try:\n\n\
         \x20 curl -s -X POST http://{web}/api/data -H 'content-type: application/json' -d '{{\"name\":\"Ada\"}}'\n\
         \x20 curl -s http://{web}/api/data\n\n\
         or from a browser's console or Node:\n\n\
         \x20 await (await fetch('http://{web}/api/data', {{ method: 'POST',\n\
         \x20   headers: {{ 'content-type': 'application/json' }}, body: JSON.stringify({{ name: 'Ada' }}) }})).json()\n\n\
         Status page   http://{admin}/\n\
         Metrics       http://{admin}/metrics\n\
         Configuration {}  (change it, then: kill -HUP {})\n",
        file.display(),
        std::process::id(),
    ));
    let status = running.clone();
    std::thread::spawn(move || show_shares(&status));
}

fn show_shares(running: &Running) {
    let mut before = Vec::new();
    loop {
        std::thread::sleep(SHARES);
        let now = running.answered();
        if now == before {
            continue;
        }
        let total: u64 = now.iter().map(|(_, count)| count).sum();
        for (backend, count) in &now {
            let share = *count as f64 / total.max(1) as f64;
            let bar = "█".repeat((share * 40.0).round() as usize);
            say(format_args!("  {backend:<12} {bar:<40} {:>5.1} %  {count}", share * 100.0));
        }
        say("");
        before = now;
    }
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
}
