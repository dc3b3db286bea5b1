//! Reloads at the level of the manager: the state that survives, the tasks that start and stop.

use std::collections::HashMap;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::backend::labels::{AdminState, BackendCondition};
use crate::upstream::balance::Tried;
use crate::upstream::discovery::DiscoveryResult;
use crate::upstream::sticky::BackendToken;
use crate::upstream::{PickHints, queue};

fn manager() -> Arc<UpstreamManager> {
    type States = HashMap<(Arc<str>, Arc<str>), Arc<BackendState>>;
    let states: Mutex<States> = Mutex::default();
    let backend_state_of = move |labels: Labels| {
        let key = (Arc::clone(&labels.upstream), Arc::clone(&labels.address));
        Arc::clone(states.lock().entry(key).or_insert_with(|| Arc::new(BackendState::new(labels))))
    };
    UpstreamManager::new(Handle::current(), backend_state_of, |name| Arc::new(UpstreamMeters::new(name)))
}

fn compile(manager: &UpstreamManager, yaml: &str, previous: &Upstreams) -> Upstreams {
    manager.compile(&serde_yaml::from_str(yaml).unwrap(), Path::new(""), &|_| None, previous)
}

fn of<'a>(upstreams: &'a Upstreams, name: &str) -> &'a Arc<Upstream> {
    &upstreams[&name.parse::<Name>().unwrap()]
}

fn picks(upstream: &Upstream, count: usize) -> String {
    (0..count).map(|_| upstream.pick(&Tried::default(), 0, None).unwrap().backend.name.to_string()).collect()
}

async fn until(what: impl Fn() -> bool) {
    for _ in 0..500 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within five seconds");
}

/// A server that answers every request with this status.
async fn server(status: u16) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut seen = Vec::new();
            while !seen.ends_with(b"\r\n\r\n") && stream.read_buf(&mut seen).await.unwrap_or(0) > 0 {}
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.ok();
        }
    });
    address
}

const TWO: &str = "u: {backends: [{name: a, address: '10.0.0.1:1'}, {name: b, address: '10.0.0.2:1'}]}";
const THREE: &str = "u: {backends: [{name: a, address: '10.0.0.1:1'}, {name: b, address: '10.0.0.2:1'},
                                    {name: c, address: '10.0.0.3:1'}]}";

#[tokio::test]
async fn equal_members_keep_their_cursor_over_a_reload() {
    let manager = manager();
    let first = compile(&manager, TWO, &Upstreams::new());
    manager.activate(&first);
    assert_eq!(picks(of(&first, "u"), 3), "aba");
    let same = compile(&manager, TWO, &first);
    assert!(Arc::ptr_eq(of(&first, "u"), of(&same, "u")));
    let other = compile(&manager, &TWO.replace("u: {", "u: {keep_alive: 1s, "), &first);
    assert!(!Arc::ptr_eq(of(&first, "u"), of(&other, "u")));
    assert!(std::ptr::eq(of(&first, "u").budget(), of(&other, "u").budget()));
    manager.activate(&other);
    assert_eq!(picks(of(&other, "u"), 3), "bab");
}

#[tokio::test]
async fn a_refused_reload_has_no_effect() {
    let manager = manager();
    let first = compile(&manager, TWO, &Upstreams::new());
    manager.activate(&first);
    let in_use = of(&first, "u").pick(&Tried::default(), 0, None).unwrap();
    let refused = compile(&manager, &THREE.replace("name: a", "weight: 9, name: z"), &first);
    let shown: Vec<_> = of(&refused, "u").backends().iter().map(|backend| backend.state.is_member()).collect();
    assert_eq!(shown, [true, true, false]);
    let a = Arc::clone(&of(&first, "u").backends()[0].state);
    assert_eq!((a.weights(), a.in_flight(), &*a.labels().backend), ((1, 1.0), 1, "a"));
    assert_eq!(of(&refused, "u").backends()[0].state.in_flight(), 1, "both share one state");
    drop(in_use);
    assert_eq!(a.in_flight(), 0);
}

