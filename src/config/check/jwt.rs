//! `auth.*.jwt`: validation of the issuer, the audience, the requirements and the forwarded claims.

use std::collections::BTreeMap;

use http::HeaderName;

use super::super::node::DocumentPath;
use super::super::schema::{JwtAuth, JwtRequirements, KeySetSource, TokenPlace};
use super::super::values::HttpUrl;
use super::{Check, headers};

/// Fields that carry something else. A claim in one of them would replace it.
const TAKEN: [&str; 4] = ["authorization", "cookie", "forwarded", "proxy-authorization"];

pub(super) fn check(check: &mut Check<'_>, at: &DocumentPath, jwt: &JwtAuth) {
    keys(check, at, jwt);
    audience(check, at, jwt);
    if jwt.algorithms.is_empty() {
        let what = "no algorithm is accepted, so no token is valid";
        check.say(&at.key("algorithms"), what, "Leave it out for RS256 and ES256");
    }
    let leeway = at.key("leeway");
    if jwt.leeway.get().as_secs() > 600 {
        let what = format!("{} is out of range", check.quote(&leeway, &jwt.leeway.to_string()));
        check.say(&leeway, what, "Write `0s` to `10m`");
    }
    requirements(check, &at.key("require"), &jwt.require);
    forwarded(check, at, jwt);
    place(check, &at.key("from"), &jwt.from);
}

/// Keys over plain HTTP can be replaced by an attacker on the way, and with them every token.
pub(super) fn warn(check: &mut Check<'_>, at: &DocumentPath, jwt: &JwtAuth) {
    let (key, url) = match (&jwt.jwks, &jwt.issuer) {
        (Some(KeySetSource::Url(url)), _) => ("jwks", Some(url.clone())),
        (None, Some(issuer)) => ("issuer", issuer.parse().ok()),
        _ => return,
    };
    if let Some(url) = url.filter(HttpUrl::is_exposed) {
        let here = at.key(key);
        let what = format!("{}: the keys of all tokens come over plain HTTP", check.quote(&here, url.as_str()));
        check.say(&here, what, "Write `https://`, or use a proxy on this host");
    }
}

fn keys(check: &mut Check<'_>, at: &DocumentPath, jwt: &JwtAuth) {
    let (issuer, jwks, ca) = (at.key("issuer"), at.key("jwks"), at.key("ca"));
    if let Some(name) = jwt.issuer.as_ref().filter(|name| name.is_empty()) {
        check.say(&issuer, format!("{} is not an issuer", check.quote(&issuer, name)), "Write the `iss` of its tokens");
        return;
    }
    if check.has(&jwks, jwt.jwks.is_some()) {
        if check.has(&ca, jwt.ca.is_some()) && matches!(jwt.jwks, Some(KeySetSource::File(_))) {
            check.say_given(&ca, &[jwks], "`ca` has no effect: the keys are in a file", "Leave it out");
        }
        return;
    }
    match &jwt.issuer {
        Some(url) if url.parse::<HttpUrl>().is_err() || url.contains('?') => {
            let what = format!("{} is not a URL, so its keys cannot be found", check.quote(&issuer, url));
            check.say_given(&issuer, &[jwks], what, "Write `jwks` with a URL or `{ file: keys.json }`");
        }
        None if !check.has(&issuer, false) => {
            let hint = "Write `issuer: https://id.example`, or `jwks` with a URL or `{ file: keys.json }`";
            check.say(at, "the policy has no keys: it has neither `issuer` nor `jwks`", hint);
        }
        _ => {}
    }
}

fn audience(check: &mut Check<'_>, at: &DocumentPath, jwt: &JwtAuth) {
    let (audience, any) = (at.key("audience"), at.key("any_audience"));
    let is_set = check.has(&audience, !jwt.audience.is_empty());
    if !is_set && !check.has(&any, jwt.any_audience) {
        let what = "the policy has no `audience`, so tokens for other services would be accepted";
        check.say(at, what, "Write `audience: [api]` with the `aud` of your tokens, or `any_audience: true`");
    }
    if is_set && jwt.any_audience {
        let what = "`audience` has no effect with `any_audience`";
        check.say_given(&audience, std::slice::from_ref(&any), what, "Leave one of them out");
    }
    for (index, name) in jwt.audience.iter().enumerate().filter(|(_, name)| name.is_empty()) {
        let here = audience.index(index);
        check.say(&here, format!("{} is not an audience", check.quote(&here, name)), "Write the `aud` of your tokens");
    }
}

