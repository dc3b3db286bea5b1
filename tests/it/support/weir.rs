//! The real binary with a configuration of its own. It ends with the value.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::child::send_signal;
use super::{Client, eventually};

/// The program under test.
const BINARY: &str = env!("CARGO_BIN_EXE_weir");

/// A running weir.
pub struct Weir {
    child: Child,
    folder: TempDir,
    listening: BTreeMap<String, SocketAddr>,
    stderr: Arc<Mutex<String>>,
    stdout: Arc<Mutex<String>>,
}

/// The process's output of a command that ends by itself.
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `weir` with these arguments to its end.
pub fn command(arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(arguments).env_remove("WEIR_CONFIG").env_remove("WEIR_ADMIN");
    output(command)
}

fn output(mut command: Command) -> Output {
    let output = command.output().unwrap();
    Output {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn run_to_its_end(mut command: Command, folder: &TempDir, config: impl Display) -> Output {
    command.arg("run").arg("-c").arg(write_config(folder, config)).stdin(Stdio::null());
    output(command)
}

/// Writes `weir.yaml`.
fn write_config(folder: &TempDir, config: impl Display) -> PathBuf {
    let file = folder.path().join("weir.yaml");
    std::fs::write(&file, with_admin(&config)).unwrap();
    file
}

/// `weir` with a limit of open files.
fn with_files(limit: u32) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -n {limit} && exec \"$0\" \"$@\"")).arg(BINARY);
    command
}

