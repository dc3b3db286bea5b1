"""Configures and starts each proxy. All have one thread, keep-alive on both sides and no access log."""
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

from processes import ROOT, free_port

BENCH = ROOT / "bench"
CADDY = ROOT / "target/bench/caddy/bin/caddy"
SOZU = ROOT / "target/bench/sozu/bin/sozu"


@dataclasses.dataclass
class Setup:
    """The settings of a proxy: its port, its backends and its client protocol."""

    folder: pathlib.Path
    port: int
    backends: list
    front: str = "http"  # http | h2c | tls
    least: bool = False  # least connections instead of round robin
    cert: pathlib.Path = None
    key: pathlib.Path = None


def weir(setup, binary):
    """Metrics, a table of routes and health checks are on. Only the access log is off."""
    members = ", ".join(f"{{ name: b{n}, address: {address} }}" for n, address in enumerate(setup.backends))
    others = "\n".join(f"  - {{ name: r{n}, match: {{ hosts: [h{n}.example.com], path_prefix: /api/v{n} }}, upstream: all }}" for n in range(10))
    tls = f", tls: {{ certificates: [{{ cert: {setup.cert}, key: {setup.key} }}] }}" if setup.front == "tls" else ""
    file = setup.folder / f"weir-{setup.port}.yaml"
    file.write_text(f"""
server: {{ threads: 1 }}
log: {{ level: warn }}
admin: {{ address: 127.0.0.1:{free_port()} }}
access_log: {{ path: off }}
listeners:
  - {{ name: bench, address: 127.0.0.1:{setup.port}{tls} }}
routes:
  - {{ name: all, match: {{ path_prefix: / }}, upstream: all }}
{others}
upstreams:
  all:
    balance: {"least_connections" if setup.least else "round_robin"}
    health_check: {{ tcp: {{}}, interval: 2s }}
    backends: [{members}]
""")
    return [binary, "run", "-c", file]


def bare(setup):
    front = f"tls:{setup.cert}:{setup.key}" if setup.front == "tls" else setup.front
    return [ROOT / "target/bench/dist/bare", f"127.0.0.1:{setup.port}", front, *setup.backends]


def nginx(setup, buffering=True):
    members = "\n".join(f"server {address};" for address in setup.backends)
    listen = {"http": "", "h2c": "http2", "tls": "ssl"}[setup.front]
    tls = f"ssl_certificate {setup.cert}; ssl_certificate_key {setup.key}; ssl_session_cache shared:s:10m; ssl_protocols TLSv1.2 TLSv1.3;" if setup.front == "tls" else ""
    return nginx_command(setup.folder, f"nginx-{setup.port}", f"""
    map $http_upgrade $connection_to_backend {{ default upgrade; "" ""; }}
    upstream all {{ {"least_conn;" if setup.least else ""} {members} keepalive 1024; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{setup.port} {listen}; {tls}
        keepalive_requests 1000000000;
        location / {{
            proxy_pass http://all; proxy_http_version 1.1; proxy_buffering {"on" if buffering else "off"};
            proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_to_backend; proxy_set_header Host $host;
        }}
    }}""")


def nginx_unbuffered(setup):
    return nginx(setup, buffering=False)


def nginx_command(folder, name, servers, workers=1):
    user = "user root;" if os.getuid() == 0 else ""
    (folder / f"{name}.conf").write_text(f"""
{user} daemon off; worker_processes {workers}; pid {folder}/{name}.pid; error_log {folder}/{name}.err warn;
worker_rlimit_nofile 20000; events {{ worker_connections 16384; }}
http {{
    access_log off; sendfile on; open_file_cache max=100;
    client_body_temp_path {folder}/{name}-body; proxy_temp_path {folder}/{name}-proxy; fastcgi_temp_path {folder}/{name}-f;
    uwsgi_temp_path {folder}/{name}-u; scgi_temp_path {folder}/{name}-s;
{servers}
}}""")
    return ["nginx", "-p", folder, "-c", folder / f"{name}.conf"]


def haproxy(setup):
    members = "\n".join(f"    server b{n} {address}" for n, address in enumerate(setup.backends))
    bind = {"http": "", "h2c": "proto h2", "tls": f"ssl crt {setup.folder}/both.pem alpn h2,http/1.1"}[setup.front]
    if setup.front == "tls":
        (setup.folder / "both.pem").write_text(setup.cert.read_text() + setup.key.read_text())
    file = setup.folder / f"haproxy-{setup.port}.cfg"
    file.write_text(f"""
global
    nbthread 1
    maxconn 8000
defaults
    mode http
    timeout connect 3s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
    http-reuse always
frontend bench
    bind 127.0.0.1:{setup.port} {bind}
    default_backend all
backend all
    balance {"leastconn" if setup.least else "roundrobin"}
{members}
""")
    return ["haproxy", "-db", "-f", file]


