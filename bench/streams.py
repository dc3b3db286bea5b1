#!/usr/bin/env python3
"""Measures how late each piece of a stream arrives: Weir, nginx, HAProxy and Caddy, where they are installed.

A backend in this process sends a piece every 20 ms. curl follows the stream. A piece's delay is the time from the send to the arrival, less
the median of the same client without a proxy. The table has the median and the worst delay in ms, over all pieces of a kind of stream. Weir
should add at most 1 ms in the median and 25 ms at worst. On a busy machine the worst delay says more about the machine.

events    server-sent events    lines     JSON lines         grpc   a server stream of gRPC: HTTP/2 on both sides
download  with a length         poll      a response that waits before its header

nginx runs with `proxy_buffering off`, and HAProxy with `option http-no-delay`. nginx speaks HTTP/1 to backends, and its gRPC module is not
measured. Run `make bench-streams`.
"""
import argparse
import asyncio
import pathlib
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

import contestants
from processes import ROOT, Running, free_port, machine
from stream_backends import TYPES, Backend, number_of

CLIENTS = {"h1": "plain", "h1+tls": "tls", "h2c": "h2c", "h2+tls": "tls"}  # the port of the proxy
BACKENDS = {"http1": (False, False), "http1+tls": (False, True), "h2c": (True, False), "h2+tls": (True, True)}  # HTTP/2, TLS
CURL = {"h1": ["--http1.1"], "h1+tls": ["--http1.1"], "h2c": ["--http2-prior-knowledge"], "h2+tls": ["--http2"]}
DIRECT = dict(zip(CLIENTS, BACKENDS))  # the backend that a client speaks to without a proxy
ALLOWED = (1, 25)  # ms that Weir may add: median, worst


def weir(folder, ports, backends, cert, binary):
    routes = "\n".join(f"  - {{ name: {name}, match: {{ path_prefix: /{name} }}, upstream: {name} }}" for name in backends)
    upstreams = ""
    for name, (_, protocol, port) in backends.items():
        http2, tls = BACKENDS[protocol]
        speaks = ("h2" if tls else "h2c") if http2 else "http1"
        secure = f", tls: {{ server_name: localhost, ca: {cert[0]} }}" if tls else ""
        upstreams += f"  {name}: {{ protocol: {speaks}{secure}, backends: [{{ name: a, address: 127.0.0.1:{port} }}] }}\n"
    path = folder / "weir.yaml"
    path.write_text(f"""
server: {{ threads: 1 }}
log: {{ level: error }}
admin: {{ address: 127.0.0.1:{free_port()} }}
access_log: {{ path: off }}
listeners:
  - {{ name: plain, address: 127.0.0.1:{ports["plain"]} }}
  - {{ name: h2c, address: 127.0.0.1:{ports["h2c"]} }}
  - {{ name: tls, address: 127.0.0.1:{ports["tls"]}, tls: {{ certificates: [{{ cert: {cert[0]}, key: {cert[1]} }}] }} }}
routes:
{routes}
upstreams:
{upstreams}""")
    return [binary, "run", "-c", path]


def nginx(folder, ports, backends, cert):
    locations = ""
    for name, (_, protocol, port) in backends.items():
        http2, tls = BACKENDS[protocol]
        if not http2:
            locations += f"location /{name} {{ proxy_pass {'https' if tls else 'http'}://127.0.0.1:{port}; }}\n"
    return contestants.nginx_command(folder, "nginx", f"""
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    server {{
        listen 127.0.0.1:{ports["plain"]}; listen 127.0.0.1:{ports["h2c"]} http2; listen 127.0.0.1:{ports["tls"]} ssl http2;
        ssl_certificate {cert[0]}; ssl_certificate_key {cert[1]};
        {locations}
    }}""")


