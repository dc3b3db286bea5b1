//! Finds the admin address in a configuration file, for the remote commands. Other problems of the file, and of the
//! files that it names, are ignored.

use std::path::Path;

use serde::Deserialize;

use super::deserialize;
use super::deserializer::NodeSource;
use super::load;
use super::node::{DocumentPath, Node, NodeKind};
use super::problem::{Problem, Problems};
use super::values::AdminAddress;
use super::yaml;

/// `admin.address` of a configuration file; `None` if the file says `admin: off`.
///
/// # Errors
/// Only the problems that prevent finding the address.
pub fn admin_address(path: &Path) -> Result<Option<AdminAddress>, Vec<Problem>> {
    admin_address_in(path, &load::read_text(path)?)
}

/// The same in the text of that file.
///
/// # Errors
/// As `admin_address`.
pub fn admin_address_in(path: &Path, text: &str) -> Result<Option<AdminAddress>, Vec<Problem>> {
    find(path, text, &|name| std::env::var(name).ok())
}

fn find(path: &Path, text: &str, env: yaml::Env<'_>) -> Result<Option<AdminAddress>, Vec<Problem>> {
    let mut problems = Problems::new(path);
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let read = yaml::read_as_far(text, env, &mut problems);
    let whole = read.is_ok();
    let mut tree = read.unwrap_or_else(|seen| seen);
    if tree.at(&DocumentPath::of("admin")).is_some_and(|node| is_off(node)) {
        return Ok(None);
    }
    let written = tree
        .at(&DocumentPath::of("admin").key("address"))
        .and_then(|node| AdminAddress::deserialize(NodeSource(node)).ok());
    if let Some(address) = written {
        return Ok(Some(address));
    }
    if !whole {
        return Err(problems.sorted());
    }
    // The address is absent or invalid, or its key is misspelled.
    deserialize::document(&mut tree, &mut problems);
    let mut doubts = problems.sorted();
    doubts.retain(|problem| problem.path.starts_with("admin") || !problem.path.contains(['.', '[']));
    if doubts.is_empty() { Ok(Some(AdminAddress::default())) } else { Err(doubts) }
}

fn is_off(admin: &Node) -> bool {
    matches!(&admin.kind, NodeKind::Text(text) if text.trim() == "off")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<String, String> {
        let env = |name: &str| (name == "ADMIN").then(|| "127.0.0.1:2".to_owned());
        let found = find(Path::new("weir.yaml"), text, &env);
        found
            .map(|address| address.map_or("off".to_owned(), |address| address.to_string()))
            .map_err(|problems| problems[0].path.clone())
    }

    #[test]
    fn the_address_is_found_in_a_file_with_other_problems() {
        let usual = Ok("127.0.0.1:9180".to_owned());
        assert_eq!((of(""), of("admin: {}"), of("listeners: [{ adress: x }]")), (usual.clone(), usual.clone(), usual));
        let given = Ok("127.0.0.1:1".to_owned());
        let admin = "admin: { address: \"127.0.0.1:1\" }\n";
        for more in ["", "x: 1", "log: ${NONE}", "routes: [", "admin: {}", "\t- x"] {
            assert_eq!(of(&format!("{admin}{more}")), given, "{more}");
        }
        assert_eq!(of("admin: { address: \"${ADMIN}\" }"), Ok("127.0.0.1:2".to_owned()));
        assert_eq!(of("admin: { address: \"unix:/run/a.sock\" }\nx: 1"), Ok("unix:/run/a.sock".to_owned()));
        assert_eq!(of("admin: { address: \"0.0.0.0:1\" }"), Ok("0.0.0.0:1".to_owned()), "without a token");
    }

    #[test]
    fn admin_off_is_recognized() {
        for text in ["admin: off", "admin: \"off\"\nlisteners: [{ adress: x }]", "admin: ${OFF:-off}"] {
            assert_eq!(of(text), Ok("off".to_owned()), "{text}");
        }
    }

    #[test]
    fn a_possible_misspelling_of_the_address_is_a_problem() {
        assert_eq!(of("admin: { address: here }"), Err("admin.address".to_owned()));
        assert_eq!(of("admin: { address: \"${NONE}\" }"), Err("admin.address".to_owned()));
        assert_eq!(of("admin: { adress: \"127.0.0.1:1\" }"), Err("admin.adress".to_owned()));
        assert_eq!(of("admn: { address: \"127.0.0.1:1\" }"), Err("admn".to_owned()));
        assert_eq!(of("admin: 1"), Err("admin".to_owned()));
        assert!(of("routes: [\nadmin: { address: \"127.0.0.1:1\" }").is_err(), "not read that far");
    }
}
