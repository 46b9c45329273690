"""The rows of the comparison as data: what runs against what, and what it should reach.

Rows that share both systems are an arena: the two are started once, filled once, and the rows take
turns on them.
"""

import dataclasses

from compare.servers import Etcd, Postgres, Redis
from compare.trefoil import Trefoil, keyspace

# What all rows have in common.
CLIENTS = 50
KEY_BYTES = 16
VALUE_BYTES = 100

# The systems by name; each is made from (place, keys).
ONE, THREE = ["here"], ["here"] * 3
SYSTEMS = {
    "trefoil": lambda place, keys: Trefoil(
        place, ONE, [keyspace(model="leader-follower", durability="interval-1s")]
    ),
    "trefoil durable": lambda place, keys: Trefoil(
        place, ONE, [keyspace(model="leader-follower", durability="fsync")]
    ),
    "trefoil semi-sync": lambda place, keys: Trefoil(
        place,
        THREE,
        [keyspace(model="leader-follower", acks="semi-sync", durability="interval-1s")],
    ),
    "trefoil semi-sync durable": lambda place, keys: Trefoil(
        place, THREE, [keyspace(model="leader-follower", acks="semi-sync", durability="fsync")]
    ),
    "trefoil leaderless": lambda place, keys: Trefoil(
        place, THREE, [keyspace(model="leaderless", n=3, w=2, r=2, durability="interval-1s")]
    ),
    "trefoil multi-leader": lambda place, keys: Trefoil(
        place,
        ["eu", "us", "asia"],
        [keyspace(model="multi-leader", durability="interval-1s")],
    ),
    "redis everysec": lambda place, keys: Redis(place, "everysec"),
    "redis always": lambda place, keys: Redis(place, "always"),
    "redis + 2 everysec": lambda place, keys: Redis(place, "everysec", replicas=2),
    "redis + 2 always": lambda place, keys: Redis(place, "always", replicas=2),
    "etcd": lambda place, keys: Etcd(place),
    "postgresql": lambda place, keys: Postgres(place, keys, VALUE_BYTES),
}

# Redis has no acknowledged replication in the SET itself: the client asks for it behind.
WAIT = "WAIT 1 1000"


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a row should reach, as ratios to the peer, and system calls for an operation of ours;
    None where nothing is asked."""

    cpu_at_most: float | None = None
    ops_at_least: float | None = None
    syscalls_at_most: float | None = None


@dataclasses.dataclass(frozen=True)
class Path:
    """One row."""

    name: str
    title: str
    ours: str
    peer: str
    command: str
    pipeline: int
    limits: Limits
    # What the peer's clients send behind each command.
    peer_then: str | None = None
    # Whether that is sent once behind each batch of a pipeline, not behind each command.
    peer_then_once: bool = False
    # Whether our clients are dealt over all nodes; the peer's never are.
    any_node: bool = False
    # Whether the row is for information, and not one of the comparison's targets.
    extra: bool = False


PATHS = [
    Path(
        "get",
        "GET, one node, interval",
        "trefoil",
        "redis everysec",
        "get",
        1,
        Limits(0.85, 1.15, 2.2),
    ),
    Path(
        "set",
        "SET, one node, interval",
        "trefoil",
        "redis everysec",
        "set",
        1,
        Limits(0.85, 1.15, 2.2),
    ),
    Path(
        "get-p16",
        "GET, one node, interval",
        "trefoil",
        "redis everysec",
        "get",
        16,
        Limits(0.60, 1.6, 0.16),
    ),
    Path(
        "set-p16",
        "SET, one node, interval",
        "trefoil",
        "redis everysec",
        "set",
        16,
        Limits(0.60, 1.6, 0.16),
    ),
    Path(
        "durable-set",
        "SET, one node, durable",
        "trefoil durable",
        "redis always",
        "set",
        1,
        Limits(0.90, 1.2),
    ),
    Path(
        "durable-set-p16",
        "SET, one node, durable",
        "trefoil durable",
        "redis always",
        "set",
        16,
        Limits(0.50, 2.0),
    ),
    Path(
        "durable-set-postgresql",
        "SET, one node, durable",
        "trefoil durable",
        "postgresql",
        "set",
        1,
        Limits(),
        extra=True,
    ),
    Path(
        "semi-sync-set",
        "SET, three nodes, semi-sync, interval",
        "trefoil semi-sync",
        "redis + 2 everysec",
        "set",
        1,
        Limits(0.55, 1.6, 2.9),
        peer_then=WAIT,
    ),
    Path(
        "semi-sync-set-p16",
        "SET, three nodes, semi-sync, interval",
        "trefoil semi-sync",
        "redis + 2 everysec",
        "set",
        16,
        Limits(0.22, 5.0, 0.20),
        peer_then=WAIT,
    ),
    Path(
        "semi-sync-set-p16-one-wait",
        "SET, three nodes, semi-sync, interval",
        "trefoil semi-sync",
        "redis + 2 everysec",
        "set",
        16,
        Limits(),
        peer_then=WAIT,
        peer_then_once=True,
        extra=True,
    ),
    Path(
        "semi-sync-durable-set",
        "SET, three nodes, semi-sync, durable",
        "trefoil semi-sync durable",
        "redis + 2 always",
        "set",
        1,
        Limits(0.60, 2.0),
        peer_then=WAIT,
    ),
    Path(
        "semi-sync-durable-set-etcd",
        "SET, three nodes, semi-sync, durable",
        "trefoil semi-sync durable",
        "etcd",
        "set",
        1,
        Limits(0.10, 8.0),
    ),
    Path(
        "quorum-set",
        "SET, leaderless, W = 2 of 3",
        "trefoil leaderless",
        "redis + 2 everysec",
        "set",
        1,
        Limits(0.65, 1.4, 3.4),
        peer_then=WAIT,
        any_node=True,
    ),
    Path(
        "quorum-set-p16",
        "SET, leaderless, W = 2 of 3",
        "trefoil leaderless",
        "redis + 2 everysec",
        "set",
        16,
        Limits(0.25, 4.0, 0.24),
        peer_then=WAIT,
        any_node=True,
    ),
    Path(
        "quorum-get",
        "GET, leaderless, R = 2 of 3",
        "trefoil leaderless",
        "redis everysec",
        "get",
        1,
        Limits(1.6),
        any_node=True,
    ),
    Path(
        "quorum-get-p16",
        "GET, leaderless, R = 2 of 3",
        "trefoil leaderless",
        "redis everysec",
        "get",
        16,
        Limits(1.3),
        any_node=True,
    ),
    Path(
        "multi-leader-set",
        "SET, multi-leader, three datacenters",
        "trefoil multi-leader",
        "redis + 2 everysec",
        "set",
        1,
        Limits(0.80, 1.2),
    ),
]


def arenas(paths):
    """The rows by the two systems that they run on, in the order in which they stand."""
    found = {}
    for path in paths:
        found.setdefault((path.ours, path.peer), []).append(path)
    return found


def pick(paths, names):
    """The rows of these names; ValueError naming one that does not exist."""
    known = {path.name: path for path in paths}
    for name in names:
        if name not in known:
            raise ValueError(f"there is no `{name}`; there are: {', '.join(known)}")
    return [path for path in paths if path.name in names]
