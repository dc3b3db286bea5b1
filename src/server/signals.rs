//! Process signals: caught from the start of `main`, and stored until the process can handle them.
//!
//! Several pending signals of one kind count as one. Stop signals are counted.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals as Caught;
use tokio::sync::Notify;

use crate::telemetry::process_log;

/// How long a stopped start may take to end by itself. It may hang in the file system.
const STARTUP_STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the process log may take to write its last lines.
pub(super) const LOG_FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Exit statuses of a start that was stopped by one signal, or by two.
const STOPPED: i32 = 0;
const STOPPED_AT_ONCE: i32 = 1;

/// The command that a signal stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignalCommand {
    /// SIGHUP.
    Reload,
    /// SIGTERM, SIGINT or SIGQUIT.
    Stop,
    /// SIGUSR1.
    ReopenLogs,
    /// SIGUSR2.
    Upgrade,
}

/// The caught signals that are not handled yet.
#[derive(Debug)]
pub struct Signals {
    shared: Arc<SignalState>,
}

#[derive(Debug, Default)]
struct SignalState {
    pending: Mutex<PendingSignals>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct PendingSignals {
    stops: u32,
    reload: bool,
    reopen: bool,
    upgrade: bool,
    /// The start has ended. From now on, the caller of `next` handles signals.
    started: bool,
}

impl Signals {
    /// Catches the signals from now on, until the process ends.
    ///
    /// # Errors
    /// No descriptor or no thread is available.
    pub fn catch() -> io::Result<Self> {
        let mut caught = Caught::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2])?;
        let shared = Arc::<SignalState>::default();
        let into = Arc::clone(&shared);
        let note = move || caught.forever().for_each(|signal| into.note(signal));
        thread::Builder::new().name("weir-signals".into()).spawn(note)?;
        Ok(Self { shared })
    }

    /// Whether a stop signal has arrived. The start checks it between its steps.
    pub fn stop_asked(&self) -> bool {
        self.shared.lock().stops > 0
    }

    /// Ends the start: from now on, the caller of `next` handles signals. Returns `false` if a stop signal arrived
    /// before.
    pub(super) fn end_start(&self) -> bool {
        let mut pending = self.shared.lock();
        pending.started = pending.stops == 0;
        pending.started
    }

    /// Waits for the next command. A stop comes before the others.
    pub(super) async fn next(&self) -> SignalCommand {
        loop {
            let pending = self.shared.lock().take();
            match pending {
                Some(command) => return command,
                None => self.shared.arrived.notified().await,
            }
        }
    }
}

impl SignalState {
    fn note(self: &Arc<Self>, signal: i32) {
        let mut pending = self.lock();
        match signal {
            SIGHUP => pending.reload = true,
            SIGUSR1 => pending.reopen = true,
            SIGUSR2 => pending.upgrade = true,
            _ => pending.stops += 1,
        }
        let stops_the_start = !pending.started && pending.stops > 0;
        let stops = pending.stops;
        drop(pending);
        self.arrived.notify_one();
        if stops_the_start {
            self.end_the_start(stops);
        }
    }

    /// Ends a start that may hang uninterruptibly: after `STARTUP_STOP_TIMEOUT`, or at once on a second signal.
    fn end_the_start(self: &Arc<Self>, stops: u32) {
        if stops > 1 {
            exit(STOPPED_AT_ONCE);
        }
        let same = Arc::clone(self);
        let end = move || {
            thread::sleep(STARTUP_STOP_TIMEOUT);
            if !same.lock().started {
                exit(STOPPED);
            }
        };
        if thread::Builder::new().name("weir-stop".into()).spawn(end).is_err() {
            exit(STOPPED);
        }
    }

    fn lock(&self) -> MutexGuard<'_, PendingSignals> {
        self.pending.lock()
    }
}

impl PendingSignals {
    fn take(&mut self) -> Option<SignalCommand> {
        if self.stops > 0 {
            self.stops -= 1;
            return Some(SignalCommand::Stop);
        }
        let waiting = [
            (&mut self.reload, SignalCommand::Reload),
            (&mut self.reopen, SignalCommand::ReopenLogs),
            (&mut self.upgrade, SignalCommand::Upgrade),
        ];
        waiting.into_iter().find_map(|(pending, command)| std::mem::take(pending).then_some(command))
    }
}

fn exit(code: i32) -> ! {
    process_log::flush(LOG_FLUSH_TIMEOUT);
    std::process::exit(code)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_comes_before_a_reload_that_came_earlier_and_each_stop_counts() {
        let shared = Arc::<SignalState>::default();
        shared.lock().started = true;
        for signal in [SIGHUP, SIGUSR1, SIGHUP, SIGTERM, SIGUSR2, SIGINT] {
            shared.note(signal);
        }
        let taken: Vec<_> = std::iter::from_fn(|| shared.lock().take()).collect();
        assert_eq!(
            taken,
            [
                SignalCommand::Stop,
                SignalCommand::Stop,
                SignalCommand::Reload,
                SignalCommand::ReopenLogs,
                SignalCommand::Upgrade
            ]
        );
    }

    #[tokio::test]
    async fn a_signal_that_comes_before_the_wait_is_not_lost() {
        let signals = Signals { shared: Arc::default() };
        signals.shared.note(SIGHUP);
        assert_eq!(signals.next().await, SignalCommand::Reload);
        let (next, ()) = tokio::join!(signals.next(), async { signals.shared.note(SIGUSR1) });
        assert_eq!(next, SignalCommand::ReopenLogs);
    }
}