#[tokio::test]
async fn a_removed_backend_drains_and_can_return() {
    let manager = manager();
    let three = compile(&manager, THREE, &Upstreams::new());
    manager.activate(&three);
    let c = Arc::clone(&of(&three, "u").backends()[2].state);
    let in_use = c.raise();
    let two = compile(&manager, TWO, &three);
    manager.activate(&two);
    assert_eq!((c.is_member(), c.state(), c.in_flight()), (false, BackendCondition::Draining, 1));
    assert!(!picks(of(&two, "u"), 6).contains('c'));
    let back = compile(&manager, THREE, &two);
    manager.activate(&back);
    assert!(Arc::ptr_eq(&c, &of(&back, "u").backends()[2].state));
    assert_eq!((c.state(), c.in_flight()), (BackendCondition::Unchecked, 1));
    drop(in_use);
}

#[tokio::test]
async fn verdicts_come_immediately_and_reach_every_generation() {
    let manager = manager();
    let (up, down) = (server(200).await, server(500).await);
    let yaml =
        "u: {health_check: {http: {}, interval: 1h}, backends: [{name: a, address: UP}, {name: b, address: DOWN}]}";
    let yaml = yaml.replace("UP", &up.to_string()).replace("DOWN", &down.to_string());
    let first = compile(&manager, &yaml, &Upstreams::new());
    assert!(of(&first, "u").verdict_pending());
    manager.activate(&first);
    until(|| !of(&first, "u").verdict_pending()).await;
    assert_eq!(picks(of(&first, "u"), 3), "aaa");
    let status = serde_json::to_value(of(&first, "u").status()).unwrap();
    assert_eq!(status["backends"][1]["state"], "down");
    assert_eq!(status["backends"][1]["reason"], "status 500, expected 200-299");
    assert!(status["backends"][1]["since"].as_str().unwrap().ends_with('Z'));
    // Another weight, the same check: verdicts stay and no backend is probed again (the interval is an hour).
    let second = compile(&manager, &yaml.replace("name: a", "weight: 2, name: a"), &first);
    manager.activate(&second);
    assert!(!of(&second, "u").verdict_pending());
    assert_eq!(of(&second, "u").status().backends[0].effective_weight, 2.0);
    // Another check: the verdicts start from unknown. The first generation also gets the new verdicts.
    let third = compile(&manager, &yaml.replace("http: {}", "http: {status: [500]}"), &second);
    manager.activate(&third);
    until(|| !of(&third, "u").verdict_pending()).await;
    assert_eq!((picks(of(&third, "u"), 2), picks(of(&first, "u"), 2)), ("bb".into(), "bb".into()));
    // Without a check, backends are up.
    let fourth = compile(&manager, &yaml.replace("health_check: {http: {}, interval: 1h}, ", ""), &third);
    manager.activate(&fourth);
    assert_eq!(picks(of(&fourth, "u"), 2).len(), 2);
    assert!(of(&fourth, "u").backends().iter().all(|backend| backend.state.state() == BackendCondition::Unchecked));
}

#[tokio::test]
async fn with_no_backend_up_it_fails_open_if_configured() {
    let manager = manager();
    let down = server(500).await;
    let yaml = "u: {health_check: {http: {}}, backends: [{name: a, address: DOWN}]}".replace("DOWN", &down.to_string());
    let open = compile(&manager, &yaml, &Upstreams::new());
    manager.activate(&open);
    until(|| !of(&open, "u").verdict_pending()).await;
    until(|| of(&open, "u").pick(&Tried::default(), 0, None).is_some_and(|pick| pick.fail_open)).await;
    let closed = compile(&manager, &yaml.replace("u: {", "u: {fail_open: false, "), &open);
    manager.activate(&closed);
    assert!(of(&closed, "u").pick(&Tried::default(), 0, None).is_none());
}

#[tokio::test]
async fn a_name_serves_only_after_it_resolves() {
    let manager = manager();
    let address = server(200).await;
    let port = address.port();
    let yaml = "u: {health_check: {tcp: {}, port: PORT}, backends: [{name: a, address: 'localhost:PORT'},
        {name: b, address: 'name.invalid:1'}]}";
    let yaml = yaml.replace("PORT", &port.to_string());
    let upstreams = compile(&manager, &yaml, &Upstreams::new());
    assert!(of(&upstreams, "u").pick(&Tried::default(), 0, None).is_none());
    manager.activate(&upstreams);
    until(|| of(&upstreams, "u").pick(&Tried::default(), 0, None).is_some()).await;
    assert_eq!(picks(of(&upstreams, "u"), 3), "aaa");
    let reason = || of(&upstreams, "u").status().backends[1].reason.clone().unwrap_or_default();
    until(|| reason().starts_with("name does not resolve: ")).await;
}

