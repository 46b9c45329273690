"""Processes of this program: started on loopback in a directory of their own, and ended with it."""

import os
import pathlib
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

# How long a server may take to be ready, or to end; seconds.
START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 30
# Lines of a log that are shown when something went wrong.
LOG_LINES = 15


class Failed(Exception):
    """A run that cannot be counted, and why."""


class Place:
    """A directory with the processes that live in it; all of it ends with the `with`."""

    def __init__(self):
        self.directory = None
        self.started = []

    def __enter__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="trefoil-compare-"))
        # PostgreSQL, which does not run as root, has to pass through.
        self.directory.chmod(0o711)
        return self

    def __exit__(self, *_):
        for process in reversed(self.started):
            if process.poll() is None:
                process.kill()
        for process in self.started:
            process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def fresh(self, name):
        """A new empty directory."""
        return pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.directory))

    def start(self, log, command, user=None, **options):
        """Starts a process whose output goes to a file, as another user if one is named. It dies
        with this program, however that ends."""
        command = [*as_user(user), "--pdeathsig", "KILL", "--", *map(str, command)]
        with open(log, "ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A Ctrl-C is for this program, which ends them in order.
                start_new_session=True,
                **options,
            )
        self.started.append(process)
        return process

    def stop(self, process, with_signal=signal.SIGTERM):
        """Ends a process and waits for it."""
        if process.poll() is None:
            process.send_signal(with_signal)
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process in self.started:
            self.started.remove(process)


def as_user(user):
    """What stands before a command that another user runs; that user's rights, or one's own."""
    if user is None:
        return ["setpriv"]
    group = pwd.getpwnam(user).pw_gid
    return ["setpriv", f"--reuid={user}", f"--regid={group}", "--init-groups"]


def run(command, log, **options):
    """Runs a command to its end; its standard output. Failed with the log's end if it fails."""
    with open(log, "ab") as errors:
        done = subprocess.run(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            check=False,
            **options,
        )
    if done.returncode != 0:
        name = pathlib.Path(str(command[0])).name
        raise Failed(f"{name} ended with {done.returncode}:\n{tail(log)}")
    return done.stdout.decode(errors="replace")


def tail(log):
    """The end of a log."""
    try:
        lines = pathlib.Path(log).read_text(errors="replace").splitlines()
    except OSError:
        return f"(no log at {log})"
    return "\n".join(lines[-LOG_LINES:])


def wait_until(holds, what, processes=(), seconds=START_SECONDS_MAX, pause=0.05):
    """Asks until the answer is true, and returns it; Failed when a process ends meanwhile, or
    after so many seconds. `processes` are pairs of (process, log)."""
    end = time.monotonic() + seconds
    while True:
        answer = holds()
        if answer:
            return answer
        for process, log in processes:
            if process.poll() is not None:
                raise Failed(f"{what}: a server ended with {process.returncode}:\n{tail(log)}")
        if time.monotonic() > end:
            logs = "\n".join(tail(log) for _, log in processes)
            raise Failed(f"{what}: not within {seconds} s\n{logs}")
        time.sleep(pause)


def free_ports(count):
    """Ports on loopback that nobody listens on, below those that the kernel deals to outgoing
    connections: a server that is stopped for a while finds its port free again."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as limits:
        lowest = int(limits.read().split()[0])
    candidates = range(10_000, lowest) if lowest > 12_000 else range(40_000, 65_000)
    found = []
    for port in random.sample(candidates, min(len(candidates), 1_000)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise Failed(f"no {count} free ports on loopback")


def cpu_seconds(pids):
    """CPU time that processes have had, all their threads, those that have ended left out."""
    total = 0
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            try:
                total += int((task / "schedstat").read_text().split()[0])
            except FileNotFoundError:
                continue
    return total / 1e9


def cpu_seconds_with_children(pid):
    """CPU time of a process, its children, and those that it has waited for."""
    tick = os.sysconf("SC_CLK_TCK")
    ticks = sum(_stat(pid)[11:15])
    for child in children(pid):
        try:
            ticks += sum(_stat(child)[11:15])
        except FileNotFoundError:
            continue
    return ticks / tick


def children(pid):
    """The processes that a process has started and that live."""
    try:
        text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(child) for child in text.split()]


def busy_seconds():
    """CPU time that anybody on this machine has had, interrupts too."""
    with open("/proc/stat", encoding="ascii") as stat:
        user, nice, system, _idle, _iowait, irq, softirq = map(int, stat.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pids):
    """Memory that processes have in use."""
    pages = 0
    for pid in pids:
        pages += int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _stat(pid):
    """The fields of /proc/PID/stat behind the name; utime, stime, cutime, cstime are 11 to 14."""
    text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return [int(n) if n.lstrip("-").isdigit() else 0 for n in text.rpartition(")")[2].split()]
