//! Sends one DNS query to the servers of the system or to a given one.
//!
//! It never caches. It uses EDNS, and repeats the query without EDNS for servers that do not support it.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::records::DnsReply;
use crate::config::values::NameServer;

/// Timeout of one query to one server, and the number of retries.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
const QUERY_RETRIES: usize = 1;

/// Time limit of all queries about one name, for any number of search domains and servers.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(10);

/// Sends DNS queries.
#[derive(Clone)]
pub(super) struct Asker {
    /// With EDNS, if the settings of the system allow it.
    usual: TokioResolver,
    /// Without EDNS.
    plain: TokioResolver,
}

impl Asker {
    /// Creates a resolver for this server, or for the servers of the system.
    ///
    /// # Errors
    /// The settings of the system cannot be read.
    pub(super) fn new(server: Option<NameServer>) -> Result<Self, NetError> {
        Ok(Self { usual: resolver(server, true)?, plain: resolver(server, false)? })
    }

    /// Queries a name; `wanted` selects the records.
    pub(super) async fn ask<T>(
        &self,
        name: &str,
        kind: RecordType,
        wanted: impl Fn(&RData) -> Option<T>,
    ) -> DnsReply<T> {
        match tokio::time::timeout(LOOKUP_DEADLINE, self.look_up(name, kind)).await {
            Err(_) => DnsReply::Failed("no answer in time".into()),
            Ok(Err(error)) => refused(&error),
            Ok(Ok(lookup)) => {
                let records: Vec<T> = lookup.answers().iter().filter_map(|record| wanted(&record.data)).collect();
                let ttl = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
                if records.is_empty() {
                    DnsReply::Nothing
                } else {
                    DnsReply::Records(records, Duration::from_secs(ttl.into()))
                }
            }
        }
    }

    async fn look_up(&self, name: &str, kind: RecordType) -> Result<Lookup, NetError> {
        // Parsed without IDNA, which would refuse an underscore.
        let name = Name::from_ascii(name)?;
        match self.usual.lookup(name.clone(), kind).await {
            Err(error) if knows_no_edns(&error) => self.plain.lookup(name, kind).await,
            answer => answer,
        }
    }
}

/// Servers without EDNS answer a query that has it with these codes (RFC 6891 section 7).
fn knows_no_edns(error: &NetError) -> bool {
    let code = if let NetError::Dns(DnsError::ResponseCode(code)) = error { Some(*code) } else { None };
    matches!(code, Some(ResponseCode::FormErr | ResponseCode::NotImp))
}

fn resolver(server: Option<NameServer>, edns: bool) -> Result<TokioResolver, NetError> {
    let mut builder = match server {
        Some(server) => TokioResolver::builder_with_config(asking(server.get()), TokioRuntimeProvider::default()),
        None => TokioResolver::builder_tokio()?,
    };
    let options = builder.options_mut();
    (options.timeout, options.attempts, options.cache_size) = (QUERY_TIMEOUT, QUERY_RETRIES, 0);
    options.edns0 &= edns;
    if server.is_some() {
        options.use_hosts_file = ResolveHosts::Never;
    }
    // Keeps the CNAME records, so that their TTLs count as well.
    options.preserve_intermediates = true;
    builder.build()
}

/// UDP first, TCP for truncated answers.
fn asking(server: SocketAddr) -> ResolverConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let server = NameServerConfig::new(server.ip(), true, connections.into());
    ResolverConfig::from_parts(None, Vec::new(), vec![server])
}

fn refused<T>(error: &NetError) -> DnsReply<T> {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(_)) => DnsReply::Nothing,
        NetError::Dns(DnsError::ResponseCode(code)) => DnsReply::Failed(format!("the server says: {code}")),
        NetError::Timeout => DnsReply::Failed("no answer in time".into()),
        other => DnsReply::Failed(other.to_string()),
    }
}
