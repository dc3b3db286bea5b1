//! `upstreams.*.sticky`: validation of the cookie's name and attributes.

use super::super::node::DocumentPath;
use super::super::schema::{SameSite, StickySettings, UpstreamSettings};
use super::{Check, text};

pub(super) fn check(check: &mut Check<'_>, at: &DocumentPath, sticky: &StickySettings, upstream: &UpstreamSettings) {
    cookie_name(check, &at.key("cookie"), &sticky.cookie);
    let (ttl, millis) = (at.key("ttl"), sticky.ttl.get().as_millis());
    if (1..1_000).contains(&millis) {
        let what = format!("{} is less than a cookie can say", check.quote(&ttl, &sticky.ttl.to_string()));
        check.say(&ttl, what, "Write `1s` or more, or `0s` for as long as the client's session lasts");
    }
    if sticky.key_file.as_os_str().is_empty() {
        check.say(&at.key("key_file"), "nothing is no file", "Write a path such as `sticky.key`, or leave it out");
    }
    attributes(check, &at.key("attributes"), sticky);
    if upstream.hash.as_ref().is_some_and(|hash| hash.cookie.as_ref() == Some(&sticky.cookie)) {
        let what = format!("{} is what `hash` goes by", check.quote(&at.key("cookie"), &sticky.cookie));
        check.say(&at.key("cookie"), what, "Weir writes this cookie itself: call one of the two differently");
    }
}

/// RFC 6265 section 4.1.1: a token.
pub(super) fn cookie_name(check: &mut Check<'_>, at: &DocumentPath, name: &str) {
    let token = |b: u8| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        let what = format!("{} is not a cookie's name", check.quote(at, name));
        check.say(at, what, "Use letters, digits, `-` and `_`, such as `weir`");
    }
}

fn attributes(check: &mut Check<'_>, at: &DocumentPath, sticky: &StickySettings) {
    let attributes = &sticky.attributes;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && b != b';');
    if !attributes.path.starts_with('/') || !plain(&attributes.path) {
        let here = at.key("path");
        let what = format!("{} is not a cookie's path", check.quote(&here, &attributes.path));
        check.say(&here, what, "Write `/`, or what the paths begin with, such as `/app`");
    }
    if let Some(domain) = &attributes.domain
        && text::bad_server_name(domain)
    {
        let here = at.key("domain");
        let what = format!("{} is not a domain", check.quote(&here, domain));
        check.say(&here, what, "Write a name such as `example.com`, or leave it out");
    }
    secure(check, at, sticky);
}

/// Clients silently drop a cookie that violates these rules.
fn secure(check: &mut Check<'_>, at: &DocumentPath, sticky: &StickySettings) {
    let (attributes, secure) = (&sticky.attributes, at.key("secure"));
    let is_secure = attributes.secure == Some(true);
    if attributes.same_site == SameSite::None && !is_secure {
        let what = "clients take `none` with `secure` alone";
        check.say_given(
            &at.key("same_site"),
            std::slice::from_ref(&secure),
            what,
            "Write `secure: true`, or `same_site: lax`",
        );
    }
    let begins = |prefix: &str| sticky.cookie.get(..prefix.len()).is_some_and(|part| part.eq_ignore_ascii_case(prefix));
    let bound = begins("__Host-");
    if (bound || begins("__Secure-")) && !is_secure {
        let what = format!("clients take {} with `secure` alone", check.quote(&at.key("cookie"), &sticky.cookie));
        check.say_given(at, &[secure], what, "Write `attributes: { secure: true }`, or another name");
    } else if bound && (attributes.domain.is_some() || attributes.path != "/") {
        let what = "clients take a name with `__Host-` without a domain and for the path `/` alone";
        check.say(at, what, "Leave `domain` and `path` out, or write `__Secure-`");
    }
}
