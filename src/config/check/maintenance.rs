//! `routes[].maintenance`: validation of Retry-After.

use super::super::node::DocumentPath;
use super::super::schema::MaintenanceSettings;
use super::super::values::Period;
use super::Check;

pub(super) fn check(check: &mut Check<'_>, at: &DocumentPath, maintenance: &MaintenanceSettings) {
    if maintenance.retry_after < Period::from_secs(1) {
        let place = at.key("retry_after");
        let what = format!("{} is too short", check.quote(&place, &maintenance.retry_after.to_string()));
        check.say(&place, what, "Retry-After has whole seconds: write at least `1s`");
    }
}
