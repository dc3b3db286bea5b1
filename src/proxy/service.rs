//! The HTTP service that listeners call: Pingora's proxy with Weir's gateway.
//!
//! It also records and answers requests that never reach Pingora.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Method, Version};
use pingora::server::configuration::ServerConf;
use pingora::services::listening::Service;
use pingora_proxy::{HttpProxy, ProxyServiceBuilder};

use super::{Gateway, record};
use crate::fault::Fault;
use crate::listener::HttpService;
use crate::listener::{Abort, BadHead, Conn};
use crate::message::error_response::ErrorResponse;
use crate::message::request_id::RequestId;
use crate::pool::connector::PoolConnector;
use crate::telemetry::Recorder;
use crate::telemetry::request_record::Record;

/// The maximum of attempts that Pingora allows for a request. Routes have their own, smaller limit: `retry.attempts` is
/// 16 at most, and each attempt may be repeated on a fresh connection.
const MAX_TRIES: usize = 64;

/// The text for a client that speaks plain HTTP on a port of TLS.
const USE_HTTPS: &str = "Plain HTTP was sent to a port of HTTPS. Use https:// in the address.";

type App = HttpProxy<Gateway, PoolConnector>;

/// Serves the requests of all listeners on one thread.
pub struct Proxy {
    app: Arc<App>,
    recorder: Arc<Recorder>,
}

impl Proxy {
    /// Creates the proxy of one thread.
    pub fn new(gateway: Gateway) -> Self {
        let recorder = Arc::clone(&gateway.recorder);
        let conf = ServerConf { threads: 1, max_retries: MAX_TRIES, ..ServerConf::default() };
        let mut options = pingora::apps::HttpServerOptions::default();
        // Pingora must accept CONNECT, so that Weir can answer and record it like any other request.
        options.allow_connect_method_proxying = true;
        let builder = ProxyServiceBuilder::new(&Arc::new(conf), gateway).server_options(options);
        let service = builder.custom(PoolConnector::default(), Arc::new(|_, _, _| Box::pin(async { None }))).build();
        Self { app: Arc::new(taken_out(service)), recorder }
    }
}

/// Takes the proxy out of its service. Pingora builds a proxy with a custom connector only inside a service, and has no
/// function to take it out. Weir does not use the service, because it accepts connections itself.
#[allow(unsafe_code, reason = "`HttpProxy::new_custom` is private")]
fn taken_out(service: Service<App>) -> App {
    let service = ManuallyDrop::new(service);
    let app = service.app_logic().expect("a service that was never started has its application");
    // SAFETY: `app` is a valid value behind a reference. It is not read or dropped a second time: the service, its only
    // owner, is never dropped nor used again.
    unsafe { std::ptr::read(app) }
}

impl HttpService for Proxy {
    type App = App;

    fn app(&self) -> &Arc<Self::App> {
        &self.app
    }

    fn refuse(&self, conn: &Conn, head: &[u8], bad: &BadHead) -> Bytes {
        let id = RequestId::fresh(super::unix_ms(SystemTime::now()));
        let (request_id, reason) = (id.as_str(), bad.reason);
        tracing::debug!(request_id, client = %conn.peer, listener = %conn.listener, reason, "refused a malformed request");
        let (method, path) = first_line(head);
        let record = Record {
            started: SystemTime::now(),
            duration: Duration::ZERO,
            stream_header: None,
            grpc_status: None,
            request_id: id.as_str(),
            listener: &conn.listener,
            scheme: conn.scheme(),
            client: conn.peer_ip(),
            method: &method,
            host: None,
            path,
            version: Version::HTTP_11,
            route: None,
            upstream: None,
            backend: None,
            attempts: &[],
            passed_over: None,
            limits: &[],
            user: None,
            status: bad.status,
            bytes_in: 0,
            bytes_out: 0,
            fault: Some(bad.fault),
            user_agent: None,
            referer: None,
            trace_id: None,
        };
        self.recorder.record(&record);
        let message = (*bad == BadHead::PLAIN_HTTP_ON_TLS).then_some(USE_HTTPS);
        raw((bad.fault, bad.status), message, request_id, method == Method::HEAD)
    }

    fn abort_response(&self, why: Abort, head: bool) -> Bytes {
        let (fault, status) = record::of_cut(why);
        raw((fault, status), None, "-", head)
    }
}

fn raw((fault, status): (Fault, u16), message: Option<&'static str>, request_id: &str, head: bool) -> Bytes {
    let reply = ErrorResponse {
        fault,
        label: None,
        status,
        message,
        request_id,
        accept: None,
        retry_after: None,
        grpc: false,
        page: None,
    };
    reply.raw(SystemTime::now(), head).into()
}

/// The method and the target of a malformed request head, as far as they can be read.
fn first_line(head: &[u8]) -> (Method, &[u8]) {
    let line = head.split(|b| matches!(b, b'\r' | b'\n')).find(|line| !line.is_empty()).unwrap_or_default();
    let mut words = line.split(|b| *b == b' ');
    let method = words.next().and_then(|word| Method::from_bytes(&word[..word.len().min(16)]).ok());
    let path = words.next().unwrap_or_default();
    // `Method` has no empty value, so `-` stands for an unknown method. It counts as an extension method.
    (method.or_else(|| Method::from_bytes(b"-").ok()).unwrap_or_default(), &path[..path.len().min(1024)])
}
