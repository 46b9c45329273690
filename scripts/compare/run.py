"""Runs the rows: both systems of an arena are up, and take turns (A B A B), so that a machine that
slows down slows both."""

import contextlib
import dataclasses
import shutil

from compare import load
from compare.paths import CLIENTS, KEY_BYTES, SYSTEMS, VALUE_BYTES, arenas
from compare.processes import Failed


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much of everything."""

    rounds: int
    seconds: float
    warm_up_seconds: float
    keys: int
    quick: bool


@dataclasses.dataclass
class Side:
    """What one system did in one row."""

    runs: list = dataclasses.field(default_factory=list)
    syscalls_per_op: float | None = None
    bytes_per_key: float | None = None


@dataclasses.dataclass
class Result:
    """One row, measured; `failure` says why it was not."""

    path: object
    ours: Side = dataclasses.field(default_factory=Side)
    peer: Side = dataclasses.field(default_factory=Side)
    failure: str | None = None


def steps(paths, settings):
    """How many steps `run` will tell of."""
    return len(arenas(paths)) + len(paths) * (settings.rounds + 1)


def run(place, paths, settings, progress):
    """Measures all rows. A row that fails is in the results with the reason."""
    results = []
    for (ours, peer), rows in arenas(paths).items():
        found = [Result(path) for path in rows]
        try:
            with started(place, ours, settings) as a, started(place, peer, settings) as b:
                _arena(a, b, found, settings, progress)
        except Failed as failure:
            for result in found:
                if not result.failure and len(result.peer.runs) < settings.rounds:
                    result.failure = str(failure)
                    progress.note(f"{result.path.name}: {failure}")
        results += found
    return results


@contextlib.contextmanager
def started(place, name, settings):
    """A system that runs until the `with` ends, and leaves nothing behind."""
    system = SYSTEMS[name](place, settings.keys)
    with running(system):
        yield system


@contextlib.contextmanager
def running(system):
    """Starts a system that has been made; stops it and removes its files in the end."""
    try:
        system.start()
        yield system
    finally:
        system.stop()
        shutil.rmtree(system.directory, ignore_errors=True)


def _arena(ours, peer, results, settings, progress):
    first = results[0].path
    progress.step(f"{first.ours} and {first.peer}: {settings.keys} keys")
    filling = load.Work(keys=settings.keys, key_bytes=KEY_BYTES, value_bytes=VALUE_BYTES)
    bytes_per_key = [load.fill(system, filling) for system in (ours, peer)]
    for result in results:
        result.ours.bytes_per_key, result.peer.bytes_per_key = bytes_per_key
        _row(ours, peer, result, settings, progress)


def _row(ours, peer, result, settings, progress):
    path = result.path
    sides = [(ours, result.ours, work_of(path, settings, ours=True))]
    sides.append((peer, result.peer, work_of(path, settings, ours=False)))
    for number in range(1, settings.rounds + 1):
        progress.step(f"{path.name}: round {number} of {settings.rounds}")
        for system, side, work in sides:
            done = load.measure(
                system, work, settings.seconds, settings.warm_up_seconds, seed=number
            )
            if not done["operations"]:
                raise Failed(f"{path.name}: {system.name} did nothing: {done['first_error']}")
            side.runs.append(done)
    progress.step(f"{path.name}: system calls")
    for system, side, work in sides:
        side.syscalls_per_op = load.syscalls_per_op(system, work)


def work_of(path, settings, ours):
    """What the clients of one system of a row do."""
    return load.Work(
        command=path.command,
        pipeline=path.pipeline,
        clients=CLIENTS,
        keys=settings.keys,
        key_bytes=KEY_BYTES,
        value_bytes=VALUE_BYTES,
        then=None if ours else path.peer_then,
        then_each=not (ours or path.peer_then_once),
        any_node=ours and path.any_node,
    )
