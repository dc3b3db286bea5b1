//! `server`, `admin`, `access_log`: validation of process settings.

use std::path::Path;

use super::super::node::DocumentPath;
use super::super::values::LogTarget;
use super::Check;

pub(super) fn check(check: &mut Check<'_>) {
    let server = DocumentPath::of("server");
    let (settings, log) = (&check.document.server, &check.document.access_log);
    check.range(&server.key("threads"), settings.threads as u64, 0..=1024);
    check.range(&server.key("upstream_idle_connections"), settings.upstream_idle_connections as u64, 0..=65_536);
    if settings.user.as_deref() == Some("") {
        check.say(&server.key("user"), "a user has a name", "Leave the key out to stay who you are");
    }
    if settings.pid_file.as_deref() == Some(Path::new("")) {
        check.say(&server.key("pid_file"), "a file has a name", "Leave the key out to write none");
    }
    if settings.state_dir.as_deref() == Some(Path::new("")) {
        check.say(&server.key("state_dir"), "a folder has a name", "Write one such as `/var/lib/weir`");
    }
    if let (LogTarget::File(path), Some(pid_file)) = (&log.path, &settings.pid_file)
        && path == pid_file
    {
        check.say(&DocumentPath::of("access_log").key("path"), "this is `server.pid_file` too", "Write another path");
    }
    admin(check);
}

/// Everyone who can reach the admin API can reconfigure the process. Therefore an address that other machines can reach
/// needs a token.
fn admin(check: &mut Check<'_>) {
    let Some(settings) = check.document.admin.settings() else { return };
    let at = DocumentPath::of("admin");
    let (address, token_file) = (at.key("address"), at.key("token_file"));
    if !settings.address.is_exposed() || settings.insecure || check.has(&token_file, settings.token_file.is_some()) {
        return;
    }
    let quoted = check.quote(&address, &settings.address.to_string());
    let what = format!("other machines reach {quoted}, and without `token_file` everybody there controls Weir");
    check.say_given(&address, &[token_file, at.key("insecure")], what, EXPOSED);
}

const EXPOSED: &str = "Write `token_file: FILE` (`openssl rand -hex 32 > FILE` makes one), or listen on `127.0.0.1:PORT` or \
                       `unix:/path`, or write `insecure: true` if a firewall keeps others out, or `admin: off`";