fn requirements(check: &mut Check<'_>, at: &DocumentPath, require: &JwtRequirements) {
    for name in require.claims.keys() {
        claim(check, &at.key("claims").key(name), name);
    }
    for (index, scope) in require.scopes.iter().enumerate() {
        // RFC 6749 section 3.3.
        let is_token = |b: u8| matches!(b, b'!' | b'#'..=b'[' | b']'..=b'~');
        if scope.is_empty() || !scope.bytes().all(is_token) {
            let here = at.key("scopes").index(index);
            let what = format!("{} is not a scope", check.quote(&here, scope));
            check.say(&here, what, "Write one word such as `read`, and a list for several");
        }
    }
}

/// A name appears in WWW-Authenticate.
fn claim(check: &mut Check<'_>, at: &DocumentPath, name: &str) {
    let is_part = |part: &str| !part.is_empty();
    let is_visible = name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'));
    if !is_visible || name.is_empty() || !name.split('.').all(is_part) {
        let what = format!("{} is not the name of a claim", check.quote(at, name));
        check.say(at, what, "Write a name such as `sub` or `realm_access.roles`");
    }
}

fn forwarded(check: &mut Check<'_>, at: &DocumentPath, jwt: &JwtAuth) {
    let here = at.key("headers");
    headers::fields(check, &here, &jwt.headers, headers::Use::Requested);
    let mut by_cgi_name: BTreeMap<String, &str> = BTreeMap::new();
    for (field, path) in &jwt.headers {
        let at_field = here.key(field);
        claim(check, &at_field, path);
        let lower = field.to_ascii_lowercase();
        if TAKEN.contains(&lower.as_str()) || lower.starts_with("x-forwarded-") || lower.starts_with("x-client-cert-") {
            let what = format!("`{field}` carries something else; Weir sets or forwards it");
            check.say_of_key(&at_field, what, "Use a field such as `x-user`");
        }
        // The same letters are reported as one header already.
        let cgi_name: String = lower.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        if let Some(other) = by_cgi_name.insert(cgi_name, field).filter(|other| !other.eq_ignore_ascii_case(field)) {
            let what = format!("`{field}` and `{other}` are one field for backends with CGI names");
            check.say_of_key(&at_field, what, "Keep one");
        }
        if matches!(&jwt.from, TokenPlace::Header(name) if name.eq_ignore_ascii_case(field)) {
            let what = format!("`{field}` carries the token");
            check.say_given(&at_field, &[at.key("from")], what, "Use another field");
        }
    }
}

