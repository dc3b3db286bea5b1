//! A list of backends in a file of its own, which `discover.file` names: YAML or JSON, judged like `backends` in the
//! configuration itself, with problems at their places in that file.

use std::path::Path;

use serde::Deserialize;

use super::disk::read_named;
use super::io_error::{self, mark_after, whole};
use super::node::{Entry, Node, NodeKind, Position};
use super::problem::{Problem, Problems};
use super::schema::{BackendSettings, UpstreamSettings};
use super::yaml::{self, Env};
use super::{check, deserialize};

/// What to write into such a file.
const HINT: &str = "Write `[{ address: \"10.0.0.1:3001\" }]`";

/// What the file holds: the list, or a section with the list as its only key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    backends: Vec<BackendSettings>,
}

/// Reads the list of this upstream from the disk.
///
/// # Errors
/// Everything that is wrong with it.
pub fn backends_in(path: &Path, upstream: &UpstreamSettings) -> Result<Vec<BackendSettings>, Vec<Problem>> {
    match read_named(path) {
        Ok(bytes) => parse_backends(path, &bytes, upstream),
        Err(error) => Err(whole(path, Position::START, format!("cannot be read: {}", io_error::reason(&error)))),
    }
}

/// Reads the list of this upstream from the bytes of its file, which is called `path`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_backends(
    path: &Path,
    bytes: &[u8],
    upstream: &UpstreamSettings,
) -> Result<Vec<BackendSettings>, Vec<Problem>> {
    read(path, bytes, upstream, &|name| std::env::var(name).ok())
}

pub(super) fn read(
    path: &Path,
    bytes: &[u8],
    upstream: &UpstreamSettings,
    env: Env<'_>,
) -> Result<Vec<BackendSettings>, Vec<Problem>> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => return Err(whole(path, mark_after(&bytes[..error.valid_up_to()]), "not UTF-8".into())),
    };
    let mut problems = Problems::new(path);
    let list = yaml::read(text, env, &mut problems).and_then(|tree| {
        // Cut off before its first entry, a file is not an empty list.
        if matches!(tree.kind, NodeKind::Null) {
            problems.add(Position::START, "", "there is no list of backends in this file", HINT);
            return None;
        }
        let mut tree = as_section(tree);
        let List { backends } = deserialize::section(&mut tree, &mut problems)?;
        check::list(&for_check(upstream, backends.clone()), &tree, &mut problems);
        Some(backends)
    });
    match list {
        Some(backends) if problems.is_empty() => Ok(backends),
        _ => Err(problems.sorted()),
    }
}

/// A bare list as what it would be in a section.
fn as_section(tree: Node) -> Node {
    if matches!(tree.kind, NodeKind::Map(_)) {
        return tree;
    }
    Node::new(
        Position::START,
        NodeKind::Map(vec![Entry { key: "backends".into(), mark: Position::START, value: tree }]),
    )
}

/// The upstream as if the list were all that it has. Where it has backends of its own, the list alone need not serve.
fn for_check(upstream: &UpstreamSettings, backends: Vec<BackendSettings>) -> UpstreamSettings {
    let discover = upstream.discover.clone().filter(|_| !upstream.backends.is_empty());
    UpstreamSettings { backends, discover, ..upstream.clone() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::schema::Balance;
    use super::*;

    fn read_as(text: &str, balance: Balance) -> Result<Vec<BackendSettings>, String> {
        let upstream = UpstreamSettings { balance, ..UpstreamSettings::default() };
        let env = |name: &str| (name == "PORT").then(|| "3001".to_owned());
        let lines = |problems: Vec<Problem>| problems.iter().map(|p| format!("{p}\n")).collect();
        read(Path::new("b.yaml"), text.as_bytes(), &upstream, &env).map_err(lines)
    }

    fn addresses(text: &str) -> Vec<String> {
        let list = read_as(text, Balance::WeightedRoundRobin).unwrap();
        list.iter().map(|backend| format!("{} {}", backend.address, backend.weight)).collect()
    }

    #[test]
    fn yaml_and_json_say_the_same() {
        let expected = ["10.0.0.1:80 3", "a.internal:81 1"];
        assert_eq!(addresses("- { name: a, address: '10.0.0.1:80', weight: 3 }\n- address: a.internal:81\n"), expected);
        let json = r#"[{"name": "a", "address": "10.0.0.1:80", "weight": 3}, {"address": "a.internal:81"}]"#;
        assert_eq!(addresses(json), expected);
        assert_eq!(addresses(&format!("{{\"backends\":\n{json}}}\n")), expected);
        assert_eq!(addresses("- address: 10.0.0.1:${PORT}"), ["10.0.0.1:3001 1"]);
    }

    #[test]
    fn problems_have_places_in_the_list() {
        let text = "- { address: '10.0.0.1:80', weight: 3 }\n- { adress: '10.0.0.2:80' }\n- { address: nowhere }\n";
        let told = read_as(text, Balance::RoundRobin).unwrap_err();
        assert!(told.contains("b.yaml:2:5: backends[1].adress: "), "{told}");
        assert!(told.contains("b.yaml:3:14: backends[2].address: `nowhere` is not an address"), "{told}");
        let told = read_as("- { address: '10.0.0.1:80', weight: 3 }\n", Balance::RoundRobin).unwrap_err();
        assert!(told.starts_with("b.yaml:1:37: backends[0].weight: `round_robin` gives equal turns"), "{told}");
        let twice = "- address: 10.0.0.1:80\n- address: 10.0.0.1:80\n";
        assert!(read_as(twice, Balance::RoundRobin).unwrap_err().contains("is a backend already"));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for (text, told) in [
            ("", "there is no list of backends"),
            ("[]", "there is no backend in this list"),
            ("backends: []", "there is no backend in this list"),
            ("- address: 10.0.0.1:80\n  weight: 0\n", "all weights are 0"),
            ("[{\"address\": \"10.0.0.1:80\"}, {\"addr", "not YAML"),
            ("just words", "backends"),
            ("balance: random", "balance"),
        ] {
            let problems = read_as(text, Balance::LeastConnections).unwrap_err();
            assert!(problems.contains(told), "{text:?}: {problems}");
        }
    }
}
