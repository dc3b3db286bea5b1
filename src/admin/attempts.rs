//! The rate limit of login attempts, per client and minute.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

/// Maximum number of attempts of a client in a window. A successful login resets the count.
const MAX_ATTEMPTS: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// Maximum number of counted clients. Above it, logins of further clients are refused.
const MAX_CLIENTS: usize = 1024;

/// The login attempts of all clients.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<HashMap<Client, Window>>);

/// The counting key: an IPv4 address, an IPv6 /64 network, or `None` for all clients of a Unix socket.
type Client = Option<IpAddr>;

#[derive(Debug)]
struct Window {
    began: Instant,
    attempts: u32,
}

impl Attempts {
    /// Counts an attempt of this client.
    ///
    /// # Errors
    /// The limit is reached. The value is the time to wait.
    pub(super) fn count(&self, client: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let (client, mut windows) = (key(client), self.lock());
        if windows.len() >= MAX_CLIENTS && !windows.contains_key(&client) {
            windows.retain(|_, window| now < window.began + WINDOW);
            if windows.len() >= MAX_CLIENTS {
                return Err(WINDOW);
            }
        }
        let window = windows.entry(client).or_insert(Window { began: now, attempts: 0 });
        if now >= window.began + WINDOW {
            *window = Window { began: now, attempts: 0 };
        }
        if window.attempts >= MAX_ATTEMPTS {
            return Err(window.began + WINDOW - now);
        }
        window.attempts += 1;
        Ok(())
    }

    /// Resets the count of this client after a successful login.
    pub(super) fn succeeded(&self, client: Option<IpAddr>) {
        self.lock().remove(&key(client));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Client, Window>> {
        self.0.lock()
    }
}

/// An IPv6 client usually has a whole /64 network, so the network is the key.
fn key(client: Option<IpAddr>) -> Client {
    client.map(|ip| match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) >> 64 << 64).into()),
        ip => ip,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_client_has_ten_attempts_a_minute() {
        let (attempts, start) = (Attempts::default(), Instant::now());
        let at = |secs| start + Duration::from_secs(secs);
        assert!((0..10).all(|_| attempts.count(ip("10.0.0.1"), start).is_ok()));
        assert_eq!(attempts.count(ip("10.0.0.1"), at(20)), Err(Duration::from_secs(40)));
        assert!(attempts.count(ip("10.0.0.2"), at(20)).is_ok() && attempts.count(None, at(20)).is_ok(), "others may");
        assert!(attempts.count(ip("10.0.0.1"), at(60)).is_ok());
    }

    #[test]
    fn a_login_clears_the_attempts_before_it() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        assert!((0..10).all(|_| attempts.count(ip("10.0.0.1"), now).is_ok()));
        attempts.succeeded(ip("10.0.0.1"));
        assert!(attempts.count(ip("10.0.0.1"), now).is_ok());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        assert!((0..10).all(|n| attempts.count(ip(&format!("2001:db8::{n}")), now).is_ok()));
        assert!(attempts.count(ip("2001:db8::ffff"), now).is_err());
        assert!(attempts.count(ip("2001:db8:0:1::1"), now).is_ok());
    }

    #[test]
    fn the_number_of_clients_is_bounded() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for n in 0..u32::try_from(MAX_CLIENTS).unwrap() {
            assert!(attempts.count(Some(IpAddr::V4((0x0a00_0000 + n).into())), now).is_ok());
        }
        assert!(attempts.count(ip("192.0.2.1"), now).is_err());
        assert!(attempts.count(ip("192.0.2.1"), now + WINDOW).is_ok());
    }
}
