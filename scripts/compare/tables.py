"""Tables for people: aligned text and Markdown from the same cells, and figures as short words."""


def text(head, rows):
    """Aligned columns; those that look like figures to the right."""
    cells = [head, *rows]
    widths = [max(len(row[n]) for row in cells) for n in range(len(head))]
    right = [all(_is_figure(row[n]) for row in rows) for n in range(len(head))]
    lines = []
    for row in cells:
        aligned = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right)
        ]
        lines.append("  ".join(aligned).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def markdown(head, rows):
    """A Markdown table."""
    right = [all(_is_figure(row[n]) for row in rows) for n in range(len(head))]
    rule = ["---:" if to_right else "---" for to_right in right]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *rows])


def number(value):
    """A figure in three digits or so; thousands as k, millions as M; `–` where there is none."""
    if value is None:
        return "–"
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * unit or (unit == 1e6 and abs(value) >= unit):
            return f"{_short(value / unit)}{name}"
    return _short(value)


def between(spread):
    """Least / median / most."""
    if spread is None:
        return "–"
    return f"{number(spread.least)} / {number(spread.median)} / {number(spread.most)}"


def _short(value):
    magnitude = abs(value)
    if magnitude >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if magnitude >= 10 else f"{value:.2f}"


def _is_figure(cell):
    return cell[:1] in "0123456789–-.≤≥" if cell else True
