//! Parser of a backend list file (`discover.file`), as YAML or JSON. It is validated like `backends` in the
//! configuration; problems carry positions in the list file.

use std::path::Path;

use serde::Deserialize;

use super::disk::read_named;
use super::io_error::{self, mark_after, whole};
use super::node::{Entry, Node, NodeKind, Position};
use super::problem::{Problem, Problems};
use super::schema::{BackendSettings, UpstreamSettings};
use super::yaml::{self, Env};
use super::{check, deserialize};

/// An example of a valid file.
const HINT: &str = "Write `[{ address: \"10.0.0.1:3001\" }]`";

/// The content of the file as a section. A bare list is wrapped into such a section first.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    backends: Vec<BackendSettings>,
}

/// Reads the backend list of an upstream from a file.
///
/// # Errors
/// All problems of the file.
pub fn backends_in(path: &Path, upstream: &UpstreamSettings) -> Result<Vec<BackendSettings>, Vec<Problem>> {
    match read_named(path) {
        Ok(bytes) => parse_backends(path, &bytes, upstream),
        Err(error) => Err(whole(path, Position::START, format!("cannot be read: {}", io_error::reason(&error)))),
    }
}

/// Parses the backend list of an upstream. `path` is the name of the file in problems.
///
/// # Errors
/// All problems of the file.
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
        // An empty file is an error, not an empty list: a file may be truncated before its first entry.
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

/// Wraps a bare list into a section.
fn as_section(tree: Node) -> Node {
    if matches!(tree.kind, NodeKind::Map(_)) {
        return tree;
    }
    Node::new(
        Position::START,
        NodeKind::Map(vec![Entry { key: "backends".into(), mark: Position::START, value: tree, inherited: false }]),
    )
}

/// The upstream with only this list of backends. If it has backends of its own as well, the list may have weights of 0
/// only.
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
    fn yaml_and_json_give_the_same_list() {
        let expected = ["10.0.0.1:80 3", "a.internal:81 1"];
        assert_eq!(addresses("- { name: a, address: '10.0.0.1:80', weight: 3 }\n- address: a.internal:81\n"), expected);
        let json = r#"[{"name": "a", "address": "10.0.0.1:80", "weight": 3}, {"address": "a.internal:81"}]"#;
        assert_eq!(addresses(json), expected);
        assert_eq!(addresses(&format!("{{\"backends\":\n{json}}}\n")), expected);
        assert_eq!(addresses("- address: 10.0.0.1:${PORT}"), ["10.0.0.1:3001 1"]);
    }

    #[test]
    fn problems_have_positions_in_the_list_file() {
        let text = "- { address: '10.0.0.1:80', weight: 3 }\n- { adress: '10.0.0.2:80' }\n- { address: nowhere }\n";
        let problems = read_as(text, Balance::RoundRobin).unwrap_err();
        assert!(problems.contains("b.yaml:2:5: backends[1].adress: "), "{problems}");
        assert!(problems.contains("b.yaml:3:14: backends[2].address: `nowhere` is not an address"), "{problems}");
        let problems = read_as("- { address: '10.0.0.1:80', weight: 3 }\n", Balance::RoundRobin).unwrap_err();
        assert!(problems.starts_with("b.yaml:1:37: backends[0].weight: `round_robin` gives equal turns"), "{problems}");
        let twice = "- address: 10.0.0.1:80\n- address: 10.0.0.1:80\n";
        assert!(read_as(twice, Balance::RoundRobin).unwrap_err().contains("is a backend already"));
    }

    #[test]
    fn a_file_without_a_valid_list_is_rejected() {
        for (text, expected) in [
            ("", "there is no list of backends"),
            ("[]", "there is no backend in this list"),
            ("backends: []", "there is no backend in this list"),
            ("- address: 10.0.0.1:80\n  weight: 0\n", "all weights are 0"),
            ("[{\"address\": \"10.0.0.1:80\"}, {\"addr", "not YAML"),
            ("just words", "backends"),
            ("balance: random", "balance"),
        ] {
            let problems = read_as(text, Balance::LeastConnections).unwrap_err();
            assert!(problems.contains(expected), "{text:?}: {problems}");
        }
    }
}
