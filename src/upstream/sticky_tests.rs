//! Tests of affinity cookies: meaning, lifetime and format.

use proptest::prelude::*;

use super::*;
use crate::config::values::Period;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_800_000_000;

fn sticky(upstream: &str, ttl: u64) -> Sticky {
    let settings = schema::StickySettings { ttl: Period::from_secs(ttl), ..schema::StickySettings::default() };
    Sticky::new(upstream, &settings, SECRET)
}

fn address(port: u16) -> BackendAddress {
    format!("10.0.0.1:{port}").parse().unwrap()
}

/// The written value, without attributes.
fn value(sticky: &Sticky, port: u16, cookie: &[u8], now_s: u64) -> Vec<u8> {
    let written = sticky.write(sticky.token(&address(port)), [cookie].into_iter(), now_s, false).unwrap();
    let pair = written.as_bytes().split(|byte| *byte == b';').next().unwrap();
    pair.strip_prefix(b"weir=").unwrap().to_vec()
}

fn read(sticky: &Sticky, cookie: &[u8], now_s: u64) -> Option<CookieValue> {
    sticky.read([cookie].into_iter(), now_s)
}

#[test]
fn a_token_is_equal_in_every_process_with_the_same_secret() {
    let (one, other) = (sticky("api", 3600), sticky("api", 60));
    assert_eq!(one.token(&address(1)), other.token(&address(1)), "independent of the ttl");
    assert_ne!(one.token(&address(1)), one.token(&address(2)));
    assert_ne!(one.token(&address(1)), sticky("web", 3600).token(&address(1)), "differs by upstream");
    let foreign = Sticky::new("api", &schema::StickySettings::default(), &[7; 32]);
    assert_ne!(one.token(&address(1)), foreign.token(&address(1)));
    assert!(one.has_secret_of(&other) && !one.has_secret_of(&foreign));
    // Computed with Python's hmac, hashlib and base64: cookies must have the same meaning in every version of Weir.
    assert_eq!(value(&one, 1, b"", 0x6b49_d200), b"wkR8eFm-cdCJTpzKBbm9ndh96b49d200");
}

#[test]
fn attributes_are_as_configured() {
    let yaml = "{ cookie: id, ttl: 1500ms, attributes: { path: /a, domain: example.com, http_only: false, same_site: strict } }";
    let settings: schema::StickySettings = serde_yaml::from_str(yaml).unwrap();
    let line = |secure: Option<bool>, by_tls| {
        let mut settings = settings.clone();
        settings.attributes.secure = secure;
        let sticky = Sticky::new("api", &settings, SECRET);
        let written = sticky.write(sticky.token(&address(1)), std::iter::empty(), NOW, by_tls).unwrap();
        written.to_str().unwrap().split_once("; ").unwrap().1.to_owned()
    };
    assert_eq!(line(None, false), "Path=/a; Domain=example.com; Max-Age=2; SameSite=Strict");
    assert!(line(None, true).ends_with("; Secure") && line(Some(true), false).ends_with("; Secure"));
    assert!(!line(Some(false), true).contains("Secure"));
    let session = sticky("api", 0).write(sticky("api", 0).token(&address(1)), std::iter::empty(), NOW, false).unwrap();
    assert!(session.to_str().unwrap().ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{session:?}");
}

#[test]
fn an_entry_lasts_for_its_ttl_and_is_renewed_after_half_of_it() {
    let sticky = sticky("api", 100);
    let cookie = value(&sticky, 1, b"", NOW);
    let seen = |now_s: u64| read(&sticky, &cookie, now_s).map(|seen| seen.fresh);
    assert_eq!([NOW, NOW + 49, NOW + 50, NOW + 100].map(seen), [Some(true), Some(true), Some(false), Some(false)]);
    assert_eq!(seen(NOW + 101), None);
    assert_eq!(seen(NOW - 5), Some(false), "a clock that is behind");
    let session = self::sticky("api", 0);
    assert_eq!(read(&session, &cookie, NOW + 1_000_000).map(|seen| seen.fresh), Some(true));
}

#[test]
fn upstreams_share_a_cookie() {
    let all = ["a", "b", "c", "d", "e"].map(|name| sticky(name, 100));
    let mut cookie = Vec::new();
    for (n, sticky) in all.iter().enumerate() {
        cookie = value(sticky, n as u16 + 1, &cookie, NOW);
        assert_eq!(read(sticky, &cookie, NOW).unwrap().token, sticky.token(&address(n as u16 + 1)));
    }
    let known = |cookie: &[u8]| all.each_ref().map(|sticky| read(sticky, cookie, NOW).is_some());
    assert_eq!(known(&cookie), [false, true, true, true, true], "the oldest gives way");
    let again = value(&all[2], 9, &cookie, NOW);
    assert_eq!(known(&again), [false, true, true, true, true]);
    assert_eq!(read(&all[2], &again, NOW).unwrap().token, all[2].token(&address(9)));
    assert_eq!(again.len(), cookie.len());
}

#[test]
fn invalid_entries_are_ignored_and_dropped() {
    let sticky = sticky("api", 100);
    let good = value(&sticky, 1, b"", NOW);
    let cut = &good[..good.len() - 1];
    for cookie in [&b""[..], b".", b"10.0.0.1:1", cut, &[b"x", &good[..]].concat(), &[b'A'; ENTRY_BYTES]] {
        assert_eq!(read(&sticky, cookie, NOW), None, "{:?}", String::from_utf8_lossy(cookie));
    }
    assert_eq!(value(&sticky, 1, b"\"; x.<script>", NOW), good);
    let mut bad_time = good.clone();
    bad_time[ENTRY_BYTES - 1] = b'g';
    assert_eq!(read(&sticky, &bad_time, NOW), None);
    // Of several cookies of the name, the first with a valid entry counts.
    let (first, second) = (value(&sticky, 1, b"", NOW), value(&sticky, 2, b"", NOW));
    let seen = sticky.read([&b"nothing"[..], &first, &second].into_iter(), NOW);
    assert_eq!(seen.unwrap().token, sticky.token(&address(1)));
}

proptest! {
    /// Any input is read without a failure. The written value is short, has only plain characters and names the
    /// backend.
    #[test]
    fn any_cookie_does_no_harm(cookie in proptest::collection::vec(any::<u8>(), 0..300), now in 0_u64..u64::from(u32::MAX)) {
        let sticky = sticky("api", 100);
        let _ = read(&sticky, &cookie, now);
        let written = value(&sticky, 1, &cookie, now);
        prop_assert!(written.len() <= MAX_ENTRIES * (ENTRY_BYTES + 1));
        prop_assert!(written.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b)));
        prop_assert_eq!(read(&sticky, &written, now), Some(CookieValue { token: sticky.token(&address(1)), fresh: true }));
    }
}
