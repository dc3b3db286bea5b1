//! The preflight of `weir check`: everything that could stop a start on this host, except an address that is in use.
//!
//! It binds no configured address, except for an instant those below 1024, and leaves no file behind. It runs in the
//! order of a start, with the same code where that has no lasting effect.

mod files;
mod user;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::runtimes::Runtimes;
use super::{admin_socket, fd_limit};
use crate::config::schema::Document;
use crate::config::values::{AdminAddress, BackendAddress};
use crate::config::{Problem, ValidatedConfig};
use crate::listener::{self, CheckedAddress};
use crate::snapshot::Snapshot;
use crate::telemetry::Metrics;
use crate::tls;
use crate::upstream::manager::UpstreamManager;

/// The findings, in no order. All of them are warnings, except for an error in the document that only its compilation
/// finds.
pub fn preflight(checked: &ValidatedConfig) -> Vec<Problem> {
    let mut preflight = Preflight { checked, problems: Vec::new() };
    let sockets = preflight.addresses();
    preflight.admin_address();
    files::check(&mut preflight);
    preflight.own_addresses();
    preflight.resources(sockets);
    preflight.problems
}

/// The configuration and the findings about it.
struct Preflight<'a> {
    checked: &'a ValidatedConfig,
    problems: Vec<Problem>,
}

impl Preflight<'_> {
    fn document(&self) -> &Document {
        self.checked.document()
    }

    /// Reports a fact about this host.
    fn say(&mut self, path: &str, what: String, hint: &str) {
        self.problems.push(self.checked.host_problem(path, what, hint).into_warning());
    }

    /// Checks the addresses of the listeners. Returns a socket for each, on another port.
    fn addresses(&mut self) -> Vec<CheckedAddress> {
        let mut sockets = Vec::new();
        let checked = self.checked;
        for (index, listener) in checked.document().listeners.iter().enumerate() {
            match listener::check_address(listener.address) {
                Ok(socket) => sockets.push(socket),
                Err(error) => {
                    let problem = checked.listener_problem(index, error.to_string(), "").of_this_host();
                    self.problems.push(problem.into_warning());
                }
            }
        }
        sockets
    }

    fn admin_address(&mut self) {
        let Some(admin) = self.document().admin.settings() else { return };
        let result = match &admin.address {
            AdminAddress::Socket(address) => listener::check_address(*address).map(drop).map_err(|error| error.source),
            AdminAddress::Unix(path) => admin_socket::check_unix(path),
        };
        if let Err(source) = result {
            let advice = admin_socket::advice(&admin.address, &source);
            self.say("admin.address", format!("cannot listen on {}: {source}{advice}", admin.address), "");
        }
    }

    /// Finds backends that are a listener on all addresses of this host. `config` finds the others.
    fn own_addresses(&mut self) {
        let bound: Vec<SocketAddr> = self.document().listeners.iter().map(|listener| listener.address).collect();
        let covers = |ip: IpAddr| {
            move |bound: &&SocketAddr| {
                let all = bound.ip().to_canonical();
                all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4())
            }
        };
        let mut own = Vec::new();
        for (name, upstream) in &self.document().upstreams {
            for (index, backend) in upstream.backends.iter().enumerate() {
                let BackendAddress::Socket(address) = &backend.address else { continue };
                let ip = address.ip().to_canonical();
                let same_port = bound.iter().filter(|bound| bound.port() == address.port() && bound.port() != 0);
                let is_plain = !ip.is_loopback() && !ip.is_unspecified();
                if is_plain && same_port.into_iter().any(|bound| covers(ip)(&bound)) && listener::is_local(ip) {
                    own.push((format!("upstreams.{name}.backends[{index}].address"), *address));
                }
            }
        }
        for (path, address) in own {
            let what = format!("`{address}` is an address of this host, and a listener of Weir has its port");
            self.say(&path, what, crate::config::OWN_LISTENER);
        }
    }

    /// Starts the threads, registers the sockets and compiles the document, as a start does.
    fn resources(&mut self, sockets: Vec<CheckedAddress>) {
        let server = &self.document().server;
        let hint = "Raise the limit (LimitNOFILE, TasksMax, `ulimit -n`, `ulimit -u`), or write fewer `threads`";
        let threads = Runtimes::wanted(server);
        if let Err(error) = fd_limit::raise_open_files(threads) {
            return self.say("server.threads", format!("{threads} threads cannot be started: {error}"), hint);
        }
        let runtimes = match Runtimes::start(server) {
            Ok(runtimes) => runtimes,
            Err(error) => {
                return self.say("server.threads", format!("{threads} threads cannot be started: {error}"), hint);
            }
        };
        for (socket, handle) in sockets.into_iter().zip(runtimes.traffic().iter().cycle()) {
            let _on_runtime = handle.enter();
            if let Err(error) = socket.register() {
                self.say("server.threads", format!("a listener cannot be watched: {error}"), hint);
                break;
            }
        }
        self.compile(&runtimes);
        runtimes.end(|| ());
    }

    /// Compiles the document. A failure is a gap in the checks of `config`.
    fn compile(&mut self, runtimes: &Runtimes) {
        tls::install();
        let checked = self.checked.clone().with_placeholder_keys();
        let metrics = Metrics::new(crate::VERSION, "");
        let (backend_state, meters) = (Arc::clone(&metrics), Arc::clone(&metrics));
        let manager = UpstreamManager::new(
            runtimes.control().clone(),
            move |labels| backend_state.backend_state(labels),
            move |upstream| meters.upstream(upstream),
        );
        let compiled = Snapshot::compile(&checked, None, &manager, &metrics).map(drop);
        if let Err(error) = compiled {
            self.problems.push(self.checked.problem(&error.path, error.what, ""));
        }
        if let Err(error) = tls::CertStore::new(metrics).prepare(&checked) {
            self.problems.push(self.checked.problem(&error.path, error.what, ""));
        }
    }
}
