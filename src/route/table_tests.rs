//! Tests of specificity: by example, and against a simple reference.
#![allow(clippy::unwrap_used, clippy::panic)]

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::config::schema::ValueMatch;

fn matching(yaml: &str) -> Match {
    serde_yaml::from_str(yaml).unwrap()
}

fn table(matches: &[&str]) -> RouteTable<usize> {
    let matches: Vec<_> = matches.iter().map(|yaml| matching(yaml)).collect();
    RouteTable::build(matches.iter().zip(0..)).unwrap()
}

/// A listener that no route of these tests names.
const ANY: OnListener<'static> = OnListener { name: Some("web"), redirects: false };

fn get(table: &RouteTable<usize>, host: &str, path: &str) -> Option<usize> {
    table.find(ANY, Some(host), path, &Method::GET, &HeaderMap::new()).copied()
}

#[test]
fn the_most_specific_host_is_tried_first() {
    let table = table(&[
        "{}",
        "{hosts: ['*.org']}",
        "{hosts: ['*.example.org'], path_prefix: /w}",
        "{hosts: [a.example.org], path: /only}",
        "{hosts: ['[0::1]']}",
    ]);
    for (host, path, want) in [
        ("a.example.org", "/only", 3),
        ("a.example.org", "/w/x", 2),
        ("a.example.org", "/else", 1),
        ("x.y.example.org", "/w", 2),
        ("example.org", "/w", 1),
        ("org", "/", 0),
        (".org", "/", 0),
        ("other", "/", 0),
        ("[::1]", "/", 4),
        ("notexample.org", "/w", 1),
    ] {
        assert_eq!(get(&table, host, path), Some(want), "{host} {path}");
    }
    assert_eq!(table.find(ANY, None, "/", &Method::GET, &HeaderMap::new()), Some(&0));
}

#[test]
fn the_most_specific_path_is_tried_first() {
    let table = table(&[
        "{path_regex: 'x'}",
        "{path_prefix: /api/}",
        "{path_prefix: /api/x}",
        "{path: /api/x, methods: [POST]}",
        "{path: /api/y}",
        "{path_regex: 'x$', methods: [GET]}",
    ]);
    for (path, want) in [
        ("/api", Some(1)),
        ("/api/", Some(1)),
        ("/api/x", Some(2)),
        ("/api/x/y", Some(2)),
        ("/api/xy", Some(1)),
        ("/api/y", Some(4)),
        ("/api/y/", Some(1)),
        ("/apix", Some(5)),
        ("/apixy", Some(0)),
        ("/apiy", None),
        ("*", None),
    ] {
        assert_eq!(get(&table, "h", path), want, "{path}");
    }
}

