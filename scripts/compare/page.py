"""Puts generated tables into docs/comparison.md, between their markers, and nowhere else."""

from compare import report, tables
from compare.processes import Failed

MARKERS = "<!-- {}: begin -->", "<!-- {}: end -->"


def update(path, sections):
    """Replaces the text of each section, by its name; all or nothing."""
    text = path.read_text()
    for name, content in sections.items():
        text = replaced(text, name, content)
    path.write_text(text)


def replaced(text, name, content):
    """The page with new text between the markers of a section; Failed where they are missing."""
    begin, end = (marker.format(name) for marker in MARKERS)
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise Failed(f"the page has no `{begin}` with an `{end}` behind it")
    return f"{before}{begin}\n\n{content.strip()}\n\n{end}{after}"


def paths_section(machine, settings, results):
    """The comparison's tables below what they were made with."""
    parts = [made_with(machine, settings)]
    parts += report.paths_parts(results, tables.markdown, "\n### {}")
    return "\n".join(parts)


def growth_section(machine, settings, growth):
    """The tables of growth below what they were made with."""
    parts = [made_with(machine, settings)]
    parts += report.growth_parts(growth, tables.markdown, "\n### {}")
    return "\n".join(parts)


def made_with(machine, settings):
    """The machine, the versions and the settings."""
    words = {name.replace("_", " "): value for name, value in machine.items()}
    lines = [f"| {name} | {_word(value)} |" for name, value in words.items()]
    each = f"{settings.rounds} rounds of {settings.seconds} s, {settings.keys} keys"
    each += " (a quick run: not to be quoted)" if settings.quick else ""
    return "\n".join(["| run | |", "|---|---|", *lines, f"| each | {each} |"])


def _word(value):
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else value
