//! `listeners[].tls` and `redirect_https`: validation of the settings. The content of the files is checked when they
//! are read.

use super::super::node::DocumentPath;
use super::super::schema::{Hsts, ListenerConfig, ListenerTls, RedirectHttps, Suite};
use super::super::values::TlsVersion;
use super::Check;

/// A year in seconds: the minimum for preload lists.
const YEAR: u64 = 365 * 24 * 3600;

pub(super) fn check(check: &mut Check<'_>, at: &DocumentPath, listener: &ListenerConfig) {
    let below = at.key("tls");
    if listener.redirect_https != RedirectHttps::default() && check.has(&below, listener.tls.is_some()) {
        let what = "this port speaks TLS already: every request would be sent where it came from";
        let hint = "Write `redirect_https` at the listener of plain HTTP, or leave `tls` out";
        check.say_given(&at.key("redirect_https"), std::slice::from_ref(&below), what, hint);
    }
    let Some(tls) = &listener.tls else { return };
    certificates(check, &below, tls);
    suites(check, &below, tls);
    if let Some(hsts) = &tls.hsts {
        preload(check, &below.key("hsts"), hsts);
    }
}

fn certificates(check: &mut Check<'_>, at: &DocumentPath, tls: &ListenerTls) {
    let here = at.key("certificates");
    if tls.certificates.is_empty() && !check.has(&at.key("acme"), tls.acme.is_some()) {
        let place = if check.is_written(&here) { here } else { at.clone() };
        let hint = "Write `certificates: [{ cert: tls/edge.pem, key: tls/edge.key }]`, or `acme`";
        return check.say(&place, "there is no certificate to show", hint);
    }
    for (index, pair) in tls.certificates.iter().enumerate() {
        if let Some(first) = tls.certificates[..index].iter().position(|other| other.cert == pair.cert) {
            let line = check.line(&here.index(first));
            let hint = format!("See line {line}: leave one of them out");
            check.say(&here.index(index).key("cert"), "this certificate is listed already", hint);
        }
    }
}

fn suites(check: &mut Check<'_>, at: &DocumentPath, tls: &ListenerTls) {
    let Some(suites) = &tls.suites else { return };
    let here = at.key("suites");
    let version = at.key("min_version");
    let (new, old): (Vec<Suite>, Vec<Suite>) = suites.iter().partition(|suite| suite.is_13());
    match tls.min_version {
        TlsVersion::V13 if new.is_empty() => {
            let hint = "Write `TLS_AES_128_GCM_SHA256`, or leave `suites` out";
            check.say_given(&here, &[version], "no suite of TLS 1.3 is listed: nothing could be spoken", hint);
        }
        TlsVersion::V13 if !old.is_empty() => {
            let hint = "Leave it out, or write `min_version: \"1.2\"`";
            let first = suites.iter().position(|suite| !suite.is_13()).unwrap_or_default();
            check.say_given(&here.index(first), &[version], "a suite of TLS 1.2, which is not spoken here", hint);
        }
        TlsVersion::V12 if old.is_empty() && !new.is_empty() => {
            let hint = "Write `min_version: \"1.3\"`, or list one of TLS 1.2";
            check.say_given(&here, &[version], "no suite of TLS 1.2 is listed: its clients would be refused", hint);
        }
        TlsVersion::V12 if suites.is_empty() => {
            check.say(&here, "no suite is listed: nothing could be spoken", "Leave `suites` out for the usual ones");
        }
        _ => {}
    }
}

/// Requirements of the browsers' preload lists (hstspreload.org). A host that violates them is removed from the list.
fn preload(check: &mut Check<'_>, at: &DocumentPath, hsts: &Hsts) {
    if hsts.preload && !hsts.include_subdomains {
        let hint = "Write `include_subdomains: true`, or leave `preload` out";
        check.say_given(&at.key("preload"), &[at.key("include_subdomains")], "`preload` covers all names below", hint);
    }
    if hsts.preload && hsts.max_age.get().as_secs() < YEAR {
        let hint = "Write `max_age: 8760h`, or leave `preload` out";
        check.say_given(&at.key("preload"), &[at.key("max_age")], "`preload` wants a `max_age` of a year", hint);
    }
}
