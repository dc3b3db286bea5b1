//! A process to test the admin listener and its client against: says what it is told to. Part of tests only.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use crate::telemetry::Metrics;

use super::control::{Control, Readiness};
use super::reply::{Problem, ReloadReply, Status};
use super::{Token, serve};

pub(crate) struct Fake {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) ready: AtomicBool,
    pub(crate) reply: Mutex<ReloadReply>,
    pub(crate) asked: Mutex<Vec<String>>,
}

impl Control for Fake {
    fn status(&self) -> Status {
        Status { pid: 7, version: "9.9.9".into(), generation: 3, ready: true, ..Status::default() }
    }

    fn config(&self) -> serde_json::Value {
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

    fn ready(&self) -> Readiness {
        let ready = self.ready.load(Ordering::Relaxed);
        Readiness { ready, reason: if ready { String::new() } else { "upstream api has no verdict yet".into() } }
    }

    fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }
}

/// A served fake; dropping it stops the listener.
pub(crate) struct Running {
    pub(crate) fake: Arc<Fake>,
    pub(crate) address: SocketAddr,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start(token: Option<&str>) -> Self {
        let fake = Arc::new(Fake {
            metrics: Metrics::new("9.9.9", "c"),
            ready: AtomicBool::new(true),
            reply: Mutex::new(ReloadReply::Rejected { problems: vec![Problem::default()] }),
            asked: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let (control, token) = (Arc::clone(&fake), Token::new(token.map(str::to_owned)));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let shutdown = async move { drop(stopped.await) };
            runtime.block_on(serve(listener, control, token, shutdown)).unwrap();
        });
        Self { fake, address, stop: Some(stop), thread: Some(thread) }
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
