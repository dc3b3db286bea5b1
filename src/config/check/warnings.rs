//! Warnings: the document is valid, but probably does not do what its author wants. They are found only in a document
//! without errors.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::super::node::{DocumentPath, Node};
use super::super::problem::{Problem, Problems};
use super::super::schema::{AuthSettings, Document, LimitKey, ListenerConfig, RouteSettings};
use super::super::values::{BackendAddress, Name};
use super::route_match::{Condition, condition, hosts};
use super::{Check, auth, policy_bypass};

/// The warnings about a valid document. `tree` is its file, `name` the path of the file.
pub(in super::super) fn warnings(document: &Document, tree: &Node, name: &Path) -> Vec<Problem> {
    let mut problems = Problems::new(name);
    let mut check = Check { document, tree, problems: &mut problems };
    literal_stars(&mut check);
    unused_upstreams(&mut check);
    unreached_routes(&mut check);
    own_listeners(&mut check);
    keys_without_value(&mut check);
    unused_policies(&mut check);
    policy_bypass::check(&mut check);
    auth::warn(&mut check);
    problems.sorted().into_iter().map(Problem::into_warning).collect()
}

/// A `*` in a path is an ordinary character. Other proxies take it for a wildcard.
fn literal_stars(check: &mut Check<'_>) {
    for (index, route) in check.document.routes.iter().enumerate() {
        let at = DocumentPath::of("routes").index(index);
        let matches = &route.matches;
        // `path: "*"` matches `OPTIONS *`.
        let path = matches.path.as_deref().filter(|path| *path != "*");
        let strip = route.rewrite.as_ref().and_then(|rewrite| rewrite.strip_prefix.as_deref());
        let written = [
            (at.key("match").key("path"), path),
            (at.key("match").key("path_prefix"), matches.path_prefix.as_deref()),
            (at.key("rewrite").key("strip_prefix"), strip),
        ];
        for (here, path) in written {
            let Some(path) = path.filter(|path| path.contains('*')) else { continue };
            let what = format!("{}: `*` is an ordinary character here, not a wildcard", check.quote(&here, path));
            let hint = star_hint(here.0.last() == at.key("strip_prefix").0.last(), path);
            check.say(&here, what, hint);
        }
    }
}

fn star_hint(is_strip: bool, path: &str) -> String {
    let prefix = path.trim_end_matches('*').trim_end_matches('/');
    if prefix.contains('*') {
        return "Write `path_regex` for a pattern".to_owned();
    }
    let prefix = if prefix.is_empty() { "/" } else { prefix };
    let key = if is_strip { "strip_prefix" } else { "path_prefix" };
    format!("Write `{key}: {prefix}` for this path and all paths below it")
}

/// Limits by identity on routes without an access policy.
fn keys_without_value(check: &mut Check<'_>) {
    let document = check.document;
    for (index, route) in document.routes.iter().enumerate().filter(|(_, route)| route.auth.is_empty()) {
        let by_identity = |name: &&Name| {
            let key = document.rate_limits.get(*name).map(|limit| &limit.key);
            matches!(key, Some(LimitKey::Identity | LimitKey::Claim(_)))
        };
        let Some(name) = route.rate_limits.iter().find(by_identity) else { continue };
        let at = DocumentPath::of("routes").index(index).key("rate_limits");
        let what = format!("the route has no access policy, so no request has a value for the key of `{name}`");
        check.say(&at, what, "Write `auth` on the route, or give the limit another key");
    }
}

fn unused_policies(check: &mut Check<'_>) {
    let document = check.document;
    let used: BTreeSet<&Name> = document.routes.iter().flat_map(|route| &route.auth.policies).collect();
    for name in document.auth.keys().filter(|name| !used.contains(name)) {
        let at = DocumentPath::of("auth").key(name.as_str());
        let what = format!("no route uses the access policy `{name}`");
        check.say_of_key(&at, what, "Name it in `routes[].auth`, or leave it out");
    }
}

