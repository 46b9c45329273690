"""What was measured, for people (text and Markdown) and for programs (JSON)."""

import dataclasses
import json

from compare import figures, tables
from compare.figures import Spread, spread
from compare.load import perf_works
from compare.tables import between, number

FIELDS = (
    "ops_per_second",
    "p50_us",
    "p90_us",
    "p99_us",
    "p999_us",
    "server_cpu_us_per_op",
    "client_cpu_us_per_op",
)
# Of a failure, in the remarks; the JSON has all of it.
FAILURE_CHARACTERS_MAX = 300
VERDICT_HEAD = [
    "row",
    "path",
    "P",
    "against",
    "CPU per op",
    "ops/s",
    "system calls per op",
    "verdict",
]
FIGURES_HEAD = [
    "row",
    "system",
    "ops/s",
    "CPU µs per op",
    "p50 µs",
    "p99 µs",
    "p99.9 µs",
    "system calls per op",
    "bytes per key",
    "others' CPU %",
]


def as_text(results, growth, render=tables.text, heading="\n{}"):
    """Everything for the terminal; Markdown differs in how tables and headings look."""
    parts = []
    if results:
        parts += paths_parts(results, render, heading)
    if growth:
        parts += growth_parts(growth, render, heading)
    return "\n".join(parts)


def paths_parts(results, render, heading):
    """The verdicts, then the figures, then what went wrong."""
    parts = [heading.format("Verdicts: Trefoil as a multiple of the other"), ""]
    parts.append(render(VERDICT_HEAD, [verdict_row(result) for result in results]))
    measured = [result for result in results if result.failure is None]
    if measured:
        parts += [heading.format("Figures: least / median / most of all rounds"), ""]
        rows = [row for result in measured for row in figures_rows(result)]
        parts.append(render(FIGURES_HEAD, rows))
    remarks = [text for result in results for text in result_remarks(result)]
    if not perf_works():
        remarks.append("system calls: not measured, as perf may not count them here")
    if remarks:
        parts += ["", *(f"- {remark}" for remark in remarks)]
    return parts


def verdict_row(result):
    """One row of the verdicts."""
    path = result.path
    head = [path.name, path.title, str(path.pipeline), against(path)]
    if result.failure is not None:
        return [*head, "–", "–", "–", "failed"]
    found = row_verdicts(result)
    cells = [
        _verdict_cell(found.get("cpu"), _ratio(result, "server_cpu_us_per_op"), "≤"),
        _verdict_cell(found.get("ops"), _ratio(result, "ops_per_second"), "≥"),
        _verdict_cell(found.get("syscalls"), result.ours.syscalls_per_op, "≤"),
    ]
    return [*head, *cells, verdict_word(result)]


def verdict_word(result):
    """What a row comes to, in words."""
    found = row_verdicts(result)
    missed = [name for name, verdict in found.items() if verdict.reached is False]
    unknown = [name for name, verdict in found.items() if verdict.reached is None]
    if not found:
        word = "for information"
    elif missed:
        word = f"missed: {', '.join(missed)}"
    else:
        word = "reached"
    if unknown:
        word += f" (not measured: {', '.join(unknown)})"
    if figures.is_noisy(result_noise(result)):
        word += ", noisy"
    return word


def figures_rows(result):
    """Two rows: Trefoil's, and the other's."""
    path = result.path
    rows = []
    for name, side in ((path.ours, result.ours), (path.peer, result.peer)):
        cells = [path.name, name.split()[0]]
        for field in ("ops_per_second", "server_cpu_us_per_op", "p50_us", "p99_us", "p999_us"):
            cells.append(between(spread(side.runs, field)))
        cells += [number(side.syscalls_per_op), number(side.bytes_per_key)]
        cells.append(number(figures.noise(side.runs)))
        rows.append(cells)
    return rows


def against(path):
    """The peer, and what its clients send behind each command."""
    if path.peer_then is None:
        return path.peer
    name = path.peer_then.split()[0]
    return f"{path.peer}, {name} behind each {'batch' if path.peer_then_once else 'SET'}"


def result_remarks(result):
    """What a reader must know of a row."""
    name = result.path.name
    if result.failure is not None:
        return [f"{name} failed: {one_line(result.failure)}"]
    remarks = []
    for system, side in ((result.path.ours, result.ours), (result.path.peer, result.peer)):
        errors = figures.first_error(side.runs)
        if errors:
            remarks.append(f"{name}, {system}: {errors}")
        if figures.misses(side.runs):
            remarks.append(f"{name}, {system}: {figures.misses(side.runs)} reads found nothing")
    return remarks


def one_line(failure):
    """A failure with the end of a log in it, as a sentence."""
    text = " ".join(failure.split())
    return text if len(text) <= FAILURE_CHARACTERS_MAX else f"{text[:FAILURE_CHARACTERS_MAX]}…"


def row_verdicts(result):
    """The verdicts of a row by name."""
    return figures.verdicts(
        result.path.limits, result.ours.runs, result.peer.runs, result.ours.syscalls_per_op
    )


def result_noise(result):
    """Other processes' share of the CPUs while a row ran."""
    return figures.noise(result.ours.runs, result.peer.runs)


def growth_parts(growth, render, heading):
    """One table for each thing that grows."""
    parts = []
    for table in growth:
        parts += [heading.format(table.title), ""]
        if table.failure is not None:
            parts += [f"Failed: {one_line(table.failure)}", ""]
        if not table.lines:
            continue
        parts.append(render(*table.cells()))
        parts += ["", *(f"- {remark}" for remark in table.remarks)]
    return parts


def as_json(machine, settings, results, growth):
    """Everything for programs."""
    document = {
        "machine": machine,
        "settings": dataclasses.asdict(settings),
        "paths": [_json_row(result) for result in results],
        "growth": [table.as_json() for table in growth],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _json_row(result):
    path = result.path
    row = {name: getattr(path, name) for name in ("name", "title", "ours", "peer", "peer_then")}
    row |= {"command": path.command, "pipeline": path.pipeline, "failure": result.failure}
    if result.failure is not None:
        return row
    row["verdict"] = verdict_word(result)
    row["verdicts"] = {
        name: dataclasses.asdict(verdict) | {"reached": verdict.reached}
        for name, verdict in row_verdicts(result).items()
    }
    row["ratios"] = {field: _ratio(result, field) for field in FIELDS}
    row["other_cpu_percent"] = result_noise(result)
    for name, side in (("ours_measured", result.ours), ("peer_measured", result.peer)):
        row[name] = {field: _json_spread(spread(side.runs, field)) for field in FIELDS}
        row[name]["syscalls_per_op"] = side.syscalls_per_op
        row[name]["bytes_per_key"] = side.bytes_per_key
        row[name]["runs"] = side.runs
    return row


def _json_spread(found: Spread | None):
    return None if found is None else dataclasses.asdict(found)


def _ratio(result, field):
    return figures.ratio(result.ours.runs, result.peer.runs, field)


def _verdict_cell(verdict, figure, sign):
    if verdict is None:
        return number(figure)
    mark = {True: "", False: " ✗", None: ""}[verdict.reached]
    # Three digits: what misses its limit by little must not look like it.
    shown = "–" if figure is None else f"{figure:.3g}"
    return f"{shown} ({sign} {number(verdict.limit)}){mark}"