def haproxy(folder, ports, backends, cert):
    rules = "".join(f"    use_backend {name} if {{ path_beg /{name} }}\n" for name in backends)
    sections = ""
    for name, (_, protocol, port) in backends.items():
        http2, tls = BACKENDS[protocol]
        options = (" ssl verify none" if tls else "") + ((" alpn h2" if tls else " proto h2") if http2 else "")
        sections += f"backend {name}\n    server a 127.0.0.1:{port}{options}\n"
    both = folder / "both.pem"
    both.write_text(cert[0].read_text() + cert[1].read_text())
    path = folder / "haproxy.cfg"
    path.write_text(f"""
global
    nbthread 1
defaults
    mode http
    option http-no-delay
    timeout connect 3s
    timeout client 60s
    timeout server 60s
frontend all
    bind 127.0.0.1:{ports["plain"]}
    bind 127.0.0.1:{ports["h2c"]} proto h2
    bind 127.0.0.1:{ports["tls"]} ssl crt {both} alpn h2,http/1.1
{rules}
{sections}""")
    return ["haproxy", "-db", "-f", path]


def caddy(folder, ports, backends, cert):
    proxies = ""
    for name, (_, protocol, port) in backends.items():
        http2, tls = BACKENDS[protocol]
        transport = " transport http { tls_insecure_skip_verify".replace("{ ", "{\n") + ("\nversions 2" if http2 else "\nversions 1.1") + "\n}\n"
        proxies += f"reverse_proxy /{name}* {'h2c://' if http2 and not tls else ''}127.0.0.1:{port} {{\n{transport if tls else ''}}}\n"
    path = folder / "caddy.conf"
    path.write_text(f"""
{{
    admin off
    auto_https off
    persist_config off
    default_sni localhost
    servers {{
        protocols h1 h2 h2c
    }}
    log {{
        level ERROR
    }}
}}
(all) {{
    bind 127.0.0.1
    {proxies}
}}
http://:{ports["plain"]} {{
    import all
}}
http://:{ports["h2c"]} {{
    import all
}}
https://:{ports["tls"]} {{
    tls {cert[0]} {cert[1]}
    import all
}}
""")
    return [contestants.CADDY, "run", "--config", path, "--adapter", "caddyfile"]


def certificate(folder):
    """Makes a key and a certificate that is no authority: Weir trusts it as the one of its backends."""
    cert, key, config = folder / "cert.pem", folder / "key.pem", folder / "openssl.cnf"
    config.write_text("[req]\ndistinguished_name = name\nx509_extensions = own\nprompt = no\n[name]\nCN = localhost\n"
                      "[own]\nsubjectAltName = DNS:localhost\nbasicConstraints = critical, CA:FALSE\n")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-config",
                    config, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


async def delays(backend, client, port, path):
    """The delay of each piece, in ms, as curl sees it. None if the stream does not come whole."""
    backend.reset()
    scheme = "https" if client.endswith("tls") else "http"
    url = f"{scheme}://127.0.0.1:{port}/{path}"
    more = ["-X", "POST", "-H", f"Content-Type: {TYPES['grpc']}", "-H", "TE: trailers"] if backend.kind == "grpc" else []
    command = ["curl", "-sSNk", "--max-time", "60", *CURL[client], *more, url]
    taken = []
    for _ in range(backend.pieces if backend.kind == "poll" else 1):
        curl = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        async for line in curl.stdout:
            now, number = time.monotonic(), number_of(line)
            if number in backend.sent:
                taken.append((now - backend.sent[number]) * 1000)
        await curl.wait()
    return taken if len(taken) == backend.pieces else None


def combinations(kinds):
    for kind in kinds:
        for client in CLIENTS:
            for protocol in BACKENDS:
                if kind != "grpc" or (client.startswith("h2") and protocol.startswith("h2")):
                    yield kind, client, protocol


