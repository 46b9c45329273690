"""Puts load on a system and says what it did: one run is one dictionary, the same for all.

Its fields are those of `trefoil bench --json`. That program loads everything that speaks Redis'
protocol; for etcd there is the example `etcd_load`, for PostgreSQL its own pgbench.
"""

import dataclasses
import json
import math
import os
import re
import resource
import shutil
import subprocess
import time

from compare import processes
from compare.processes import Failed, run

# Clients that fill a system.
FILL_CLIENTS = 50
# A filled system is settled when each process uses less than this share of a core over so many
# seconds; it is not waited for longer than the last.
SETTLED_SHARE, SETTLE_ASK_SECONDS, SETTLE_SECONDS_MAX = 0.03, 0.3, 10
# Seconds of the separate run in which system calls are counted.
SYSCALLS_SECONDS = 1
# What pgbench may take of its time to connect 50 clients, on a busy machine.
PGBENCH_CONNECT_SECONDS = 2
PERF_EVENT = "raw_syscalls:sys_enter"
PGBENCH_SCRIPT = """\
\\set key random(1, {keys})
INSERT INTO kv VALUES (lpad(:key::text, 16, '0'), '{value}')
ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value;
"""


@dataclasses.dataclass(frozen=True)
class Work:
    """What the clients do."""

    command: str = "set"
    pipeline: int = 1
    clients: int = 50
    keys: int = 1_000_000
    key_bytes: int = 16
    value_bytes: int = 100
    prefix: str = ""
    then: str | None = None
    # Whether that is behind each command, not only behind each batch of a pipeline.
    then_each: bool = False
    any_node: bool = False


def measure(system, work, seconds, warm_up_seconds, seed):
    """One run of so many seconds."""
    if system.name == "etcd":
        return _around(system, lambda s: _etcd_load(system, work, s), seconds, warm_up_seconds)
    if system.name == "postgresql":
        return _around(system, lambda s: _pgbench(system, work, s), seconds, warm_up_seconds)
    command = bench_command(system, work, seed)
    command += ["--seconds", seconds, "--warm-up-seconds", warm_up_seconds]
    command += ["--pid", ",".join(map(str, system.pids()))]
    return _json(run(command, _log(system)), "trefoil bench")


def fill(system, work):
    """Writes every key once; the bytes of memory that each then takes, over all processes of the
    system. None for a system that is not filled: it comes with its keys, or takes too long."""
    if system.name in ("etcd", "postgresql"):
        return None
    filling = dataclasses.replace(
        work, command="set", clients=FILL_CLIENTS, pipeline=1, then=None
    )
    before = processes.resident_bytes(system.pids())
    command = [*bench_command(system, filling, seed=1), "--fill-only"]
    filled = _json(run(command, _log(system)), "trefoil bench --fill-only")
    if filled.get("errors"):
        raise Failed(f"filling {system.name}: {filled['errors']} errors: {filled['first_error']}")
    grown = processes.resident_bytes(system.pids()) - before
    settle(system)
    return grown / work.keys


def settle(system):
    """Waits until a system is done with what the filling left behind: it is not part of the rows.
    What its own writes leave behind comes up within each run, or in the next."""
    for _ in range(round(SETTLE_SECONDS_MAX / SETTLE_ASK_SECONDS)):
        before = processes.cpu_seconds(system.pids())
        time.sleep(SETTLE_ASK_SECONDS)
        used = processes.cpu_seconds(system.pids()) - before
        if used < SETTLED_SHARE * SETTLE_ASK_SECONDS * len(system.pids()):
            return


def syscalls_per_op(system, work):
    """System calls of all processes of a system for each operation, from a run of its own; None
    where they cannot be counted."""
    if not perf_works():
        return None
    counted = system.directory / "perf.txt"
    perf = ["perf", "stat", "-x", ",", "-e", PERF_EVENT, "-o", counted]
    perf += ["-p", ",".join(map(str, system.pids())), "--"]
    if system.name == "etcd":
        done = _etcd_load(system, work, SYSCALLS_SECONDS, perf)
    elif system.name == "postgresql":
        done = _pgbench(system, work, SYSCALLS_SECONDS, perf)
    else:
        command = [*perf, *bench_command(system, work, seed=1)]
        command += ["--seconds", SYSCALLS_SECONDS, "--warm-up-seconds", 0]
        done = _json(run(command, _log(system)), "trefoil bench")
    calls = counted_by_perf(counted.read_text())
    return None if calls is None or not done["operations"] else calls / done["operations"]


