//! Tests of the model and the HTML of the status page.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::super::activity::{BackendActivity, RouteActivity, StateNote, Totals, UpstreamActivity};
use super::super::api::{
    BackendCondition, BackendReply, DiscoveryReply, LastError, LastReloadReply, ListenerReply, ProblemReply,
    UpstreamReply,
};
use super::super::api_limits::LimitsReply;
use super::super::page_elements::TimeStyle;
use super::super::page_markup;
use super::*;
use crate::instruments::LATENCY_BUCKETS;

pub(in crate::admin) fn backend(name: &str, state: BackendCondition) -> BackendReply {
    BackendReply {
        name: name.into(),
        address: format!("{name}:1"),
        state,
        reason: String::new(),
        since: Some("2023-11-14T22:13:20Z".into()),
        in_flight: 0,
        weight: 1,
        effective_weight: 1.0,
        errors_last_minute: 0,
        last_error: None,
    }
}

fn status_of(backends: Vec<BackendReply>) -> StatusReply {
    let upstream = UpstreamReply {
        name: "u".into(),
        balance: "random".into(),
        discovery: None,
        refused_last_minute: 0,
        last_refusal: None,
        backends,
    };
    StatusReply { ready: true, upstreams: vec![upstream], ..StatusReply::default() }
}

/// The counters after `n` requests at each backend, of which `errors` failed.
fn counters(status: &StatusReply, requests: impl Fn(usize) -> u64, errors: u64) -> Activity {
    let upstream = &status.upstreams[0];
    let each = |(at, backend): (usize, &BackendReply)| {
        let mut latency = [0; LATENCY_BUCKETS];
        latency[2] = requests(at);
        let totals = Totals { requests: requests(at), errors, latency };
        BackendActivity { address: backend.address.clone(), totals, ..BackendActivity::default() }
    };
    let backends = upstream.backends.iter().enumerate().map(each).collect();
    Activity {
        upstreams: vec![UpstreamActivity { name: "u".into(), backends, ..UpstreamActivity::default() }],
        ..Activity::default()
    }
}

fn names(model: &PageModel<'_>) -> Vec<String> {
    let rows = model.upstreams.iter().flat_map(|upstream| &upstream.rows);
    rows.map(|row| row.backend.name.clone()).collect()
}

fn query(text: &str) -> ViewQuery {
    let mut query = ViewQuery::default();
    for (key, value) in text.split('&').filter_map(|pair| pair.split_once('=')) {
        match key {
            "filter" => query.filter = value.into(),
            "trouble" => query.trouble = value == "true",
            "page" => query.page = value.parse().unwrap(),
            _ => query.sort = SortKey::ALL.iter().find(|(_, name)| *name == value).unwrap().0,
        }
    }
    query
}

#[test]
fn trouble_comes_first_and_the_first_line_names_it_with_time_and_reason() {
    use BackendCondition::{Down, Draining, Ejected, Up};
    let mut down = backend("d", Down);
    down.reason = "refused".into();
    let status = status_of(vec![backend("a", Up), backend("b", Draining), backend("c", Ejected), down]);
    let activity = Activity::default();
    let model = PageModel::build(&status, &activity, &History::default(), ViewQuery::default());
    assert_eq!(names(&model), ["d", "c", "b", "a"]);
    let troubles: Vec<_> = model.verdict.troubles.iter().map(|trouble| trouble.what.as_str()).collect();
    assert_eq!(troubles, ["Backend c of u is ejected", "Backend d of u is down"]);
    let trouble = &model.verdict.troubles[1];
    assert_eq!((trouble.since.as_deref(), &*trouble.why), (Some("2023-11-14T22:13:20Z"), "refused"));
    let well = status_of(vec![backend("a", Up)]);
    let model = PageModel::build(&well, &activity, &History::default(), ViewQuery::default());
    assert!(model.verdict.troubles.is_empty(), "{:?}", model.verdict);
}

#[test]
fn an_upstream_that_serves_nothing_and_a_rejected_reload_are_trouble() {
    let mut status = status_of(vec![backend("a", BackendCondition::Down)]);
    let problem = ProblemReply { what: "no such upstream".into(), ..ProblemReply::default() };
    status.last_reload = Some(LastReloadReply {
        result: "rejected".into(),
        time: "2023-11-14T22:13:20Z".into(),
        changes: vec![],
        problems: vec![problem],
    });
    let activity = Activity::default();
    let model = PageModel::build(&status, &activity, &History::default(), ViewQuery::default());
    let troubles: Vec<_> = model.verdict.troubles.iter().map(|each| (each.what.as_str(), each.why.as_str())).collect();
    assert_eq!(troubles[0], ("Upstream u serves nothing", "no backend is up"));
    assert_eq!(troubles[1], ("The last reload was rejected", "no such upstream"));
}

