//! The alerts of `grafana/` lead to sections of the manual.

use std::path::Path;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The section below this heading, with each run of white space as one space.
fn section(page: &str, heading: &str) -> Option<String> {
    let (_, rest) = page.split_once(&format!("\n### {heading}\n"))?;
    let text = rest.split("\n#").next().unwrap_or_default();
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The alerts of all files of rules.
fn alerts() -> Vec<serde_yaml::Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana/prometheus/rules");
    let texts = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    let files = texts.map(|text| serde_yaml::from_str::<serde_yaml::Value>(&text).unwrap());
    let groups = files.flat_map(|file| file["groups"].as_sequence().unwrap().clone());
    let rules = groups.flat_map(|group| group["rules"].as_sequence().unwrap().clone());
    rules.filter(|rule| rule["alert"].is_string()).collect()
}

#[test]
fn the_runbook_url_of_each_alert_leads_to_its_section_of_the_manual() {
    let manual = read("docs/operations.md");
    let alerts = alerts();
    assert!(alerts.len() >= 27, "{}", alerts.len());
    for alert in &alerts {
        let text = |value: &serde_yaml::Value| value.as_str().unwrap_or_default().to_owned();
        let (name, notes) = (text(&alert["alert"]), &alert["annotations"]);
        let (url, runbook) = (text(&notes["runbook_url"]), text(&notes["runbook"]));
        assert!(url.ends_with(&format!("/operations.md#{}", name.to_lowercase())), "{name}: {url}");
        let section = section(&manual, &name).unwrap_or_else(|| panic!("docs/operations.md has no section {name}"));
        assert!(section.contains(&runbook), "{name}: the section differs from the annotation `runbook`: {runbook}");
        let lasts = alert["for"].as_str().map_or("at once".to_owned(), |time| format!("after {time}"));
        let first = format!("`{}`, {lasts}.", text(&alert["labels"]["severity"]));
        assert!(section.starts_with(&first), "{name}: the section does not begin with {first}");
    }
    let sections = manual.matches("\n### Weir").count();
    assert_eq!(sections, alerts.len(), "a section without its alert");
}

#[test]
fn a_critical_alert_lasts_before_it_wakes_an_operator() {
    for alert in alerts() {
        // Its expression counts over 15 minutes.
        let is_exempt = alert["alert"] == "WeirRestarting";
        let is_critical = alert["labels"]["severity"] == "critical";
        assert!(!is_critical || is_exempt || alert["for"].is_string(), "{:?} has no `for`", alert["alert"]);
    }
}
