"""Arithmetic over measured runs: spread, ratios, verdicts. No measuring here."""

import dataclasses
import statistics

# Other processes' share of all CPUs during a run above which its row is marked; percent.
NOISE_PERCENT = 10
# How much a cost may rise from line to line before growth counts as more than linear: noise.
GROWTH_SLACK = 1.25


@dataclasses.dataclass(frozen=True)
class Spread:
    """Several runs of one thing."""

    least: float
    median: float
    most: float


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A figure beside what it should be; `reached` is None where it was not measured."""

    figure: float | None
    limit: float
    at_most: bool

    @property
    def reached(self):
        """Whether the figure keeps its limit."""
        if self.figure is None:
            return None
        return self.figure <= self.limit if self.at_most else self.figure >= self.limit


def spread(runs, field):
    """Least, median and most of a field over runs; None where no run has it."""
    values = [run[field] for run in runs if run.get(field) is not None]
    if not values:
        return None
    return Spread(min(values), statistics.median(values), max(values))


def ratio(ours, peer, field):
    """Our median as a multiple of the peer's; None where one is missing or nothing."""
    our_spread, peer_spread = spread(ours, field), spread(peer, field)
    if our_spread is None or peer_spread is None or peer_spread.median == 0:
        return None
    return our_spread.median / peer_spread.median


def verdicts(limits, ours, peer, syscalls):
    """What a row should reach and does, by name; `limits` has None where nothing is asked."""
    found = {}
    if limits.cpu_at_most is not None:
        cpu = ratio(ours, peer, "server_cpu_us_per_op")
        found["cpu"] = Verdict(cpu, limits.cpu_at_most, at_most=True)
    if limits.ops_at_least is not None:
        ops = ratio(ours, peer, "ops_per_second")
        found["ops"] = Verdict(ops, limits.ops_at_least, at_most=False)
    if limits.syscalls_at_most is not None:
        found["syscalls"] = Verdict(syscalls, limits.syscalls_at_most, at_most=True)
    return found


def noise(*sides):
    """The median share of the CPUs that others had during these runs; percent. None if unknown."""
    both = spread([run for runs in sides for run in runs], "other_cpu_percent")
    return None if both is None else both.median


def is_noisy(percent):
    """Whether that is too much to trust the row's times."""
    return percent is not None and percent > NOISE_PERCENT


def first_error(runs):
    """The first error that any of these runs met, and how many there were in all; or None."""
    count = sum(run.get("errors") or 0 for run in runs)
    if not count:
        return None
    texts = [run["first_error"] for run in runs if run.get("first_error")]
    return f"{count} errors, the first: {texts[0] if texts else 'unknown'}"


def misses(runs):
    """Reads that found nothing, which they should have."""
    return sum(run.get("misses") or 0 for run in runs)


def growth(costs, work=None):
    """For each line of a table of costs the factor against the line before, per unit of work, and
    whether it is more than linear. The first line, and one without a figure, have no factor."""
    work = work or [1] * len(costs)
    factors = []
    for n, cost in enumerate(costs):
        before = costs[n - 1] if n else None
        if cost is None or not before:
            factors.append((None, False))
            continue
        factor = (cost / before) / (work[n] / work[n - 1])
        factors.append((factor, factor > GROWTH_SLACK))
    return factors
