//! The idle timeout that a backend announces for an HTTP/1 connection: `Keep-Alive: timeout=5, max=100`.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// The margin for latency. The backend starts its timer when it has sent the response, and its FIN takes some time to
/// arrive.
const EXPIRY_MARGIN: Duration = Duration::from_secs(1);

/// How long the connection may stay idle: the backend's timeout minus one second. `None` if the backend announces none.
pub fn idle_limit(headers: &HeaderMap) -> Option<Duration> {
    // A scan of the names is cheaper than a look-up by hash, because most responses do not have the field.
    if !headers.keys().any(|name| *name == KEEP_ALIVE) {
        return None;
    }
    let values = headers.get_all(&KEEP_ALIVE).iter();
    let parameters = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let seconds = parameters.filter_map(timeout).min()?;
    Some(Duration::from_secs(seconds).saturating_sub(EXPIRY_MARGIN))
}

fn timeout(parameter: &[u8]) -> Option<u64> {
    let (name, value) = std::str::from_utf8(parameter).ok()?.split_once('=')?;
    let value = value.trim().trim_matches('"');
    name.trim().eq_ignore_ascii_case("timeout").then(|| value.parse().ok())?
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_counts_minus_one_second() {
        for (fields, want) in [
            (&["timeout=5, max=100"][..], Some(4)),
            (&["max=100,Timeout = \"5\""], Some(4)),
            (&["max=100", "timeout=60", "timeout=7"], Some(6)),
            (&["timeout=1"], Some(0)),
            (&["timeout=0"], Some(0)),
            (&["max=100"], None),
            (&["timeout=, timeout=x, timeout=-1"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in fields {
                headers.append(&KEEP_ALIVE, value.parse().unwrap());
            }
            assert_eq!(idle_limit(&headers).map(|limit| limit.as_secs()), want, "{fields:?}");
        }
    }
}
