//! Fetches the key set of an issuer over HTTP, with limits on time, size and redirects.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, HeaderMap, LOCATION, USER_AGENT};
use http::uri::Scheme;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;

use super::key_location::{JwksLocation, KeySource};
use super::keys::MAX_KEY_SET_BYTES;
use super::{FetchError, KeySet, ParsedKeys, json};

/// Timeout of one document, including its redirects.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of redirects of one document.
const MAX_REDIRECTS: usize = 3;

type HttpClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// A key set from the network.
#[derive(Debug)]
pub struct FetchedSet {
    /// The keys.
    pub parsed: ParsedKeys,
    /// How long it is fresh, as its response states.
    pub max_age: Option<Duration>,
}

/// A response with status 200.
struct FetchedDocument {
    body: Bytes,
    max_age: Option<Duration>,
}

/// Fetches the keys. It needs a runtime with time and I/O.
///
/// # Errors
/// A document cannot be fetched or used.
pub async fn fetch(location: &JwksLocation) -> Result<FetchedSet, FetchError> {
    // A client for each fetch: no connection stays open between fetches, and new CA certificates are used.
    let ca = location.ca.clone();
    let client = tokio::task::spawn_blocking(move || client(ca.as_deref())).await;
    let client = client.unwrap_or_else(|error| Err(FetchError::Authorities(error.to_string())))?;
    let first = location.source.first_url();
    let url = match &location.source {
        KeySource::Url(_) => first,
        KeySource::Issuer(issuer) => {
            let document = get(&client, &first).await?;
            key_set_url(&document.body, issuer).map_err(|reason| FetchError::Discovery { url: first, reason })?
        }
    };
    let document = get(&client, &url).await?;
    match KeySet::parse(&document.body) {
        Ok(parsed) => Ok(FetchedSet { parsed, max_age: document.max_age }),
        Err(source) => Err(FetchError::Keys { url, source }),
    }
}

/// The URL of the key set in a discovery document (OpenID Connect Discovery 1.0 sections 3 and 4.3).
fn key_set_url(document: &[u8], issuer: &str) -> Result<String, &'static str> {
    let document = json::object(document).map_err(|_| "it is not a JSON object")?;
    if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err("its `issuer` is not the configured one");
    }
    let url = document.get("jwks_uri").and_then(Value::as_str).ok_or("it has no `jwks_uri`")?;
    let is_secure = |url: &str| url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
    match is_secure(issuer) && !is_secure(url) {
        true => Err("its `jwks_uri` is not `https`"),
        false => Ok(url.to_owned()),
    }
}

async fn get(client: &HttpClient, url: &str) -> Result<FetchedDocument, FetchError> {
    let timeout = |_| FetchError::Timeout(url.to_owned());
    tokio::time::timeout(FETCH_TIMEOUT, follow(client, url)).await.map_err(timeout)?
}

async fn follow(client: &HttpClient, url: &str) -> Result<FetchedDocument, FetchError> {
    let mut uri = absolute(url)?;
    for _ in 0..=MAX_REDIRECTS {
        let failed = |error: &dyn Error| FetchError::Transport { url: uri.to_string(), reason: chain(error) };
        let response = client.request(request(&uri)?).await.map_err(|error| failed(&error))?;
        let (status, headers) = (response.status(), response.headers());
        if matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            uri = redirected(&uri, headers).ok_or_else(|| FetchError::Redirect(uri.to_string()))?;
            continue;
        }
        if status != StatusCode::OK {
            return Err(FetchError::Status { url: uri.to_string(), status });
        }
        let max_age = max_age(headers);
        let body = Limited::new(response.into_body(), MAX_KEY_SET_BYTES).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => FetchError::TooLarge(uri.to_string()),
            false => failed(error.as_ref()),
        })?;
        return Ok(FetchedDocument { body: body.to_bytes(), max_age });
    }
    Err(FetchError::Redirect(url.to_owned()))
}

