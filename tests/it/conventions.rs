//! How tests are written: they wait for conditions, and they build configurations with `Config`.

use std::path::{Path, PathBuf};

use crate::source_tree::rust_files;

/// The files of these tests and their texts, without this one.
fn files() -> Vec<(PathBuf, String)> {
    let mut files = rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it"));
    files.retain(|(path, _)| !path.ends_with(file!()));
    files
}

/// `FILE:LINE: TEXT` of the lines for which this holds.
fn lines(holds: impl Fn(&Path, &str) -> bool) -> Vec<String> {
    let of = |(path, text): (PathBuf, String)| {
        let found = text.lines().enumerate().filter(|(_, line)| holds(&path, line));
        found.map(|(at, line)| format!("{}:{}: {}", path.display(), at + 1, line.trim())).collect::<Vec<_>>()
    };
    files().into_iter().flat_map(of).collect()
}

/// Whether a format string of this line writes a mapping of YAML: a doubled brace after a key, an item or a space.
fn formats_a_mapping(line: &str) -> bool {
    // An escaped quotation mark does not begin a string.
    let before = |at: usize| line[..at].chars().next_back().filter(|_| !line[..at].ends_with("\\\""));
    let after = |at: usize| line[at + 2..].chars().next();
    let mut braces = line.match_indices("{{").map(|(at, _)| at);
    braces.any(|at| matches!(before(at), Some(' ' | '[' | '"')) && matches!(after(at), Some(' ' | '}')))
}

#[test]
fn only_the_module_for_waiting_sleeps() {
    let sleeps = |path: &Path, line: &str| {
        !path.ends_with("support/wait.rs")
            && ["sleep(", "sleep_until(", "::sleep"].iter().any(|call| line.contains(call))
    };
    let found = lines(sleeps);
    let advice =
        "wait for a condition (`eventually`), say that nothing happens (`stays`), or that a peer is slow (`delay`)";
    assert!(found.is_empty(), "{advice}:\n{}", found.join("\n"));
}

#[test]
fn no_configuration_is_a_format_string_with_doubled_braces() {
    assert!(formats_a_mapping(r#"format!("listeners: [{{ name: web }}]")"#));
    assert!(formats_a_mapping(r#""outlier: {{}},""#));
    assert!(formats_a_mapping(r#"format!("{{ address: \"{address}\" }}")"#));
    assert!(!formats_a_mapping(r#"format!("weir_backend_up{{backend=\"a\"}}")"#));
    let found = lines(|_, line| formats_a_mapping(line));
    assert!(found.is_empty(), "use `Config`:\n{}", found.join("\n"));
}

#[test]
fn the_builder_of_configurations_finds_items_by_name_merges_mappings_and_replaces_values() {
    use crate::support::Config;
    let config = Config::to("127.0.0.1:1")
        .backend("up.b", "[::1]:2", "weight: 3")
        .set("upstreams.up.outlier", "consecutive: 3, eject: 2s")
        .set("upstreams.up.outlier", "eject: 4s")
        .set("upstreams.up.queue", "")
        .set("routes.all.timeouts.read", "1s")
        .listener("more", "redirect_https: true")
        .route("gone", "upstream: up")
        .without("routes.gone")
        .without("routes.all.timeouts.read");
    let yaml: serde_yaml::Value = serde_yaml::from_str(&config.to_string()).unwrap();
    let expected = "
listeners:
  - { name: web, address: '127.0.0.1:0' }
  - { name: more, address: '127.0.0.1:0', redirect_https: true }
routes: [{ name: all, upstream: up, timeouts: {} }]
upstreams:
  up:
    backends: [{ name: a, address: '127.0.0.1:1' }, { name: b, address: '[::1]:2', weight: 3 }]
    outlier: { consecutive: 3, eject: 4s }
";
    assert_eq!(yaml, serde_yaml::from_str::<serde_yaml::Value>(expected).unwrap());
}