def counted_by_perf(text):
    """The number in what `perf stat -x ,` writes; None where it could not count."""
    found = re.search(rf"^(\d+),.*{PERF_EVENT}", text, re.MULTILINE)
    return None if found is None else int(found[1])


def perf_works():
    """Whether the system calls of other processes can be counted here."""
    if perf_works.known is None:
        perf = shutil.which("perf")
        command = ["perf", "stat", "-e", PERF_EVENT, "-p", str(os.getpid()), "--", "true"]
        perf_works.known = (
            perf is not None
            and subprocess.run(command, capture_output=True, check=False).returncode == 0
        )
    return perf_works.known


perf_works.known = None


def bench_command(system, work, seed):
    """The command line of `trefoil bench`, but for how long it runs."""
    ports = system.all_nodes() if work.any_node else system.leader()
    command = [os.environ["TREFOIL"], "bench", "--json", "--seed", seed]
    command += ["--addr", ",".join(f"127.0.0.1:{port}" for port in ports)]
    command += ["--command", work.command, "--clients", work.clients]
    command += ["--pipeline", work.pipeline, "--keys", work.keys, "--key-bytes", work.key_bytes]
    command += ["--value-bytes", work.value_bytes]
    if work.prefix:
        command += ["--prefix", work.prefix]
    if work.then:
        command += ["--then", work.then, *(["--then-each"] if work.then_each else [])]
    return command


def _etcd_load(system, work, seconds, before=()):
    command = [*before, os.environ["ETCD_LOAD"], "--addr", f"127.0.0.1:{system.leader()[0]}"]
    command += ["--clients", work.clients, "--seconds", seconds, "--keys", work.keys]
    command += ["--key-bytes", work.key_bytes, "--value-bytes", work.value_bytes]
    return _json(run(command, _log(system)), "etcd_load")


def _pgbench(system, work, seconds, before=()):
    script = system.directory / "set.sql"
    script.write_text(PGBENCH_SCRIPT.format(keys=work.keys, value="x" * work.value_bytes))
    transactions = system.fresh_log_directory()
    command = [*before, "pgbench", "--no-vacuum", "--protocol=prepared", "--file", script]
    command += ["--client", work.clients, "--time", math.ceil(seconds + PGBENCH_CONNECT_SECONDS)]
    command += ["--log", *system.connection()]
    said = run(command, _log(system), cwd=transactions)
    latencies = []
    for log in transactions.iterdir():
        with open(log, encoding="ascii") as lines:
            latencies += [int(line.split()[2]) for line in lines]
    shutil.rmtree(transactions)
    # What it says itself leaves the time out in which it connects.
    rate = re.search(r"^tps = ([0-9.]+)", said, re.MULTILINE)
    if not latencies or not rate or not float(rate[1]):
        raise Failed(f"pgbench did nothing:\n{said}")
    return from_latencies(latencies, len(latencies) / float(rate[1]))


def from_latencies(latencies_us, seconds):
    """A run's fields from the times of all of its operations, in microseconds."""
    latencies_us.sort()
    done = {"operations": len(latencies_us), "seconds": seconds, "errors": 0, "first_error": None}
    done["ops_per_second"] = len(latencies_us) / seconds
    for field, share in (("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99), ("p999_us", 0.999)):
        done[field] = latencies_us[min(int(len(latencies_us) * share), len(latencies_us) - 1)]
    done["max_us"] = latencies_us[-1]
    return done


def _around(system, load, seconds, warm_up_seconds):
    """A run of a load generator that does not look at the server's CPU time itself. Starting and
    ending the connections counts, and the warm-up is a run before."""
    if warm_up_seconds:
        load(max(1, round(warm_up_seconds)))
    own, server, busy = _children_seconds(), _server_seconds(system), processes.busy_seconds()
    started = time.monotonic()
    done = load(seconds)
    elapsed = time.monotonic() - started
    own, server = _children_seconds() - own, _server_seconds(system) - server
    others = processes.busy_seconds() - busy - own - server
    operations = max(done["operations"], 1)
    done["server_cpu_us_per_op"] = server / operations * 1e6
    done["client_cpu_us_per_op"] = own / operations * 1e6
    done["other_cpu_percent"] = max(0.0, others / elapsed / os.cpu_count() * 100)
    return done


def _children_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _server_seconds(system):
    if system.name == "postgresql":
        # Its processes end with their connections; the first one has waited for them.
        return processes.cpu_seconds_with_children(system.process.pid)
    return processes.cpu_seconds(system.pids())


def _log(system):
    return system.directory / "load.log"


def _json(text, program):
    try:
        return json.loads(text)
    except ValueError as error:
        raise Failed(f"{program} said no JSON: {text[:200]!r}") from error
