"""`python -m benchmarks.matching_table`: what the benchmarks of matching have measured in one table, JSON and a page.

Rows are contenders, one table a network; what nobody measured says why. It measures nothing itself: `pairs.json` gives
time, memory, correlation and barriers, `matching.json` what of these it has of ResNets, `planted.json` and `noise.json`
what was found of planted permutations with 1 % noise, `digits-matchers.json`, `fashion-conv-matchers.json` and
`cifar10-small-matchers.json` the accuracy of tickets.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.contenders import CONTENDERS, PLAIN
from benchmarks.marks import write_between
from benchmarks.pairs import CASES
from reticket.analysis import Stat

RESULTS = Path(__file__).parent / "results"
BEGIN, END = "<!-- table: written by make bench-matching -->", "<!-- end of table -->"
FIGURES = {  # of pairs.json: head and decimals
    "seconds": ("seconds", 3),
    "memory": ("MB", 0),
    "correlation": ("correlation", 3),
    "loss barrier": ("loss barrier", 3),
    "loss barrier with REPAIR": ("with REPAIR", 3),
    "accuracy barrier": ("accuracy barrier", 1),
    "accuracy barrier with REPAIR": ("with REPAIR", 1),
}
RESNETS = {  # of matching.json
    "resnet20x1": "ResNet20x1 after 100 steps on CIFAR-10, 2,048 images",
    "resnet20x4": "ResNet20x4 after 8 steps on CIFAR-10, 256 images",
}
TITLES = {**{name: case.title for name, case in CASES.items()}, **RESNETS}
CALLED = {PLAIN: "layer by layer", "activation": "ours"}  # by contender, in matching.json
PLANTED = {
    "digits": "MLP 64-128-128-10",
    "fashion-conv": "conv 16-32-32-64",
    "digits-vit": "ViT 2 x 48",
    "resnet20x1": "ResNet20",
}
TICKETS = {  # by case: the file, and what a contender is called there
    "digits": ("digits-matchers.json", {"combined, weights 1": "combined, weights 1, signs 0", "identity": "naive"}),
    "fashion-conv": ("fashion-conv-matchers.json", {"identity": "naive"}),
    "cifar10-small": ("cifar10-small-matchers.json", {"identity": "naive"}),
}
Rows = Mapping[str, Mapping[str, Any]]


def table(results: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Return by case and contender what was measured: means with spread, counts, and why something was not.

    Args:
        results: folder of what the benchmarks keep.
    """
    pairs, noisy = (_read(results / name, "cases") for name in ("pairs.json", "noise.json"))
    planted = {**noisy, **_read(results / "planted.json", "cases")}  # of many draws where there are
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for case in TITLES:
        tickets, of_resnet = _tickets(results, case), _of_resnet(results, case)
        for contender in CONTENDERS:
            row = _of_pairs(pairs, f"{case}, {contender}") | of_resnet.get(contender, {})
            recovery = planted.get(f"{PLANTED.get(case)}, {contender}, noise 0.01")
            row |= {} if recovery is None else {"planted": recovery}
            row |= {"ticket": tickets[contender]} if contender in tickets else {}
            if row:
                found.setdefault(case, {})[contender] = row
    return found


def merges(results: Path) -> dict[str, dict[str, Any]]:
    """Return by case and count of networks the accuracies of their merges, over sets."""
    pairs = _read(results / "pairs.json", "cases")
    places = {name.rpartition(", set ")[0] for name in pairs if ", merge of " in name}
    return {
        place: _over([row for name, row in pairs.items() if name.startswith(f"{place}, ")]) for place in sorted(places)
    }


def noise(results: Path) -> dict[str, dict[str, float]]:
    """Return by network and contender, as "ResNet20, weight", the percent of units found at each level of noise."""
    found: dict[str, dict[str, float]] = {}
    for name, row in _read(results / "noise.json", "cases").items():
        place, _, level = name.rpartition(", noise ")
        if "units" in row:
            found.setdefault(place, {})[level] = 100 * row["units"]
    return found