#[tokio::test]
async fn a_health_checker_ends_with_its_backend() {
    let manager = manager();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let yaml = "u: {health_check: {tcp: {}, interval: 10ms}, backends: [{address: ADDRESS}]}";
    let yaml = yaml.replace("ADDRESS", &address.to_string());
    let upstreams = compile(&manager, &yaml, &Upstreams::new());
    manager.activate(&upstreams);
    for _ in 0..3 {
        listener.accept().await.unwrap();
    }
    manager.activate(&Upstreams::new());
    assert!(!of(&upstreams, "u").backends()[0].state.is_member());
    while tokio::time::timeout(Duration::from_millis(300), listener.accept()).await.is_ok() {}
}

#[tokio::test]
async fn slow_start_applies_to_later_backends_only() {
    let manager = manager();
    let slow = |yaml: &str| yaml.replace("u: {", "u: {slow_start: 2s, ");
    let first = compile(&manager, &slow(TWO), &Upstreams::new());
    manager.activate(&first);
    let weights = |upstreams: &Upstreams| -> Vec<f64> {
        of(upstreams, "u").status().backends.iter().map(|backend| backend.effective_weight).collect()
    };
    assert_eq!(weights(&first), [1.0, 1.0], "all came up together");
    for backend in of(&first, "u").backends().iter() {
        // As if they had been up for years.
        backend.state.load().set_serving(false, 0);
        backend.state.load().set_serving(true, 1);
    }
    let second = compile(&manager, &slow(THREE), &first);
    manager.activate(&second);
    assert_eq!(weights(&second), [1.0, 1.0, 0.1]);
    assert_eq!(picks(of(&second, "u"), 21).matches('c').count(), 1, "weighted turns during slow start");
    until(|| (0.4..1.0).contains(&weights(&second)[2])).await;
    until(|| weights(&second) == [1.0; 3]).await;
    assert_eq!(picks(of(&second, "u"), 9).matches('c').count(), 3);
    // A backend that an operator drains and enables again gets a slow start.
    let backend = Arc::clone(&of(&second, "u").backends()[0]);
    backend.state.set_admin_state(AdminState::Draining, 0);
    of(&second, "u").rebuild();
    backend.state.set_admin_state(AdminState::Ready, 0);
    of(&second, "u").rebuild();
    let starts = |weight: f64| (0.1..0.5).contains(&weight);
    assert!(starts(weights(&second)[0]) && weights(&second)[1..] == [1.0; 2]);
    // So does a backend whose ejection ends.
    let back = Arc::clone(&of(&second, "u").backends()[1]);
    back.state.set_ejected(Some("5 faults in a row"), 0);
    of(&second, "u").rebuild();
    back.state.set_ejected(None, 0);
    of(&second, "u").rebuild();
    assert!(starts(weights(&second)[1]) && weights(&second)[2] == 1.0);
}

#[tokio::test]
async fn slow_start_applies_to_the_runtime_weight() {
    let manager = manager();
    let yaml = TWO.replace("u: {", "u: {slow_start: 1h, balance: least_connections, ");
    let upstreams = compile(&manager, &yaml, &Upstreams::new());
    manager.activate(&upstreams);
    let (upstream, backends) = (of(&upstreams, "u"), of(&upstreams, "u").backends());
    let [a, b] = &backends[..] else { panic!("two backends") };
    a.state.load().set_serving(false, 0);
    a.state.load().set_serving(true, 1);
    let wanted = admin_override::BackendOverride { weight: Some(Some(20)), mark: None };
    upstream.apply_override(b, wanted, 0).unwrap();
    assert!(upstream.rebuild());
    assert_eq!((a.state.weights(), b.state.weights()), ((1, 1.0), (1, 2.0)));
}

