//! The HTTP client for ACME servers, with limits on time and response size. It records Retry-After.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Timeout of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum size of a response body, in bytes. A certificate chain has about 10 KiB.
const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// A response that asks the client to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RetryAfter {
    /// True for 429: this client sends too many requests. False for 503: the server is unavailable.
    pub(super) limited: bool,
    /// The requested wait in seconds.
    pub(super) wait: Option<i64>,
}

/// The wait request in the last response of an order. `None` if that was another response.
pub(super) type LastRefusal = Arc<Mutex<Option<RetryAfter>>>;

/// The HTTP client of one order.
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    last: LastRefusal,
}

impl Http {
    /// `authorities`: the CA certificates for the server's certificate, PEM. `None`: those of the operating system.
    ///
    /// # Errors
    /// There is no usable CA certificate.
    pub(super) fn new(authorities: Option<&[u8]>, last: LastRefusal) -> Result<Self, String> {
        let roots = roots(authorities)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().build();
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), last })
    }
}

fn roots(authorities: Option<&[u8]>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(pem) => {
            let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
            roots.add_parsable_certificates(all.map_err(|error| format!("directory_ca: {error}"))?);
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if roots.is_empty() { Err("there is no authority to know the server by".to_owned()) } else { Ok(roots) }
}

impl HttpClient for Http {
    fn request(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        // User-Agent is mandatory (RFC 8555 section 6.1).
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION"))));
        let (answer, last) = (self.client.request(request), Arc::clone(&self.last));
        Box::pin(async move {
            let whole = async {
                let (parts, body) = answer.await.map_err(|error| Error::Other(Box::new(error)))?.into_parts();
                let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await.map_err(Error::Other)?.to_bytes();
                let refusal = refusal(parts.status, &parts.headers, SystemTime::now());
                *last.lock() = refusal;
                Ok(BytesResponse { parts, body: Box::new(body) })
            };
            tokio::time::timeout(REQUEST_TIMEOUT, whole).await.unwrap_or(Err(Error::Str("no answer in time")))
        })
    }
}

/// Rate limits: RFC 8555 section 6.6. Retry-After: RFC 9110 section 10.2.3.
fn refusal(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Option<RetryAfter> {
    let limited = status == StatusCode::TOO_MANY_REQUESTS;
    if !limited && status != StatusCode::SERVICE_UNAVAILABLE {
        return None;
    }
    let text = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::trim);
    let date = |text: &str| Some(httpdate::parse_http_date(text).ok()?.duration_since(now).ok()?.as_secs() + 1);
    let seconds = |text: &str| text.parse::<u64>().ok().or_else(|| date(text));
    Some(RetryAfter { limited, wait: text.and_then(seconds).and_then(|seconds| i64::try_from(seconds).ok()) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_or_date() {
        let now = httpdate::parse_http_date("Mon, 01 Jan 2024 00:00:00 GMT").unwrap();
        let of = |status, text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            refusal(StatusCode::from_u16(status).unwrap(), &headers, now)
        };
        assert_eq!(of(429, "120"), Some(RetryAfter { limited: true, wait: Some(120) }));
        assert_eq!(of(503, "Mon, 01 Jan 2024 00:01:00 GMT"), Some(RetryAfter { limited: false, wait: Some(61) }));
        assert_eq!(of(503, "Sun, 31 Dec 2023 00:00:00 GMT"), Some(RetryAfter { limited: false, wait: None }));
        assert_eq!(of(429, "soon").unwrap().wait, None);
        assert_eq!((of(200, "1"), of(400, "1")), (None, None), "polling is not refusing");
    }
}
