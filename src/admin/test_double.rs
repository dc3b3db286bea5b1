//! A test double of the process, for tests of the admin listener and of its client.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::backend::labels::BackendCondition;
use crate::telemetry::Metrics;
use crate::upstream::admin_override::BackendOverride;

use super::activity::Activity;
use super::api::{
    BackendReply, MaintenanceReply, ProblemReply, ReloadReply, SplitReply, SplitTargetReply, StatusReply, UpgradeReply,
};
use super::api_explain::{Explanation, Question};
use super::api_limits::LimitsReply;
use super::control::{Control, ControlError, Readiness};
use super::{AdminToken, BoundSocket, serve};

pub(crate) struct TestDouble {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) ready: AtomicBool,
    pub(crate) reply: Mutex<ReloadReply>,
    pub(crate) asked: Mutex<Vec<String>>,
    /// Attempts in flight on `a/b c`. Each query lowers the number by one.
    pub(crate) in_flight: AtomicU32,
    /// The name of each call, and of the thread that made it.
    pub(crate) made_on: Mutex<Vec<(&'static str, String)>>,
    /// While it is locked, `status` blocks.
    pub(crate) hold_status: Mutex<()>,
}

impl TestDouble {
    fn note(&self, what: &'static str) {
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        self.made_on.lock().unwrap().push((what, thread));
    }
}

impl Control for TestDouble {
    fn status(&self) -> StatusReply {
        self.note("status");
        drop(self.hold_status.lock());
        StatusReply { pid: 7, version: "9.9.9".into(), generation: 3, ready: true, ..StatusReply::default() }
    }

    fn activity(&self) -> Activity {
        self.note("activity");
        Activity::default()
    }

    fn limits(&self) -> LimitsReply {
        self.note("limits");
        LimitsReply::default()
    }

    fn config(&self) -> serde_json::Value {
        self.note("config");
        serde_json::json!({ "routes": [] })
    }

    fn reload(&self) -> ReloadReply {
        self.asked.lock().unwrap().push("reload".into());
        self.reply.lock().unwrap().clone()
    }

    fn diff(&self, yaml: &str) -> ReloadReply {
        self.asked.lock().unwrap().push(yaml.into());
        self.reply.lock().unwrap().clone()
    }

    fn upgrade(&self, timeout: Option<Duration>) -> oneshot::Receiver<Result<UpgradeReply, ControlError>> {
        self.asked.lock().unwrap().push(format!("upgrade {timeout:?}"));
        let (reply, result) = oneshot::channel();
        let failed = UpgradeReply::Failed { error: "it ended".into(), messages: vec!["line one".into()] };
        let answer = match timeout {
            Some(Duration::ZERO) => Err(ControlError::Impossible("8 old processes still drain".into())),
            Some(_) => Ok(failed),
            None => Ok(UpgradeReply::Ready { pid: 8, version: "10.0.0".into() }),
        };
        reply.send(answer).unwrap();
        result
    }

    fn backend(&self, upstream: &str, backend: &str) -> Result<BackendReply, ControlError> {
        if (upstream, backend) != ("a", "b c") {
            return Err(ControlError::NotThere(format!("no backend `{backend}`; there is `b c`")));
        }
        let less = |n: u32| Some(n.saturating_sub(1));
        let in_flight = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).unwrap();
        Ok(BackendReply {
            name: backend.into(),
            address: "10.0.0.1:1".into(),
            state: BackendCondition::Draining,
            reason: "by operator".into(),
            since: None,
            in_flight,
            weight: 1,
            effective_weight: 1.0,
            errors_last_minute: 0,
            last_error: None,
        })
    }

    fn set_override(
        &self,
        upstream: &str,
        backend: &str,
        wanted: BackendOverride,
    ) -> Result<BackendReply, ControlError> {
        self.asked.lock().unwrap().push(format!("{wanted:?}"));
        if wanted.weight == Some(Some(300)) {
            return Err(ControlError::Impossible("300 is not a weight".into()));
        }
        self.backend(upstream, backend)
    }

    fn maintenance(&self, route: &str) -> Result<MaintenanceReply, ControlError> {
        match route {
            "a b" => Ok(MaintenanceReply { route: route.into(), on: false, since: None }),
            _ => Err(ControlError::NotThere(format!("no route `{route}`; there is `a b`"))),
        }
    }

    fn set_maintenance(&self, route: &str, on: bool) -> Result<MaintenanceReply, ControlError> {
        self.note("maintenance");
        let reply = self.maintenance(route)?;
        Ok(MaintenanceReply { on, since: on.then(|| "2023-11-14T22:13:20Z".into()), ..reply })
    }

    fn split(&self, route: &str) -> Result<SplitReply, ControlError> {
        if route != "r" {
            return Err(ControlError::NotThere(format!("no route `{route}`; there is `r`")));
        }
        let target = |upstream: &str, weight| {
            let share = f64::from(weight) / 100.0;
            SplitTargetReply { upstream: upstream.into(), weight, configured_weight: 50, share }
        };
        Ok(SplitReply {
            route: route.into(),
            by: Some("cookie `user`".into()),
            overridden: true,
            targets: vec![target("a", 90), target("b", 10)],
        })
    }

    fn set_split(&self, route: &str, weights: Option<&BTreeMap<String, u16>>) -> Result<SplitReply, ControlError> {
        self.asked.lock().unwrap().push(format!("{weights:?}"));
        if weights.is_some_and(|weights| weights.contains_key("x")) {
            return Err(ControlError::Impossible("the split has no upstream `x`".into()));
        }
        self.split(route)
    }

    fn explain(&self, question: &Question) -> Result<Explanation, ControlError> {
        self.note("explain");
        self.asked.lock().unwrap().push(format!("{question:?}"));
        if question.url.is_empty() {
            return Err(ControlError::Impossible("`` is not a URL".into()));
        }
        Ok(Explanation { method: question.method.clone(), path: "/".into(), ..Explanation::default() })
    }

    fn ready(&self) -> Readiness {
        let ready = self.ready.load(Ordering::Relaxed);
        Readiness { ready, reason: if ready { String::new() } else { "upstream api has no verdict yet".into() } }
    }

    fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }
}

/// A running admin listener with a test double. Dropping it stops the listener.
pub(crate) struct Running {
    pub(crate) fake: Arc<TestDouble>,
    pub(crate) address: SocketAddr,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) thread: Option<std::thread::JoinHandle<()>>,
    pub(crate) token: AdminToken,
}

impl Running {
    pub(crate) fn start(token: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        Self::start_on(BoundSocket::Tcp(listener), address, token)
    }

    /// Starts on this socket. `address` is stored for the tests.
    pub(crate) fn start_on(socket: BoundSocket, address: SocketAddr, token: Option<&str>) -> Self {
        let fake = Arc::new(TestDouble {
            metrics: Metrics::new("9.9.9", "c"),
            ready: AtomicBool::new(true),
            reply: Mutex::new(ReloadReply::Rejected { problems: vec![ProblemReply::default()] }),
            asked: Mutex::default(),
            in_flight: AtomicU32::new(0),
            made_on: Mutex::default(),
            hold_status: Mutex::default(),
        });
        let (stop, stopped) = oneshot::channel();
        let (control, token) = (Arc::clone(&fake), AdminToken::new(token.map(str::to_owned)));
        let served_token = token.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let shutdown = async move { drop(stopped.await) };
            runtime.block_on(serve(socket, control, served_token, shutdown)).unwrap();
        });
        Self { fake, address, stop: Some(stop), thread: Some(thread), token }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
