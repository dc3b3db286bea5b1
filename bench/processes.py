"""Processes that a measurement starts, pins to cores, reads from /proc and ends; and what the machine is."""
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
os.environ["PATH"] += ":/usr/sbin:/sbin"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def raise_limits():
    """As many descriptors as this user may have: thousands of idle connections need them, here and in what is started."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def machine():
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return f"{model[1] if model else 'unknown CPU'}, {os.cpu_count()} cores, Linux {os.uname().release}"


# Share of a core that the hypervisor may take during a measurement before it is made again, so often in all.
BEARABLE = 0.01
TRIES = 6


def stolen():
    """Seconds that the hypervisor has taken from all cores (proc(5), /proc/stat)."""
    return int(pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[8]) / os.sysconf("SC_CLK_TCK")


def undisturbed(measure):
    """What `measure` gives, as undisturbed as it is to be had: the scheduler counts as the proxy's what the hypervisor takes from a core."""
    best = None
    for _ in range(TRIES):
        before, started = stolen(), time.monotonic()
        measured = measure()
        taken = (stolen() - before) / (time.monotonic() - started)
        if best is None or taken < best[0]:
            best = taken, measured
        if taken <= BEARABLE:
            break
    return best[1]


class Running:
    """A process group that this script started, on the cores named; ended as a whole."""

    def __init__(self, name, cores, arguments, folder, env=None):
        self.name, self.log = name, folder / f"{name}.log"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(["taskset", "-c", cores, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, start_new_session=True, env={**os.environ, **(env or {})})

    def wait_for(self, port, seconds=15):
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            try:
                return socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
        sys.exit(f"bench: {self.name} does not listen:\n{self.said()[-2000:]}")

    def said(self):
        return self.log.read_text(errors="replace")

    def members(self):
        """Fields of /proc/PID/stat from the state on, of each process of the group."""
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    fields = pathlib.Path(entry.path, "stat").read_text().rsplit(")", 1)[1].split()
                except OSError:
                    continue
                if int(fields[2]) == self.process.pid:
                    yield entry.name, fields

    def cpu(self):
        """Seconds on a core so far as the scheduler counts them, to the nanosecond; and user and system in ticks, for their shares."""
        ticks, ran = [], 0
        for pid, fields in self.members():
            ticks.append((int(fields[11]), int(fields[12])))
            ran += sum(int(task.read_text().split()[0]) for task in pathlib.Path("/proc", pid, "task").glob("*/schedstat"))
        return ran / 1e9, *(sum(column) for column in zip(*ticks))

    def rss(self):
        """MiB."""
        return sum(int(fields[21]) for _, fields in self.members()) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def descriptors(self):
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid, _ in self.members())

    def signal(self, sign):
        os.killpg(self.process.pid, sign)

    def end(self, patience=2):
        """Gracefully; after so many seconds, and so many again, with force."""
        for sign in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            try:
                self.signal(sign)
                self.process.wait(patience)
                return
            except subprocess.TimeoutExpired:
                continue
            except ProcessLookupError:
                break
        self.process.wait()


class Stage:
    """What runs during a measurement; everything on it ends with it."""

    def __init__(self, folder, core, load_cores):
        self.folder, self.core, self.load_cores, self.started = folder, core, load_cores, []

    def start(self, name, cores, command, port, env=None):
        running = Running(name, cores, command, self.folder, env)
        self.started.append(running)
        running.wait_for(port)
        return running

    def end(self, *which, patience=2):
        for running in which or list(self.started):
            running.end(patience)
            self.started.remove(running)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()
