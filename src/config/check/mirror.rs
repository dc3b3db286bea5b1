//! `routes[].mirror`: validation of the upstream and of the bounds.

use super::super::node::DocumentPath;
use super::super::schema::{MirrorSettings, RouteSettings};
use super::super::values::{Period, Size};
use super::Check;
use super::references::upstream;

pub(super) fn check(check: &mut Check<'_>, at: &DocumentPath, mirror: &MirrorSettings, route: &RouteSettings) {
    let to = at.key("upstream");
    upstream(check, &to, &mirror.upstream);
    let split = route.split.iter().flat_map(|split| &split.targets).map(|target| &target.upstream);
    if route.upstream.iter().chain(split).any(|own| *own == mirror.upstream) {
        let what = format!("{} gets the requests of this route already", check.quote(&to, mirror.upstream.as_str()));
        check.say(&to, what, "Write an upstream of its own: its backends would get each request twice");
    }
    if mirror.share.fraction() == 0.0 {
        check.say(&at.key("share"), "no request would be mirrored", "Leave `mirror` out, or write a share above `0%`");
    }
    let body = at.key("body");
    if mirror.body > Size::kib(1024) {
        let what = format!("{} is too large for a copy in memory", check.quote(&body, &mirror.body.to_string()));
        check.say(&body, what, "Write at most `1MiB`");
    }
    check.range(&at.key("in_flight"), mirror.in_flight.into(), 1..=10_000);
    let timeout = at.key("timeout");
    if mirror.timeout < Period::from_millis(100) || mirror.timeout > Period::from_secs(60) {
        let what = format!("{} is out of range", check.quote(&timeout, &mirror.timeout.to_string()));
        check.say(&timeout, what, "Write `100ms` to `1m`");
    }
}