fn unused_upstreams(check: &mut Check<'_>) {
    let routes = check.document.routes.iter();
    let used = |route: &'_ RouteSettings| -> Vec<Name> {
        let split = route.split.iter().flat_map(|split| &split.targets).map(|share| share.upstream.clone());
        let mirror = route.mirror.iter().map(|mirror| mirror.upstream.clone());
        route.upstream.iter().cloned().chain(split).chain(mirror).collect()
    };
    let asked = check.document.auth.values().filter_map(|policy| match policy {
        AuthSettings::Forward(forward) => Some(forward.upstream.clone()),
        _ => None,
    });
    let used: BTreeSet<Name> = routes.flat_map(used).chain(asked).collect();
    for name in check.document.upstreams.keys().filter(|name| !used.contains(*name)) {
        let at = DocumentPath::of("upstreams").key(name.as_str());
        let what = format!("no route uses the upstream `{name}`");
        check.say_of_key(&at, what, "Name it in `routes[].upstream`, or leave it out");
    }
}

/// A route that names no listener does not exist on a listener that redirects to https. A route with the same conditions
/// that names the listener comes before it.
fn unreached_routes(check: &mut Check<'_>) {
    let serving: Vec<_> = check.document.listeners.iter().filter(|each| each.redirect_https.0.is_none()).collect();
    let routes = &check.document.routes;
    let named = routes.iter().flat_map(|route| route.matches.listeners.iter().map(move |name| (route, name)));
    let taken: HashSet<Condition<'_>> =
        named.flat_map(|(route, name)| conditions(route, Some(name.as_str()))).collect();
    for (index, route) in routes.iter().enumerate().filter(|(_, route)| route.matches.listeners.is_empty()) {
        let at = DocumentPath::of("routes").index(index);
        let label = check.quote(&at.key("name"), &route.label(index));
        if serving.is_empty() {
            let what = format!("no listener reaches the route {label}: every listener redirects to https");
            check.say(&at, what, "Write a listener with `tls`, or name a listener in `match.listeners`");
        } else if serving.iter().all(|listener| is_taken(route, listener, &taken)) {
            let what = format!("no listener reaches the route {label}");
            let hint = "On each listener, a route with the same match names the listener and comes first";
            check.say(&at, what, hint);
        }
    }
}

fn conditions<'a>(route: &'a RouteSettings, listener: Option<&'a str>) -> impl Iterator<Item = Condition<'a>> {
    hosts(&route.matches).map(move |host| condition(&route.matches, listener, host))
}

fn is_taken(route: &RouteSettings, listener: &ListenerConfig, taken: &HashSet<Condition<'_>>) -> bool {
    let name = listener.label();
    // `all` holds: a match has at least one condition.
    hosts(&route.matches).all(|host| taken.contains(&condition(&route.matches, Some(&name), host)))
}

/// A request to such a backend returns to this process.
fn own_listeners(check: &mut Check<'_>) {
    for (name, upstream) in &check.document.upstreams {
        let at = DocumentPath::of("upstreams").key(name.as_str()).key("backends");
        for (index, backend) in upstream.backends.iter().enumerate() {
            let own = |listener: &&ListenerConfig| is_own(&backend.address, listener.address);
            let Some(listener) = check.document.listeners.iter().find(own) else { continue };
            let here = at.index(index).key("address");
            let quoted = check.quote(&here, &backend.address.to_string());
            let what = format!("{quoted} is Weir's own listener `{}`", listener.label());
            check.say(&here, what, OWN_LISTENER);
        }
    }
}

/// The hint for a backend that is one of Weir's own listeners.
pub const OWN_LISTENER: &str =
    "Requests would return to this process (508 after three rounds): write the address of the server behind Weir";