def noise_lines(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the shares of units as a Markdown table: networks and contenders down, noise across."""
    levels = sorted({level for row in found.values() for level in row}, key=float)
    lines = [_line(["network, matched by", *levels]), _line(["---"] * (len(levels) + 1))]
    for place, row in found.items():
        lines.append(_line([place, *(f"{row[level]:.1f}" if level in row else "" for level in levels)]))
    return ["", "**Noise**: percent of units found, by noise in spreads of each tensor", "", *lines]


def page(found: Mapping[str, Rows], merged: Rows, noisy: Mapping[str, Mapping[str, float]]) -> str:
    """Return the tables as Markdown."""
    heads = ["matched by", "n", *(head for head, _ in FIGURES.values()), "planted", "ticket, %"]
    parts = []
    for case, rows in found.items():
        parts += ["", f"**{TITLES[case]}**", "", _line(heads), _line(["---"] * len(heads))]
        parts += [_line([f"`{contender}`", *_cells(row)]) for contender, row in rows.items()]
    parts += ["", "**Merges**: accuracy in percent, after REPAIR", ""]
    ways = list(dict.fromkeys(way for row in merged.values() for way in row))
    parts += [_line(["networks", *ways, "n"]), _line(["---"] * (len(ways) + 2))] if ways else []
    for place, row in merged.items():
        cells = [_plus_minus(row[way], 1) if way in row else "" for way in ways]
        parts.append(_line([place, *cells, str(row[ways[0]]["n"])]))
    return "\n".join([*parts, *noise_lines(noisy)]) + "\n"


def _read(path: Path, key: str) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8")).get(key, {}) if path.exists() else {}


def _of_pairs(pairs: Rows, name: str) -> dict[str, Any]:
    """Return the figures of a contender over pairs; why there are none, where one pair says so."""
    rows = [row for key, row in pairs.items() if key == name or key.startswith(f"{name}, pair ")]
    reasons = [row for row in rows if "not measured" in row]
    return dict(reasons[0]) if reasons else _over(rows)


def _of_resnet(results: Path, case: str) -> dict[str, dict[str, Any]]:
    """Return by contender what `matching.json` has of a case: one pair, each round a value."""
    rows = _read(results / "matching.json", case).get("contestants", {}) if case in RESNETS else {}
    return {
        contender: {
            "seconds": rows[name]["seconds"],
            "memory": Stat.of([(rows[name]["peak"] - rows[name]["before"]) / 1e6]).as_dict(),
            "loss barrier with REPAIR": Stat.of([rows[name]["barrier"]]).as_dict(),
        }
        for contender, name in CALLED.items()
        if name in rows
    }


def _over(rows: list[Mapping[str, float]]) -> dict[str, Any]:
    return {key: Stat.of(row[key] for row in rows).as_dict() for key in rows[0]} if rows else {}


def _tickets(results: Path, case: str) -> dict[str, Any]:
    name, called = TICKETS.get(case, ("", {}))
    rows = _read(results / name, "rows") if name else {}
    return {one: rows[called.get(one, one)] for one in CONTENDERS if called.get(one, one) in rows}


def _cells(row: Mapping[str, Any]) -> list[str]:
    if "not measured" in row:
        figures = ["0", f"not measured: {row['not measured']}", *[""] * (len(FIGURES) - 1)]
    else:
        count = row["seconds"]["n"] if "seconds" in row else 0
        figures = [str(count)]
        figures += [_figure(key, row[key], decimals) if key in row else "" for key, (_, decimals) in FIGURES.items()]
    planted = row.get("planted", {})
    recovered = f"{planted['found']} of {planted['draws']}" if "found" in planted else ""
    return [*figures, recovered, _plus_minus(row["ticket"], 1) if "ticket" in row else ""]


def _figure(key: str, stat: Mapping[str, Any], decimals: int) -> str:
    """Return a mean with spread; of memory the most, since a process has what it freed before already."""
    return f"{max(stat['values']):.{decimals}f}" if key == "memory" else _plus_minus(stat, decimals)


def _plus_minus(stat: Mapping[str, Any], decimals: int) -> str:
    spread = "" if stat["sd"] is None else f" ± {stat['sd']:.{decimals}f}"
    return f"{stat['mean']:.{decimals}f}{spread}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Write the table as JSON, and into the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matching_table", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of what the benchmarks keep")
    parser.add_argument("--page", type=Path, help="a Markdown file with the marks between which the tables stand")
    arguments = parser.parse_args()
    found, merged, noisy = table(arguments.results), merges(arguments.results), noise(arguments.results)
    whole = json.dumps({"networks": found, "merges": merged, "noise": noisy}, indent=1) + "\n"
    (arguments.results / "matching-table.json").write_text(whole, encoding="utf-8")
    text = page(found, merged, noisy)
    print(text)
    if arguments.page is not None:
        write_between(arguments.page, BEGIN, END, text)


if __name__ == "__main__":
    main()
