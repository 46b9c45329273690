"""How cost grows: one table for each thing that can grow, each line ten times (or so) the last.

Beside each cost stands its factor against the line before, per unit of work: 1.00 is linear. What
is more than `figures.GROWTH_SLACK` is marked, as it is to be explained or mended.
"""

import dataclasses

from compare import figures, grow_life, grow_load
from compare.processes import Failed
from compare.tables import number

# Behind a factor that is more than linear.
MARK = " ▲"


@dataclasses.dataclass(frozen=True)
class Column:
    """A column: a field of each line; where `grows`, with its factor in a column behind. `work` is
    the field that says how much work one unit of the cost is about; None: all lines are equal."""

    heading: str
    field: str
    grows: bool = False
    work: str | None = None


@dataclasses.dataclass
class Table:
    """A table with its lines; `failure` says why there are none, or no more."""

    name: str
    title: str
    columns: list
    lines: list = dataclasses.field(default_factory=list)
    remarks: list = dataclasses.field(default_factory=list)
    failure: str | None = None

    def cells(self):
        """Head and rows for a reader."""
        head, columns = [], []
        for column in self.columns:
            head.append(column.heading)
            columns.append([_cell(line.get(column.field)) for line in self.lines])
            if column.grows:
                head.append("×")
                columns.append([_factor(*factor) for factor in self.factors(column)])
        return head, [list(row) for row in zip(*columns)]

    def factors(self, column):
        """The factors of a column that grows."""
        costs = [line.get(column.field) for line in self.lines]
        work = [line[column.work] for line in self.lines] if column.work else None
        return figures.growth(costs, work)

    def as_json(self):
        """The table for programs."""
        return {
            "name": self.name,
            "title": self.title,
            "lines": self.lines,
            "factors": {
                column.field: [factor for factor, _ in self.factors(column)]
                for column in self.columns
                if column.grows
            },
            "remarks": self.remarks,
            "failure": self.failure,
        }


@dataclasses.dataclass(frozen=True)
class Growth:
    """A table that can be measured: `measure(place, settings, table)` adds its lines."""

    name: str
    title: str
    columns: list
    measure: object


def _pair(heading, field, **options):
    """The same column for both systems."""
    return [
        Column(f"{heading}, trefoil", f"trefoil_{field}", **options),
        Column(f"{heading}, redis", f"redis_{field}", **options),
    ]


ALL = [
    Growth(
        "growth-connections",
        "Connections (one node, interval, 100 bytes)",
        [
            Column("connections", "connections"),
            *_pair("SET/s", "set_ops"),
            *_pair("CPU µs per SET", "set_cpu", grows=True),
            *_pair("CPU µs per GET", "get_cpu", grows=True),
            *_pair("p99 µs of SET", "set_p99"),
        ],
        grow_load.connections,
    ),
    Growth(
        "growth-keys",
        "Keys (one node, interval, 16-byte keys, 100 bytes, pipeline 16)",
        [
            Column("keys", "keys"),
            *_pair("bytes per key", "bytes_per_key", grows=True),
            Column("trefoil : redis (≤ 1.15)", "bytes_ratio"),
            *_pair("CPU µs per SET", "set_cpu", grows=True),
            *_pair("CPU µs per GET", "get_cpu", grows=True),
        ],
        grow_load.keys,
    ),
    Growth(
        "growth-values",
        "Values (one node, interval); factors per byte",
        [
            Column("bytes", "bytes"),
            *_pair("SET/s", "set_ops"),
            *_pair("CPU µs per SET", "set_cpu", grows=True, work="bytes"),
            *_pair("CPU µs per GET", "get_cpu", grows=True, work="bytes"),
        ],
        grow_load.values,
    ),
    Growth(
        "growth-keyspaces",
        "Keyspaces (one node, interval), all of them loaded alike",
        [
            Column("keyspaces", "keyspaces"),
            Column("SET/s", "set_ops"),
            Column("CPU µs per SET", "set_cpu", grows=True),
            Column("CPU µs per SET, pipeline 16", "set_cpu_p16", grows=True),
            Column("idle CPU %", "idle_percent"),
        ],
        grow_load.keyspaces,
    ),
    Growth(
        "growth-partitions",
        "Partitions (three nodes, semi-sync, interval)",
        [
            Column("partitions", "partitions"),
            Column("SET/s", "set_ops"),
            Column("CPU µs per SET", "set_cpu", grows=True),
            Column("CPU µs per SET, pipeline 16", "set_cpu_p16", grows=True),
            Column("idle CPU %, all nodes", "idle_percent"),
        ],
        grow_load.partitions,
    ),
    Growth(
        "growth-catch-up",
        "A follower that was away catches up (three nodes, interval, values of 1 KiB)",
        [
            Column("by", "by"),
            Column("MB missed", "megabytes"),
            Column("seconds", "seconds", grows=True, work="megabytes"),
            Column("MB/s", "rate"),
            Column("disk's own MB/s", "disk_rate"),
            Column("loopback's own MB/s", "loopback_rate"),
        ],
        grow_life.catch_up,
    ),
    Growth(
        "growth-restart",
        "Restart after a kill (one node, interval, 16-byte keys, 100 bytes)",
        [
            Column("keys", "keys"),
            *_pair("seconds until it answers", "seconds", grows=True, work="keys"),
            Column("MB of log, trefoil", "trefoil_megabytes"),
            Column("MB of log, redis", "redis_megabytes"),
        ],
        grow_life.restart,
    ),
    Growth(
        "growth-idle",
        "Idle: six nodes, two datacenters, the three models (at most 1 % of a core each)",
        [
            Column("node", "node"),
            Column("CPU %", "cpu_percent"),
            Column("verdict", "verdict"),
        ],
        grow_life.idle,
    ),
]


def run(place, growths, settings, progress):
    """Measures the tables; one that fails says why, and keeps the lines that it has."""
    tables = []
    for growth in growths:
        progress.step(growth.name)
        table = Table(growth.name, growth.title, growth.columns)
        try:
            growth.measure(place, settings, table)
        except Failed as failure:
            table.failure = str(failure)
            progress.note(f"{growth.name}: {failure}")
        tables.append(table)
    return tables


def _cell(value):
    return value if isinstance(value, str) else number(value)


def _factor(factor, is_more_than_linear):
    if factor is None:
        return "–"
    return f"{factor:.2f}{MARK if is_more_than_linear else ''}"
