//! Benchmark of a route look-up: nanoseconds for tables of 10 to 10,000 hosts, with ten paths each.
//!
//! The cases are: one host repeatedly, all hosts in an order that defeats the cache, wildcards, and unknown hosts.
//! There is no pass or fail, only figures. Run it with `make bench-route`. `ROUTE_MS` is the time per figure in
//! milliseconds (default 200).
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use weir::config::schema::Match;
use weir::route::table::{OnListener, RouteTable};

const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
const PATHS: usize = 10;

/// The host of a look-up, from the number of hosts and a counter.
type Question = fn(usize, usize) -> String;

const QUESTIONS: [(&str, Question); 4] = [
    ("one host", |hosts, _| format!("h{}.example.com", hosts / 2)),
    ("all hosts", |hosts, n| format!("h{}.example.com", n * 7919 % hosts)),
    ("wildcards", |hosts, n| format!("x.w{}.example.org", n * 7919 % hosts)),
    ("no such host", |hosts, n| format!("h{}.example.net", n * 7919 % hosts)),
];

fn main() {
    let millis = std::env::var("ROUTE_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    let time = Duration::from_millis(millis);
    println!("nanoseconds a look-up; hosts, each with {PATHS} paths:");
    println!("{:<14}{}", "", SIZES.map(|size| format!("{size:>10}")).concat());
    let tables = SIZES.map(|size| (size, table(size)));
    for (name, question) in QUESTIONS {
        let figures = tables.each_ref().map(|(size, table)| measure(table, *size, question, time));
        println!("{name:<14}{}", figures.map(|nanos| format!("{nanos:>10.1}")).concat());
    }
}

/// A table of exact hosts and as many wildcards.
fn table(hosts: usize) -> RouteTable<usize> {
    let matches: Vec<Match> = (0..hosts)
        .flat_map(|host| [format!("h{host}.example.com"), format!("'*.w{host}.example.org'")])
        .flat_map(|host| (0..PATHS).map(move |path| format!("{{ hosts: [{host}], path_prefix: /api/v{path} }}")))
        .map(|yaml| serde_yaml::from_str(&yaml).unwrap())
        .collect();
    RouteTable::build(matches.iter().enumerate().map(|(at, matches)| (matches, at))).unwrap()
}

fn measure(table: &RouteTable<usize>, hosts: usize, question: Question, time: Duration) -> f64 {
    let questions: Vec<String> = (0..hosts.max(1_000)).map(|n| question(hosts, n)).collect();
    let (method, headers) = (Method::GET, HeaderMap::new());
    let on = OnListener { name: Some("web"), redirects: false };
    let (started, mut count) = (Instant::now(), 0_u64);
    while started.elapsed() < time {
        for host in &questions {
            black_box(table.find(on, Some(host), black_box("/api/v7/users/42"), &method, &headers));
        }
        count += questions.len() as u64;
    }
    started.elapsed().as_nanos() as f64 / count as f64
}
