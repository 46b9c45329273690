"""The command line of scripts/compare.sh."""

import argparse
import pathlib
import resource
import signal
import sys

from compare import growth, machine, page, report
from compare.paths import PATHS, SYSTEMS, pick
from compare.processes import Failed, Place
from compare.progress import Progress
from compare.run import Settings, run, steps

# Packages of Debian that a system needs, by the first word of its name.
PACKAGES = {
    "redis": ["redis-server"],
    "etcd": ["etcd-server"],
    "postgresql": ["postgresql", "postgresql-client"],
}


def main():
    """Does what the arguments say; the exit code is 1 where a row failed."""
    options = arguments()
    try:
        paths, growths = chosen(options)
    except ValueError as error:
        print(f"compare.sh: {error}", file=sys.stderr)
        return 2
    if options.list:
        show_list()
        return 0
    if options.packages:
        print(" ".join(packages(paths, growths)))
        return 0
    settings = Settings(
        rounds=options.rounds or (2 if options.quick else 5),
        seconds=options.seconds or (1 if options.quick else 3),
        warm_up_seconds=0.5 if options.quick else 1,
        keys=100_000 if options.quick else 1_000_000,
        quick=options.quick,
    )
    # A thousand connections are more than many systems allow by default.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # An end by order is an end like any other: the `with` below stops what runs.
    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGHUP, interrupted)
    try:
        return measure(paths, growths, settings, options)
    except KeyboardInterrupt:
        print("\ncompare.sh: interrupted", file=sys.stderr)
        return 130


def measure(paths, growths, settings, options):
    """Runs what was chosen, and reports it."""
    progress = Progress(steps(paths, settings) + len(growths))
    with Place() as place:
        results = run(place, paths, settings, progress)
        tables = growth.run(place, growths, settings, progress)
    progress.end()
    systems = {name for path in paths for name in (path.ours, path.peer)}
    about = machine.describe(systems | ({"redis"} if growths else set()))
    print(report.as_text(results, tables))
    if options.json:
        options.json.write_text(report.as_json(about, settings, results, tables))
    if options.markdown:
        sections = {}
        if results:
            sections["paths"] = page.paths_section(about, settings, results)
        if tables:
            sections["growth"] = page.growth_section(about, settings, tables)
        try:
            page.update(options.markdown, sections)
        except (Failed, OSError) as error:
            print(f"compare.sh: {options.markdown}: {error}", file=sys.stderr)
            return 1
    failed = [one for one in [*results, *tables] if one.failure is not None]
    return 1 if failed else 0


def arguments():
    """The options."""
    parser = argparse.ArgumentParser(
        prog="scripts/compare.sh",
        description="Compares Trefoil with redis-server, etcd and PostgreSQL on this machine.",
    )
    parser.add_argument("--quick", action="store_true", help="short runs, to see that all works")
    parser.add_argument("--rounds", type=positive(int), help="runs of each system (5; quick 2)")
    parser.add_argument("--seconds", type=positive(float), help="of each run (3; quick 1)")
    parser.add_argument("--only", help="NAME[,NAME]: only these rows or tables (--list)")
    parser.add_argument("--list", action="store_true", help="the names of rows and tables")
    parser.add_argument("--growth", action="store_true", help="also how cost grows")
    parser.add_argument("--json", type=pathlib.Path, help="FILE: all figures, for programs")
    parser.add_argument(
        "--markdown", type=pathlib.Path, help="FILE: rewrites the tables between its markers"
    )
    # For the shell around it: which packages the chosen rows need.
    parser.add_argument("--packages", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def chosen(options):
    """The rows and the tables that are asked for; ValueError where they are not there."""
    if options.only is None:
        return PATHS, growth.ALL if options.growth else []
    names = options.only.split(",")
    found = pick([*PATHS, *growth.ALL], names)
    paths = [one for one in found if one in PATHS]
    growths = [one for one in found if one in growth.ALL]
    if options.markdown and (paths and paths != PATHS or growths and growths != growth.ALL):
        raise ValueError("--markdown replaces whole sections: not with --only some of their rows")
    return paths, growths


def packages(paths, growths):
    """Debian's packages for what was chosen, those that may be there already too."""
    systems = {path.peer.split()[0] for path in paths}
    if growths:
        systems.add("redis")
    return [package for name in sorted(systems) for package in PACKAGES.get(name, [])]


def show_list():
    """All rows and tables."""
    for path in PATHS:
        print(f"{path.name:28} {path.title}, pipeline {path.pipeline}: {report.against(path)}")
    for one in growth.ALL:
        print(f"{one.name:28} {one.title}")


def positive(kind):
    """A number above 0."""

    def parse(text):
        value = kind(text)
        if value <= 0:
            raise argparse.ArgumentTypeError("above 0")
        return value

    return parse


def interrupted(*_):
    """A signal that ends the program, as Ctrl-C does."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    assert all(path.ours in SYSTEMS and path.peer in SYSTEMS for path in PATHS)
    sys.exit(main())
