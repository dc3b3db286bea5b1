//! References of routes to other sections.

use super::super::node::{DocumentPath, Node};
use super::super::problem::did_you_mean;
use super::super::value_hints;
use super::super::values::Name;
use super::Check;

/// Checks a reference to an upstream.
pub(super) fn upstream(check: &mut Check<'_>, at: &DocumentPath, name: &Name) {
    if check.document.upstreams.contains_key(name) {
        return;
    }
    let all = DocumentPath::of("upstreams");
    // The section was refused as a whole, and that is reported.
    if check.tree.find(&all).node.is_some_and(Node::is_pruned) {
        return;
    }
    let known = check.keys(&all);
    // It is there, but wrong, and that is reported.
    if known.iter().any(|key| key == name.as_str()) {
        return;
    }
    let what = format!("there is no upstream {}", check.quote(at, name.as_str()));
    let hint = if known.is_empty() {
        "Define it in `upstreams`".to_owned()
    } else {
        did_you_mean(name.as_str(), known.iter().map(String::as_str))
    };
    let hint = value_hints::in_place_of_name(name.as_str()).unwrap_or(hint);
    check.say(at, what, hint);
}