async def measure(options, folder, cert):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*cert)
    origins, backends = {}, {}
    for kind in options.kinds:
        for number, (protocol, (http2, tls)) in enumerate(BACKENDS.items()):
            context = None
            if tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(*cert)
                context.set_alpn_protocols(["h2" if http2 else "http/1.1"])
            origin = await Backend(kind, http2, context, options.pieces, options.interval / 1000).start()
            origins[kind, protocol] = origin
            backends[f"{kind}{number}"] = (kind, protocol, origin.port)
    paths = {(kind, protocol): name for name, (kind, protocol, _) in backends.items()}
    base = {}
    for kind in options.kinds:
        for client, protocol in DIRECT.items():
            if kind == "grpc" and not client.startswith("h2"):
                continue
            taken = await delays(origins[kind, protocol], client, origins[kind, protocol].port, "")
            if not taken:
                sys.exit(f"bench: {client}: curl does not get {kind} without a proxy")
            base[kind, client] = statistics.median(taken)
    results = {}
    for name in options.only:
        ports = {port: free_port() for port in ("plain", "h2c", "tls")}
        make = {"nginx": nginx, "haproxy": haproxy, "caddy": caddy}.get(name)
        command = make(folder, ports, backends, cert) if make else weir(folder, ports, backends, cert, options.binary)
        running = Running(name, options.core, command, folder)
        running.wait_for(ports["tls"])
        try:
            for kind, client, protocol in combinations(options.kinds):
                if name == "nginx" and (BACKENDS[protocol][0] or kind == "grpc"):
                    continue
                taken = await delays(origins[kind, protocol], client, ports[CLIENTS[client]], paths[kind, protocol])
                late = [delay - base[kind, client] for delay in taken] if taken else None
                results[name, kind, client, protocol] = late
        finally:
            running.end()
    return results


def table(options, results):
    cell = lambda late: "-" if late is None else f"{max(statistics.median(late), 0):.2f} / {max(max(late), 0):.1f}"
    print(f"ms added to a piece: median / worst of {options.pieces}. {machine()}\n")
    print("| stream | client | backend |" + "".join(f" {name} |" for name in options.only))
    print("|---|---|---|" + "---|" * len(options.only))
    for kind, client, protocol in combinations(options.kinds):
        row = [cell(results.get((name, kind, client, protocol))) for name in options.only]
        print(f"| {kind} | {client} | {protocol} |" + "".join(f" {text} |" for text in row))
    for name in options.only:
        every = [late for (proxy, *_), lates in results.items() if proxy == name and lates for late in lates]
        if every:
            print(f"\n{name}: median {statistics.median(every):.2f}, worst {max(every):.1f} of {len(every)} pieces", end="")
    print()


def over(results):
    """The streams that Weir delays more than it may."""
    for (name, *stream), late in results.items():
        if name == "weir" and (late is None or statistics.median(late) > ALLOWED[0] or max(late) > ALLOWED[1]):
            yield " ".join(stream) + (": not whole" if late is None else f": {statistics.median(late):.2f} / {max(late):.1f}")


def main():
    installed = ["weir"] + [name for name in ("nginx", "haproxy") if shutil.which(name)] + (["caddy"] if contestants.CADDY.exists() else [])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","), default=installed, help="proxies, e.g. weir,nginx")
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=list(TYPES), help="kinds of streams, e.g. events,poll")
    parser.add_argument("--pieces", type=int, default=50, help="pieces of a stream (default: 50)")
    parser.add_argument("--interval", type=float, default=20, help="ms between two pieces (default: 20)")
    parser.add_argument("--core", default="0", help="the core of the proxies (default: 0)")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/dist/weir", help="weir's binary")
    options = parser.parse_args()
    if missing := [tool for tool in ("curl", "openssl", "taskset") if not shutil.which(tool)]:
        sys.exit(f"bench: not installed: {' '.join(missing)}")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        results = asyncio.run(measure(options, folder, certificate(folder)))
    table(options, results)
    if late := list(over(results)):
        sys.exit("\nweir adds too much:\n" + "\n".join(late))


if __name__ == "__main__":
    main()
