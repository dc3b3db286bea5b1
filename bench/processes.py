"""Starts the processes of a measurement, pins them to cores, reads /proc and ends them. Describes the machine."""
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
    """Raises the descriptor limit to the maximum. Thousands of idle connections need them, here and in the started processes."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def machine():
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return f"{model[1] if model else 'unknown CPU'}, {os.cpu_count()} cores, Linux {os.uname().release}"


# A measurement is repeated, up to TRIES times in all, if the hypervisor takes more than this share of a core.
BEARABLE = 0.01
TRIES = 6


def stolen():
    """Returns the seconds that the hypervisor has taken from all cores (proc(5), /proc/stat)."""
    return int(pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[8]) / os.sysconf("SC_CLK_TCK")


def undisturbed(measure):
    """Returns the least disturbed result of `measure`. The scheduler counts time that the hypervisor takes as the proxy's."""
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
    """A process group of this script, pinned to cores. It is ended as a whole."""

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
        """Returns the fields of /proc/PID/stat from the state on, for each process of the group."""
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    fields = pathlib.Path(entry.path, "stat").read_text().rsplit(")", 1)[1].split()
                except OSError:
                    continue
                if int(fields[2]) == self.process.pid:
                    yield entry.name, fields

    def cpu(self):
        """Returns the CPU seconds so far as the scheduler counts them, and user and system time in ticks, for their shares."""
        ticks, ran = [], 0
        for pid, fields in self.members():
            ticks.append((int(fields[11]), int(fields[12])))
            ran += sum(int(task.read_text().split()[0]) for task in pathlib.Path("/proc", pid, "task").glob("*/schedstat"))
        return ran / 1e9, *(sum(column) for column in zip(*ticks))

    def rss(self):
        """Returns the resident memory in MiB."""
        return sum(int(fields[21]) for _, fields in self.members()) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def descriptors(self):
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid, _ in self.members())

    def signal(self, sign):
        os.killpg(self.process.pid, sign)

    def end(self, patience=2):
        """Ends the processes gracefully, or with force after a timeout."""
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
    """The processes of a measurement. They all end with it."""

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
