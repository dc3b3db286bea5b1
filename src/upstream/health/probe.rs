//! One probe of one backend: a connect, an HTTP request or a gRPC call, with the protocol and TLS of the upstream.
//!
//! It judges one response, never a backend. It never reuses a connection: a pooled one would hide problems of new
//! connections, and the pool belongs to traffic. Plain HTTP/1 bypasses the connector of Pingora. That connector first
//! searches its own pool, and sets socket options for long-lived connections. Both together double the system calls.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Uri, Version, header};
use pingora::http::RequestHeader;
use pingora_core::connectors::http::Connector;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::http::v1::client::HttpSession as Http1Session;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddress;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType};
use tokio_util::either::Either;

use super::grpc;
use crate::config::schema::{BodyCheck, GrpcCheck, HealthCheck, HttpCheck, Protocol};
use crate::config::values::{Period, StatusRange};
use crate::pool::addresses::Destination;
use crate::pool::dial::{Dialer, dial, open};
use crate::pool::transport_settings::TransportSettings;
use crate::resource_exhaustion::{self, Exhaustion};

/// Maximum number of body bytes that are checked: 64 KiB.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// Why a probe failed.
#[derive(Debug)]
pub(super) struct ProbeError {
    /// Readable reason.
    pub(super) reason: String,
    /// The local resource that was exhausted, so that the probe could not be sent; it says nothing about the backend.
    pub(super) exhaustion: Option<Exhaustion>,
}

impl From<String> for ProbeError {
    fn from(reason: String) -> Self {
        Self { reason, exhaustion: None }
    }
}

/// Probes the backends of one upstream.
#[derive(Clone)]
pub struct Probe {
    check: Arc<HealthCheck>,
    transport: Arc<TransportSettings>,
    host: String,
    connector: Arc<Connector>,
}

impl Probe {
    /// `host`: the `Host` value if the check sets none. `connector`: used by probes only.
    pub fn new(
        check: Arc<HealthCheck>,
        transport: Arc<TransportSettings>,
        host: &str,
        connector: Arc<Connector>,
    ) -> Self {
        // A socket path is not a valid authority; curl sends `localhost` for Unix sockets.
        let host = if host.starts_with("unix:") { "localhost" } else { host };
        let host = check.http.as_ref().and_then(|http| http.host.clone()).unwrap_or_else(|| host.to_owned());
        Self { check, transport, host, connector }
    }

    /// Probes once. The error is a readable reason: "connect refused", "status 500, expected 200-299", "timeout after
    /// 1s".
    pub async fn run(&self, address: &PeerAddress) -> Result<(), String> {
        self.ask_once(&Destination::One(address.clone())).await.map_err(|wrong| wrong.reason)
    }

    /// As `run`, but the error separates local exhaustion from failures. If a name has several addresses, one must
    /// answer.
    pub(super) async fn ask_once(&self, destination: &Destination) -> Result<(), ProbeError> {
        let destination = self.check.port.map_or_else(|| destination.clone(), |port| destination.with_port(port));
        let asked = async {
            match (&self.check.http, &self.check.grpc) {
                (Some(http), _) => self.ask(http, destination).await,
                (None, Some(grpc)) => self.call(grpc, destination).await,
                (None, None) => self.connect(destination).await,
            }
        };
        let limit = self.check.timeout;
        tokio::time::timeout(limit.get(), asked).await.unwrap_or_else(|_| Err(format!("timeout after {limit}").into()))
    }

    async fn ask(&self, http: &HttpCheck, destination: Destination) -> Result<(), ProbeError> {
        let request = self.request(http).map_err(|error| explain(&error))?;
        let mut session = self.session(destination).await.map_err(|error| unopened(&error))?;
        let head = http.method.as_http() == Method::HEAD;
        Ok(exchange(&mut session, request, http, head).await?)
    }

    async fn session(&self, destination: Destination) -> pingora_core::Result<HttpSession> {
        if !self.transport.is_plain() {
            return self.connector.get_http_session(&self.peer(destination)).await.map(|(session, _)| session);
        }
        let stream: Stream = match open(&destination, None, None).await? {
            Either::Left(tcp) => tcp.into(),
            Either::Right(unix) => unix.into(),
        };
        Ok(HttpSession::H1(Http1Session::new(Box::new(stream))))
    }

