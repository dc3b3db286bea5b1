//! DNS look-ups by the operating system (getaddrinfo), on dedicated threads.
//!
//! A call cannot be cancelled and may take as long as the resolver settings allow. So it never runs on the blocking
//! threads of a traffic runtime, where a look-up that hangs would delay reloads and file reads.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::OnceLock;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Maximum number of concurrent calls. Further calls wait.
const LOOKUP_THREADS: usize = 32;

/// An idle thread ends after this time.
const THREAD_IDLE_TIME: Duration = Duration::from_secs(30);

/// Maximum wait for a result.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Look-ups of one name, at most one at a time.
#[derive(Debug)]
pub(crate) struct Lookup {
    name: String,
    port: u16,
    under_way: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
}

impl Lookup {
    pub(crate) fn new(name: &str, port: u16) -> Self {
        Self { name: name.to_owned(), port, under_way: None }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the addresses in the system's order. A call that times out continues, and the next call of `lookup`
    /// takes its result.
    pub(crate) async fn lookup(&mut self) -> io::Result<Vec<SocketAddr>> {
        self.lookup_within(LOOKUP_TIMEOUT, |name, port| Ok((name, port).to_socket_addrs()?.collect())).await
    }

    async fn lookup_within(
        &mut self,
        deadline: Duration,
        call: impl FnOnce(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + 'static,
    ) -> io::Result<Vec<SocketAddr>> {
        if self.under_way.is_none() {
            let (name, port) = (self.name.clone(), self.port);
            self.under_way = Some(pool()?.spawn_blocking(move || call(&name, port)));
        }
        let Some(under_way) = &mut self.under_way else { return Err(io::ErrorKind::NotFound.into()) };
        match tokio::time::timeout(deadline, under_way).await {
            Ok(answer) => {
                self.under_way = None;
                answer.unwrap_or_else(|error| Err(io::Error::other(error)))
            }
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the system's resolver does not answer in time")),
        }
    }
}

/// A runtime that is used only for its blocking threads.
fn pool() -> io::Result<&'static Runtime> {
    static POOL: OnceLock<Runtime> = OnceLock::new();
    if let Some(pool) = POOL.get() {
        return Ok(pool);
    }
    let pool = Builder::new_current_thread()
        .max_blocking_threads(LOOKUP_THREADS)
        .thread_keep_alive(THREAD_IDLE_TIME)
        .thread_name("lookup")
        .build()?;
    Ok(POOL.get_or_init(|| pool))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_lookup_that_times_out_continues_and_its_result_is_used_later() {
        let mut lookup = Lookup::new("api.internal", 80);
        let (go, wait) = mpsc::channel::<()>();
        let address: SocketAddr = "10.0.0.1:80".parse().unwrap();
        let soon = Duration::from_millis(20);
        let hanging = move |_: &str, _: u16| {
            wait.recv().unwrap();
            Ok(vec![address])
        };
        let late = lookup.lookup_within(soon, hanging).await.unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        let second = lookup.lookup_within(soon, |_, _| Err(io::Error::other("asked twice"))).await.unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::TimedOut, "one call at a time");
        go.send(()).unwrap();
        let long = Duration::from_secs(10);
        assert_eq!(lookup.lookup_within(long, |_, _| Ok(Vec::new())).await.unwrap(), [address]);
        assert!(lookup.lookup_within(long, |_, _| Ok(Vec::new())).await.unwrap().is_empty());
    }
}
