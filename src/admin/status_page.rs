//! The status page: what `/api/v1/status` says, for people. Made by the server, no script, nothing from elsewhere.
//!
//! Every value is escaped: names are the operator's, reasons may quote a backend.

use std::fmt::{self, Display, Write};

use time::OffsetDateTime;

use super::api::{Acme, Backend, Certificate, Discovery, LastReload, Listener, Status, Upstream, age};
use super::caller::Caller;
use super::login::LOGOUT;
use crate::backend::labels::BackendCondition;

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Weir</title>
<meta http-equiv="refresh" content="3"><meta name="viewport" content="width=device-width">
<style>
:root{color-scheme:light dark;--line:#8883;--dim:#767676;--bar:#4a90d9;--card:#8881}
body{font:15px/1.5 system-ui,sans-serif;max-width:68rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .5rem}h2 small,.dim{color:var(--dim);font-weight:400}
.box{overflow-x:auto;border:1px solid var(--line);border-radius:.5rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.4rem .9rem;border-top:1px solid var(--line);white-space:nowrap}
td.why{white-space:normal;width:40%}
th{font-size:.8rem;color:var(--dim);font-weight:500;border:0;background:var(--card)}.n{text-align:right;font-variant-numeric:tabular-nums}
code,pre{font:.85rem/1.5 ui-monospace,monospace}
.state{display:inline-block;padding:0 .55rem;border-radius:.7rem;color:#fff;background:#6c757d;font-size:.85rem;font-weight:500}
.up,.ok{background:#2b8a3e}.down,.bad{background:#c92a2a}.ejected{background:#d9480f}.draining{background:#1971c2}
.bar{display:inline-block;width:7rem;height:.55rem;background:var(--line);border-radius:.3rem;margin-right:.6rem}
.bar i{display:block;height:100%;background:var(--bar);border-radius:.3rem}
pre{white-space:pre-wrap;margin:.4rem 0;padding:.5rem .9rem;background:var(--card);border-radius:.5rem}
</style></head><body>
"#;

/// The whole page.
pub(super) fn render(status: &Status, caller: Caller) -> String {
    let mut page = String::with_capacity(8192);
    // Writing to a String cannot fail.
    let _ = write_page(&mut page, status, caller);
    page
}

fn write_page(out: &mut String, status: &Status, caller: Caller) -> fmt::Result {
    out.push_str(HEAD);
    let (class, word) = match (status.draining, status.ready) {
        (true, _) => ("draining", "draining"),
        (_, true) => ("ok", "ready"),
        _ => ("bad", "not ready"),
    };
    writeln!(out, "<h1>Weir <span class=\"state {class}\">{word}</span></h1>")?;
    let (version, pid, generation) = (Escaped(&status.version), status.pid, status.generation);
    writeln!(out, "<p class=dim>version {version} · process {pid} · generation {generation}</p>")?;
    if let Some(reload) = &status.last_reload {
        write_reload(out, reload)?;
    }
    write_listeners(out, &status.listeners)?;
    write_certificates(out, &status.certificates)?;
    write_acme(out, &status.acme)?;
    status.upstreams.iter().try_for_each(|upstream| write_upstream(out, upstream))?;
    out.push_str("<p class=dim><a href=\"/metrics\">metrics</a> · <a href=\"/api/v1/status\">status</a> · ");
    out.push_str("<a href=\"/api/v1/config\">configuration</a></p>");
    if caller == Caller::Browser {
        write!(out, "<form method=\"post\" action=\"{LOGOUT}\"><button>Log out</button></form>")?;
    }
    out.push_str("</body></html>\n");
    Ok(())
}

fn write_reload(out: &mut String, reload: &LastReload) -> fmt::Result {
    let class = if reload.result == "applied" { "ok" } else { "bad" };
    let (result, time) = (Escaped(&reload.result), Escaped(&reload.time));
    write!(out, "<p>Last reload <span class=\"state {class}\">{result}</span> <span class=dim title=\"{time}\">")?;
    match age(&reload.time, OffsetDateTime::now_utc()) {
        Some(age) => writeln!(out, "{age} ago</span></p>")?,
        None => writeln!(out, "{time}</span></p>")?,
    }
    if reload.changes.is_empty() && reload.problems.is_empty() {
        return Ok(());
    }
    out.push_str("<pre>");
    reload.changes.iter().try_for_each(|change| writeln!(out, "{}", Escaped(change)))?;
    reload.problems.iter().try_for_each(|problem| writeln!(out, "{}", Escaped(problem)))?;
    out.push_str("</pre>\n");
    Ok(())
}

fn write_listeners(out: &mut String, listeners: &[Listener]) -> fmt::Result {
    out.push_str("<h2>Listeners</h2><div class=box><table>");
    out.push_str("<tr><th>name<th>address<th>state<th class=n>connections</tr>\n");
    for listener in listeners {
        let (name, address) = (Escaped(&listener.name), Escaped(&listener.address));
        let (class, word) = if listener.bound { ("ok", "bound") } else { ("bad", "not bound") };
        write!(out, "<tr><td>{name}<td><code>{address}</code><td><span class=\"state {class}\">{word}</span>")?;
        writeln!(out, "<td class=n>{}</tr>", listener.connections)?;
    }
    out.push_str("</table></div>\n");
    Ok(())
}

fn write_certificates(out: &mut String, certificates: &[Certificate]) -> fmt::Result {
    /// Certificates of 90 days are renewed with a third of them left.
    const SOON: i64 = 14;
    if certificates.is_empty() {
        return Ok(());
    }
    out.push_str("<h2>Certificates</h2><div class=box><table>");
    out.push_str("<tr><th>file<th>names<th>ends<th class=n>days left</tr>\n");
    for certificate in certificates {
        let (name, names) = (Escaped(&certificate.name), Escaped(certificate.names.join(" ")));
        let (ends, left) = (Escaped(&certificate.not_after), certificate.days_left);
        let class = if left < SOON { "bad" } else { "ok" };
        write!(out, "<tr><td><code>{name}</code><td class=why>{names}<td>{ends}")?;
        writeln!(out, "<td class=n><span class=\"state {class}\">{left}</span></tr>")?;
    }
    out.push_str("</table></div>\n");
    Ok(())
}

fn write_acme(out: &mut String, acme: &[Acme]) -> fmt::Result {
    if acme.is_empty() {
        return Ok(());
    }
    out.push_str("<h2>Issued by ACME</h2><div class=box><table>");
    out.push_str("<tr><th>name<th>state<th class=n>failures<th>next order<th>error</tr>\n");
    for name in acme {
        let (state, error) = (Escaped(&name.state), Escaped(name.error.as_deref().unwrap_or_default()));
        let next = Escaped(name.next_order.as_deref().unwrap_or("now"));
        let class = if name.failures > 0 { "bad" } else { "ok" };
        write!(out, "<tr><td>{}<td><span class=\"state {class}\">{state}</span>", Escaped(&name.name))?;
        writeln!(out, "<td class=n>{}<td>{next}<td class=why>{error}</tr>", name.failures)?;
    }
    out.push_str("</table></div>\n");
    Ok(())
}

fn write_upstream(out: &mut String, upstream: &Upstream) -> fmt::Result {
    writeln!(out, "<h2>{} <small>{}</small></h2>", Escaped(&upstream.name), Escaped(&upstream.balance))?;
    if let Some(discovery) = &upstream.discovery {
        write_discovery(out, discovery)?;
    }
    out.push_str("<div class=box><table><tr><th>backend<th>address<th>state<th>for");
    out.push_str("<th class=n>in flight<th class=n>weight<th>share by weight<th>reason</tr>\n");
    let any_up = upstream.backends.iter().any(|backend| backend.state == BackendCondition::Up);
    // With one up, only those that are take requests.
    let takes = |backend: &Backend| !any_up || backend.state == BackendCondition::Up;
    let part = |backend: &Backend| if takes(backend) { backend.effective_weight } else { 0.0 };
    let total: f64 = upstream.backends.iter().map(part).sum();
    let share = |backend: &Backend| if total > 0.0 { (part(backend) * 100.0 / total) as u64 } else { 0 };
    upstream.backends.iter().try_for_each(|backend| write_backend(out, backend, share(backend)))?;
    out.push_str("</table></div>\n");
    Ok(())
}

fn write_discovery(out: &mut String, discovery: &Discovery) -> fmt::Result {
    let (class, word) = if discovery.error.is_none() { ("ok", "ok") } else { ("bad", "fails") };
    let at = discovery.last_success.as_deref();
    let since = at.and_then(|at| age(at, OffsetDateTime::now_utc())).map_or("never".to_owned(), |age| age + " ago");
    write!(
        out,
        "<p>Found by <code>{}</code> <span class=\"state {class}\">{word}</span> ",
        Escaped(&discovery.source)
    )?;
    write!(out, "<span class=dim>last success {since}</span>")?;
    discovery.error.iter().try_for_each(|error| write!(out, " {}", Escaped(error)))?;
    out.push_str("</p>\n");
    Ok(())
}

fn write_backend(out: &mut String, backend: &Backend, share: u64) -> fmt::Result {
    let state = backend.state.label();
    let (name, address, reason) = (Escaped(&backend.name), Escaped(&backend.address), Escaped(&backend.reason));
    write!(out, "<tr><td>{name}<td><code>{address}</code><td><span class=\"state {state}\">{state}</span>")?;
    let since = backend.since.as_deref();
    match since.and_then(|since| age(since, OffsetDateTime::now_utc()).map(|age| (since, age))) {
        Some((since, age)) => write!(out, "<td class=dim title=\"since {}\">{age}", Escaped(since))?,
        None => write!(out, "<td class=dim>–")?,
    }
    write!(out, "<td class=n>{}<td class=n>", backend.in_flight)?;
    if backend.effective_weight == f64::from(backend.weight) {
        write!(out, "{}", backend.weight)?;
    } else {
        write!(out, "{} of {}", backend.effective_weight, backend.weight)?;
    }
    write!(out, "<td><span class=bar><i style=\"width:{share}%\"></i></span><span class=dim>{share} %</span>")?;
    writeln!(out, "<td class=\"dim why\">{reason}</tr>")
}

/// A value as text of a page.
pub(super) struct Escaped<T>(pub(super) T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.to_string().chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::api::Problem;
    use super::*;

    #[test]
    fn the_page_shows_all_and_escapes_it() {
        let evil = "<script>\"&'";
        let backend = Backend {
            name: "b1".into(),
            address: "10.0.0.1:1".into(),
            state: BackendCondition::Down,
            reason: evil.into(),
            since: Some("2023-11-14T22:13:20Z".into()),
            in_flight: 7,
            weight: 4,
            effective_weight: 1.0,
        };
        let other = Backend { effective_weight: 3.0, state: BackendCondition::Up, ..backend.clone() };
        let (source, error) = ("dns a:80".to_owned(), Some(evil.to_owned()));
        let discovery = Discovery { source, last_success: None, error, failures: 1 };
        let problem = Problem { what: evil.into(), ..Problem::default() };
        let last_reload =
            LastReload { result: "rejected".into(), time: "t".into(), changes: vec![], problems: vec![problem] };
        let status = Status {
            last_reload: Some(last_reload),
            upstreams: vec![Upstream {
                name: "u".into(),
                balance: "random".into(),
                discovery: Some(discovery),
                backends: vec![backend, other],
            }],
            listeners: vec![Listener { name: evil.into(), address: evil.into(), bound: true, connections: 3 }],
            ..Status::default()
        };
        let page = render(&status, Caller::Anyone);
        assert!(!page.contains(LOGOUT) && render(&status, Caller::Browser).contains(LOGOUT));
        assert!(!page.contains("<script"), "{page}");
        assert_eq!(page.matches("&lt;script&gt;&quot;&amp;&#39;").count(), 6, "{page}");
        for shown in [
            "not ready",
            "state down",
            "1 of 4",
            "dns a:80",
            "never",
            "width:0%",
            "width:100%",
            "since 2023",
            ">7<",
            "rejected",
        ] {
            assert!(page.contains(shown), "{shown}: {page}");
        }
    }
}
