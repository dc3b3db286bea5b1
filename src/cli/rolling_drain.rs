//! `weir drain UPSTREAM`: drains the backends of an upstream one after the other, and enables each again.
//!
//! Between the two, `--exec` runs a command, or the operator says when to go on. At most one backend is draining at a
//! time. A signal enables that backend and ends the command.

use std::io::BufRead;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::backend_commands::{BackendPath, POLL_INTERVAL, show};
use super::remote::{CommandOutput, DONE, FAILED, Remote, TIMEOUT};
use super::say;
use crate::admin::api::{BackendCondition, BackendReply, StatusReply};

/// Why the command ends before the last backend.
enum DrainStop {
    /// The text says in which state the backend is.
    Failed(String),
    /// A signal arrived.
    Interrupted,
    /// The admin API refused, or it cannot be reached.
    Remote(CommandOutput),
}

/// One run of the command.
struct RollingDrain<'a> {
    remote: &'a Remote,
    upstream: &'a str,
    /// Limit of each wait.
    limit: Option<Duration>,
    exec: Option<&'a str>,
    interrupted: Arc<AtomicBool>,
    /// The lines of standard input. Only a run without `exec` reads them.
    lines: Option<Receiver<()>>,
}

/// Drains each backend of the upstream in turn.
pub(super) fn run(remote: &Remote, upstream: &str, limit: Option<Duration>, exec: Option<&str>) -> CommandOutput {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // The order matters: a second signal ends the process, the first one only sets the flag.
        let caught = flag::register_conditional_shutdown(signal, FAILED.into(), Arc::clone(&interrupted))
            .and_then(|_| flag::register(signal, Arc::clone(&interrupted)));
        if let Err(error) = caught {
            return remote.fail(&format!("cannot catch signals: {error}"));
        }
    }
    let lines = exec.is_none().then(lines_of_stdin);
    RollingDrain { remote, upstream, limit, exec, interrupted, lines }.all()
}

fn lines_of_stdin() -> Receiver<()> {
    let (send, lines) = channel();
    std::thread::spawn(move || std::io::stdin().lock().lines().map_while(Result::ok).try_for_each(|_| send.send(())));
    lines
}