/// Replaces a list file atomically.
fn put(path: &Path, addresses: &[&str]) {
    let list: String = addresses.iter().map(|address| format!("- address: '{address}'\n")).collect();
    let new = path.with_extension("new");
    std::fs::write(&new, list).unwrap();
    std::fs::rename(new, path).unwrap();
}

fn names(upstream: &Upstream) -> Vec<String> {
    upstream.backends().iter().map(|backend| backend.name.to_string()).collect()
}

#[tokio::test]
async fn discovered_backends_reach_every_generation_and_removed_ones_drain() {
    let (manager, folder) = (manager(), tempfile::tempdir().unwrap());
    let path = folder.path().join("list");
    let (up, other) = (server(200).await.to_string(), server(200).await.to_string());
    put(&path, &["10.0.0.1:1", &up]);
    let yaml = "u: {outlier: {}, backends: [{name: own, address: '10.0.0.1:1', tier: 1}], discover: {file: list},
                    health_check: {tcp: {}, interval: 1h, timeout: 1s}}";
    let compile = |yaml: &str, previous: &Upstreams| {
        let file = |named: &Path| std::fs::read(folder.path().join(named)).ok();
        manager.compile(&serde_yaml::from_str(yaml).unwrap(), folder.path(), &file, previous)
    };
    let first = compile(yaml, &Upstreams::new());
    assert_eq!(
        names(of(&first, "u")),
        ["own", up.as_str()],
        "the configured backend precedes a discovered one with its address"
    );
    assert!(of(&first, "u").verdict_pending());
    manager.activate(&first);
    until(|| !of(&first, "u").verdict_pending()).await;
    let second = compile(&yaml.replace("u: {", "u: {keep_alive: 1s, "), &first);
    manager.activate(&second);
    assert!(Arc::ptr_eq(of(&first, "u").discovered().unwrap(), of(&second, "u").discovered().unwrap()));
    let gone = Arc::clone(&of(&second, "u").backends()[1].state);
    let in_use = gone.raise();

    put(&path, &[&other]);
    until(|| names(of(&second, "u")) == ["own", other.as_str()]).await;
    until(|| names(of(&first, "u")) == ["own", other.as_str()]).await;
    until(|| !gone.is_member()).await;
    assert_eq!((gone.state(), gone.in_flight()), (BackendCondition::Draining, 1));
    assert!(!of(&second, "u").verdict_pending(), "a backend discovered later does not delay readiness");
    let states = |upstreams: &Upstreams| Arc::clone(&of(upstreams, "u").backends()[1].state);
    assert!(Arc::ptr_eq(&states(&first), &states(&second)) && states(&second).is_member());
    until(|| states(&first).health() == Health::Up).await;
    assert_eq!(picks(of(&first, "u"), 1), other);
    assert!(of(&second, "u").observe(&of(&second, "u").backends()[1]).is_some(), "outlier detection observes it");

    std::fs::write(&path, "nonsense").unwrap();
    until(|| of(&second, "u").status().discovery.unwrap().failures == 1).await;
    put(&path, &[&up, &other]);
    until(|| gone.is_member()).await;
    assert_eq!(gone.in_flight(), 1, "the same cells");
    drop(in_use);
    let third = compile(&yaml.replace("discover: {file: list},", ""), &second);
    manager.activate(&third);
    assert_eq!(names(of(&third, "u")), ["own"]);
    assert!(!gone.is_member());
}

#[tokio::test]
async fn a_new_discovery_source_starts_with_the_previous_list() {
    let manager = manager();
    let yaml = "u: {backends: [], discover: {dns: name.invalid, port: 80, resolver: '127.0.0.1:9', max_ttl: 1s}}";
    let first = compile(&manager, yaml, &Upstreams::new());
    let result = DiscoveryResult {
        list: Some(serde_yaml::from_str("[{address: '10.0.0.1:80'}]").unwrap()),
        ..DiscoveryResult::default()
    };
    assert!(of(&first, "u").verdict_pending(), "before the first result");
    assert!(of(&first, "u").discovered().unwrap().take(result, 1));
    manager.activate(&first);
    assert_eq!(picks(of(&first, "u"), 1), "10.0.0.1:80", "discovered before activation");
    let second = compile(&manager, &yaml.replace("port: 80", "port: 81"), &first);
    manager.activate(&second);
    assert!(!Arc::ptr_eq(of(&first, "u").discovered().unwrap(), of(&second, "u").discovered().unwrap()));
    assert_eq!(picks(of(&second, "u"), 1), "10.0.0.1:80");
    until(|| of(&second, "u").status().discovery.unwrap().error.is_some()).await;
    assert_eq!(picks(of(&second, "u"), 1), "10.0.0.1:80");
    assert!(!of(&second, "u").verdict_pending());
}

