"""The growths that show under load: connections, keys, values, keyspaces, partitions."""

import dataclasses
import time

from compare import load, processes
from compare.load import Work
from compare.paths import ONE, THREE
from compare.run import running
from compare.servers import Redis
from compare.trefoil import Trefoil, keyspace

# Both systems' data, with room for what the system itself needs, must fit; bytes.
BYTES_PER_KEY_MAX = 1000
# How much of values is in a system at once, and how many keys at the most and at the least; so
# that 1 MB and 10 bytes fit alike.
VALUES_BYTES, VALUES_KEYS_MAX, VALUES_KEYS_MIN = 256 << 20, 100_000, 100
# How long an idle system is watched; seconds.
IDLE_SECONDS, IDLE_SECONDS_QUICK = 5, 2


def connections(place, settings, table):
    """1 to 1,000 connections."""
    with running(one_node(place)) as trefoil, running(Redis(place, "everysec")) as redis:
        work = Work(keys=settings.keys)
        for system in (trefoil, redis):
            load.fill(system, work)
        for count in (1, 10, 100, 1000):
            line = {"connections": count}
            table.lines.append(line)
            for system in (trefoil, redis):
                add(line, system, dataclasses.replace(work, clients=count), settings)


def keys(place, settings, table):
    """10 thousand to 10 million keys, or as many as fit into memory."""
    for count in (10_000, 100_000) if settings.quick else (10_000, 100_000, 1_000_000, 10_000_000):
        if count * BYTES_PER_KEY_MAX > available_bytes():
            table.remarks.append(f"{count} keys are left out: they may not fit into memory")
            break
        line = {"keys": count}
        table.lines.append(line)
        work = Work(keys=count, pipeline=16)
        for make in (one_node, lambda place: Redis(place, "everysec")):
            with running(make(place)) as system:
                line[f"{system.name}_bytes_per_key"] = load.fill(system, work)
                add(line, system, work, settings)
        line["bytes_ratio"] = line["trefoil_bytes_per_key"] / line["redis_bytes_per_key"]
    first, last = table.lines[0], table.lines[-1]
    if first is not last:
        table.remarks.append(
            "what each key more takes, from the first line to the last: "
            f"trefoil {marginal(first, last, 'trefoil'):.0f} bytes, "
            f"redis {marginal(first, last, 'redis'):.0f} bytes"
        )


def marginal(first, last, name):
    """Bytes for each key that the last line has more: what does not grow with them left out."""
    field = f"{name}_bytes_per_key"
    more = last["keys"] * last[field] - first["keys"] * first[field]
    return more / (last["keys"] - first["keys"])


def values(place, settings, table):
    """Values of 10 bytes to 1 MB."""
    sizes = (10, 1_000, 100_000) if settings.quick else (10, 100, 1_000, 10_000, 100_000, 1_000_000)
    for size in sizes:
        count = max(VALUES_KEYS_MIN, min(VALUES_KEYS_MAX, VALUES_BYTES // size))
        work = Work(keys=count, value_bytes=size)
        line = {"bytes": size}
        table.lines.append(line)
        with running(one_node(place)) as trefoil, running(Redis(place, "everysec")) as redis:
            for system in (trefoil, redis):
                load.fill(system, work)
                add(line, system, work, settings)


def keyspaces(place, settings, table):
    """1 to 128 keyspaces of one node."""
    for count in (1, 8, 32, 128):
        prefixes = [f"k{n}:" for n in range(count)]
        tables = [
            keyspace(prefix, model="leader-follower", durability="interval-1s")
            for prefix in prefixes
        ]
        line = {"keyspaces": count}
        table.lines.append(line)
        with running(Trefoil(place, ONE, tables)) as system:
            work = Work(keys=settings.keys // count, prefix=",".join(prefixes))
            add_pipelines(line, system, work, settings)


def partitions(place, settings, table):
    """1 to 64 partitions of one keyspace on three nodes."""
    for count in (1, 4, 16, 64):
        only = keyspace(
            model="leader-follower",
            acks="semi-sync",
            durability="interval-1s",
            partitions=count,
        )
        line = {"partitions": count}
        table.lines.append(line)
        with running(Trefoil(place, THREE, [only])) as system:
            add_pipelines(line, system, Work(keys=settings.keys), settings)


def one_node(place):
    """A node by itself."""
    return Trefoil(place, ONE, [keyspace(model="leader-follower", durability="interval-1s")])


def add(line, system, work, settings):
    """Measures SET and GET of a system into a line."""
    for command in ("set", "get"):
        done = one_run(system, dataclasses.replace(work, command=command), settings)
        name = f"{system.name}_{command}"
        line[f"{name}_ops"] = done["ops_per_second"]
        line[f"{name}_cpu"] = done["server_cpu_us_per_op"]
        line[f"{name}_p99"] = done["p99_us"]


def add_pipelines(line, system, work, settings):
    """Measures Trefoil's SET with and without pipelining into a line, then its idle CPU."""
    load.fill(system, work)
    done = one_run(system, work, settings)
    line["set_ops"], line["set_cpu"] = done["ops_per_second"], done["server_cpu_us_per_op"]
    done = one_run(system, dataclasses.replace(work, pipeline=16), settings)
    line["set_cpu_p16"] = done["server_cpu_us_per_op"]
    line["idle_percent"] = idle_percent(system, settings)


def idle_percent(system, settings):
    """CPU time of all processes of a system that nobody asks anything; percent of one core."""
    seconds = IDLE_SECONDS_QUICK if settings.quick else IDLE_SECONDS
    # What the load has left behind is written out first.
    time.sleep(1)
    before = processes.cpu_seconds(system.pids())
    time.sleep(seconds)
    return (processes.cpu_seconds(system.pids()) - before) / seconds * 100


def one_run(system, work, settings):
    """One run that must have done something."""
    done = load.measure(system, work, settings.seconds, settings.warm_up_seconds, seed=1)
    if not done["operations"] or done["errors"]:
        raise processes.Failed(
            f"{system.name}: {done['operations']} operations, {done['errors']} errors: "
            f"{done['first_error']}"
        )
    return done


def available_bytes():
    """Memory that programs may still take."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0