impl Weir {
    /// Starts with this configuration; `admin` is added to it, on port 0. Waits until it is ready.
    pub fn start(config: impl Display) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), config)
    }

    /// The same in a folder that holds the files that the configuration names.
    pub fn start_in(folder: TempDir, config: impl Display) -> Self {
        Self::spawn(Command::new(BINARY), folder, config).ready()
    }

    /// The same with variables of the environment.
    pub fn start_with_env<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        folder: TempDir,
        config: impl Display,
        env: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let mut command = Command::new(BINARY);
        command.envs(env);
        Self::spawn(command, folder, config).ready()
    }

    /// The same by a command of one's own, which gets `run -c FILE` as arguments.
    pub fn start_by(command: Command, config: impl Display) -> Self {
        Self::spawn(command, tempfile::tempdir().unwrap(), config).ready()
    }

    /// The same with so many descriptors at most.
    pub fn start_with_files(folder: TempDir, config: impl Display, limit: u32) -> Self {
        Self::spawn(with_files(limit), folder, config).ready()
    }

    /// Starts it in this folder and waits for its end, which comes before it is ready.
    pub fn start_and_end(folder: &TempDir, config: impl Display) -> Output {
        run_to_its_end(Command::new(BINARY), folder, config)
    }

    /// The same with so many descriptors at most.
    pub fn start_and_end_with_files(folder: &TempDir, config: impl Display, limit: u32) -> Output {
        run_to_its_end(with_files(limit), folder, config)
    }

    /// Starts this command, which runs a proxy without a configuration file. Waits until it is ready.
    pub fn start_command(mut command: Command) -> Self {
        command.env_remove("WEIR_CONFIG").env_remove("WEIR_ADMIN");
        Self::spawn_command(command, tempfile::tempdir().unwrap()).ready()
    }

    fn ready(mut self) -> Self {
        eventually("ready", || {
            let is_ready = self.stderr().lines().any(|line| line == "ready");
            let ended = !is_ready && self.child.try_wait().unwrap().is_some();
            assert!(!ended, "ended: {}{}", self.stdout(), self.stderr());
            is_ready
        });
        for line in self.stderr().lines() {
            if let ["listening", name, address] = line.split(' ').collect::<Vec<_>>()[..] {
                // A Unix socket has no such address.
                if let Ok(address) = address.parse() {
                    self.listening.insert(name.to_owned(), address);
                }
            }
        }
        self
    }

    fn spawn(mut command: Command, folder: TempDir, config: impl Display) -> Self {
        command.arg("run").arg("-c").arg(write_config(&folder, config));
        Self::spawn_command(command, folder)
    }

    fn spawn_command(mut command: Command, folder: TempDir) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = collect(child.stderr.take().unwrap());
        let stdout = collect(child.stdout.take().unwrap());
        Self { child, folder, listening: BTreeMap::new(), stderr, stdout }
    }

    /// The address of the listener of that name.
    pub fn address(&self, name: &str) -> SocketAddr {
        self.listening[name]
    }

    /// The address of the listener `web`.
    pub fn web(&self) -> SocketAddr {
        self.address("web")
    }

    pub fn admin(&self) -> SocketAddr {
        self.address("admin")
    }

    /// Ends it as a crash would: nothing is cleaned up. The folder is left.
    pub fn crash(mut self) -> TempDir {
        self.signal(libc::SIGKILL);
        self.wait();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("weir.yaml")
    }

    /// What the kernel says of the process in `/proc/ID/NAME`.
    pub fn kernel_says(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).unwrap()
    }

    /// The resident memory of the process.
    pub fn resident_mib(&self) -> f64 {
        let status = self.kernel_says("status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// Everything it wrote to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until it has logged this text.
    pub fn wait_for_log(&self, text: &str) {
        eventually(&format!("{text}; {}", self.stderr()), || self.stderr().contains(text));
    }

    /// Everything it wrote to stdout so far.
    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    /// The access log so far.
    pub fn access_log(&self) -> Vec<serde_json::Value> {
        self.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits for the access log to have so many lines.
    pub fn access_log_of(&self, lines: usize) -> Vec<serde_json::Value> {
        eventually(&format!("{lines} lines of access log"), || {
            let log = self.access_log();
            (log.len() >= lines).then_some(log)
        })
    }

    pub fn signal(&self, signal: i32) {
        send_signal(&self.child, signal);
    }

    /// Replaces the configuration, sends SIGHUP and waits for the verdict: whether it was applied.
    pub fn reload(&self, config: impl Display) -> bool {
        let before = (self.metric("weir_config_reloads_total{result=\"applied\"}"), self.rejected());
        std::fs::write(self.config_file(), with_admin(&config)).unwrap();
        self.signal(libc::SIGHUP);
        eventually("the verdict of a reload", || {
            if self.rejected() > before.1 {
                return Some(false);
            }
            (self.metric("weir_config_reloads_total{result=\"applied\"}") > before.0).then_some(true)
        })
    }

    fn rejected(&self) -> f64 {
        self.metric("weir_config_reloads_total{result=\"rejected\"}")
    }

    /// The URL of its admin API.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin())
    }

    /// Runs a command of `weir` against this process.
    pub fn command(&self, arguments: &[&str]) -> Output {
        command(&[arguments, &["--admin", &self.admin_url()]].concat())
    }

    /// The same: its exit status and its standard output.
    pub fn status_and_output(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.command(arguments);
        (output.code.unwrap(), output.stdout)
    }

    /// GET of an admin path.
    pub fn admin_get(&self, path: &str) -> super::Response {
        Client::connect(self.admin()).get_with(path, &[("Host", "localhost")])
    }

    pub fn status(&self) -> serde_json::Value {
        serde_json::from_slice(&self.admin_get("/api/v1/status").body).unwrap()
    }

    /// All series of a scrape.
    pub fn scrape(&self) -> BTreeMap<String, f64> {
        let text = String::from_utf8(self.admin_get("/metrics").body).unwrap();
        let series = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        series
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').unwrap();
                (name.to_owned(), value.parse().unwrap())
            })
            .collect()
    }

    /// The sum of the series whose name and labels contain all of these.
    pub fn sum(&self, parts: &[&str]) -> f64 {
        self.scrape().iter().filter(|(name, _)| parts.iter().all(|part| name.contains(part))).map(|(_, v)| v).sum()
    }

    /// One series; 0 if it is not there.
    pub fn metric(&self, series: &str) -> f64 {
        self.scrape().get(series).copied().unwrap_or(0.0)
    }

    /// Waits for the sum of series to become a value.
    pub fn wait_for(&self, parts: &[&str], value: f64) {
        eventually(&format!("{parts:?} = {value}, is {}", self.sum(parts)), || self.sum(parts) == value);
    }

    /// Waits for the sum of series to reach a value.
    pub fn wait_for_at_least(&self, parts: &[&str], value: f64) {
        eventually(&format!("{parts:?} >= {value}, is {}", self.sum(parts)), || self.sum(parts) >= value);
    }

    /// Waits for the state of a backend.
    pub fn wait_for_state(&self, backend: &str, state: &str) {
        eventually(&format!("{backend} {state}; {}", self.status()), || {
            let status = self.status();
            let upstreams = status["upstreams"].as_array()?.clone();
            let mut all = upstreams.iter().flat_map(|upstream| upstream["backends"].as_array().unwrap().clone());
            all.any(|b| b["name"] == backend && b["state"] == state).then_some(())
        });
    }

    /// Waits for the process to end.
    pub fn wait(&mut self) -> ExitStatus {
        eventually("the end of the process", || self.child.try_wait().unwrap())
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- weir's stderr\n{}", self.stderr());
        }
    }
}

fn with_admin(config: &impl Display) -> String {
    let yaml = config.to_string();
    let admin = if yaml.contains("admin:") { "" } else { "\nadmin: { address: \"127.0.0.1:0\" }\n" };
    yaml + admin
}

fn collect(from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&text);
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            into.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    text
}
