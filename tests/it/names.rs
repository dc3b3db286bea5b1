//! The names of the code: one type for each name, and no name of the old vocabulary. `docs/glossary.md` maps the old
//! names to the new ones.

use std::collections::BTreeMap;

use crate::source_tree::{Declaration, Kind, shipped};

/// Names of types that several private modules may use for their own state, as is usual in Rust.
const IDIOMATIC_TYPES: &[&str] = &["Error", "Settings", "State", "Inner"];

/// Old names of modules, functions and fields.
const OLD_NAMES: &[&str] = &[
    "by_length",
    "bell",
    "cells",
    "chance",
    "chores",
    "edge_io",
    "explained",
    "fake",
    "finding",
    "fleet",
    "framed",
    "front",
    "gate",
    "grant",
    "hang",
    "home",
    "kept",
    "lack",
    "lasting",
    "last_hop",
    "last_words",
    "lean",
    "lease",
    "leased",
    "leaving",
    "ledger",
    "life",
    "linger",
    "locate",
    "look_after",
    "machine",
    "nudge",
    "pace",
    "panics",
    "per_ip",
    "places",
    "poll_pass",
    "prober",
    "proxied",
    "ramp",
    "renewed",
    "replay",
    "returned",
    "rest",
    "rests",
    "rise_again",
    "room",
    "runs",
    "saw",
    "said",
    "steer",
    "sticking",
    "straight",
    "told",
    "together",
    "turn",
    "typed",
    "unkept",
    "vitals",
    "waits",
    "wire",
    "words",
    "world",
];

/// Old names of types.
const OLD_TYPES: &[&str] = &[
    "Bell",
    "Broken",
    "Common",
    "Count",
    "Cut",
    "Durations",
    "EdgeIo",
    "Ends",
    "Front",
    "Gate",
    "Grant",
    "Held",
    "InVain",
    "Keeping",
    "Kept",
    "Lack",
    "Lease",
    "Leased",
    "Line",
    "Look",
    "Machine",
    "Mark",
    "Near",
    "NoBody",
    "Of",
    "Out",
    "Padded",
    "Place",
    "Plain",
    "PlainSession",
    "Replaced",
    "Resolved",
    "Returned",
    "Said",
    "Scope",
    "Score",
    "Seen",
    "Shared",
    "Shown",
    "Standing",
    "Straight",
    "Terms",
    "Turn",
    "Vitals",
    "Waiting",
    "Warning",
    "Watching",
    "Why",
    "Wire",
    "Wish",
];

#[test]
fn no_declaration_has_a_name_of_the_old_vocabulary() {
    let mut wrong = Vec::new();
    for source in shipped() {
        let path = format!("src/{}", source.path.display());
        let is_old = |declared: &Declaration| {
            let name = declared.name.as_str();
            match declared.kind {
                Kind::Type => OLD_TYPES.contains(&name),
                _ => OLD_NAMES.contains(&name),
            }
        };
        for declared in source.declarations().iter().filter(|declared| is_old(declared)) {
            wrong.push(format!("{path}:{}: {:?} {}", declared.line, declared.kind, declared.name));
        }
    }
    assert!(wrong.is_empty(), "names of the old vocabulary (see docs/glossary.md):\n{}", wrong.join("\n"));
}

#[test]
fn no_type_name_occurs_twice() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in shipped() {
        for declared in source.declarations() {
            if declared.kind == Kind::Type && !IDIOMATIC_TYPES.contains(&declared.name.as_str()) {
                let place = format!("src/{}:{}", source.path.display(), declared.line);
                places.entry(declared.name).or_default().push(place);
            }
        }
    }
    places.retain(|_, places| places.len() > 1);
    let text: Vec<String> = places.iter().map(|(name, places)| format!("{name}: {}", places.join(", "))).collect();
    assert!(places.is_empty(), "types of the same name:\n{}", text.join("\n"));
}