impl RollingDrain<'_> {
    fn all(&self) -> CommandOutput {
        let names: Vec<String> = match self.backends() {
            Ok(backends) => backends.into_iter().map(|backend| backend.name).collect(),
            Err(stop) => return self.stopped(stop, &[]),
        };
        for (at, name) in names.iter().enumerate() {
            if let Err(stop) = self.one(name) {
                return self.stopped(stop, &names[at + 1..]);
            }
        }
        CommandOutput { text: String::new(), code: DONE }
    }

    fn stopped(&self, stop: DrainStop, rest: &[String]) -> CommandOutput {
        let what = match stop {
            DrainStop::Remote(output) => return CommandOutput { code: FAILED, ..output },
            DrainStop::Failed(what) => what,
            DrainStop::Interrupted => "interrupted".to_owned(),
        };
        let rest = if rest.is_empty() { String::new() } else { format!("; not drained: {}", rest.join(", ")) };
        self.remote.fail(&format!("{what}{rest}"))
    }

    fn one(&self, name: &str) -> Result<(), DrainStop> {
        let place = BackendPath::new(self.upstream, name);
        let Some(address) = self.may_drain(name)? else { return Ok(()) };
        self.set(&place, "draining")?;
        self.report(name, "draining", "");
        if let Err(stop) = self.wait_until_idle(name, &place).and_then(|()| self.work_on(name, &address, &place)) {
            show(None);
            return Err(self.give_up(stop, name, &place));
        }
        self.set(&place, "ready")?;
        self.report(name, "enabled", "");
        self.wait_until_up(name, &place)
    }

    /// Checks that the backend can be drained, and returns its address. `None`: it is skipped.
    fn may_drain(&self, name: &str) -> Result<Option<String>, DrainStop> {
        self.check_signal()?;
        let backends = self.backends()?;
        let Some(backend) = backends.iter().find(|backend| backend.name == name) else {
            self.report(name, "skipped", "it is no longer a backend");
            return Ok(None);
        };
        if backend.state == BackendCondition::Disabled {
            self.report(name, "skipped", "it is disabled");
            return Ok(None);
        }
        let upstream = self.upstream;
        if let Some(other) = backends.iter().find(|one| one.state == BackendCondition::Draining) {
            let other = &other.name;
            let what = format!("{upstream}/{other} is draining already; `weir enable {upstream}/{other}` ends that");
            return Err(DrainStop::Failed(what));
        }
        if !backends.iter().any(|other| other.name != name && is_up(other)) {
            let what = format!(
                "{upstream}/{name} is not drained, because no other backend is up; `weir drain {upstream}/{name}` does it anyway"
            );
            return Err(DrainStop::Failed(what));
        }
        Ok(Some(backend.address.clone()))
    }

    /// Waits until two consecutive polls show no request in flight: only the second one counts a request that chose the
    /// backend just before the change.
    fn wait_until_idle(&self, name: &str, place: &BackendPath) -> Result<(), DrainStop> {
        let (started, mut idle) = (Instant::now(), 0);
        loop {
            let backend = self.backend(place)?;
            idle = if backend.in_flight == 0 { idle + 1 } else { 0 };
            if idle == 2 {
                show(None);
                self.report(name, "drained", "");
                return Ok(());
            }
            show(Some(backend.in_flight));
            if self.is_over(started) {
                let (count, upstream) = (backend.in_flight, self.upstream);
                let what = format!("timed out: {upstream}/{name} has {count} in flight; it takes requests again");
                self.set(place, "ready")?;
                return Err(DrainStop::Failed(what));
            }
            self.pause()?;
        }
    }

    /// Runs the command, or waits for Enter or `weir enable`.
    fn work_on(&self, name: &str, address: &str, place: &BackendPath) -> Result<(), DrainStop> {
        let Some(exec) = self.exec else { return self.wait_for_operator(name, place) };
        self.report(name, "exec", exec);
        let upstream = self.upstream;
        let stays = format!("{upstream}/{name} stays draining; `weir enable {upstream}/{name}` ends that");
        let mut command = Command::new("sh");
        command.arg("-c").arg(exec).stdin(Stdio::null());
        command.env("WEIR_UPSTREAM", upstream).env("WEIR_BACKEND", name).env("WEIR_ADDRESS", address);
        if self.remote.json {
            command.stdout(std::io::stderr());
        }
        let failed = |error| DrainStop::Failed(format!("cannot run `{exec}`: {error}; {stays}"));
        let mut child = command.spawn().map_err(failed)?;
        let status = loop {
            match child.try_wait().map_err(failed)? {
                Some(status) => break status,
                None => self.pause().inspect_err(|_| end(&mut child))?,
            }
        };
        self.check_signal()?;
        if status.success() { Ok(()) } else { Err(DrainStop::Failed(format!("`{exec}`: {status}; {stays}"))) }
    }

    fn wait_for_operator(&self, name: &str, place: &BackendPath) -> Result<(), DrainStop> {
        let upstream = self.upstream;
        self.report(name, "waiting", &format!("press Enter, or run `weir enable {upstream}/{name}`"));
        let lines = self.lines.as_ref();
        // A line that was typed before the backend was drained does not count.
        lines.into_iter().flat_map(Receiver::try_iter).for_each(drop);
        while self.backend(place)?.state == BackendCondition::Draining
            && lines.is_none_or(|lines| lines.try_recv().is_err())
        {
            self.pause()?;
        }
        Ok(())
    }

    fn wait_until_up(&self, name: &str, place: &BackendPath) -> Result<(), DrainStop> {
        let started = Instant::now();
        loop {
            let backend = self.backend(place)?;
            if is_up(&backend) {
                self.report(name, backend.state.label(), "");
                return Ok(());
            }
            if self.is_over(started) {
                let (state, reason) = (backend.state.label(), backend.reason);
                return Err(DrainStop::Failed(format!("timed out: {}/{name} is {state}: {reason}", self.upstream)));
            }
            self.pause()?;
        }
    }

    /// Enables the backend after a signal.
    fn give_up(&self, stop: DrainStop, name: &str, place: &BackendPath) -> DrainStop {
        match stop {
            DrainStop::Interrupted => match self.set(place, "ready") {
                Ok(()) => DrainStop::Failed(format!("interrupted; {}/{name} takes requests again", self.upstream)),
                Err(stop) => stop,
            },
            other => other,
        }
    }

    fn is_over(&self, started: Instant) -> bool {
        self.limit.is_some_and(|limit| started.elapsed() >= limit)
    }

    fn pause(&self) -> Result<(), DrainStop> {
        std::thread::sleep(POLL_INTERVAL);
        self.check_signal()
    }

    fn check_signal(&self) -> Result<(), DrainStop> {
        if self.interrupted.load(Ordering::Relaxed) { Err(DrainStop::Interrupted) } else { Ok(()) }
    }

    fn set(&self, place: &BackendPath, state: &str) -> Result<(), DrainStop> {
        let output = self.remote.set_state(place, state);
        if output.code == DONE { Ok(()) } else { Err(DrainStop::Remote(output)) }
    }

    fn backend(&self, place: &BackendPath) -> Result<BackendReply, DrainStop> {
        let mut backend = None;
        let output = self.remote.ask("GET", &place.path(), None, TIMEOUT, |reply: BackendReply| {
            backend = Some(reply);
            (String::new(), DONE)
        });
        backend.ok_or(DrainStop::Remote(output))
    }

    fn backends(&self) -> Result<Vec<BackendReply>, DrainStop> {
        let mut status = None;
        let output = self.remote.ask("GET", "/api/v1/status", None, TIMEOUT, |reply: StatusReply| {
            status = Some(reply);
            (String::new(), DONE)
        });
        let upstreams = status.ok_or(DrainStop::Remote(output))?.upstreams;
        let known = upstreams.iter().map(|upstream| format!("`{}`", upstream.name)).collect::<Vec<_>>().join(", ");
        let found = upstreams.into_iter().find(|upstream| upstream.name == self.upstream);
        let none = || DrainStop::Failed(format!("there is no upstream `{}`; known are {known}", self.upstream));
        found.map(|upstream| upstream.backends).ok_or_else(none)
    }

    fn report(&self, backend: &str, event: &str, detail: &str) {
        let upstream = self.upstream;
        if self.remote.json {
            let (keys, values) = (["upstream", "backend", "event", "detail"], [upstream, backend, event, detail]);
            say(serde_json::Value::from_iter(keys.into_iter().zip(values)));
        } else if detail.is_empty() {
            say(format_args!("{upstream}/{backend}: {event}"));
        } else {
            say(format_args!("{upstream}/{backend}: {event}: {detail}"));
        }
    }
}

fn is_up(backend: &BackendReply) -> bool {
    matches!(backend.state, BackendCondition::Up | BackendCondition::Unchecked)
}

/// Ends the command after a signal, and waits for it.
fn end(child: &mut Child) {
    if let Ok(id) = i32::try_from(child.id()) {
        let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
    }
    let _ = child.wait();
}