fn tokens(upstream: &Upstream) -> Vec<Option<BackendToken>> {
    upstream.backends().iter().map(|backend| backend.token).collect()
}

#[tokio::test]
async fn discovered_backends_get_tokens_by_the_secret_of_each_generation() {
    let (manager, folder) = (manager(), tempfile::tempdir().unwrap());
    let path = folder.path().join("list");
    let (a, b, c) = ("10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1");
    put(&path, &[a, b]);
    let yaml = "u: {discover: {file: list}, sticky: {key_file: k}}";
    let compile = |yaml: &str, secret: &str, previous: &Upstreams| {
        let file = |named: &Path| match named.to_str() {
            Some("k") => Some(secret.as_bytes().to_vec()),
            _ => std::fs::read(folder.path().join(named)).ok(),
        };
        manager.compile(&serde_yaml::from_str(yaml).unwrap(), folder.path(), &file, previous)
    };
    let of_all = |upstream: &Upstream, addresses: &[&str]| {
        let token = |address: &&str| upstream.sticky().map(|sticky| sticky.token(&address.parse().unwrap()));
        addresses.iter().map(token).collect::<Vec<_>>()
    };
    let first = compile(yaml, "one secret", &Upstreams::new());
    manager.activate(&first);
    let second = compile(yaml, "another secret", &first);
    manager.activate(&second);
    let third = compile("u: {discover: {file: list}}", "", &second);
    manager.activate(&third);
    assert!(Arc::ptr_eq(of(&first, "u").discovered().unwrap(), of(&third, "u").discovered().unwrap()));
    assert_ne!(tokens(of(&first, "u")), tokens(of(&second, "u")));

    put(&path, &[c, a]);
    for (upstreams, sticky) in [(&first, true), (&second, true), (&third, false)] {
        let upstream = of(upstreams, "u");
        until(|| names(upstream) == [c, a]).await;
        until(|| upstream.members().eligible().map(|backend| &*backend.name).eq([c, a])).await;
        assert_eq!(tokens(upstream), of_all(upstream, &[c, a]));
        assert_eq!(tokens(upstream)[0].is_some(), sticky);
    }
    let hints = PickHints { key: None, named: tokens(of(&second, "u"))[1] };
    for _ in 0..4 {
        let queue::PickOutcome::Slot(pick) = of(&second, "u").try_pick(&Tried::default(), 0, hints) else {
            panic!("a backend")
        };
        assert_eq!(&*pick.backend.name, a);
    }
}