fn request(uri: &Uri) -> Result<Request<Empty<Bytes>>, FetchError> {
    let request = Request::get(uri)
        .header(USER_AGENT, concat!("weir/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "application/jwk-set+json, application/json");
    request.body(Empty::new()).map_err(|_| FetchError::Url(uri.to_string()))
}

fn absolute(url: &str) -> Result<Uri, FetchError> {
    let is_http = |uri: &Uri| [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&uri.scheme());
    let uri: Option<Uri> = url.parse().ok().filter(is_http);
    uri.ok_or_else(|| FetchError::Url(url.to_owned()))
}

/// The target of a redirect: an absolute URL of the same scheme, or an absolute path.
fn redirected(from: &Uri, headers: &HeaderMap) -> Option<Uri> {
    let target = headers.get(LOCATION)?.to_str().ok()?;
    if target.starts_with('/') && !target.starts_with("//") {
        let mut parts = from.clone().into_parts();
        parts.path_and_query = Some(target.parse().ok()?);
        return Uri::from_parts(parts).ok();
    }
    absolute(target).ok().filter(|uri| uri.scheme() == from.scheme())
}

/// RFC 9111 section 5.2.2. A response that must not be reused has the age 0.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let fields = headers.get_all(CACHE_CONTROL).into_iter().filter_map(|value| value.to_str().ok());
    let directives = fields.flat_map(|field| field.split(',')).map(|one| one.trim().to_ascii_lowercase());
    let age = |directive: String| match directive.split_once('=') {
        Some(("max-age", seconds)) => seconds.parse().ok(),
        None if directive == "no-store" || directive == "no-cache" => Some(0),
        _ => None,
    };
    directives.filter_map(age).min().map(Duration::from_secs)
}

fn client(ca: Option<&[u8]>) -> Result<HttpClient, FetchError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| FetchError::Authorities(error.to_string()))?;
    let config = config.with_root_certificates(roots(ca)?).with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

/// Without a CA certificate of the system, plain HTTP still works.
fn roots(ca: Option<&[u8]>) -> Result<RootCertStore, FetchError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(pem) => {
            let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
            let all = all.map_err(|error| FetchError::Authorities(error.to_string()))?;
            roots.add_parsable_certificates(all);
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    Ok(roots)
}

/// An error and its sources.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_issuer_of_the_discovery_document_must_be_the_configured_one() {
        let of = |document: &str| key_set_url(document.as_bytes(), "https://id.example/");
        let sound = r#"{"issuer":"https://id.example/","jwks_uri":"https://keys.example/k"}"#;
        assert_eq!(of(sound).unwrap(), "https://keys.example/k");
        for other in [
            r#"{"issuer":"https://id.example","jwks_uri":"https://keys.example/k"}"#,
            r#"{"issuer":"https://evil.example/","jwks_uri":"https://keys.example/k"}"#,
            r#"{"issuer":["https://id.example/"],"jwks_uri":"https://keys.example/k"}"#,
            r#"{"issuer":"https://id.example/","jwks_uri":"http://keys.example/k"}"#,
            r#"{"issuer":"https://id.example/"}"#,
            r#"{"jwks_uri":"https://keys.example/k"}"#,
            "[]",
        ] {
            assert!(of(other).is_err(), "{other}");
        }
    }

    #[test]
    fn a_redirect_stays_in_its_scheme() {
        let to = |from: &str, target: &str| {
            let headers = HeaderMap::from_iter([(LOCATION, target.parse().unwrap())]);
            redirected(&from.parse().unwrap(), &headers).map(|uri| uri.to_string())
        };
        let from = "https://a.example/k?x=1";
        assert_eq!(to(from, "/other?y").as_deref(), Some("https://a.example/other?y"));
        assert_eq!(to(from, "https://b.example/k").as_deref(), Some("https://b.example/k"));
        for target in ["http://a.example/k", "//b.example/k", "other", "file:///etc/passwd", ""] {
            assert_eq!(to(from, target), None, "{target}");
        }
        assert_eq!(to("http://a.example/k", "https://a.example/k"), None);
    }

    #[test]
    fn cache_control_states_the_age() {
        let age = |fields: &[&str]| {
            let fields = fields.iter().map(|value| (CACHE_CONTROL, value.parse().unwrap()));
            max_age(&fields.collect()).map(|age| age.as_secs())
        };
        assert_eq!(age(&["public, max-age=21600, must-revalidate"]), Some(21_600));
        assert_eq!(age(&["Max-Age=5", "no-store"]), Some(0));
        assert_eq!(age(&["max-age=-1"]), None);
        assert_eq!(age(&["max-age=99999999999999999999"]), None);
        assert_eq!((age(&[]), age(&["public"])), (None, None));
    }
}