    fn peer(&self, destination: Destination) -> HttpPeer {
        let addresses = if let Destination::Any(all) = &destination { Some(Arc::clone(all)) } else { None };
        let mut peer = self.transport.peer_at(destination);
        // One stream per connection: with this setting Pingora never reuses the connection.
        peer.options.max_h2_streams = 1;
        if self.transport.announces() {
            // The PROXY command is LOCAL, because the connection belongs to no client request.
            Dialer::announce(&mut peer, None, addresses);
        }
        peer
    }

    async fn call(&self, check: &GrpcCheck, destination: Destination) -> Result<(), ProbeError> {
        let request = self.call_header().map_err(|error| explain(&error))?;
        let mut session = self.session(destination).await.map_err(|error| unopened(&error))?;
        session.write_request_header(Box::new(request)).await.map_err(|error| explain(&error))?;
        let message = grpc::request(&check.service).into();
        session.write_request_body(message, true).await.map_err(|error| explain(&error))?;
        Ok(judge_call(&mut session).await?)
    }

    fn call_header(&self) -> pingora_core::Result<RequestHeader> {
        let mut request = RequestHeader::build(Method::POST, grpc::PATH.as_bytes(), None)?;
        request.insert_header(header::CONTENT_TYPE, "application/grpc")?;
        request.insert_header(header::TE, "trailers")?;
        request.insert_header(header::USER_AGENT, "weir-health-check")?;
        // Milliseconds, at most 8 digits.
        let wait = self.check.timeout.get().as_millis().min(99_999_999);
        request.insert_header("grpc-timeout", format!("{wait}m"))?;
        self.absolute(&mut request, grpc::PATH)?;
        Ok(request)
    }

    async fn connect(&self, destination: Destination) -> Result<(), ProbeError> {
        if !self.transport.announces() {
            return connect(&destination).await;
        }
        let mut peer = self.peer(destination);
        match peer.options.custom_l4.take() {
            Some(l4) => l4.connect(&peer._address).await.map(drop).map_err(|error| unopened(&error)),
            None => Err("no PROXY header to send".to_owned().into()),
        }
    }

    fn request(&self, http: &HttpCheck) -> pingora_core::Result<RequestHeader> {
        let method = http.method.as_http();
        let mut request = RequestHeader::build(method.clone(), http.path.as_bytes(), None)?;
        for (name, value) in &http.headers {
            request.insert_header(name.clone(), value)?;
        }
        request.insert_header(header::HOST, &self.host)?;
        if request.headers.get(header::USER_AGENT).is_none() {
            request.insert_header(header::USER_AGENT, "weir-health-check")?;
        }
        match self.transport.protocol() {
            Protocol::Http1 => {
                request.insert_header(header::CONNECTION, "close")?;
                if method == Method::POST {
                    request.insert_header(header::CONTENT_LENGTH, "0")?;
                }
            }
            Protocol::H2 | Protocol::H2c => self.absolute(&mut request, &http.path)?,
        }
        Ok(request)
    }

    /// Sets an absolute target, from which HTTP/2 takes `:scheme` and `:authority`.
    fn absolute(&self, request: &mut RequestHeader, path: &str) -> pingora_core::Result<()> {
        let scheme = if self.transport.server_name().is_some() { "https" } else { "http" };
        let uri = Uri::builder().scheme(scheme).authority(self.host.as_str()).path_and_query(path).build();
        let bad = |error| Error::because(ErrorType::InvalidHTTPHeader, "target of the probe", error);
        request.set_uri(uri.map_err(bad)?);
        request.set_version(Version::HTTP_2);
        Ok(())
    }
}

async fn exchange(
    session: &mut HttpSession,
    request: RequestHeader,
    http: &HttpCheck,
    head: bool,
) -> Result<(), String> {
    session.write_request_header(Box::new(request)).await.map_err(|error| explain(&error))?;
    session.finish_request_body().await.map_err(|error| explain(&error))?;
    let status = loop {
        session.read_response_header().await.map_err(|error| explain(&error))?;
        match session.response_header().map(|header| header.status.as_u16()) {
            // An informational response precedes the final one.
            Some(100..=199) => {}
            Some(status) => break status,
            None => return Err("no response header".into()),
        }
    };
    if !http.status.iter().any(|range| range.contains(status)) {
        return Err(format!("status {status}, expected {}", ranges(&http.status)));
    }
    match &http.body {
        Some(body) if !head => look(session, body).await,
        Some(body) => verdict(body, b""),
        None => Ok(()),
    }
}