fn place(check: &mut Check<'_>, at: &DocumentPath, from: &TokenPlace) {
    let is_token = |name: &str| HeaderName::from_bytes(name.as_bytes()).is_ok();
    let (key, name, fits, hint) = match from {
        TokenPlace::Authorization => return,
        TokenPlace::Header(name) => ("header", name, is_token(name), "Write the name of a field such as `x-token`"),
        TokenPlace::Cookie(name) => ("cookie", name, is_token(name), "Write the name of a cookie such as `session`"),
        TokenPlace::Query(name) => {
            let fits = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b));
            ("query", name, fits, "Write the name of a parameter such as `access_token`")
        }
    };
    if !fits {
        let here = at.key(key);
        check.say(&here, format!("{} is not a name here", check.quote(&here, name)), hint);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::path::Path;

    const REST: &str = "listeners: [{ address: '127.0.0.1:1' }]\nroutes: [{ respond: { status: 200 } }]\n";

    /// The problems of a policy.
    fn problems(jwt: &str) -> Vec<String> {
        let yaml = format!("{REST}auth: {{ api: {{ jwt: {jwt} }} }}\n");
        let parsed = crate::config::parse(Path::new("weir.yaml"), &yaml, &|_| None, &|_| Ok(Vec::new()));
        parsed.err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_policy_of_a_few_lines_is_valid() {
        for jwt in [
            "{ issuer: 'https://id.example/realms/x', audience: api }",
            "{ issuer: accounts.example, jwks: 'https://id.example/keys', audience: [a, b] }",
            "{ jwks: 'http://127.0.0.1:1/keys', any_audience: true, algorithms: [EdDSA], from: { cookie: session } }",
            "{ issuer: 'https://id.example', audience: api, leeway: 0s, forward_token: false,
               require: { exp: false, scopes: [read, 'a:b'], claims: { verified: true, level: [1, 2], a.b: [] } },
               headers: { x-user: sub, x-roles: realm_access.roles, x-mail: 'https://example.com/mail' } }",
        ] {
            assert_eq!(problems(jwt), Vec::<String>::new(), "{jwt}");
        }
    }

    #[test]
    fn each_mistake_is_a_problem_at_its_key() {
        let base = "issuer: 'https://id.example', audience: api";
        for (jwt, place, text) in [
            ("{ audience: api }", "auth.api.jwt: ", "has no keys"),
            ("{ issuer: id.example, audience: api }", "jwt.issuer: ", "not a URL"),
            ("{ issuer: 'https://id.example/?a', audience: api }", "jwt.issuer: ", "not a URL"),
            ("{ issuer: 'https://id.example' }", "auth.api.jwt: ", "no `audience`"),
            ("{ issuer: 'https://id.example', audience: [''] }", "audience[0]: ", "not an audience"),
            ("{ BASE, any_audience: true }", "jwt.audience: ", "no effect"),
            ("{ BASE, algorithms: [] }", "jwt.algorithms: ", "no algorithm"),
            ("{ BASE, algorithms: [none] }", "jwt.algorithms[0]: ", "none"),
            ("{ BASE, algorithms: [HS256] }", "jwt.algorithms[0]: ", "HS256"),
            ("{ BASE, leeway: 1h }", "jwt.leeway: ", "out of range"),
            ("{ BASE, jwks: id.example }", "jwt.jwks: ", "not a URL"),
            ("{ BASE, jwks: 'https://ann:pw@id.example' }", "jwt.jwks: ", "password"),
            ("{ BASE, require: { scopes: ['a b'] } }", "scopes[0]: ", "not a scope"),
            ("{ BASE, require: { claims: { 'a..b': [x] } } }", "claims", "not the name of a claim"),
            ("{ BASE, headers: { x-user: '' } }", "headers.x-user: ", "not the name of a claim"),
            ("{ BASE, headers: { host: sub } }", "headers.host: ", "`host`"),
            ("{ BASE, headers: { connection: sub } }", "headers.connection: ", "belongs to the connection"),
            ("{ BASE, headers: { x-forwarded-for: sub } }", "headers.x-forwarded-for: ", "something else"),
            ("{ BASE, headers: { Authorization: sub } }", "headers.Authorization: ", "something else"),
            ("{ BASE, headers: { x-user: sub, x_user: sub } }", "headers.x_user: ", "one field"),
            ("{ BASE, headers: { x-t: sub }, from: { header: X-T } }", "headers.x-t: ", "carries the token"),
            ("{ BASE, from: { header: 'a b' } }", "from.header: ", "not a name"),
            ("{ BASE, from: { cookie: '' } }", "from.cookie: ", "not a name"),
            ("{ BASE, from: { query: 'a&b' } }", "from.query: ", "not a name"),
            ("{ BASE, from: { query: a, cookie: b } }", "jwt.from: ", "one place"),
            ("{ BASE, from: body }", "jwt.from: ", "not a place"),
            ("{ BASE, secret: x }", "jwt.secret", "secret"),
        ] {
            let problems = problems(&jwt.replace("BASE", base));
            let is_there = problems.iter().any(|problem| problem.contains(place) && problem.contains(text));
            assert!(is_there, "{jwt}: {problems:#?}");
        }
    }

    #[test]
    fn keys_over_plain_http_are_a_warning() {
        let warnings = |jwt: &str| {
            let yaml = format!("{REST}auth: {{ api: {{ jwt: {jwt} }} }}\n");
            let read = |_: &Path| Ok(Vec::new());
            let warnings =
                crate::config::parse(Path::new("weir.yaml"), &yaml, &|_| None, &read).unwrap().warnings().to_vec();
            warnings.iter().filter(|warning| warning.to_string().contains("plain HTTP")).count()
        };
        assert_eq!(warnings("{ issuer: 'http://id.internal', audience: api }"), 1);
        assert_eq!(warnings("{ issuer: x, jwks: 'http://id.internal/keys', audience: api }"), 1);
        assert_eq!(warnings("{ issuer: 'http://127.0.0.1:8080/realm', audience: api }"), 0);
        assert_eq!(warnings("{ issuer: 'https://id.internal', audience: api }"), 0);
    }
}
