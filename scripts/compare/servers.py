"""The systems that Trefoil is compared with: how each is started, and when it is ready.

Each has `start()`, `stop()`, `pids()` (whose CPU and memory count), `leader()` and `all_nodes()`
(ports for clients), as Trefoil's cluster has. Each runs with its own defaults but for what a row
needs; docs/comparison.md says what was changed, and why.
"""

import glob
import json
import os
import pwd
import shutil
import signal
import urllib.request

from compare.processes import Failed, as_user, children, free_ports, run, wait_until
from compare.resp import Refused, ask


class Nodes:
    """Processes of one system beside each other, in `processes`: each with a port in `ports`, and
    its output in `directory`. `place` starts and stops them."""

    def stop(self):
        for process in self.processes:
            self.place.stop(process)
        self.processes = []

    def log(self, n):
        """Where a process' output goes."""
        return self.directory / f"{n}.log"

    def pids(self):
        return [process.pid for process in self.processes]

    def all_nodes(self):
        return self.ports


class Redis(Nodes):
    """redis-server with an append-only file, and so many replicas that have one, too."""

    name = "redis"

    def __init__(self, place, appendfsync, replicas=0):
        self.place = place
        self.directory = place.fresh("redis")
        self.appendfsync = appendfsync
        self.ports = free_ports(1 + replicas)
        self.processes = []

    def start(self):
        self.start_all()
        running = [(process, self.log(n)) for n, process in enumerate(self.processes)]
        wait_until(self.is_ready, "redis' start", running)

    def start_all(self):
        """Starts the processes and does not wait for them."""
        for n, port in enumerate(self.ports):
            data = self.directory / f"data-{n}"
            data.mkdir(exist_ok=True)
            command = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", data]
            command += ["--save", "", "--appendonly", "yes", "--appendfsync", self.appendfsync]
            # A rewrite would fork, and that child's CPU time would not be counted.
            command += ["--auto-aof-rewrite-percentage", 0]
            # By default it waits 5 s for more replicas before a sync: only the start is shorter.
            command += ["--repl-diskless-sync-delay", 0]
            if n > 0:
                command += ["--replicaof", f"127.0.0.1 {self.ports[0]}"]
            self.processes.append(self.place.start(self.log(n), command))

    def is_ready(self):
        """Whether all answer, and the replicas are in sync."""
        try:
            if any(ask(port, "PING") != "PONG" for port in self.ports):
                return False
            roles = [ask(port, "INFO", "replication") for port in self.ports[1:]]
        except (OSError, Refused):
            return False
        return all("master_link_status:up" in role for role in roles)

    def kill(self):
        """Ends it as a crash would."""
        for process in self.processes:
            self.place.stop(process, signal.SIGKILL)
        self.processes = []

    def leader(self):
        return self.ports[:1]


class Etcd(Nodes):
    """Three etcd members; clients connect to the one that leads."""

    name = "etcd"

    def __init__(self, place, members=3):
        self.place = place
        self.directory = place.fresh("etcd")
        ports = free_ports(2 * members)
        self.ports, self.peers = ports[:members], ports[members:]
        self.processes = []

    def start(self):
        cluster = ",".join(f"m{n}=http://127.0.0.1:{p}" for n, p in enumerate(self.peers))
        for n, (port, peer) in enumerate(zip(self.ports, self.peers)):
            client, other = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer}"
            command = ["etcd", "--name", f"m{n}", "--data-dir", self.directory / f"data-{n}"]
            command += ["--listen-client-urls", client, "--advertise-client-urls", client]
            command += ["--listen-peer-urls", other, "--initial-advertise-peer-urls", other]
            command += ["--initial-cluster", cluster, "--initial-cluster-state", "new"]
            command += ["--logger", "zap", "--log-level", "error"]
            # The default of 2 GiB is reached by some minutes of writes.
            command += ["--quota-backend-bytes", 8 << 30]
            self.processes.append(self.place.start(self.log(n), command))
        running = [(process, self.log(n)) for n, process in enumerate(self.processes)]
        wait_until(lambda: self.leading() is not None, "etcd's start", running)

    def leading(self):
        """The port of the member that leads; None while any member knows none."""
        found = None
        for port in self.ports:
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/v3/maintenance/status", data=b"{}"
            )
            try:
                with urllib.request.urlopen(request, timeout=2) as answer:
                    status = json.load(answer)
            except (OSError, ValueError):
                return None
            leader = status.get("leader", "0")
            if leader == "0":
                return None
            if leader == status["header"]["member_id"]:
                found = port
        return found

    def leader(self):
        port = self.leading()
        if port is None:
            raise Failed("etcd has lost its leader")
        return [port]


