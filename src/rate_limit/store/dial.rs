//! Opens a connection to a store: TCP or a Unix socket, TLS, the user and the database.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use redis::aio::{AsyncStream, MultiplexedConnection};
use redis::{AsyncConnectionConfig, RedisConnectionInfo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::bucket_script;
use crate::config::schema::{StoreSettings, StoreTls};
use crate::config::values::RedisTarget;
use crate::pool::lookup::Lookup;

/// The files that a store names, by the key that names them.
/// It has no `Debug`, because one of them is a secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct StoreFiles {
    pub(super) password: Option<String>,
    pub(super) ca: Option<Vec<u8>>,
    pub(super) certificate: Option<(Vec<u8>, Vec<u8>)>,
}

/// How to connect to a store.
pub(super) struct StoreDialer {
    target: RedisTarget,
    info: RedisConnectionInfo,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// A new connection.
pub(super) struct Dialed {
    pub(super) connection: MultiplexedConnection,
    /// The digest of the script.
    pub(super) digest: String,
    pub(super) driver: Driver,
}

/// The task that reads and writes a connection. It ends with this value.
pub(super) struct Driver(JoinHandle<()>);

impl Driver {
    /// Waits until the connection is closed.
    pub(super) async fn closed(&mut self) {
        let _ = (&mut self.0).await;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why a store cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("cannot connect: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Redis(#[from] redis::RedisError),
    #[error("no answer in time")]
    Timeout,
}

impl StoreDialer {
    /// # Errors
    /// The files of TLS cannot be used.
    pub(super) fn new(settings: &StoreSettings, files: &StoreFiles) -> Result<Self, String> {
        let url = &settings.redis;
        let mut info = RedisConnectionInfo::default().set_db(url.database.into()).set_skip_set_lib_name();
        if let Some(user) = &url.user {
            info = info.set_username(user);
        }
        if let Some(password) = &files.password {
            info = info.set_password(password);
        }
        let tls = match &url.target {
            RedisTarget::Tcp { host, tls: true, .. } => {
                let tls = settings.tls.clone().unwrap_or_default();
                let name = tls.server_name.clone().unwrap_or_else(|| host.clone());
                let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
                Some((TlsConnector::from(Arc::new(client_config(&tls, files)?)), name))
            }
            _ => None,
        };
        Ok(Self { target: url.target.clone(), info, tls })
    }

    /// Connects, and makes the script known to the server.
    pub(super) async fn connect(&self) -> Result<Dialed, DialError> {
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let stream = self.open().await?;
        let (mut connection, driver) = MultiplexedConnection::new_with_config(&self.info, stream, config).await?;
        let driver = Driver(tokio::spawn(driver));
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(bucket_script::TEXT);
        let digest = load.query_async(&mut connection).await?;
        Ok(Dialed { connection, digest, driver })
    }

    async fn open(&self) -> io::Result<Box<dyn AsyncStream + Send + Unpin>> {
        let (host, port) = match &self.target {
            RedisTarget::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            RedisTarget::Tcp { host, port, .. } => (host.as_str(), *port),
        };
        let stream = match host.parse() {
            Ok(ip) => TcpStream::connect(SocketAddr::new(ip, port)).await?,
            Err(_) => TcpStream::connect(Lookup::new(host, port).lookup().await?.as_slice()).await?,
        };
        stream.set_nodelay(true)?;
        match &self.tls {
            Some((connector, name)) => Ok(Box::new(connector.connect(name.clone(), stream).await?)),
            None => Ok(Box::new(stream)),
        }
    }
}

fn client_config(tls: &StoreTls, files: &StoreFiles) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match (&tls.ca, &files.ca) {
        (Some(_), Some(pem)) => {
            let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
            roots.add_parsable_certificates(all.map_err(|error| format!("ca: {error}"))?);
        }
        (Some(_), None) => return Err("ca: there is no such file".into()),
        (None, _) => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?.with_root_certificates(roots);
    match &files.certificate {
        Some((certificate, key)) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
            let chain = chain.map_err(|error| format!("certificate: {error}"))?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("certificate: {error}"))?;
            config.with_client_auth_cert(chain, key).map_err(|error| format!("certificate: {error}"))
        }
        None => Ok(config.with_no_client_auth()),
    }
}
