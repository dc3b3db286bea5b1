//! `weir drain`: of one backend here, of each backend of an upstream in turn by `rolling_drain`.

use clap::error::ErrorKind;
use clap::{Args, CommandFactory};

use super::backend_commands::{BackendPath, place, show};
use super::remote::DONE;
use super::remote_commands::ask;
use super::{RemoteOptions, exit, rolling_drain};
use crate::config::values::Period;

/// `weir drain`.
#[derive(Debug, Args)]
pub(super) struct Drain {
    /// The backend, as UPSTREAM/BACKEND, or an upstream, whose backends are then drained one after the other
    #[arg(value_name = "UPSTREAM[/BACKEND]", value_parser = drain_target)]
    target: DrainTarget,
    /// Return when the last request is done. An UPSTREAM is always waited for
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this, such as 30s or 5m, then exit 1. A BACKEND stays draining. Of an UPSTREAM, the backend whose
    /// requests do not end takes requests again
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Period>,
    /// With UPSTREAM: run this command when a backend is drained, and enable the backend when the command has succeeded. It
    /// has WEIR_UPSTREAM, WEIR_BACKEND and WEIR_ADDRESS in its environment. Without it, Enter or `weir enable` goes on
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    #[command(flatten)]
    remote: RemoteOptions,
}

/// The argument of `weir drain`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum DrainTarget {
    Upstream(String),
    Backend(BackendPath),
}

pub(super) fn drain(options: &Drain) -> u8 {
    let limit = options.timeout.map(Period::get);
    let place = match &options.target {
        DrainTarget::Upstream(upstream) => {
            let exec = options.exec.as_deref();
            return ask(&options.remote, |remote| rolling_drain::run(remote, upstream, limit, exec));
        }
        DrainTarget::Backend(_) if options.exec.is_some() => {
            return usage("--exec needs an UPSTREAM without a backend");
        }
        DrainTarget::Backend(_) if limit.is_some() && !options.wait => return usage("--timeout needs --wait"),
        DrainTarget::Backend(place) => place,
    };
    ask(&options.remote, |remote| {
        let output = remote.set_state(place, "draining");
        if output.code == DONE && options.wait { remote.wait(place, limit, &mut show) } else { output }
    })
}

fn usage(what: &str) -> u8 {
    let _ = super::Cli::command().error(ErrorKind::ArgumentConflict, what).print();
    exit::USAGE
}

fn drain_target(text: &str) -> Result<DrainTarget, String> {
    match place(text) {
        Ok(place) => Ok(DrainTarget::Backend(place)),
        Err(_) if !text.is_empty() && !text.contains('/') => Ok(DrainTarget::Upstream(text.to_owned())),
        Err(_) => Err("write UPSTREAM/BACKEND, such as api/a, or UPSTREAM".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_backend_or_an_upstream() {
        assert_eq!(drain_target("api"), Ok(DrainTarget::Upstream("api".into())));
        assert_eq!(drain_target("api/a/b"), Ok(DrainTarget::Backend(BackendPath::new("api", "a/b"))));
        assert!(["/a", "api/", ""].iter().all(|text| drain_target(text).is_err()));
    }
}