def caddy(setup):
    """`ENV` sets GOMAXPROCS for one thread. Automatic HTTPS is off, because the certificate is given."""
    file = setup.folder / f"caddy-{setup.port}.conf"
    scheme, tls = ("https", f"tls {setup.cert} {setup.key}") if setup.front == "tls" else ("http", "")
    protocols = "h1 h2" if setup.front == "tls" else "h1 h2c"
    file.write_text(f"""
{{
    admin off
    auto_https off
    persist_config off
    default_sni localhost
    servers {{
        protocols {protocols}
    }}
    log {{
        level ERROR
    }}
}}
{scheme}://:{setup.port} {{
    bind 127.0.0.1
    {tls}
    reverse_proxy {" ".join(setup.backends)} {{
        lb_policy {"least_conn" if setup.least else "round_robin"}
        transport http {{
            keepalive_idle_conns_per_host 1024
        }}
    }}
}}
""")
    return [CADDY, "run", "--config", file, "--adapter", "caddyfile"]


def sozu(setup):
    """Plain HTTP and round robin only. The measured version has no h2c, and no least connections for one worker."""
    members = ", ".join(f'{{ address = "{address}" }}' for address in setup.backends)
    file = setup.folder / f"sozu-{setup.port}.toml"
    file.write_text(f"""
log_level = "error"
log_target = "stdout"
command_socket = "{setup.folder}/sozu-{setup.port}.sock"
worker_count = 1
worker_automatic_restart = false
handle_process_affinity = false
max_connections = 8000
activate_listeners = true

[[listeners]]
protocol = "http"
address = "127.0.0.1:{setup.port}"

[clusters.all]
protocol = "http"
load_balancing = "ROUND_ROBIN"
frontends = [{{ address = "127.0.0.1:{setup.port}", hostname = "127.0.0.1" }}]
backends = [{members}]
""")
    return [SOZU, "start", "-c", file]


ENV = {"caddy": {"GOMAXPROCS": "1"}}
# Weir's binaries by name. `make release` leaves a copy of the packed binary in `target/packages/weir`.
WEIRS = {"weir": ROOT / "target/dist/weir", "weir-release": ROOT / "target/packages/weir"}
OTHERS = {"bare": bare, "nginx": nginx, "nginx-unbuffered": nginx_unbuffered, "haproxy": haproxy, "sozu": sozu, "caddy": caddy}
NOTES = {
    "weir": "as `cargo build --profile dist` makes it",
    "weir-release": "as `make release` makes it, with a profile",
    "bare": "a Pingora proxy with nothing on it: fat LTO, mimalloc, work stealing, no compression module",
    "nginx-unbuffered": "`proxy_buffering off`",
}


def add_binary(name, path):
    """Adds another Weir to those of the tree, for example an older one or one with other compiler flags."""
    WEIRS[name] = pathlib.Path(path).resolve()


def names():
    return [*WEIRS, *OTHERS]


def start(stage, name, setup):
    """Returns None and prints a message to stderr if the proxy is not available."""
    command = weir(setup, WEIRS[name]) if name in WEIRS else OTHERS[name](setup)
    if not shutil.which(str(command[0])):
        print(f"bench: {name} left out: {command[0]} is not there", file=sys.stderr)
        return None
    if name in WEIRS and setup.front == "tls" and subprocess.run([command[0], "check", *command[2:]], capture_output=True).returncode:
        print(f"bench: {name} left out: its listeners take no TLS", file=sys.stderr)
        return None
    return stage.start(f"{name}-{setup.port}", stage.core, command, setup.port, ENV.get(name))


def version(name):
    if name == "bare":
        return "Pingora " + re.search(r'name = "pingora-core"\nversion = "(.*)"', (BENCH / "bare/Cargo.lock").read_text())[1]
    asks = {"nginx": ["nginx", "-v"], "nginx-unbuffered": ["nginx", "-v"], "haproxy": ["haproxy", "-v"], "sozu": [SOZU, "--version"], "caddy": [CADDY, "version"]}
    done = subprocess.run(asks.get(name) or [WEIRS[name], "--version"], capture_output=True, text=True)
    first = (done.stdout or done.stderr).splitlines()[0].split(" - ")[0]
    return re.sub(r"^(nginx version: nginx/|HAProxy version |weir |sozu )|( h1:.*| \(\))$", "", first)


def build(names):
    """Builds Weir and bare with the same profile. The lowest priority keeps the machine usable."""
    profiles = [tomllib.loads((folder / "Cargo.toml").read_text())["profile"]["dist"] for folder in (ROOT, BENCH / "bare")]
    # Weir's overrides only undo those of its release profile. bench/bare has no such overrides.
    profiles[0].pop("package")
    if profiles[0] != profiles[1]:
        sys.exit("bench: the `dist` profiles of Weir and bench/bare differ: the comparison would mean nothing")
    if "bare" in names:
        helper("bare", "dist")
    if "weir" in names:
        subprocess.run(["nice", "cargo", "build", "--profile", "dist", "--locked", "--bin", "weir"], cwd=ROOT, check=True)


def helper(name, profile="release"):
    """Builds a program of bench/. Each is a workspace of its own."""
    subprocess.run(["nice", "cargo", "build", "--profile", profile, "--locked", "--target-dir", ROOT / "target/bench"], cwd=BENCH / name, check=True)
    return ROOT / "target/bench" / profile / name