fn is_own(backend: &BackendAddress, listener: SocketAddr) -> bool {
    let bound = listener.ip().to_canonical();
    let has = |ip: IpAddr, port: u16| {
        let same_ip = if bound.is_unspecified() {
            // `[::]` accepts IPv4 as well.
            (ip.is_loopback() || ip.is_unspecified()) && (bound.is_ipv6() || ip.is_ipv4())
        } else {
            bound == ip || (ip.is_unspecified() && bound.is_loopback())
        };
        port == listener.port() && port != 0 && same_ip
    };
    match backend {
        BackendAddress::Socket(address) => has(address.ip().to_canonical(), address.port()),
        BackendAddress::Dns(name, port) => {
            let is_local = name.eq_ignore_ascii_case("localhost");
            is_local && (has(Ipv4Addr::LOCALHOST.into(), *port) || has(Ipv6Addr::LOCALHOST.into(), *port))
        }
        BackendAddress::Unix(_) => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::super::parse;
    use super::*;

    /// The warnings about a document with a usual listener and route.
    fn of(listeners: &str, upstreams: &str, routes: &str) -> Vec<String> {
        let text = format!("listeners: [{listeners}]\nupstreams: {{{upstreams}}}\nroutes: [{routes}]\n");
        let read = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
        let checked = parse(Path::new("w.yaml"), &text, &|_| None, &read).unwrap_or_else(|problems| {
            panic!("{problems:?}: {text}");
        });
        checked.warnings().iter().map(ToString::to_string).collect()
    }

    const WEB: &str = "{ name: web, address: \"127.0.0.1:8080\" }";
    const APP: &str = "app: { backends: [{ address: \"127.0.0.1:3000\" }] }";

    #[test]
    fn a_star_in_a_path_is_a_warning_except_for_options() {
        let path = |path: &str| of(WEB, APP, &format!("{{ match: {{ {path} }}, upstream: app }}"));
        let warning = path("path: \"/a/*\"");
        assert_eq!(
            warning,
            ["w.yaml:3:27: warning: routes[0].match.path: `/a/*`: `*` is an ordinary character here, not a wildcard. \
              Write `path_prefix: /a` for this path and all paths below it"]
        );
        assert!(
            path("path_prefix: \"/*\"")[0].ends_with("Write `path_prefix: /` for this path and all paths below it")
        );
        assert!(path("path_prefix: \"/a/*/b\"")[0].ends_with("Write `path_regex` for a pattern"));
        assert_eq!(path("path: \"*\"").len() + path("path: /a").len() + path("path_regex: \"^/a/.*\"").len(), 0);
        let strip = of(WEB, APP, "{ match: { path_prefix: /a }, rewrite: { strip_prefix: \"/a/*\" }, upstream: app }");
        assert!(strip[0].contains("rewrite.strip_prefix") && strip[0].contains("`strip_prefix: /a`"), "{strip:?}");
    }

    #[test]
    fn an_upstream_that_no_route_uses_is_a_warning_at_its_key() {
        let two = format!("{APP}, old: {{ backends: [{{ address: \"127.0.0.1:3001\" }}] }}");
        let unused = of(WEB, &two, "{ upstream: app }");
        assert_eq!(unused.len(), 1);
        assert!(unused[0].contains(": warning: upstreams.old: no route uses the upstream `old`."), "{unused:?}");
        assert!(of(WEB, &two, "{ split: [{ upstream: app, weight: 1 }, { upstream: old, weight: 1 }] }").is_empty());
    }

    #[test]
    fn a_route_that_no_listener_reaches_is_a_warning() {
        let redirects = "{ name: plain, address: \"127.0.0.1:80\", redirect_https: true }";
        let unreached = of(redirects, APP, "{ name: r, upstream: app }");
        assert!(unreached[0].contains("the route `r`: every listener redirects to https"), "{unreached:?}");
        assert!(of(redirects, APP, "{ match: { listeners: [plain] }, upstream: app }").is_empty());
        let two = format!("{WEB}, {{ name: other, address: \"127.0.0.1:8081\" }}");
        let on = |name: &str| format!("{{ match: {{ listeners: [{name}], path: /x }}, upstream: app }}");
        let all = "{ name: all, match: { path: /x }, upstream: app }";
        assert!(of(&two, APP, &format!("{}, {all}", on("web"))).is_empty(), "`other` reaches it");
        let hidden = of(&two, APP, &format!("{}, {}, {all}", on("web"), on("other")));
        assert!(hidden.len() == 1 && hidden[0].contains("no listener reaches the route `all`"), "{hidden:?}");
    }

    #[test]
    fn a_backend_that_is_an_own_listener_is_a_warning() {
        let backend = |listener: &str, backend: &str| {
            let listener = format!("{{ name: web, address: \"{listener}\" }}");
            let upstream = format!("app: {{ backends: [{{ address: \"{backend}\" }}] }}");
            of(&listener, &upstream, "{ upstream: app }").len()
        };
        for (listener, address) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("127.0.0.1:8080", "localhost:8080"),
            ("[::1]:8080", "localhost:8080"),
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("10.0.0.1:8080", "10.0.0.1:8080"),
        ] {
            assert_eq!(backend(listener, address), 1, "{listener} {address}");
        }
        for (listener, address) in [
            ("127.0.0.1:8080", "127.0.0.1:8081"),
            ("127.0.0.1:8080", "10.0.0.1:8080"),
            ("0.0.0.0:8080", "10.0.0.1:8080"),
            ("127.0.0.1:0", "127.0.0.1:1"),
        ] {
            assert_eq!(backend(listener, address), 0, "{listener} {address}");
        }
    }
}
