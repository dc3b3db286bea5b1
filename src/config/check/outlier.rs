//! `upstreams.*.outlier`: validation of thresholds and times.

use super::super::node::DocumentPath;
use super::super::schema::Outlier;
use super::Check;

pub(super) fn check(check: &mut Check<'_>, at: &DocumentPath, rules: &Outlier) {
    check.range(&at.key("consecutive"), rules.consecutive.into(), 0..=1000);
    check.range(&at.key("min_requests"), rules.min_requests.into(), 1..=1_000_000);
    check.range(&at.key("consecutive_5xx"), rules.consecutive_5xx.into(), 0..=1000);
    if rules.consecutive == 0 && rules.consecutive_5xx == 0 && rules.error_ratio.fraction() == 0.0 {
        let what = "nothing would ever be ejected: `consecutive`, `consecutive_5xx` and `error_ratio` are all off";
        let others = [at.key("consecutive_5xx"), at.key("error_ratio")];
        check.say_given(&at.key("consecutive"), &others, what, "Write `outlier: off`, or `consecutive: 5`");
    }
    for (key, period) in [("window", rules.window), ("eject", rules.eject)] {
        if period.limit().is_none() {
            check.say(&at.key(key), format!("`{key}` cannot be 0"), "Write a duration such as `10s`");
        }
    }
    let (eject, most) = (at.key("eject"), at.key("max_eject"));
    if rules.eject > rules.max_eject {
        let here = if check.is_written(&most) { &most } else { &eject };
        let words = (check.quote(&eject, &rules.eject.to_string()), check.quote(&most, &rules.max_eject.to_string()));
        let what = format!("`eject` ({}) is longer than `max_eject` ({})", words.0, words.1);
        check.say_given(here, &[eject.clone(), most.clone()], what, "Make `max_eject` the longer one");
    }
    if rules.max_ejected.fraction() == 0.0 {
        let hint = "Write a share such as `50%`, or `outlier: off`";
        check.say(&at.key("max_ejected"), "nothing may be ejected", hint);
    }
}
