//! The credentials of the admin API: the bearer token, and the sessions of browsers that logged in with it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::{Mutex, MutexGuard};

/// Lifetime of a session.
pub(super) const SESSION_LIFETIME: Duration = Duration::from_secs(8 * 3600);

/// Maximum number of sessions. A new session replaces the oldest one.
const MAX_SESSIONS: usize = 64;

const SESSION_ID_BYTES: usize = 32;

/// The bearer token and the sessions opened with it. A change of the token ends all sessions. Without a token every
/// request is allowed.
#[derive(Debug, Clone, Default)]
pub struct AdminToken(Arc<Inner>);

#[derive(Default)]
struct Inner {
    text: ArcSwapOption<String>,
    sessions: Mutex<Sessions>,
}

/// Open sessions, the oldest first.
#[derive(Default)]
struct Sessions(VecDeque<Session>);

/// The session of a browser. Only the digest of its id is stored.
struct Session {
    digest: [u8; 32],
    ends: Instant,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is never printed.
        f.debug_struct("Token").field("is_set", &self.text.load().is_some()).finish_non_exhaustive()
    }
}

impl AdminToken {
    /// Starts with this token.
    pub fn new(token: Option<String>) -> Self {
        let this = Self::default();
        this.set(token);
        this
    }

    /// Sets the token. All sessions end if it is a different one.
    pub fn set(&self, token: Option<String>) {
        let mut sessions = self.sessions();
        if self.0.text.load().as_deref() == token.as_ref() {
            return;
        }
        self.0.text.store(token.map(Arc::new));
        sessions.0.clear();
    }

    /// Whether a token is set.
    pub(super) fn is_set(&self) -> bool {
        self.0.text.load().is_some()
    }

    /// Whether `shown` is the token. The comparison of the digests takes constant time.
    pub(super) fn is(&self, shown: &str) -> bool {
        let expected = self.0.text.load();
        expected.as_deref().is_some_and(|expected| same(&sha256(shown), &sha256(expected)))
    }

    /// Opens a session if `shown` is the token. Returns its id.
    ///
    /// # Errors
    /// The operating system provides no random bytes.
    pub(super) fn log_in(&self, shown: &str, now: Instant) -> Result<Option<String>, getrandom::Error> {
        // The lock is taken first, so that a token that was just replaced opens no session.
        let mut sessions = self.sessions();
        if self.is(shown) { sessions.open(now).map(Some) } else { Ok(None) }
    }

    /// Whether a session with this id is open.
    pub(super) fn has_session(&self, id: &str, now: Instant) -> bool {
        self.sessions().has(id, now)
    }

    /// Ends the session with this id.
    pub(super) fn log_out(&self, id: &str) {
        let digest = sha256(id);
        self.sessions().0.retain(|session| !same(&session.digest, &digest));
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.0.sessions.lock()
    }
}

impl Sessions {
    fn open(&mut self, now: Instant) -> Result<String, getrandom::Error> {
        let mut id = [0; SESSION_ID_BYTES];
        getrandom::fill(&mut id)?;
        let id = URL_SAFE_NO_PAD.encode(id);
        self.0.retain(|session| now < session.ends);
        if self.0.len() >= MAX_SESSIONS {
            self.0.pop_front();
        }
        self.0.push_back(Session { digest: sha256(&id), ends: now + SESSION_LIFETIME });
        Ok(id)
    }

    fn has(&self, id: &str, now: Instant) -> bool {
        let digest = sha256(id);
        self.0.iter().any(|session| now < session.ends && same(&session.digest, &digest))
    }
}

fn sha256(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    verify_slices_are_equal(a, b).is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_compared_completely_and_an_empty_token_never_matches() {
        let token = AdminToken::new(Some("abc".into()));
        assert!(token.is("abc"));
        for wrong in ["ab", "abcd", "abC", ""] {
            assert!(!token.is(wrong), "{wrong}");
        }
        assert!(!AdminToken::new(None).is(""));
    }

    #[test]
    fn a_session_ends_after_eight_hours() {
        let (token, start) = (AdminToken::new(Some("abc".into())), Instant::now());
        let id = token.log_in("abc", start).unwrap().unwrap();
        assert!(token.has_session(&id, start + SESSION_LIFETIME - Duration::from_secs(1)));
        assert!(!token.has_session(&id, start + SESSION_LIFETIME));
        assert_eq!(SESSION_LIFETIME.as_secs(), 28_800);
    }

    #[test]
    fn another_token_ends_all_sessions_for_good_and_the_same_token_ends_none() {
        let (token, now) = (AdminToken::new(Some("abc".into())), Instant::now());
        let id = token.log_in("abc", now).unwrap().unwrap();
        token.set(Some("abc".into()));
        assert!(token.has_session(&id, now));
        token.set(Some("other".into()));
        assert!(!token.has_session(&id, now));
        token.set(Some("abc".into()));
        assert!(!token.has_session(&id, now), "the old token came back, the session did not");
    }

    #[test]
    fn a_session_id_is_random_and_does_not_contain_the_token() {
        let (token, now) = (AdminToken::new(Some("abc".into())), Instant::now());
        let ids = [(); 2].map(|()| token.log_in("abc", now).unwrap().unwrap());
        assert_ne!(ids[0], ids[1]);
        assert_eq!(ids[0].len(), 43, "32 bytes");
        assert_eq!(token.log_in("wrong", now), Ok(None));
        token.log_out(&ids[0]);
        assert!(!token.has_session(&ids[0], now) && token.has_session(&ids[1], now));
        assert!(!format!("{token:?}").contains("abc"));
    }

    #[test]
    fn sessions_are_bounded_and_the_oldest_goes_first() {
        let (token, now) = (AdminToken::new(Some("abc".into())), Instant::now());
        let ids: Vec<_> = (0..=MAX_SESSIONS).map(|_| token.log_in("abc", now).unwrap().unwrap()).collect();
        assert!(!token.has_session(&ids[0], now) && ids[1..].iter().all(|id| token.has_session(id, now)));
    }
}
