"""The throughput of a loan as a drawing: images a second against models side by side, a line for each way."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.lease.loans import Loan, reason_of

COLOURS = ("#4477aa", "#cc3311", "#228833", "#aa3377", "#997700", "#333333", "#0099bb", "#777777")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 400, 60, 220, 40, 50  # pixels; the names of the ways stand at the right
LINE = 18  # pixels between two of these names


def rate_of(row: Mapping[str, Any]) -> float:
    return 0.0 if reason_of(row) else float(row.get("inputs_a_second") or 0.0)


def by_way(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the measurements by way, threads and processes apart."""
    ways: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        ways[row["way"] + (", processes" if row["as"] == "processes" else "")].append(row)
    return ways


def drawing(loan: Loan) -> str:
    """Return the throughput of all models together against their number, a line for each way, as SVG."""
    rows = [row for row in loan.answer("throughput")["rows"] if rate_of(row)]
    counts, top = sorted({row["models"] for row in rows}), 1.05 * max(map(rate_of, rows))
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(models: int) -> float:
        return LEFT + (right - LEFT) * (models / max(counts))

    def y(rate: float) -> float:
        return bottom - (bottom - TOP) * rate / top

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="15">',
        f"<title>Images a second by the number of models side by side, {escape(loan.card)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        '<text x="8" y="22" font-weight="bold">Images a second, all models together</text>',
        f'<text x="{(LEFT + right) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">models side by side</text>',
    ]
    for tick in _ticks(top):
        parts.append(f'<path d="M{LEFT} {y(tick):.1f}H{right}" stroke="#dddddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(tick) + 5:.1f}" text-anchor="end">{tick / 1000:g}k</text>')
    parts += [f'<text x="{x(n):.1f}" y="{bottom + 20}" text-anchor="middle">{n}</text>' for n in counts]
    named = []
    for (way, measured), colour in zip(by_way(rows).items(), COLOURS * 9, strict=False):
        points = [(x(row["models"]), y(rate_of(row))) for row in sorted(measured, key=lambda row: row["models"])]
        dashes = ' stroke-dasharray="6 4"' if measured[0]["as"] == "processes" else ""
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2.5"{dashes}/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="{colour}"/>' for a, b in points]
        named.append((points[-1], way, colour))
    return "\n".join([*parts, *_labels(named, right, bottom), "</svg>"]) + "\n"


def _ticks(top: float) -> list[float]:
    """Return three to seven round numbers above 0 and below `top`."""
    power = 10.0 ** (len(str(int(top))) - 1)
    step = next(power * factor for factor in (0.2, 0.5, 1.0, 2.0) if top / (power * factor) <= 7)
    return [step * number for number in range(1, int(top / step) + 1)]


def _labels(named: Sequence[tuple[tuple[float, float], str, str]], right: float, bottom: float) -> list[str]:
    """Return the names of the lines at the right, near their ends and never on one another."""
    parts, free, lowest = [], float(TOP), bottom - LINE * (len(named) - 1)
    for (a, b), way, colour in sorted(named, key=lambda one: one[0][1]):
        y = min(max(b, free), lowest)
        free, lowest = y + LINE, lowest + LINE
        if a >= right - 1:
            parts.append(
                f'<path d="M{a + 6:.1f} {b:.1f}L{right + 16} {y:.1f}" stroke="{colour}" stroke-opacity="0.5"/>'
            )
        parts.append(f'<text x="{right + 20}" y="{y + 5:.1f}" fill="{colour}">{escape(way)}</text>')
    return parts
