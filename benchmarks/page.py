"""The page that shows the figures: Markdown with a drawing of the ratios, written from the JSON alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.marks import write_between
from benchmarks.throughput import OURS, PLAIN_ALONE, PLAIN_BOTH

BEGIN, END = "<!-- figures: written by make bench -->", "<!-- end of figures -->"
WIDTH, LEFT, ROW, SCALE = 760, 300, 26, 38  # pixels; SCALE is one times the plain loop
SHOWN = ("aggregate", "per process", "to two plain processes", "per second of processor time")


def write_page(found: Mapping[str, Any], page: Path) -> None:
    """Put the figures between the two marks of a page, and the drawing beside it.

    Args:
        found: what `make bench` keeps as JSON.
        page: a Markdown file with both marks.

    Raises:
        ValueError: when a mark is missing.
    """
    image = page.parent / "images" / "speed.svg"
    image.write_text(drawing(found), encoding="utf-8")
    write_between(page, BEGIN, END, tables(found))


def tables(found: Mapping[str, Any]) -> str:
    """Return the ratios, the throughputs and where they were measured."""
    lines = ["![Throughput as a multiple of the plain loop](images/speed.svg)", ""]
    lines += ["| case | ratio | median | spread | n | goal |", "|---|---|---|---|---|---|"]
    for case in found["cases"].values():
        for name in SHOWN:
            ratio = case["ratios"][name]
            goal = f"{case['goal']:g}" if name == "aggregate" else ""
            spread = f"{ratio['min']:.2f} to {ratio['max']:.2f}"
            lines.append(f"| {case['title']} | {name} | {ratio['median']:.2f} | {spread} | {ratio['n']} | {goal} |")
        strict = f"{medians_to_best(case):.2f} | of medians | {case['ratios']['aggregate']['n']} | {case['goal']:g}"
        lines.append(f"| {case['title']} | **aggregate to the best of three** | {strict} |")
    lines += ["", "| case | what | inputs a second (median) | from | to |", "|---|---|---|---|---|"]
    for case in found["cases"].values():
        rows = [("training, " + name, value) for name, value in case["train"].items()]
        rows += [
            (f"{word}, {name}", value)
            for work, word in (("evaluate", "evaluation"), ("match", "matching"))
            for name, value in case[work].items()
            if name != "ratio"
        ]
        lines += [
            f"| {case['title']} | {what} | {v['median']:,.0f} | {v['min']:,.0f} | {v['max']:,.0f} |" for what, v in rows
        ]
    return "\n".join([*lines, "", *map(_where, found["cases"].values())]) + "\n"


def medians_to_best(case: Mapping[str, Any]) -> float:
    """Return our two processes' median throughput over that of the plain loop's best way, one thread alone included.

    On a machine that others use, a plain loop of two threads can be slower than one of one thread.
    """
    ways = (PLAIN_ALONE, *PLAIN_BOTH)
    return case["train"][OURS]["median"] / max(case["train"][way]["median"] for way in ways)


def _where(case: Mapping[str, Any]) -> str:
    at = case["environment"]
    return (
        f"- {case['title']}: {case['data']} data, batches of {case['batch_size']}, turns of {case['steps']} steps; "
        f"{at['processor']}, {at['cores']} cores, torch {at['torch']}, Python {at['python']}, {at['date']}; load of "
        f"the machine before it began {case['load_before']:.1f}."
    )


def drawing(found: Mapping[str, Any]) -> str:
    """Return the ratios as bars, with a line at the plain loop and a mark at each goal."""
    rows = [(case, name) for case in found["cases"].values() for name in SHOWN]
    height = ROW * (len(rows) + len(found["cases"])) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    y = 20
    for case in found["cases"].values():
        parts.append(f'<text x="8" y="{y}" font-weight="bold">{case["title"]}</text>')
        y += ROW
        for name in SHOWN:
            parts += _bar(case, name, y)
            y += ROW
    parts.append(f'<path d="M{LEFT + SCALE} 4V{height - 22}" stroke="#333333" stroke-dasharray="3 3"/>')
    parts.append(f'<text x="{LEFT + SCALE}" y="{height - 8}" text-anchor="middle">the plain loop</text></svg>')
    return "\n".join(parts) + "\n"


def _bar(case: Mapping[str, Any], name: str, y: int) -> list[str]:
    ratio = case["ratios"][name]
    left, right = (_x(ratio[end]) for end in ("min", "max"))
    parts = [
        f'<text x="{LEFT - 8}" y="{y}" text-anchor="end">{name}</text>',
        f'<rect x="{LEFT}" y="{y - 12}" width="{_x(ratio["median"]) - LEFT}" height="14" fill="#4477aa"/>',
        f'<path d="M{left} {y - 5}H{right}" stroke="#222222" stroke-width="2"/>',
        f'<text x="{max(right, _x(ratio["median"])) + 8}" y="{y}">{ratio["median"]:.2f}</text>',
    ]
    if name == "aggregate":
        x = _x(case["goal"])
        parts.append(f'<path d="M{x} {y - 15}V{y + 5}" stroke="#cc3311" stroke-width="3"/>')
    return parts


def _x(ratio: float) -> int:
    return min(WIDTH - 50, round(LEFT + SCALE * ratio))
