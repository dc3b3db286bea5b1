#!/usr/bin/env python3
"""Measures how late each piece of a stream arrives: Weir, nginx, HAProxy and Caddy, where they are installed.

A backend in this process sends a piece every 20 ms. curl follows the stream. A piece's delay is the time from the send to the arrival, less
the median of the same client without a proxy. The table has the median and the worst delay in ms, over all pieces of a kind of stream. Weir
should add at most 1 ms in the median and 25 ms at worst. On a busy machine the worst delay says more about the machine.

events    server-sent events    lines     JSON lines         grpc   a server stream of gRPC: HTTP/2 on both sides
download  with a length         poll      a response that waits before its header
llm       server-sent events that begin after a silence, as those of a language model

The kinds of CODED_KINDS are measured with compression too. The client accepts one encoding, and curl decodes each piece as it arrives. A
proxy that does not support the encoding is left out; "not coded" is a response without it.

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
CODED_KINDS = ("events", "lines", "llm")
CODED_BACKENDS = ("http1", "h2+tls")
CODINGS = {"weir": ("zstd", "br", "gzip"), "nginx": ("gzip",), "haproxy": ("gzip",), "caddy": ("zstd", "gzip")}
CODED = "coded-"  # how the paths with compression begin
CODED_TYPES = "text/event-stream", "application/x-ndjson"
DIRECT = dict(zip(CLIENTS, BACKENDS))  # the backend that a client speaks to without a proxy
ALLOWED = (1, 25)  # ms that Weir may add: median, worst


def weir(folder, ports, backends, cert, binary):
    compress = lambda name: f", compress: {{ streams: true, types: [{', '.join(CODED_TYPES)}] }}" if name.startswith(CODED) else ""
    routes = "\n".join(f"  - {{ name: {name}, match: {{ path_prefix: /{name} }}, upstream: {name}{compress(name)} }}" for name in backends)
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
            gzip = f" gzip on; gzip_proxied any; gzip_min_length 0; gzip_types {' '.join(CODED_TYPES)};" if name.startswith(CODED) else ""
            locations += f"location /{name} {{ proxy_pass {'https' if tls else 'http'}://127.0.0.1:{port};{gzip} }}\n"
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
        compression = f"    compression algo gzip\n    compression type {' '.join(CODED_TYPES)}\n" if name.startswith(CODED) else ""
        sections += f"backend {name}\n{compression}    server a 127.0.0.1:{port}{options}\n"
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
    types = "\n".join(f"header Content-Type {kind}*" for kind in CODED_TYPES)
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
    encode /{CODED}* zstd gzip {{
        minimum_length 1
        match {{
            {types}
        }}
    }}
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


async def delays(backend, client, port, path, coding=None):
    """The delay of each piece, in ms, as curl sees it. A text if the stream does not come whole or not coded."""
    backend.reset()
    scheme = "https" if client.endswith("tls") else "http"
    url = f"{scheme}://127.0.0.1:{port}/{path}"
    more = ["-X", "POST", "-H", f"Content-Type: {TYPES['grpc']}", "-H", "TE: trailers"] if backend.kind == "grpc" else []
    if coding:
        more = ["--compressed", "-H", f"Accept-Encoding: {coding}", "-w", "%{stderr}%header{content-encoding}"]
    command = ["curl", "-sNk", "--max-time", "60", *CURL[client], *more, url]
    taken = []
    for _ in range(backend.pieces if backend.kind == "poll" else 1):
        curl = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        async for line in curl.stdout:
            now, number = time.monotonic(), number_of(line)
            if number in backend.sent:
                taken.append((now - backend.sent[number]) * 1000)
        told = (await curl.stderr.read()).decode().strip()
        await curl.wait()
        if coding and told != coding:
            return "not coded"
    return taken if len(taken) == backend.pieces else "not whole"


def combinations(kinds, codings):
    """All streams that are measured: kind, encoding or None, client, protocol of the backend."""
    for kind in kinds:
        for coding in [None, *(codings if kind in CODED_KINDS else [])]:
            for client in CLIENTS:
                for protocol in CODED_BACKENDS if coding else BACKENDS:
                    if kind != "grpc" or (client.startswith("h2") and protocol.startswith("h2")):
                        yield kind, coding, client, protocol


def is_supported(name, kind, coding, protocol):
    """Whether the proxy can carry such a stream."""
    if name == "nginx" and (BACKENDS[protocol][0] or kind == "grpc"):
        return False
    return coding is None or coding in CODINGS.get(name, ())


async def measure(options, folder, cert):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*cert)
    origins, backends, paths = {}, {}, {}
    for kind in options.kinds:
        for number, (protocol, (http2, tls)) in enumerate(BACKENDS.items()):
            context = None
            if tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(*cert)
                context.set_alpn_protocols(["h2" if http2 else "http/1.1"])
            origin = await Backend(kind, http2, context, options).start()
            origins[kind, protocol] = origin
            for coded in ("", CODED) if kind in CODED_KINDS else ("",):
                backends[f"{coded}{kind}{number}"] = (kind, protocol, origin.port)
                paths[kind, protocol, bool(coded)] = f"{coded}{kind}{number}"
    base = {}
    for kind in options.kinds:
        for client, protocol in DIRECT.items():
            if kind == "grpc" and not client.startswith("h2"):
                continue
            taken = await delays(origins[kind, protocol], client, origins[kind, protocol].port, "")
            if isinstance(taken, str):
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
            for kind, coding, client, protocol in combinations(options.kinds, options.codings):
                if is_supported(name, kind, coding, protocol):
                    port, path = ports[CLIENTS[client]], paths[kind, protocol, bool(coding)]
                    taken = await delays(origins[kind, protocol], client, port, path, coding)
                    late = taken if isinstance(taken, str) else [delay - base[kind, client] for delay in taken]
                    results[name, kind, coding, client, protocol] = late
        finally:
            running.end()
    return results


def cell(late):
    if late is None or isinstance(late, str):
        return late or "-"
    return f"{max(statistics.median(late), 0):.2f} / {max(max(late), 0):.1f}"


def table(options, results):
    print(f"ms added to a piece: median / worst of {options.pieces}. {machine()}\n")
    print("| stream | encoding | client | backend |" + "".join(f" {name} |" for name in options.only))
    print("|---|---|---|---|" + "---|" * len(options.only))
    for kind, coding, client, protocol in combinations(options.kinds, options.codings):
        row = [cell(results.get((name, kind, coding, client, protocol))) for name in options.only]
        print(f"| {kind} | {coding or '-'} | {client} | {protocol} |" + "".join(f" {text} |" for text in row))
    for name in options.only:
        for coded, title in ((False, "without compression"), (True, "with compression")):
            every = [late for (proxy, _, coding, *_), lates in results.items() if proxy == name and bool(coding) == coded and not isinstance(lates, str)
                     for late in lates]
            if every:
                print(f"\n{name} {title}: median {statistics.median(every):.2f}, worst {max(every):.1f} of {len(every)} pieces", end="")
    print()


def over(results):
    """The streams that Weir delays more than it may."""
    for (name, *stream), late in results.items():
        if name == "weir" and (isinstance(late, str) or statistics.median(late) > ALLOWED[0] or max(late) > ALLOWED[1]):
            yield f"{' '.join(text for text in stream if text)}: {cell(late)}"


def main():
    installed = ["weir"] + [name for name in ("nginx", "haproxy") if shutil.which(name)] + (["caddy"] if contestants.CADDY.exists() else [])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","), default=installed, help="proxies, e.g. weir,nginx")
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=list(TYPES), help="kinds of streams, e.g. events,poll")
    parser.add_argument("--pieces", type=int, default=50, help="pieces of a stream (default: 50)")
    parser.add_argument("--interval", type=float, default=20, help="ms between two pieces (default: 20)")
    parser.add_argument("--silence", type=float, default=3, help="seconds before the first event of llm (default: 3)")
    parser.add_argument("--codings", type=lambda text: [coding for coding in text.split(",") if coding], default=list(CODINGS["weir"]),
                        help="encodings of the streams with compression, e.g. gzip; an empty text: none (default: zstd,br,gzip)")
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
