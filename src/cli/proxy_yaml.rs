//! The configuration of `weir proxy` as YAML, so that it is parsed and checked like a file.

use std::fmt::{Display, Write};
use std::net::SocketAddr;

use super::proxy_addresses::{ProxyBackend, Scheme};

/// The settings of a proxy without a file.
pub(super) struct Settings<'a> {
    pub(super) admin: Option<SocketAddr>,
    pub(super) admin_token_file: Option<&'a str>,
    pub(super) access_log: &'a str,
    pub(super) from: SocketAddr,
    pub(super) tls: Option<Tls<'a>>,
    pub(super) to: &'a [ProxyBackend],
    /// The name that the certificates of backends must have. Only for backends with TLS.
    pub(super) server_name: Option<String>,
    pub(super) host: Option<&'a str>,
    pub(super) balance: &'a str,
    pub(super) health: Option<&'a str>,
}

/// The settings of certificates by ACME.
pub(super) struct Tls<'a> {
    pub(super) names: &'a [String],
    pub(super) email: Option<&'a str>,
    pub(super) directory: Option<&'a str>,
    pub(super) directory_ca: Option<&'a str>,
    pub(super) state_dir: &'a str,
    /// The listener without TLS.
    pub(super) http: SocketAddr,
}

/// The document.
pub(super) fn yaml(settings: &Settings<'_>) -> String {
    let mut out = "# The configuration of `weir proxy`. Save it as a file, and start `weir run -c FILE`.\n".to_owned();
    if let Some(tls) = &settings.tls {
        out += &format!("server: {{ state_dir: {} }}\n", quoted(tls.state_dir));
    }
    out += &admin(settings);
    out += &format!("access_log: {{ path: {} }}\n", quoted(settings.access_log));
    out += &listeners(settings);
    out += &route(settings);
    out + &upstream(settings)
}

fn admin(settings: &Settings<'_>) -> String {
    let token = pair(", token_file", settings.admin_token_file);
    match settings.admin {
        Some(address) => format!("admin: {{ address: {}{token} }}\n", quoted(address)),
        None => "admin: \"off\"\n".to_owned(),
    }
}

fn listeners(settings: &Settings<'_>) -> String {
    let from = quoted(settings.from);
    let Some(tls) = &settings.tls else {
        return format!("listeners:\n  - {{ name: web, address: {from} }}\n");
    };
    let port = settings.from.port();
    let redirect = if port == 443 || port == 0 { "true".to_owned() } else { port.to_string() };
    let acme =
        [pair(", email", tls.email), pair(", directory", tls.directory), pair(", directory_ca", tls.directory_ca)];
    format!(
        "listeners:\n  - {{ name: http, address: {}, redirect_https: {redirect} }}\n\
         \x20 - name: web\n    address: {from}\n    tls: {{ acme: {{ names: [{}]{} }} }}\n",
        quoted(tls.http),
        list(tls.names),
        acme.concat(),
    )
}

fn route(settings: &Settings<'_>) -> String {
    let hosts = settings.tls.as_ref().map(|tls| format!(", match: {{ hosts: [{}] }}", list(tls.names)));
    let host = pair(", host", settings.host);
    format!("routes:\n  - {{ name: all{}, upstream: app{host} }}\n", hosts.unwrap_or_default())
}

fn upstream(settings: &Settings<'_>) -> String {
    let mut out = format!("upstreams:\n  app:\n    balance: {}\n", settings.balance);
    if settings.balance == "consistent_hash" {
        out += "    hash: { client: {} }\n";
    }
    if settings.to.iter().any(|target| target.scheme == Scheme::H2c) {
        out += "    protocol: h2c\n";
    }
    if let Some(name) = &settings.server_name {
        out += &format!("    tls: {{ server_name: {} }}\n", quoted(name));
    }
    if let Some(path) = settings.health {
        out += &format!("    health_check: {{ http: {{ path: {} }} }}\n", quoted(path));
    }
    out += "    backends:\n";
    for target in settings.to {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "      - {{ address: {} }}", quoted(&target.address));
    }
    out
}

fn pair(key: &str, value: Option<&str>) -> String {
    value.map(|value| format!("{key}: {}", quoted(value))).unwrap_or_default()
}

fn list(values: &[String]) -> String {
    values.iter().map(quoted).collect::<Vec<_>>().join(", ")
}

/// A JSON string, which is a YAML string too. No variable is expanded in it.
fn quoted(value: impl Display) -> String {
    serde_json::Value::String(value.to_string().replace("${", "$${")).to_string()
}
