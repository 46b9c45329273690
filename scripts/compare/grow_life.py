"""The growths that are seen without load: catching up, a restart, an idle cluster."""

import os
import signal
import socket
import threading
import time

from compare import load, processes
from compare.grow_load import one_node
from compare.load import Work
from compare.paths import THREE
from compare.processes import wait_until
from compare.resp import Refused, ask
from compare.run import running
from compare.servers import Redis
from compare.trefoil import Trefoil, keyspace

# Bytes of the values that a follower misses. The first amount fits into the log that a leader keeps
# for it (64 MiB), the second does not, and comes as a snapshot.
MISSED_VALUE_BYTES = 1024
MISSED_KEYS, MISSED_KEYS_QUICK = (40_000, 250_000, 1_000_000), (40_000, 100_000)
# What the disk and the loopback are measured with; bytes.
PROBE_BYTES, PROBE_CHUNK_BYTES = 1 << 30, 1 << 20
# How often it is asked whether a follower or a server is there; seconds.
ASK_SECONDS = 0.01
# How long a restart or catching up may take; seconds.
WAIT_SECONDS_MAX = 180
# How long an idle cluster is watched, and how long it may settle before; seconds.
IDLE_SECONDS, IDLE_SECONDS_QUICK, SETTLE_SECONDS = 30, 5, 2
# What an idle node may take of a core.
IDLE_PERCENT_MAX = 1.0


def catch_up(place, settings, table):
    """A follower is stopped, misses writes, and is started again."""
    disk = disk_rate(place.fresh("disk") / "probe", settings)
    loopback = loopback_rate(settings)
    for count in MISSED_KEYS_QUICK if settings.quick else MISSED_KEYS:
        only = keyspace(model="leader-follower", acks="semi-sync", durability="interval-1s")
        with running(Trefoil(place, THREE, [only])) as cluster:
            cluster.stop_node(2)
            load.fill(cluster, Work(keys=count, value_bytes=MISSED_VALUE_BYTES))
            leader = cluster.groups(0)[0][1]
            missed = leader["lag"].get("n2", {}).get("entries", count)
            kept = leader["log"]["bytes"] >= count * MISSED_VALUE_BYTES
            started = time.monotonic()
            cluster.start_node(2)
            wait_until(
                lambda: has_caught_up(cluster),
                "catching up",
                [(process, cluster.log(n)) for n, process in enumerate(cluster.processes)],
                seconds=WAIT_SECONDS_MAX,
                pause=ASK_SECONDS,
            )
            seconds = time.monotonic() - started
        megabytes = count * (MISSED_VALUE_BYTES + load.Work.key_bytes) / 1e6
        table.lines.append(
            {
                "by": "log" if kept else "snapshot",
                "entries": missed,
                "megabytes": megabytes,
                "seconds": seconds,
                "rate": megabytes / seconds,
                "disk_rate": disk,
                "loopback_rate": loopback,
            }
        )
    table.remarks.append("the seconds begin with the start of the process, and end without lag")


def has_caught_up(cluster):
    """Whether the third node has all keys that the first one has, and no lag."""
    try:
        (_, leader), (_, follower) = cluster.groups(0)[0], cluster.groups(2)[0]
    except (OSError, Refused):
        return False
    lag = leader.get("lag", {}).get("n2", {}).get("entries")
    return lag == 0 and follower.get("keys") == leader["keys"]


def disk_rate(file, settings):
    """MB a second that a plain sequential write with a sync at its end reaches."""
    size = PROBE_BYTES // 8 if settings.quick else PROBE_BYTES
    chunk = os.urandom(PROBE_CHUNK_BYTES)
    started = time.monotonic()
    with open(file, "wb", buffering=0) as out:
        for _ in range(size // len(chunk)):
            out.write(chunk)
        os.fsync(out.fileno())
    seconds = time.monotonic() - started
    file.unlink()
    return size / 1e6 / seconds


def loopback_rate(settings):
    """MB a second through one TCP connection on loopback."""
    size = PROBE_BYTES // 8 if settings.quick else PROBE_BYTES
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = threading.Thread(target=_send, args=(server.getsockname(), size), daemon=True)
        sender.start()
        connection, _ = server.accept()
        with connection:
            received, started = 0, time.monotonic()
            buffer = bytearray(PROBE_CHUNK_BYTES)
            while received < size:
                count = connection.recv_into(buffer)
                if not count:
                    break
                received += count
            seconds = time.monotonic() - started
        sender.join()
    return received / 1e6 / seconds


def _send(address, size):
    chunk = bytes(PROBE_CHUNK_BYTES)
    with socket.create_connection(address) as connection:
        for _ in range(size // len(chunk)):
            connection.sendall(chunk)


def restart(place, settings, table):
    """A server with so many keys is killed and started again."""
    for count in (10_000, 100_000) if settings.quick else (100_000, 1_000_000, 5_000_000):
        line = {"keys": count}
        table.lines.append(line)
        with running(one_node(place)) as trefoil:
            load.fill(trefoil, Work(keys=count))
            line["trefoil_megabytes"] = stored_megabytes(trefoil)
            place.stop(trefoil.processes[0], signal.SIGKILL)
            started = time.monotonic()
            trefoil.start_node(0)
            await_keys(trefoil, (trefoil.processes[0], trefoil.log(0)), count)
            line["trefoil_seconds"] = time.monotonic() - started
        with running(Redis(place, "everysec")) as redis:
            load.fill(redis, Work(keys=count))
            line["redis_megabytes"] = stored_megabytes(redis)
            redis.kill()
            started = time.monotonic()
            redis.start_all()
            await_keys(redis, (redis.processes[0], redis.log(0)), count)
            line["redis_seconds"] = time.monotonic() - started


def await_keys(system, process, count):
    """Waits until a server that was started again has its keys."""

    def has_them():
        try:
            return ask(system.ports[0], "DBSIZE") == count
        except (OSError, Refused):
            return False

    what = f"{system.name}'s restart with {count} keys"
    wait_until(has_them, what, [process], seconds=WAIT_SECONDS_MAX, pause=ASK_SECONDS)


def stored_megabytes(system):
    """Bytes on disk of a system's files, as the file system counts them."""
    blocks = sum(file.stat().st_blocks for file in system.directory.rglob("*") if file.is_file())
    return blocks * 512 / 1e6


def idle(place, settings, table):
    """Six nodes with the three models, and nobody who asks anything."""
    datacenters = ["eu"] * 3 + ["us"] * 3
    models = [
        keyspace("user:", model="leader-follower", home="eu"),
        keyspace("cart:", model="multi-leader", datacenters=["eu", "us"]),
        keyspace("session:", model="leaderless", n=3, w=2, r=2),
    ]
    seconds = IDLE_SECONDS_QUICK if settings.quick else IDLE_SECONDS
    with running(Trefoil(place, datacenters, models)) as cluster:
        time.sleep(SETTLE_SECONDS)
        before = [processes.cpu_seconds([pid]) for pid in cluster.pids()]
        time.sleep(seconds)
        for n, pid in enumerate(cluster.pids()):
            percent = (processes.cpu_seconds([pid]) - before[n]) / seconds * 100
            verdict = "reached" if percent <= IDLE_PERCENT_MAX else "missed"
            table.lines.append({"node": f"n{n}", "cpu_percent": percent, "verdict": verdict})
