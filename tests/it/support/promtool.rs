//! Which alerts of `grafana/` fire: `promtool` evaluates the rules over the series of a running Weir.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// How long the series go on, and when the alerts are looked at, in minutes.
const MINUTES: u32 = 15;

/// Each minute is as the one between the two scrapes was. Returns whether each of these selectors has an alert that
/// fires, such as `alertname="WeirBackendDown",upstream="up"`; `""` selects any alert.
pub fn firing(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>, selectors: &[&str]) -> Vec<bool> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outage.yml");
    let ask = |selector: &&str| {
        std::fs::write(&file, unit_test(before, after, selector).to_string()).unwrap();
        let output = Command::new("promtool").args(["test", "rules"]).arg(&file).output();
        let output = output.expect("promtool, of Debian's package prometheus");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() || text.contains("got:"), "{text}");
        output.status.success()
    };
    selectors.iter().map(ask).collect()
}

/// A unit test of promtool that passes if an alert fires. JSON is YAML too.
fn unit_test(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>, selector: &str) -> Value {
    let going_on = |(series, value): (&String, &f64)| {
        let is_counter = ["_total", "_count", "_sum"].iter().any(|end| family(series).ends_with(end));
        let step = if is_counter { value - before.get(series).unwrap_or(&0.0) } else { 0.0 };
        json!({ "series": with_target(series), "values": format!("{value}+{step}x{MINUTES}") })
    };
    let shown = after.iter().filter(|(series, _)| !series.contains("_bucket{"));
    let mut series: Vec<_> = shown.map(going_on).collect();
    series.push(json!({ "series": with_target("up"), "values": format!("1+0x{MINUTES}") }));
    let comma = if selector.is_empty() { "" } else { "," };
    let expr = ["count(ALERTS{alertstate=\"firing\"", comma, selector, "}) > bool 0"].concat();
    let expected = json!({ "labels": "{}", "value": 1 });
    let question = json!({ "expr": expr, "eval_time": format!("{MINUTES}m"), "exp_samples": [expected] });
    json!({
        "rule_files": rules(),
        "evaluation_interval": "1m",
        "tests": [{ "interval": "1m", "input_series": series, "promql_expr_test": [question] }],
    })
}

fn family(series: &str) -> &str {
    series.split('{').next().unwrap_or_default()
}

/// The series with the labels that Prometheus adds.
fn with_target(series: &str) -> String {
    const TARGET: &str = "job=\"weir\",instance=\"i1\"";
    match series.split_once('{') {
        Some((name, labels)) => format!("{name}{{{TARGET},{labels}"),
        None => format!("{series}{{{TARGET}}}"),
    }
}

fn rules() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana/prometheus/rules");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|extension| extension == "yml")).collect()
}
