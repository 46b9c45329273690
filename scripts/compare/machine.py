"""Where and with what a run was made: a figure without it means nothing."""

import datetime
import os
import pathlib
import re
import shutil
import subprocess

from compare.servers import postgres_program
from compare.processes import Failed


def describe(systems):
    """The machine, its versions and those of the systems by these names."""
    found = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _first(r"^model name\s*:\s*(.*)$", _read("/proc/cpuinfo")),
        "cores": os.cpu_count(),
        "memory_gib": round(
            os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30), 1
        ),
        "system": _first(r'^PRETTY_NAME="(.*)"$', _read("/etc/os-release")),
        "kernel": os.uname().release,
        "virtual": "hypervisor" in _read("/proc/cpuinfo"),
        "file_system": _file_system(),
        "commit": _said(["git", "rev-parse", "--short", "HEAD"]),
        "rustc": _said(["rustc", "--version"]),
        "trefoil": _said([os.environ["TREFOIL"], "--version"]),
    }
    if any(name.startswith("redis") for name in systems):
        found["redis"] = _first(r"v=(\S+)", _said(["redis-server", "--version"]))
    if "etcd" in systems:
        found["etcd"] = _first(r"etcd Version: (\S+)", _said(["etcd", "--version"]))
    if "postgresql" in systems:
        found["postgresql"] = _first(r"(\d[\d.]*)", _said(_postgres_version()))
    return {name: value for name, value in found.items() if value is not None}


def _postgres_version():
    try:
        return [postgres_program("postgres"), "--version"]
    except Failed:
        return ["false"]


def _file_system():
    """Of the directory for temporary files, where the servers keep their data."""
    place = os.environ.get("TMPDIR", "/tmp")
    return _said(["stat", "--file-system", "--format=%T", place])


def _said(command):
    """What a program prints; None where there is none, or it fails."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def _read(path):
    try:
        return pathlib.Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _first(pattern, text):
    found = re.search(pattern, text or "", re.MULTILINE)
    return found[1].strip() if found else None