/// Requires a SERVING response in a call with status OK.
async fn judge_call(session: &mut HttpSession) -> Result<(), String> {
    session.read_response_header().await.map_err(|error| explain(&error))?;
    let Some(header) = session.response_header() else { return Err("no response header".into()) };
    if header.status != 200 {
        return Err(format!("status {}, expected 200 as gRPC has it", header.status.as_u16()));
    }
    if header.headers.contains_key("grpc-status") {
        grpc::check_status(&header.headers)?;
    }
    let mut message = Vec::new();
    while let Some(piece) = next_chunk(session).await? {
        message.extend_from_slice(&piece);
        if message.len() > grpc::MAX_MESSAGE_BYTES {
            return Err("answer is no health response".into());
        }
    }
    let trailers = match session {
        HttpSession::H2(session) => session.read_trailers().await.map_err(|error| explain(&error))?,
        _ => None,
    };
    grpc::check_status(&trailers.unwrap_or_default())?;
    grpc::check_message(&message)
}

fn ranges(ranges: &[StatusRange]) -> String {
    ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Reads the body until it matches, at most `MAX_BODY_BYTES`.
async fn look(session: &mut HttpSession, body: &BodyCheck) -> Result<(), String> {
    let mut seen = Vec::new();
    while seen.len() < MAX_BODY_BYTES {
        let Some(chunk) = next_chunk(session).await? else { break };
        seen.extend_from_slice(&chunk[..chunk.len().min(MAX_BODY_BYTES - seen.len())]);
        // `contains` can be decided early. A regular expression may be anchored to the end.
        if body.regex.is_none() && verdict(body, &seen).is_ok() {
            return Ok(());
        }
    }
    verdict(body, &seen)
}

async fn next_chunk(session: &mut HttpSession) -> Result<Option<Bytes>, String> {
    session.read_response_body().await.map_err(|error| explain(&error))
}

fn verdict(body: &BodyCheck, seen: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(seen);
    if let Some(wanted) = body.contains.as_ref().filter(|wanted| !text.contains(wanted.as_str())) {
        return Err(format!("body does not contain `{wanted}`"));
    }
    if let Some(pattern) = body.regex.as_ref().filter(|pattern| !pattern.regex().is_match(&text)) {
        return Err(format!("body does not match `{pattern}`"));
    }
    Ok(())
}

async fn connect(destination: &Destination) -> Result<(), ProbeError> {
    let connected = dial(destination).await.map(drop);
    connected.map_err(|error| ProbeError {
        reason: io_reason("connect", &error),
        exhaustion: resource_exhaustion::of(&error),
    })
}

fn io_reason(what: &str, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => format!("{what} refused"),
        std::io::ErrorKind::ConnectionReset => format!("{what} reset"),
        std::io::ErrorKind::NotFound => format!("{what}: no such socket"),
        std::io::ErrorKind::TimedOut => format!("{what} timed out"),
        _ => format!("{what}: {error}"),
    }
}

/// The error of a connection that could not be opened.
fn unopened(error: &Error) -> ProbeError {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    ProbeError { reason: explain(error), exhaustion: cause.and_then(resource_exhaustion::of) }
}

/// A short readable text for an error of Pingora.
fn explain(error: &Error) -> String {
    let cause = || error.root_cause().to_string().lines().next().unwrap_or_default().trim().to_owned();
    match error.etype() {
        ErrorType::ConnectRefused => "connect refused".into(),
        ErrorType::ConnectTimedout => "connect timed out".into(),
        ErrorType::ConnectNoRoute => "no route to host".into(),
        ErrorType::TLSHandshakeFailure
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError => format!("tls: {}", cause()),
        ErrorType::ConnectionClosed => "connection closed before the answer".into(),
        ErrorType::InvalidHTTPHeader | ErrorType::H1Error => "answer is not HTTP".into(),
        ErrorType::H2Error | ErrorType::InvalidH2 | ErrorType::H2Downgrade => format!("http2: {}", cause()),
        other => format!("{}: {}", other.as_str(), cause()),
    }
}

/// Time until the next probe: the interval, varied by up to the jitter in both directions. `random`: 0 to 1.
pub fn next_wait(interval: Period, jitter: f64, random: f64) -> Duration {
    interval.get().mul_f64((1.0 + jitter * (2.0 * random - 1.0)).max(0.0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "probe_tests.rs"]
mod tests;