#[test]
fn more_conditions_come_before_the_order_in_the_file() {
    let table = table(&["{methods: [GET]}", "{headers: {x-a: '1'}}", "{headers: {x-a: '1', x-b: '2'}}", "{}"]);
    let find = |method: &Method, fields: &[(&'static str, &'static str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        table.find(ANY, Some("h"), "/", method, &headers).copied().unwrap()
    };
    assert_eq!(find(&Method::GET, &[]), 0);
    assert_eq!(find(&Method::POST, &[]), 3);
    assert_eq!(find(&Method::POST, &[("x-a", "0"), ("x-a", "1")]), 1);
    assert_eq!(find(&Method::GET, &[("x-a", "1")]), 0);
    assert_eq!(find(&Method::GET, &[("x-a", "1"), ("x-b", "2")]), 2);
}

#[test]
fn a_route_that_names_listeners_does_not_exist_on_others() {
    let table = table(&[
        "{path_prefix: /a}",
        "{path_prefix: /a}",
        "{listeners: [in, out], path_prefix: /a}",
        "{listeners: [in], hosts: [h], path: /a/secret}",
        "{listeners: [red], path_prefix: /.well-known}",
    ]);
    let (headers, on) = (HeaderMap::new(), |name, redirects| OnListener { name, redirects });
    let find = |on, path| table.find(on, Some("h"), path, &Method::GET, &headers).copied();
    for (name, path, want) in [
        (Some("in"), "/a/secret", Some(3)),
        // The more specific route does not hide the routes of this listener.
        (Some("out"), "/a/secret", Some(2)),
        (Some("web"), "/a/secret", Some(0)),
        (None, "/a/secret", Some(0)),
        (Some("in"), "/a", Some(2)),
        (Some("web"), "/.well-known/x", None),
    ] {
        assert_eq!(find(on(name, false), path), want, "{name:?} {path}");
    }
    assert_eq!(find(on(Some("red"), true), "/.well-known/x"), Some(4));
    assert_eq!(find(on(Some("red"), true), "/a"), None);
    let why =
        |on| table.mismatches(on, Some("h"), "/a", &Method::GET, &headers).map(|(_, why)| why).collect::<Vec<_>>();
    assert_eq!(
        why(on(Some("red"), true))[..3],
        [Some(Mismatch::Redirected), Some(Mismatch::Redirected), Some(Mismatch::Listener)]
    );
    assert!(table.names_listeners());
}

#[test]
fn the_first_failed_condition_is_reported() {
    let table = table(&["{hosts: [a]}", "{path: /x}", "{methods: [PUT]}", "{headers: {x-a: '1'}}", "{}"]);
    let headers = HeaderMap::new();
    let why: Vec<_> = table.mismatches(ANY, Some("h"), "/", &Method::GET, &headers).map(|(_, why)| why).collect();
    let (name, value) = (HeaderName::from_static("x-a"), ValueMatch::Equals("1".into()));
    let want = [
        Some(Mismatch::Host),
        Some(Mismatch::Path),
        Some(Mismatch::Method),
        Some(Mismatch::Header(&name, &value)),
        None,
    ];
    assert_eq!(why, want);
    assert_eq!((table.len(), table.is_empty()), (5, false));
}

#[test]
fn an_invalid_match_is_refused() {
    for yaml in ["{path: a}", "{path_prefix: ''}", "{path: /a, path_prefix: /b}", "{headers: {'a b': c}}"] {
        let matches = matching(yaml);
        assert!(RouteTable::build([(&matches, ())].into_iter()).is_err(), "{yaml}");
    }
}

#[test]
fn a_look_up_reads_few_scopes_among_ten_thousand_hosts() {
    let matches: Vec<_> =
        (0..10_000).map(|n| matching(&format!("{{hosts: [h{n}.example, '*.w{n:05}.example']}}"))).collect();
    let table = RouteTable::build(matches.iter().zip(0usize..)).unwrap();
    assert_eq!(get(&table, "h4711.example", "/"), Some(4711));
    assert_eq!(get(&table, "a.b.w04711.example", "/"), Some(4711));
    // Only scopes are iterated: that of the exact host, one for each matching wildcard, and that of any host.
    assert_eq!(table.scopes(Some("h4711.example")).count(), 2);
    assert_eq!(table.scopes(Some("a.b.w04711.example")).count(), 2);
    assert_eq!(table.scopes(Some("nobody.example")).count(), 1);
}

/// Sorts the routes by the rules and takes the first that matches. It is slow and simple.
fn reference(
    matches: &[Match],
    on: OnListener<'_>,
    host: &str,
    path: &str,
    method: &Method,
    headers: &HeaderMap,
) -> Option<usize> {
    let segments = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
    let host_rank = |m: &Match| {
        let ranks = m.hosts.iter().filter_map(|pattern| match pattern {
            HostPattern::Exact(name) => (name == host).then_some((2, 0)),
            HostPattern::Below(name) => host.ends_with(&format!(".{name}")).then_some((1, name.len())),
        });
        if m.hosts.is_empty() { Some((0, 0)) } else { ranks.max() }
    };
    let path_rank = |m: &Match| {
        if let Some(exact) = &m.path {
            return (exact == path).then_some((3, 0));
        }
        if let Some(prefix) = &m.path_prefix {
            let prefix = prefix.trim_end_matches('/');
            return segments(path).starts_with(&segments(prefix)).then_some((2, prefix.len()));
        }
        match &m.path_regex {
            Some(pattern) => pattern.regex().is_match(path).then_some((1, 0)),
            None => Some((0, 0)),
        }
    };
    let rank = |(index, m): (usize, &Match)| {
        let names_it = m.listeners.iter().any(|name| Some(name.as_str()) == on.name);
        if !names_it && (on.redirects || !m.listeners.is_empty()) {
            return None;
        }
        let method_fits = m.methods.is_empty() || m.methods.iter().any(|has| has.as_http() == method);
        let header_fits = |(name, value): (&String, &ValueMatch)| {
            headers.get_all(name).iter().any(|has| has == value.text().unwrap())
        };
        if !method_fits || !m.headers.iter().all(header_fits) {
            return None;
        }
        let conditions = usize::from(!m.methods.is_empty()) + m.headers.len();
        Some((host_rank(m)?, path_rank(m)?, conditions, names_it, Reverse(index)))
    };
    matches.iter().enumerate().filter_map(rank).max().map(|(_, _, _, _, index)| index.0)
}

fn matches() -> impl Strategy<Value = Match> {
    let host = prop::sample::select(vec!["a", "b.a", "c.b.a", "*.a", "*.b.a", "*.c.b.a"]);
    let path = prop::option::of((0..3, "(/[ab]{1,2}){1,3}/?"));
    let regex = prop::sample::select(vec!["a", "^/b", "b$", "a/b"]);
    let method = prop::sample::subsequence(vec!["GET", "POST"], 0..2);
    let headers = prop::collection::btree_map("x-[ab]", "[12]".prop_map(ValueMatch::Equals), 0..3);
    let listeners = prop_oneof![Just(Vec::new()), prop::collection::vec("[pqr]", 1..3)];
    (listeners, prop::collection::vec(host, 0..3), path, regex, method, headers).prop_map(
        |(listeners, hosts, path, regex, methods, headers)| {
            let mut made = Match {
                listeners,
                hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
                methods: methods.iter().map(|method| method.parse().unwrap()).collect(),
                headers,
                ..Match::default()
            };
            match path {
                Some((0, path)) => made.path = Some(path),
                Some((1, path)) => made.path_prefix = Some(path),
                Some(_) => made.path_regex = Some(regex.parse().unwrap()),
                None => {}
            }
            made
        },
    )
}

type Request = (Option<String>, bool, String, String, bool, Vec<(String, String)>);

fn request() -> impl Strategy<Value = Request> {
    let fields = prop::collection::vec(("x-[ab]", "[12]"), 0..3);
    let listener = prop::option::of("[pqrs]");
    (listener, prop::bool::weighted(0.2), "([abc]\\.){0,3}[ab]", "(/[ab]{1,2}){1,4}/?|/", any::<bool>(), fields)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn agrees_with_the_reference(
        routes in prop::collection::vec(matches(), 0..24),
        requests in prop::collection::vec(request(), 1..20),
    ) {
        let table = RouteTable::build(routes.iter().zip(0usize..)).unwrap();
        for (listener, redirects, host, path, get, fields) in requests {
            let on = OnListener { name: listener.as_deref(), redirects };
            let method = if get { Method::GET } else { Method::POST };
            let mut headers = HeaderMap::new();
            for (name, value) in &fields {
                headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
            }
            let found = table.find(on, Some(&host), &path, &method, &headers).copied();
            prop_assert_eq!(found, reference(&routes, on, &host, &path, &method, &headers));
            let all = table.mismatches(on, Some(&host), &path, &method, &headers);
            let open: Vec<_> = all.filter(|(_, why)| why.is_none()).collect();
            prop_assert_eq!(found.is_none(), open.is_empty());
            prop_assert!(found.is_none_or(|index| open.iter().any(|(open, _)| **open == index)));
        }
    }
}
