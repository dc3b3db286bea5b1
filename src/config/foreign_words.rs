//! Keys of other proxies, and where Weir has the same thing.

/// The word of nginx, HAProxy, Caddy, Traefik or Envoy, and the key of Weir.
const WORDS: [(&str, &str); 44] = [
    ("listen", "`listeners[].address`"),
    ("bind", "`listeners[].address`"),
    ("frontend", "`listeners`"),
    ("frontends", "`listeners`"),
    ("entryPoints", "`listeners`"),
    ("entrypoints", "`listeners`"),
    ("server_name", "`routes[].match.hosts`"),
    ("server_names", "`routes[].match.hosts`"),
    ("host_header", "`routes[].host`"),
    ("location", "`routes[].match` with `path` or `path_prefix`"),
    ("locations", "`routes[].match` with `path` or `path_prefix`"),
    ("rule", "`routes[].match`"),
    ("routers", "`routes`"),
    ("virtual_hosts", "`routes`"),
    ("handle", "`routes`"),
    ("proxy_pass", "`routes[].upstream`"),
    ("reverse_proxy", "`routes[].upstream`"),
    ("use_backend", "`routes[].upstream`"),
    ("default_backend", "`routes[].upstream`"),
    ("service", "`routes[].upstream`"),
    ("services", "`upstreams`"),
    ("clusters", "`upstreams`"),
    ("backend", "`upstreams.NAME.backends`"),
    ("servers", "`upstreams.NAME.backends`"),
    ("loadBalancer", "`upstreams.NAME.backends`"),
    ("endpoints", "`upstreams.NAME.backends`"),
    ("url", "`upstreams.NAME.backends[].address`"),
    ("lb_policy", "`upstreams.NAME.balance`"),
    ("least_conn", "`balance: least_connections` of the upstream"),
    ("ip_hash", "`balance: consistent_hash` with `hash: { client: {} }` of the upstream"),
    ("keepalive", "`upstreams.NAME.keep_alive`"),
    ("keepalive_timeout", "`listeners[].timeouts.idle`"),
    ("client_max_body_size", "`routes[].limits.body`"),
    ("proxy_connect_timeout", "`routes[].timeouts.connect`"),
    ("proxy_read_timeout", "`routes[].timeouts.read`"),
    ("proxy_send_timeout", "`routes[].timeouts.write`"),
    ("proxy_set_header", "`routes[].request_headers.set`"),
    ("add_header", "`routes[].response_headers.add`"),
    ("proxy_next_upstream", "`routes[].retry.when`"),
    ("return", "`routes[].respond` or `routes[].redirect`"),
    ("ssl_certificate", "`listeners[].tls.certificates[].cert`"),
    ("ssl_certificate_key", "`listeners[].tls.certificates[].key`"),
    ("worker_processes", "`server.threads`"),
    ("maxconn", "`listeners[].limits.connections`, or `max_in_flight` of an upstream"),
];

/// The key of Weir for a word of another proxy.
pub(super) fn of(word: &str) -> Option<&'static str> {
    WORDS.iter().find(|(theirs, _)| theirs.eq_ignore_ascii_case(word)).map(|(_, ours)| *ours)
}