class Postgres:
    """One PostgreSQL server with synchronous commits, and one table of keys and values."""

    name = "postgresql"

    def __init__(self, place, keys, value_bytes):
        self.place = place
        self.directory = place.fresh("postgres")
        self.keys, self.value_bytes = keys, value_bytes
        self.ports = free_ports(1)
        self.process = None
        # It refuses to run as root.
        self.user = database_user() if os.geteuid() == 0 else None
        if self.user:
            shutil.chown(self.directory, self.user, pwd.getpwnam(self.user).pw_gid)

    def start(self):
        data = self.directory / "data"
        self.run("initdb", "--pgdata", data, "--auth", "trust", "--username", "compare")
        command = [postgres_program("postgres"), "-D", data, "-p", self.ports[0]]
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.directory,
            "synchronous_commit": "on",
            # The table fits into memory, as the other systems' data does.
            "shared_buffers": "1GB",
            "max_wal_size": "8GB",
        }
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self.process = self.place.start(self.log(), command, self.user, cwd=self.directory)
        wait_until(self.is_ready, "PostgreSQL's start", [(self.process, self.log())])
        self.sql(
            "CREATE TABLE kv (key text PRIMARY KEY, value text NOT NULL)",
            "INSERT INTO kv SELECT lpad(n::text, 16, '0'), "
            f"repeat('x', {self.value_bytes}) FROM generate_series(1, {self.keys}) n",
            "VACUUM ANALYZE kv",
            "CHECKPOINT",
        )

    def is_ready(self):
        """Whether it takes connections."""
        try:
            self.sql("SELECT 1")
        except Failed:
            return False
        return True

    def sql(self, *statements):
        """Carries out statements, each by itself."""
        command = ["psql", *self.connection(), "--quiet", "--no-psqlrc"]
        for statement in statements:
            command += ["--command", statement]
        run(command, self.directory / "psql.log", cwd=self.directory)

    def connection(self):
        """What a client program is told about where it is."""
        return ["--host=127.0.0.1", f"--port={self.ports[0]}", "--username=compare", "postgres"]

    def stop(self):
        # SIGINT is its fast shutdown: it does not wait for clients.
        if self.process is not None:
            self.place.stop(self.process, signal.SIGINT)
        self.process = None

    def log(self):
        """Where its output goes."""
        return self.directory / "server.log"

    def pids(self):
        return [self.process.pid, *children(self.process.pid)]

    def leader(self):
        return self.ports

    def all_nodes(self):
        return self.ports

    def fresh_log_directory(self):
        """An empty directory for what pgbench tells of its transactions."""
        return self.place.fresh("pgbench")

    def run(self, program, *arguments):
        """Runs one of its programs as its user."""
        command = [*as_user(self.user), "--", postgres_program(program), *arguments]
        run(command, self.directory / f"{program}.log", cwd=self.directory)


def database_user():
    """Whom PostgreSQL runs as where this program runs as root."""
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise Failed("PostgreSQL does not run as root, and there is no user `postgres`")


def postgres_program(name):
    """Debian keeps the server's programs out of the search path."""
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
    if not found:
        raise Failed(f"PostgreSQL's `{name}` is missing")
    return found[-1]
