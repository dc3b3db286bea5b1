"""The backends: nginx with files of known sizes, and WebSocket echoes."""
from cases import FILES
from contestants import nginx_command
from processes import ROOT, free_port


def http(stage, count=3):
    """Starts one nginx with `count` HTTP backends and returns their addresses. It serves `FILES` by name, and /post accepts bodies."""
    for name, size in FILES.items():
        (stage.folder / name).write_bytes(b"x" * size)
    ports = [free_port() for _ in range(count)]
    listens = " ".join(f"listen 127.0.0.1:{port} backlog=4096;" for port in ports)
    server = f"""
    server {{
        {listens} root {stage.folder}; keepalive_requests 1000000000; keepalive_timeout 1h;
        location /post {{ return 201 "stored"; }}
        location /broken {{ return 503; }}
    }}"""
    stage.start("origins", stage.load_cores, nginx_command(stage.folder, "origins", server), ports[0])
    return [f"127.0.0.1:{port}" for port in ports]


def websocket(stage, count=3):
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(count)]
    stage.start("echoes", stage.load_cores, [ROOT / "target/bench/release/ws", "echo", *addresses], int(addresses[0].split(":")[1]))
    return addresses