#[tokio::test]
async fn picks_by_cookie_and_by_balancer_do_not_allocate() {
    let manager = manager();
    let yaml = "u: {backends: [{address: '10.0.0.1:1'}, {address: '10.0.0.2:1'}, {address: '10.0.0.3:1', tier: 1}],
                    outlier: {}, max_in_flight: 1, sticky: {}}";
    let secret = |_: &Path| Some(b"secret".to_vec());
    let upstreams = manager.compile(&serde_yaml::from_str(yaml).unwrap(), Path::new(""), &secret, &Upstreams::new());
    manager.activate(&upstreams);
    let (upstream, tokens, none) = (of(&upstreams, "u"), tokens(of(&upstreams, "u")), Tried::default());
    let gone = upstream.sticky().unwrap().token(&"10.0.0.9:1".parse().unwrap());
    let backends = upstream.backends();
    let _full = backends[1].state.raise();
    let mut tried = Tried::default();
    tried.add(&backends[0].state);
    // The cookie names: an available backend; a full one; one of a later tier; an unknown one; none.
    let named = [tokens[0], tokens[1], tokens[2], Some(gone), None];
    let cookie = upstream.sticky().unwrap().write(gone, std::iter::empty(), 1, false).unwrap();
    let value = &cookie.as_bytes()[b"weir=".len()..];
    let all = || {
        for named in named {
            let trial = upstream.pick_trial(&none, 0, named.as_ref());
            assert!(trial.is_none());
            for tried in [&none, &tried] {
                let result = upstream.try_pick(tried, 0, PickHints { key: None, named });
                let queue::PickOutcome::Slot(pick) = result else { panic!("a backend") };
                drop((upstream.observe(&pick.backend), pick));
            }
        }
        let entry = value.split(|byte| *byte == b';').next();
        assert_eq!(upstream.sticky().unwrap().read(entry.into_iter(), 2).unwrap().token, gone);
        upstream.excluded()
    };
    // The first access of a thread to an `ArcSwap` allocates; it is not counted.
    drop(all());
    let allocations = allocation_counter::measure(|| (0..1_000).for_each(|_| drop(all())));
    assert_eq!(allocations.count_total, 0);
}

const HASHED: &str = "u: {outlier: {consecutive: 2}, balance: consistent_hash, hash: {path: {}}, backends: [
    {name: a, address: '10.0.0.1:1'}, {name: b, address: '10.0.0.2:1'}, {name: c, address: '10.0.0.3:1'}]}";

fn fail(upstream: &Upstream, at: usize, times: usize) {
    let backends = upstream.backends();
    (0..times).for_each(|_| upstream.observe(&backends[at]).unwrap().ended(false, clock::now_ms()));
}

#[tokio::test]
async fn an_ejection_affects_picks_immediately_and_members_later() {
    let manager = manager();
    let first = compile(&manager, HASHED, &Upstreams::new());
    manager.activate(&first);
    let upstream = of(&first, "u");
    let before = upstream.members.load_full();
    fail(upstream, 0, 2);
    assert!(Arc::ptr_eq(&before, &upstream.members.load_full()), "nothing was built on this thread");
    let (tried, now) = (Tried::default(), clock::now_ms());
    let picked = |key: u64| upstream.pick(&tried, now, Some(key << 50)).unwrap().backend.name.to_string();
    assert!((0..2_000).all(|key| picked(key) != "a"), "skipped immediately");
    until(|| !Arc::ptr_eq(&before, &upstream.members.load_full())).await;
    assert_eq!(upstream.members().eligible().count(), 2);
}

#[tokio::test]
async fn a_verdict_rebuilds_only_the_current_generation() {
    let manager = manager();
    let mut current = compile(&manager, HASHED, &Upstreams::new());
    manager.activate(&current);
    let mut in_use = Vec::new();
    for generation in 1..=60 {
        in_use.push(Arc::clone(of(&current, "u")));
        let yaml = HASHED.replace("u: {", &["u: {keep_alive: ", &generation.to_string(), "s, "].concat());
        current = compile(&manager, &yaml, &current);
        manager.activate(&current);
    }
    let members = |upstream: &Arc<Upstream>| upstream.members.load_full();
    let (newest, before) = (of(&current, "u"), in_use.iter().map(members).collect::<Vec<_>>());
    let newest_before = members(newest);
    newest.backends()[2].state.set_health(Health::Down, "refused", 0);
    newest.backends()[2].state.set_admin_state(AdminState::Draining, 0);
    manager.rebuild("u");
    assert!(!Arc::ptr_eq(&newest_before, &members(newest)));
    let untouched = in_use.iter().zip(&before).all(|(upstream, before)| Arc::ptr_eq(before, &members(upstream)));
    assert!(untouched, "older generations must not be rebuilt");
    for old in &in_use {
        assert!((0..200).all(|key| &*old.pick(&Tried::default(), 0, Some(key << 56)).unwrap().backend.name != "c"));
    }
    assert!(in_use.iter().zip(&before).all(|(upstream, before)| !Arc::ptr_eq(before, &members(upstream))));
    drop((in_use, before));
    manager.activate(&current);
    assert_eq!(manager.live.generations("u").len(), 1, "unused generations are dropped");
}
