//! The shares of a `split` in words, for a diff.

use serde_json::Value;

/// The upstreams of a split with their shares, such as `v1 95%, v2 5%`. `None` if the value is no split.
pub(super) fn of(split: &Value) -> Option<String> {
    let texts: Vec<String> =
        parts(split)?.into_iter().map(|(name, share)| format!("{name} {}", percent(share))).collect();
    Some(texts.join(", "))
}

/// The change of each share, such as `v1 95% → 50%, v2 5% → 50%`. A value that is no split has no shares.
pub(super) fn compared(old: &Value, new: &Value) -> String {
    let (before, after) = (parts(old).unwrap_or_default(), parts(new).unwrap_or_default());
    if before == after {
        return of(new).map(|shares| shares + ", other weights").unwrap_or_default();
    }
    let share = |parts: &[(String, f64)], name: &str| parts.iter().find(|part| part.0 == name).map(|part| part.1);
    let added = after.iter().filter(|(name, _)| share(&before, name).is_none());
    let names = before.iter().chain(added).map(|(name, _)| name);
    let change = |name: &String| {
        let [from, to] = [share(&before, name), share(&after, name)].map(|share| share.map_or("none".into(), percent));
        if from == to { format!("{name} {to}") } else { format!("{name} {from} → {to}") }
    };
    names.map(change).collect::<Vec<_>>().join(", ")
}

/// Each upstream once, with its share from 0 to 1.
fn parts(split: &Value) -> Option<Vec<(String, f64)>> {
    let mut parts: Vec<(String, f64)> = Vec::new();
    // A sticky split has its upstreams in a section.
    for part in split.get("targets").unwrap_or(split).as_array()? {
        let (name, weight) = (part["upstream"].as_str()?, part["weight"].as_f64()?);
        match parts.iter_mut().find(|known| known.0 == name) {
            Some(known) => known.1 += weight,
            None => parts.push((name.to_owned(), weight)),
        }
    }
    let total: f64 = parts.iter().map(|part| part.1).sum();
    parts.iter_mut().for_each(|part| part.1 /= total.max(1.0));
    Some(parts)
}

/// At most two decimals, so that a small canary is not shown as 0%.
fn percent(share: f64) -> String {
    let text = format!("{:.2}", share * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}
