//! `listeners[].tls.acme`: validation of the names, and of the settings needed to obtain certificates.

use super::super::node::DocumentPath;
use super::super::schema::{AcmeChallenge, AcmeSettings};
use super::super::values::HostPattern;
use super::Check;

/// All `acme` sections, with their paths.
fn sections<'a>(check: &Check<'a>) -> Vec<(DocumentPath, &'a AcmeSettings)> {
    let listeners = check.document.listeners.iter().enumerate();
    let acme = |(index, listener): (usize, &'a super::super::schema::ListenerConfig)| {
        let at = DocumentPath::of("listeners").index(index).key("tls").key("acme");
        Some((at, listener.tls.as_ref()?.acme.as_ref()?))
    };
    listeners.filter_map(acme).collect()
}

pub(super) fn check(check: &mut Check<'_>) {
    let sections = sections(check);
    for (index, (at, acme)) in sections.iter().enumerate() {
        state_dir(check, at);
        names(check, &at.key("names"), acme);
        server(check, at, acme);
        answered(check, at, acme);
        for before in &sections[..index] {
            agree(check, (at, acme), before);
        }
    }
}

/// Issued certificates must be stored: ACME servers limit the rate at which they issue them.
fn state_dir(check: &mut Check<'_>, at: &DocumentPath) {
    let state = DocumentPath::of("server").key("state_dir");
    if !check.has(&state, check.document.server.state_dir.is_some()) {
        let hint = "Write `server: { state_dir: /var/lib/weir }`";
        check.say_of_key(at, "certificates that are issued need a place to be kept in", hint);
    }
}

fn names(check: &mut Check<'_>, at: &DocumentPath, acme: &AcmeSettings) {
    if acme.names.is_empty() {
        return check.say(at, "there is no name to have a certificate for", "Write `names: [www.example.com]`");
    }
    for (index, name) in acme.names.iter().enumerate() {
        let here = at.index(index);
        let quoted = check.quote(&here, &name.to_string());
        if let Some(first) = acme.names[..index].iter().position(|other| other == name) {
            let line = check.line(&at.index(first));
            check.say(&here, format!("{quoted} is listed already"), format!("See line {line}: leave one of them out"));
        } else if let HostPattern::Below(_) = name {
            let hint = "List the names, or have a certificate made elsewhere and write it under `certificates`";
            check.say(&here, format!("{quoted}: no challenge that can be met here proves a wildcard"), hint);
        } else if !can_be_had(&name.to_string()) {
            let what = format!("{quoted} is no public name: nobody issues a certificate for it");
            check.say(&here, what, instead_of(&name.to_string()));
        }
    }
}

fn instead_of(name: &str) -> &'static str {
    if name.contains('_') {
        "Write it with letters, digits and hyphens: `_` is in no name that a certificate can be for"
    } else if name.contains('.') || name.contains(':') {
        "Write a name such as `www.example.com`, and no address"
    } else {
        "Write the whole name, with its dots, such as `www.example.com`"
    }
}

/// Letters, digits and hyphens. The last label must not be numeric, as in an IP address (RFC 5280 section 4.2.1.6).
fn can_be_had(name: &str) -> bool {
    let label = |label: &str| {
        label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.contains('.') && name.split('.').all(label) && !last.bytes().all(|b| b.is_ascii_digit())
}

fn server(check: &mut Check<'_>, at: &DocumentPath, acme: &AcmeSettings) {
    let directory = at.key("directory");
    let uri: Option<http::Uri> = acme.directory.parse().ok();
    if !uri.is_some_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty())) {
        let what = format!("{} is no address of a directory", check.quote(&directory, &acme.directory));
        check.say(&directory, what, "Write `https://` and the rest, or leave it out for Let's Encrypt");
    }
    let place = at.key("email");
    if let Some(email) = acme.email.as_deref().filter(|email| !is_mail(email)) {
        let what = format!("{} is no address of mail", check.quote(&place, email));
        check.say(&place, what, "Write one such as `ops@example.com`, or leave it out");
    }
}

/// Checks the syntax only, not whether the mailbox exists. The address is used in a `mailto:` URI, so characters with a
/// meaning there are rejected (RFC 6068).
fn is_mail(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_graphic() && !b"@,:;<>()[]\\\"?&%".contains(&b);
    let part = |part: &str| !part.is_empty() && part.bytes().all(fits);
    text.split_once('@').is_some_and(|(user, host)| part(user) && part(host) && host.split('.').all(|l| !l.is_empty()))
}

/// The `http-01` challenge needs a listener without TLS.
fn answered(check: &mut Check<'_>, at: &DocumentPath, acme: &AcmeSettings) {
    let listeners = &check.document.listeners;
    if acme.challenge == AcmeChallenge::Http01 && listeners.iter().all(|listener| listener.tls.is_some()) {
        let place = if check.is_written(&at.key("challenge")) { at.key("challenge") } else { at.clone() };
        let hint = "Write a listener for port 80, or `challenge: tls-alpn-01`";
        let what = "`http-01` is asked for by plain HTTP, and no listener speaks that";
        check.say_given(&place, &[DocumentPath::of("listeners")], what, hint);
    }
}

/// There is one account per directory and one certificate per name, so two sections must agree on their settings.
fn agree(
    check: &mut Check<'_>,
    (at, acme): (&DocumentPath, &AcmeSettings),
    (before, other): &(DocumentPath, &AcmeSettings),
) {
    let line = check.line(before);
    let hint = format!("Write the one of line {line} at both");
    let twice = |(_, name): &(usize, &HostPattern)| other.names.contains(name);
    if acme.directory != other.directory || acme.challenge != other.challenge {
        for (index, name) in acme.names.iter().enumerate().filter(twice) {
            let here = at.key("names").index(index);
            let what = format!("{} is to be had in another way already", check.quote(&here, &name.to_string()));
            let hint = format!("See line {line}: write one `directory` and one `challenge` at both");
            check.say(&here, what, hint);
        }
    }
    if acme.directory != other.directory {
        return;
    }
    let differ = [
        ("email", acme.email != other.email, acme.email.is_some()),
        ("directory_ca", acme.directory_ca != other.directory_ca, acme.directory_ca.is_some()),
    ];
    for (key, _, written) in differ.into_iter().filter(|(_, differs, _)| *differs) {
        let place = if written { at.key(key) } else { at.clone() };
        check.say(&place, format!("this directory has another `{key}` already"), hint.as_str());
    }
}
