#!/usr/bin/env python3
"""image_run.py ROOT IMAGE.json: runs the root of an image as a container engine does, and sends a request through it.

The command, the user and the environment are those of the image. No network but a loopback interface of its own is there."""
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(sys.argv[1])
CONFIG = json.loads(Path(sys.argv[2]).read_text())["OCIv1"]["config"]
# In namespaces of its own: a read-only root, process 1, and a loopback interface.
INSIDE = """
set -e
ip link set lo up
mount --bind "$0" "$0"
mount -o remount,ro,bind "$0"
mount -t proc proc "$0/proc"
mount -t tmpfs tmpfs "$0/dev"
mknod -m 666 "$0/dev/null" c 1 3
exec chroot --userspec="$USER_OF_IMAGE" "$0" "$@"
"""


def main():
    for name in ("bin/sh", "usr/bin/sh", "usr/bin/env", "etc/passwd"):
        assert not (ROOT / name).exists(), f"the image has /{name}"
    assert CONFIG["User"] == "65532:65532" and CONFIG["StopSignal"] == "SIGTERM", CONFIG
    variables = dict(line.split("=", 1) for line in CONFIG["Env"])
    variables |= {"WEIR_TO": "127.0.0.1:3999", "WEIR_FROM": ":8080", "WEIR_HEALTH": "", "PATH": os.environ["PATH"]}
    variables["USER_OF_IMAGE"] = CONFIG["User"]
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", INSIDE, str(ROOT)]
    weir = subprocess.Popen(
        command + CONFIG["Entrypoint"] + CONFIG["Cmd"], env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lines = []
    for line in weir.stderr:
        lines.append(line.strip())
        if line == "ready\n":
            break
    assert "ready" in lines, f"it did not start: {lines}\n{weir.stdout.read()}"
    process = inner(weir.pid)
    status = Path(f"/proc/{process}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    assert fields["NSpid"].split()[-1] == "1", fields["NSpid"]
    assert fields["Uid"].split() == ["65532"] * 4, fields["Uid"]
    request(process)
    os.kill(process, 15)
    assert weir.wait(30) == 0, "it did not end with status 0"


def inner(unshare):
    """The first process of the new namespace."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        children = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()
        if children and "weir" in Path(f"/proc/{children[0]}/comm").read_text():
            return int(children[0])
        time.sleep(0.05)
    raise SystemExit("no process in the namespace")


def request(process):
    """A backend and a client in the same network namespace."""
    backend = """
import http.server, threading, urllib.request
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"through the image")
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 3999), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(urllib.request.urlopen("http://127.0.0.1:8080/", timeout=10).read().decode())
"""
    command = ["nsenter", f"--net=/proc/{process}/ns/net", sys.executable, "-c", backend]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert said.stdout == "through the image\n", said.stdout + said.stderr


if __name__ == "__main__":
    main()
