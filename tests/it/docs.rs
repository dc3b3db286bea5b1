//! What the documentation says is what the code does: examples load, tables match a scrape and a log line, links and the
//! tests that are named exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::source_tree::rust_files;
use crate::support::{Client, Config, Origin, Pki, Reply, Store, StoreKind, Weir, eventually, spare};

const PAGES: [&str; 13] = [
    "README.md",
    "docs/architecture.md",
    "docs/commands.md",
    "docs/comparison.md",
    "docs/configuration.md",
    "docs/examples.md",
    "docs/limit-a-login.md",
    "docs/llm-budget.md",
    "docs/compress.md",
    "docs/operations.md",
    "docs/streams.md",
    "docs/upgrading.md",
    "grafana/README.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The blocks of a language, each with the line it begins on.
fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, bool, String)> = None;
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(tag)) => open = Some((number + 2, tag == language, String::new())),
            (Some(_), Some(_)) => {
                let (line, wanted, block) = open.take().unwrap();
                blocks.extend(wanted.then_some((line, block)));
            }
            (Some((_, _, block)), None) => *block += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block that does not end");
    blocks
}

/// The cells of each row of the table whose first head is `head`.
fn table(text: &str, head: &str) -> Vec<Vec<String>> {
    let lines = text.lines().skip_while(|line| !line.starts_with(&format!("| {head} |")));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// What is between backticks.
fn code(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_example_of_a_configuration_loads() {
    let mut seen = 0;
    for name in PAGES {
        for (line, block) in blocks(&page(name), "yaml") {
            // An example may leave the listener out.
            let listener =
                if block.contains("listeners:") { "" } else { "listeners: [{ address: \"127.0.0.1:0\" }]\n" };
            let list = b"- address: 10.0.0.1:3001\n";
            let is_list = |path: &Path| path.extension().is_some_and(|extension| extension == "yaml");
            let read = |path: &Path| {
                Ok(if is_list(path) {
                    list.to_vec()
                } else if path.ends_with("blocked.txt") {
                    b"192.0.2.0/24\n".to_vec()
                } else {
                    Pki::example(path).unwrap_or_else(|| b"0123456789abcdef0123456789abcdef\n".to_vec())
                })
            };
            let parsed = weir::config::parse(&PathBuf::from(name), &format!("{block}{listener}"), &|_| None, &read);
            let problems = parsed.err().unwrap_or_default();
            assert!(problems.is_empty(), "{name}, the block at line {line}: {problems:?}\n{block}");
            seen += 1;
        }
    }
    assert!(seen >= 8, "{seen} examples");
}

#[test]
fn every_link_to_a_file_leads_somewhere() {
    for name in PAGES {
        let folder = root().join(name).parent().unwrap().to_owned();
        for link in page(name).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            if !file.is_empty() && !file.contains("://") {
                assert!(folder.join(file).exists(), "{name}: {link}");
            }
        }
    }
}

#[test]
fn every_source_file_that_the_map_names_exists() {
    let map = page("docs/architecture.md");
    let (mut named, mut missing) = (0, Vec::new());
    for path in code(&map).iter().filter(|word| ["src/", "tests/", "crates/"].iter().any(|root| word.starts_with(root)))
    {
        named += 1;
        if !path.contains(['*', '{']) && !root().join(path).exists() {
            missing.push(path.clone());
        }
    }
    assert!(missing.is_empty() && named > 20, "{named} named, missing {missing:?}");
}

#[test]
fn the_tests_that_the_comparison_names_exist() {
    let files = ["src", "tests"].into_iter().flat_map(|folder| rust_files(&root().join(folder)));
    let sources: String = files.map(|(_, text)| text).collect();
    let comparison = page("docs/comparison.md");
    let rows = [table(&comparison, "reason"), table(&comparison, "what")].concat();
    assert!(rows.len() >= 10, "{rows:?}");
    // A reason may have a measured figure, and a function that Weir lacks has no test.
    for row in rows.iter().filter(|row| row[1] != "none" && !row[1].contains("performance.md")) {
        let is_test = |word: &String| !word.contains(' ') && word.matches('_').count() > 2;
        let tests: Vec<_> = code(&row[1]).into_iter().filter(is_test).collect();
        assert!(!tests.is_empty(), "no test is named: {row:?}");
        for test in tests {
            assert!(sources.contains(&format!("fn {test}()")), "no test `{test}`");
        }
    }
}

/// Traffic that gives every family of metrics a series. The store lives as long as the process that uses it.
fn busy() -> (Weir, Store) {
    let store = Store::start(StoreKind::Redis);
    let origin = Origin::named("a");
    let slow = Origin::start(|_| Reply::new(200, "slow").after(Duration::from_millis(300)));
    let call = Origin::start(|_| Reply::with(200, &[("Content-Type", "application/grpc"), ("Grpc-Status", "0")], ""));
    let nobody = spare();
    let pki = Pki::new();
    let folder = crate::support::files::folder(&[("a", &pki.issue(&["a.test"]))]);
    std::fs::write(folder.path().join("ca.pem"), pki.ca()).unwrap();
    std::fs::write(folder.path().join("found.yaml"), format!("- address: {}\n", origin.address())).unwrap();
    let config = Config::new()
        .set("server.state_dir", "state")
        .listener("tls", "tls: { certificates: [{ cert: a.pem, key: a.key }] }")
        .set("listeners.tls.tls.acme", "names: [never.test.example], directory_ca: ca.pem")
        .set("listeners.tls.tls.acme.directory", format!("https://{nobody}/dir"))
        .set("stores.fleet", format!("redis: \"{}\", timeout: 2s", store.url()))
        .set("rate_limits.shared", "rate: 100/1s, shared: { store: fleet }, cost: { response_header: x-tokens }")
        .route("all", "match: { path_prefix: /a }, upstream: checked, rate_limits: [shared]")
        .route("retried", "match: { path_prefix: /r }, upstream: retried")
        .route("full", "match: { path_prefix: /f }, upstream: full")
        .route("call", "match: { path_prefix: /c }, upstream: call")
        .route("text", "match: { path_prefix: /t }, respond: { status: 200, body: text }, compress: { min: 0 }")
        .upstream("call", &[("c", &call)])
        .upstream("checked", &[("a", &origin)])
        .set("upstreams.checked.health_check", "tcp: {}")
        .set("upstreams.found.discover", "file: found.yaml")
        .upstream("retried", &[("n", nobody), ("a", origin.address())])
        .upstream("full", &[("s", &slow)])
        .set("upstreams.full", "max_in_flight: 1, queue: { size: 9, timeout: 20s }");
    let weir = Weir::start_in(folder, config);
    weir.wait_for_at_least(&["weir_upstream_discoveries_total"], 1.0);
    weir.wait_for_at_least(&["weir_acme_orders_total"], 1.0);
    weir.wait_for_state("a", "up");
    let mut client = Client::connect(weir.web());
    assert_eq!(client.get("/a").status, 200);
    assert_eq!((client.get("/r").status, client.get("/r").status), (200, 200));
    let call = [("Host", "x"), ("Content-Type", "application/grpc"), ("grpc-timeout", "soon")];
    assert_eq!((client.get_with("/c", &call).status, client.get("/nowhere").status), (200, 404));
    assert_eq!(client.get_with("/t", &[("Host", "x"), ("Accept-Encoding", "gzip")]).status, 200);
    let mut first = Client::connect(weir.web());
    first.send("GET /f HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("the only place is taken", || slow.requests().len() == 1);
    assert_eq!(client.get("/f").status, 200, "after a wait in the queue");
    weir.access_log_of(8);
    (weir, store)
}

#[test]
fn the_table_of_metrics_is_what_a_scrape_shows() {
    let (weir, _store) = busy();
    let scrape = String::from_utf8(weir.admin_get("/metrics").body).unwrap();
    let mut shown: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    for line in scrape.lines().filter(|line| line.starts_with("# TYPE weir_")) {
        let [_, _, name, kind] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let labels = scrape.lines().filter_map(|line| {
            let (series, labels) = line.split_once('{')?;
            let of_it = series.strip_prefix(name).is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest));
            labels.rsplit_once('}').filter(|_| of_it).map(|(labels, _)| labels)
        });
        let keys = labels.flat_map(|labels| labels.split("\",").filter_map(|label| label.split('=').next()));
        let keys = keys.filter(|key| *key != "le").map(str::to_owned).collect();
        shown.insert(name.to_owned(), (kind.to_owned(), keys));
    }
    let rows = table(&page("docs/operations.md"), "family");
    let told: BTreeMap<_, _> = rows
        .iter()
        .map(|row| (code(&row[0])[0].clone(), (row[1].clone(), code(&row[2]).into_iter().collect())))
        .collect();
    assert_eq!(told, shown);
    assert!(rows.iter().all(|row| row[3].len() > 10), "a family without its meaning");
}

