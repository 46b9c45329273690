"""A Trefoil cluster on loopback: its configuration, its processes, when it is ready."""

import json
import os

from compare.processes import Failed, free_ports, wait_until
from compare.resp import Refused, ask, ask_all

# Keys that are read to see that all partitions of a leaderless keyspace answer: so many for each of
# its 64 that hardly one is missed.
PROBES = 1024

DESCRIPTION = """\
[cluster]
name = "compare"
secret = "0123456789abcdef"
{nodes}
[server]
node = "{me}"
data = "{data}"
{keyspaces}
"""
NODE = """\
[[node]]
name = "n{number}"
datacenter = "{datacenter}"
client = "127.0.0.1:{client}"
peer = "127.0.0.1:{peer}"
"""


def keyspace(prefix="", **options):
    """One [[keyspace]] table; `_` in the name of an option stands for `-`."""
    lines = ["[[keyspace]]", f'prefix = "{prefix}"']
    for name, value in options.items():
        lines.append(f"{name.replace('_', '-')} = {json.dumps(value)}")
    return "\n".join(lines)


class Trefoil:
    """A cluster: one node for each entry of `datacenters`, in that one."""

    name = "trefoil"

    def __init__(self, place, datacenters, keyspaces):
        self.place = place
        self.directory = place.fresh("trefoil")
        self.binary = os.environ["TREFOIL"]
        count = len(datacenters)
        ports = free_ports(2 * count)
        self.ports, peers = ports[:count], ports[count:]
        nodes = "".join(
            NODE.format(number=n, datacenter=datacenters[n], client=self.ports[n], peer=peers[n])
            for n in range(count)
        )
        for n in range(count):
            text = DESCRIPTION.format(
                nodes=nodes,
                me=f"n{n}",
                data=self.directory / f"data-{n}",
                keyspaces="\n".join(keyspaces),
            )
            (self.directory / f"{n}.toml").write_text(text)
        self.processes = [None] * count

    def start(self):
        """Starts all nodes, waits until all groups have a leader and followers without lag, and
        hands leader-follower groups to the first node: the one that clients then connect to."""
        for n in range(len(self.ports)):
            self.start_node(n)
        self.wait_until_ready()
        self.lead_from_first_node()

    def start_node(self, n):
        """Starts one node and does not wait for it."""
        config = self.directory / f"{n}.toml"
        command = [self.binary, "serve", "--config", config]
        self.processes[n] = self.place.start(self.log(n), command)

    def stop_node(self, n):
        """Ends one node, as an operator would."""
        self.place.stop(self.processes[n])
        self.processes[n] = None

    def stop(self):
        """Ends all nodes."""
        for n, process in enumerate(self.processes):
            if process is not None:
                self.stop_node(n)

    def log(self, n):
        """Where a node's output goes."""
        return self.directory / f"{n}.log"

    def pids(self):
        """The processes, for CPU and memory."""
        return [process.pid for process in self.processes if process is not None]

    def leader(self):
        """Where clients connect that want one node."""
        return self.ports[:1]

    def all_nodes(self):
        """Where clients connect that are dealt over all nodes."""
        return self.ports

    def status(self, n):
        """What a node says of the cluster."""
        return json.loads(ask(self.ports[n], "TF.STATUS"))

    def groups(self, n):
        """All groups as a node sees them, each with its keyspace."""
        return [
            (keyspace, group)
            for keyspace in self.status(n)["keyspaces"]
            for group in keyspace["groups"]
        ]

    def wait_until_ready(self):
        """Waits until every node sees all others, and every group is led and complete."""
        running = [(process, self.log(n)) for n, process in enumerate(self.processes) if process]
        wait_until(self.is_ready, "Trefoil's start", running)

    def is_ready(self):
        """Whether all nodes are up and all groups complete."""
        try:
            statuses = [self.status(n) for n in range(len(self.ports))]
            everybody = all(member["up"] for status in statuses for member in status["members"])
            groups = all(group_is_ready(*g) for status in statuses for g in all_of(status))
            return everybody and groups and self.replicas_are_ready(statuses[0])
        except (OSError, Refused):
            return False

    def replicas_are_ready(self, status):
        """Whether all replicas of leaderless keyspaces answer: those with a new disk do not until
        they have heard from the others. Refused is raised while they do not."""
        for entry in status["keyspaces"]:
            if entry["model"] == "leaderless":
                replicas = max(len(group["members"]) for group in entry["groups"])
                with_all = ("TF.WITH", "R", str(replicas), "--", "GET")
                keys = [f"{entry['prefix']}ready:{n}" for n in range(PROBES)]
                ask_all(self.ports[0], [(*with_all, key) for key in keys])
        return True

    def lead_from_first_node(self):
        """Hands every leader-follower group to the first node of its datacenter."""
        for entry in self.status(0)["keyspaces"]:
            away = any(group["leader"] not in ("n0", None) for group in entry["groups"])
            if entry["model"] != "leader-follower" or not away:
                continue
            # Refused while a follower catches up: then asked again.
            wait_until(lambda prefix=entry["prefix"]: self.switch(prefix), "a switchover")
        self.wait_until_ready()

    def switch(self, prefix):
        """Orders the leadership of a keyspace to the first node."""
        try:
            ask(self.ports[0], "TF.SWITCHOVER", prefix, "n0")
        except Refused:
            return False
        except OSError as error:
            raise Failed(f"a switchover: {error}") from error
        return True


def all_of(status):
    """The groups in a status, each with its keyspace."""
    return [(entry, group) for entry in status["keyspaces"] for group in entry["groups"]]


def group_is_ready(entry, group):
    """Whether a group has a leader, and its followers all that it has; a leaderless one is ready
    with its nodes."""
    if entry["model"] == "leaderless":
        return True
    if group["leader"] is None:
        return False
    return all(follower["entries"] == 0 for follower in group.get("lag", {}).values())