#[test]
fn shares_are_measured_and_the_weight_is_beside_them() {
    let mut heavy = backend("a", BackendCondition::Up);
    heavy.effective_weight = 3.0;
    let status = status_of(vec![heavy, backend("b", BackendCondition::Up)]);
    let mut history = History::default();
    history.sample(&counters(&status, |_| 0, 0), 0);
    let activity = counters(&status, |at| [10, 30][at], 3);
    history.sample(&activity, 5_000);
    let model = PageModel::build(&status, &activity, &history, query("sort=rate"));
    assert_eq!(names(&model), ["b", "a"]);
    let [b, a] = &model.upstreams[0].rows[..] else { panic!() };
    assert_eq!((a.share, a.weight_share, b.share, b.weight_share), (Some(0.25), 0.75, Some(0.75), 0.25));
    assert_eq!(b.minute.unwrap().rate, 6.0);
    // Errors above 5 % are trouble, even if the backend is up.
    assert_eq!(model.verdict.troubles[0].what, "Backend a of u fails 30 % of its requests");
}

#[test]
fn a_view_has_a_filter_and_pages_of_200() {
    let backends = (0..450).map(|n| backend(&format!("b{n:03}"), BackendCondition::Up)).collect();
    let status = status_of(backends);
    let activity = Activity::default();
    let model = |text: &str| PageModel::build(&status, &activity, &History::default(), query(text));
    let first = model("");
    assert_eq!((names(&first).len(), first.pages, first.found), (200, 3, (450, 450)));
    let last = model("page=3");
    assert_eq!((names(&last).len(), names(&last)[0].as_str()), (50, "b400"));
    assert_eq!(names(&model("page=99")), names(&last));
    assert_eq!(names(&model("filter=B01")).len(), 10);
    assert!(names(&model("trouble=true")).is_empty());
}

#[test]
fn no_name_or_reason_becomes_html() {
    let evil = "<script>\"&'";
    let mut bad = backend(evil, BackendCondition::Down);
    bad.reason = evil.into();
    bad.last_error = Some(LastError { time: "2023-11-14T22:13:20Z".into(), cause: evil.into() });
    let mut status = status_of(vec![bad]);
    status.upstreams[0].name = evil.into();
    let discovery = DiscoveryReply { source: evil.into(), last_success: None, error: Some(evil.into()), failures: 1 };
    status.upstreams[0].discovery = Some(discovery);
    status.listeners = vec![ListenerReply { name: evil.into(), address: evil.into(), bound: true, connections: 3 }];
    let notes = vec![StateNote { text: evil.into(), time: None }];
    let each = BackendActivity { notes, ..BackendActivity::default() };
    let upstream = UpstreamActivity { name: evil.into(), backends: vec![each], ..UpstreamActivity::default() };
    let routes = vec![RouteActivity { name: evil.into(), ..RouteActivity::default() }];
    let activity = Activity { routes, upstreams: vec![upstream], ..Activity::default() };
    let model = PageModel::build(&status, &activity, &History::default(), query("filter=<script>"));
    let limits = LimitsReply::default();
    let page = page_markup::main((&model, &limits), TimeStyle::Age).into_string();
    assert!(!page.contains("<script"), "{page}");
    assert!(page.matches("&lt;script&gt;&quot;&amp;'").count() > 9, "{page}");
    for expected in ["state down", "never", "&quot;&amp;'", "Not well", ">3<"] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
}

#[test]
fn an_unchecked_backend_is_not_shown_as_up_and_an_unresolved_one_has_no_share() {
    let states = [BackendCondition::Unchecked, BackendCondition::Unresolved];
    let status = status_of(states.into_iter().map(|state| backend(state.label(), state)).collect());
    let activity = Activity::default();
    let model = PageModel::build(&status, &activity, &History::default(), ViewQuery::default());
    let shares: Vec<_> = model.upstreams[0].rows.iter().map(|row| row.weight_share).collect();
    assert_eq!((names(&model), shares), (vec!["unresolved".to_owned(), "unchecked".to_owned()], vec![0.0, 1.0]));
}

#[test]
fn parts_have_the_ids_of_their_elements_and_stay_equal_while_only_time_passes() {
    let status = status_of(vec![backend("a", BackendCondition::Up)]);
    let activity = Activity::default();
    let limits = LimitsReply::default();
    let model = PageModel::build(&status, &activity, &History::default(), ViewQuery::default());
    let parts = page_markup::parts((&model, &limits), TimeStyle::Absolute);
    for (id, html) in &parts {
        assert!(html.contains(&format!("id=\"{id}\"")), "{id}: {html}");
    }
    assert!(parts.iter().any(|(id, html)| id == "b/u/a:1" && html.contains(">2023-11-14T22:13:20Z</time>")));
    assert_eq!(parts, page_markup::parts((&model, &limits), TimeStyle::Absolute));
}