#[test]
fn the_table_of_log_fields_is_what_a_line_has() {
    let (weir, _store) = busy();
    let rows = table(&page("docs/operations.md"), "field");
    let told: BTreeSet<_> = rows.iter().map(|row| code(&row[0])[0].clone()).collect();
    let line = &weir.access_log()[1];
    let mut shown: BTreeSet<_> = line.as_object().unwrap().keys().cloned().collect();
    let attempt = line["attempts"][0].as_object().unwrap();
    shown.extend(attempt.keys().map(|key| format!("attempts[].{key}")));
    assert_eq!(told, shown);
}

#[test]
fn the_tables_of_reasons_are_those_of_the_code() {
    let told = |head: &str| -> BTreeSet<String> {
        table(&page("docs/operations.md"), head).iter().flat_map(|row| code(&row[0])).collect()
    };
    use weir::backend::labels::{ExclusionReason, PickReason};
    let labels = PickReason::ALL.iter().map(|why| why.label().to_owned()).collect();
    assert_eq!(told("`why` of an attempt"), labels);
    assert_eq!(
        told("`why` of one passed over"),
        ExclusionReason::ALL.iter().map(|out| out.label().to_owned()).collect()
    );
}

#[test]
fn the_table_of_faults_is_the_one_of_the_code() {
    let rows = table(&page("docs/operations.md"), "label");
    let told: BTreeMap<_, _> = rows.iter().map(|row| (code(&row[0])[0].clone(), row[1].clone())).collect();
    for fault in weir::fault::Fault::ALL {
        let statuses = told.get(fault.label()).unwrap_or_else(|| panic!("{} is not told", fault.label()));
        assert!(statuses.contains(&fault.status().to_string()), "{}: {statuses}", fault.label());
    }
    assert_eq!(told.len(), weir::fault::Fault::ALL.len());
}
