//! Weir's balancers, discovery and health checks in another Pingora program, behind the traits of
//! `pingora-load-balancing`.
//!
//! The program discovers three backends in a file, probes them, and picks with `weighted_round_robin`. One of them does
//! not listen, so it is never picked. Run it with `cargo run --example pingora_load_balancing`.

mod discovery;
mod health_check;
mod selection;

use std::collections::BTreeMap;
use std::error::Error;
use std::net::TcpListener;

use pingora_load_balancing::{Backends, LoadBalancer};
use weir::config::schema::{Balance, HealthCheck, TcpCheck, UpstreamSettings};

use discovery::Discovery;
use health_check::ProbeCheck;
use selection::Selection;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    for (address, picks) in run().await? {
        println!("{address}: {picks} of 12 picks");
    }
    Ok(())
}

/// The number of picks of each backend.
async fn run() -> Result<BTreeMap<String, usize>, Box<dyn Error>> {
    let listening = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    let [heavy, light] = [listening[0].local_addr()?, listening[1].local_addr()?];
    let refused = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let folder = tempfile::tempdir()?;
    let list = format!(
        "- {{address: '{heavy}', weight: 2}}\n- {{address: '{light}', weight: 1}}\n- {{address: '{refused}'}}\n"
    );
    std::fs::write(folder.path().join("backends.yaml"), list)?;
    let upstream: UpstreamSettings =
        serde_yaml::from_str("{balance: weighted_round_robin, discover: {file: backends.yaml}}")?;

    let discovery = Discovery::of(&upstream, folder.path()).ok_or("the upstream has no `discover`")?;
    let mut backends = Backends::new(discovery);
    let check = HealthCheck { tcp: Some(TcpCheck::default()), fall: 1, ..HealthCheck::default() };
    backends.set_health_check(Box::new(ProbeCheck::new(check, &upstream, "localhost")));
    let balancer = LoadBalancer::<Selection>::from_backends_with_config(backends, Some(Balance::WeightedRoundRobin));
    balancer.update().await?;
    balancer.backends().run_health_check(false).await;

    let mut picks = BTreeMap::new();
    for _ in 0..12 {
        let backend = balancer.select(b"", 16).ok_or("no backend is healthy")?;
        *picks.entry(backend.addr.to_string()).or_default() += 1;
    }
    Ok(picks)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    #[tokio::test]
    async fn the_example_picks_by_weight_and_skips_the_backend_that_does_not_listen() {
        let mut picks: Vec<_> = super::run().await.unwrap().into_values().collect();
        picks.sort_unstable();
        assert_eq!(picks.len(), 2, "{picks:?}");
        assert_eq!(picks.iter().sum::<usize>(), 12);
        assert!(picks[1] > picks[0], "{picks:?}");
    }
}
