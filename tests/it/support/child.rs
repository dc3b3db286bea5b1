//! The real binary with its pipes in the hands of the test.

use std::process::{Child, Command, ExitStatus, Stdio};

use super::eventually;

/// A running `weir`. It is killed with the value.
pub struct Process(pub Child);

impl Process {
    /// Runs it with these arguments and pipes.
    pub fn start(arguments: &[&str], stdin: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(arguments).env_remove("WEIR_CONFIG").env_remove("WEIR_ADMIN");
        Self(command.stdin(stdin).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap())
    }

    pub fn signal(&self, signal: i32) {
        send_signal(&self.0, signal);
    }

    /// Waits until it has a handler for this signal.
    pub fn wait_for_handler(&mut self, signal: i32) {
        let status = format!("/proc/{}/status", self.0.id());
        eventually("a handler of the signal", || {
            assert_eq!(self.0.try_wait().unwrap(), None, "it ended");
            let text = std::fs::read_to_string(&status).unwrap();
            let mask = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
            u64::from_str_radix(mask, 16).unwrap() & (1 << (signal - 1)) != 0
        });
    }

    /// Whether a thread of this name is there.
    pub fn has_thread(&self, name: &str) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.into_iter().any(|thread| thread.trim() == name)
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        eventually("the end of the process", || self.0.try_wait().unwrap())
    }
}

/// Sends a signal to a child that has not been waited for.
pub fn send_signal(child: &Child, signal: i32) {
    // A child that has not been waited for keeps its id.
    let signal = nix::sys::signal::Signal::try_from(signal).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), signal).unwrap();
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
