//! Health checks: implements `HealthCheck` of `pingora_load_balancing` with Weir's `Probe`.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::connectors::http::Connector;
use pingora_core::{Error, ErrorType, Result};
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::HealthCheck;
use weir::config::schema;
use weir::pool::transport_settings::TransportSettings;
use weir::upstream::health::probe::Probe;

/// Probes backends as configured by `health_check` of an upstream.
pub struct ProbeCheck {
    probe: Probe,
    rise: u32,
    fall: u32,
}

impl ProbeCheck {
    /// `upstream` gives the transport settings of its backends. `host` is the Host field if the check sets none.
    pub fn new(check: schema::HealthCheck, upstream: &schema::UpstreamSettings, host: &str) -> Self {
        let transport = Arc::new(TransportSettings::new(upstream, &|_| None));
        let (rise, fall) = (check.rise, check.fall);
        Self { probe: Probe::new(Arc::new(check), transport, host, Arc::new(Connector::new(None))), rise, fall }
    }
}

#[async_trait]
impl HealthCheck for ProbeCheck {
    async fn check(&self, target: &Backend) -> Result<()> {
        let result = self.probe.run(&target.addr).await;
        result.map_err(|reason| Error::explain(ErrorType::Custom("health check"), reason))
    }

    fn health_threshold(&self, success: bool) -> usize {
        let needed = if success { self.rise } else { self.fall };
        usize::try_from(needed.max(1)).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// A server that sends this response on each connection.
    fn serve(answer: &'static str) -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let backend = Backend::new(&listener.local_addr().unwrap().to_string()).unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        backend
    }

    #[tokio::test]
    async fn a_probe_works_as_a_pingora_health_check() {
        let check = serde_yaml::from_str("{http: {}, rise: 2, fall: 4}").unwrap();
        let check = ProbeCheck::new(check, &schema::UpstreamSettings::default(), "api.internal");
        assert!(check.check(&serve("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")).await.is_ok());
        let error = check.check(&serve("HTTP/1.1 500 No\r\n\r\n")).await.unwrap_err();
        assert!(error.to_string().contains("status 500, expected 200-299"), "{error}");
        assert_eq!((check.health_threshold(true), check.health_threshold(false)), (2, 4));
    }
}
