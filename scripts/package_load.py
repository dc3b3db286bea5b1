#!/usr/bin/env python3
"""package_load.py ROOT FOLDER: starts the installed service in a chroot as its user, and installs a newer package while requests run.

All of it happens in a network namespace with a loopback interface, so that no port of this host is used. The service is started as
the unit does, because no systemd runs in a chroot. `weir upgrade` replaces the process if the version has this command."""
import http.client
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT, FOLDER = Path(sys.argv[1]), Path(sys.argv[2])
CLIENTS = 8
ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}


def in_root(*command, user=None, **options):
    who = [f"--userspec={user}"] if user else []
    return subprocess.Popen(["chroot", *who, str(ROOT), *command], env=ENV, **options)


def run(*command):
    return in_root(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).communicate()[0]


class Load:
    """Clients that send requests, each on new and on kept connections."""

    def __init__(self):
        self.answered, self.failures, self.stopped = 0, [], threading.Event()
        self.threads = [threading.Thread(target=self.client) for _ in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def client(self):
        while not self.stopped.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=10)
            try:
                for _ in range(5):
                    connection.request("GET", "/")
                    answer = connection.getresponse()
                    answer.read()
                    if answer.status != 200:
                        self.failures.append(f"status {answer.status}")
                    self.answered += 1
                    if answer.getheader("connection") == "close":
                        break
            except OSError as error:
                self.failures.append(repr(error))
            except http.client.HTTPException as error:
                self.failures.append(repr(error))
            finally:
                connection.close()

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


def main():
    if os.environ.get("WEIR_PACKAGE_NETNS") != "1":
        # The unit gives the privilege for port 80. Here each user has it, in this namespace alone.
        prepare = 'ip link set lo up && echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start && exec "$@"'
        inside = ["unshare", "--net", "sh", "-c", prepare, "sh", sys.executable, *sys.argv]
        os.execvpe("unshare", inside, {**os.environ, "WEIR_PACKAGE_NETNS": "1"})
    log = open(FOLDER / "service.log", "w+")
    service = in_root("/usr/bin/weir", "run", "-c", "/etc/weir/weir.yaml", user="weir:weir", stdout=log, stderr=log)
    deadline = time.monotonic() + 20
    while "ready" not in (FOLDER / "service.log").read_text():
        assert service.poll() is None and time.monotonic() < deadline, (FOLDER / "service.log").read_text()
        time.sleep(0.05)
    load = Load()
    time.sleep(1)
    before = load.answered
    said = run("dpkg", "-i", "/root/second.deb")
    (FOLDER / "upgrade.log").write_text(said)
    assert "Setting up weir" in said, said
    has_upgrade = "Usage: weir upgrade" in run("weir", "upgrade", "--help")
    if has_upgrade:
        said = run("weir", "upgrade", "-c", "/etc/weir/weir.yaml")
        assert "error" not in said.lower(), said
    time.sleep(1)
    load.stop()
    print(f"load: {load.answered} requests answered, {before} of them before the upgrade, {len(load.failures)} failed")
    assert load.answered > before > 0 and not load.failures, load.failures[:5]
    version = run("dpkg-query", "-W", "-f", "${Version}", "weir")
    assert version.endswith("-2"), version
    stop(service, has_upgrade)


def stop(service, was_replaced):
    """After an upgrade the process that serves is no child of this script."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and serves(path)]
    for pid in pids:
        os.kill(pid, 15)
    code = service.wait(40)
    assert was_replaced or code == 0, f"exit status {code}"


def serves(path):
    """Whether this is a `weir run` of the chroot."""
    try:
        return os.readlink(path / "root") == str(ROOT) and (path / "cmdline").read_bytes().startswith(b"/usr/bin/weir\0run")
    except OSError:
        return False


if __name__ == "__main__":
    main()
