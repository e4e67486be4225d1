"""`docs/gpu.md` from what loans of a GPU left: `python -m benchmarks.lease.page [RESULTS ...] --page docs/gpu.md`.

The page is made from the JSON alone. What is absent, failed or skipped reads "not measured", with its reason. Loans of
one schedule are pooled, each with pairs of its own.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.lease.chart import by_way, drawing, rate_of
from benchmarks.lease.loans import COMMAND, FIGURES, Cell, Loan, Schedule, cell_of, read_loans, reason_of
from benchmarks.lease.schedule import DECISIVE, OTHERS, PAPER_EPOCHS
from reticket.analysis import Stat, gap_closed, paired_difference
from reticket.errors import ReticketError
from reticket.figures.published import Accuracy, find_accuracies, source
from reticket.figures.text import number

RESULTS = Path(__file__).parents[1] / "results"
PAGE = Path(__file__).parents[2] / "docs" / "gpu.md"

INTRODUCTION = f"""# On a GPU

Written by `python -m benchmarks.lease.page` from `benchmarks/results/lease-*.json`, not by hand.

A GPU is at hand now and then, for minutes. All that such a loan is used for is one command:

```
{COMMAND}
```

It compares training, matching and REPAIR on the card with the CPU in float64, measures the throughput of ResNet20x1
with several models side by side (CIFAR-10, batches of 128), times `discover` and `match`, and spends the rest on the
paper's row ResNet20x1 / CIFAR-10 / 90 %, at the longest schedule that the measured throughput allows for three pairs.
"""
NOT = "not measured"


def write_page(paths: Sequence[Path], page: Path) -> None:
    """Write the page, and the drawing into the folder `images` beside it where throughput was measured.

    Args:
        paths: files of loans; none where no GPU was at hand.
        page: the Markdown file.

    Raises:
        InputError: as `read_loans`.
    """
    loans = read_loans(paths)
    page.parent.mkdir(parents=True, exist_ok=True)
    if drawn := _drawn(loans):
        images = page.parent / "images"
        images.mkdir(exist_ok=True)
        (images / "gpu.svg").write_text(drawing(drawn), encoding="utf-8")
    page.write_text(text(loans), encoding="utf-8")


def text(loans: Sequence[Loan]) -> str:
    """Return the page."""
    if not loans:
        return f"{INTRODUCTION}\nNot measured: no GPU was at hand.\n"
    lines = [INTRODUCTION]
    for loan in loans:
        lines += [f"## {loan.card}: {loan.name}", "", _where(loan), ""]
        for question, (title, shown) in SECTIONS.items():
            reason = loan.missing(question)
            lines += [f"### {title}", "", *([f"{NOT.capitalize()}: {reason}."] if reason else shown(loan)), ""]
            if question == "throughput" and loan is _drawn(loans):
                lines += ["![Images a second by the number of models side by side](images/gpu.svg)", ""]
    lines += ["## The paper's row", ""]
    by_schedule: dict[Schedule, list[Loan]] = defaultdict(list)
    for loan in loans:
        if reason := loan.missing("row"):
            lines += [f"{loan.name}: {NOT} ({reason}).", ""]
        else:
            by_schedule[loan.schedule].append(loan)
    for schedule in sorted(by_schedule, reverse=True):
        lines += _row(schedule, by_schedule[schedule])
    return "\n".join(lines).rstrip("\n") + "\n"


def _drawn(loans: Sequence[Loan]) -> Loan | None:
    """Return the loan whose throughput is drawn: the latest that measured any."""
    measured = [loan for loan in loans if any(rate_of(row) for row in loan.answer("throughput").get("rows", []))]
    return max(measured, key=lambda loan: loan.found["environment"].get("date", ""), default=None)


def _where(loan: Loan) -> str:
    at, budget = loan.found["environment"], loan.found.get("budget")
    named = {"gpu_memory_gib": "{:.0f} GiB", "driver": "driver {}", "cuda": "CUDA {}", "cudnn": "cuDNN {}"}
    words = [loan.card, *(form.format(at[name]) for name, form in named.items() if at.get(name) is not None)]
    words += [f"TF32 {'on' if at['tf32'] else 'off'}"] if at.get("tf32") is not None else []
    named = {"processor": "{}", "cores": "{} cores", "torch": "torch {}", "python": "Python {}", "date": "{}"}
    words += [form.format(at[name]) for name, form in named.items() if at.get(name) is not None]
    return f"{', '.join(words)}" + (f"; a budget of {budget:.0f} s." if budget else ".")


def _smoke(loan: Loan) -> list[str]:
    def figures(value: Mapping[str, Any]) -> list[str]:
        return [f"{value['difference']:.1e}", f"{value['tolerance']:.1e}", "yes" if value["ok"] else "**no**"]

    return _listed(("check", "largest difference", "tolerance", "within it"), loan.answer("smoke"), figures)


def _symmetry(loan: Loan) -> list[str]:
    def figures(value: Mapping[str, Any]) -> list[str]:
        return [number(value["discover_s"], 2), number(value["match_s"], 2), f"{value['match_examples']:,}"]

    return _listed(("network", "`discover`, s", "`match`, s", "images matched on"), loan.answer("symmetry"), figures)


def _listed(head: Sequence[str], answers: Mapping[str, Any], figures: Callable[..., list[str]]) -> list[str]:
    """Return a table of answers, with a reason where one has no figures."""
    gaps = [""] * (len(head) - 2)
    rows = ((name, reason_of(value), value) for name, value in answers.items())
    return _table(head, ([name, *([f"{NOT}: {why}", *gaps] if why else figures(value))] for name, why, value in rows))


def _throughput(loan: Loan) -> list[str]:
    rows: list[Mapping[str, Any]] = loan.answer("throughput")["rows"]
    counts, best, table, failed = sorted({row["models"] for row in rows}), max(map(rate_of, rows)), [], []
    for way, measured in by_way(rows).items():
        rates = {row["models"]: rate_of(row) for row in measured}
        shown = [f"{rates[n]:,.0f}" if rates.get(n) else NOT if n in rates else "–" for n in counts]
        bold = [f"**{s}**" if best and rates.get(n) == best else s for n, s in zip(counts, shown, strict=True)]
        memory = max(row.get("gpu_memory_gib") or 0.0 for row in measured)
        table.append([way, *bold, f"{memory:.1f}" if memory else "–"])
        gone = ((row["models"], reason_of(row) or "no figure") for row in measured if not rate_of(row))
        failed += [f"- {way}, {models} models: {NOT} ({why})." for models, why in gone]
    head = ("images a second, all models together", *(f"{n} models" if n > 1 else "1 model" for n in counts))
    return [*_table((*head, "GPU memory at most, GiB"), table), *(["", *failed] if failed else [])]


SECTIONS = {
    "smoke": ("Against the CPU in float64", _smoke),
    "throughput": ("Throughput of threads, and of processes", _throughput),
    "symmetry": ("Symmetry and matching", _symmetry),
}


def _row(schedule: Schedule, loans: Sequence[Loan]) -> list[str]:
    cells: dict[Cell, dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for row in (row for loan in loans for row in loan.answer("row")["rows"] if row.get("accuracy") is not None):
        cells[cell_of(row)][row["seed"]] = row
    return [
        f"### T = {schedule.epochs}, {schedule.retraining} epochs a round, k = {schedule.rewind}, "
        f"{schedule.precision}, matched on {schedule.matched_on or 'all'} images",
        "",
        *map(_loan_line, loans),
        "",
        f"Test accuracy in percent, mean ± sd over n pairs. The paper, {source()}, has T = {PAPER_EPOCHS} and k = 20:",
        "so has this." if schedule.epochs == PAPER_EPOCHS else "a difference from it is one of the schedule too.",
        "",
        *_accuracies(cells, schedule.rewind),
        "",
        *_differences(cells, schedule.rewind),
        "",
        *_barriers(loans),
        "",
        *_matching(loans),
        "",
    ]


def _loan_line(loan: Loan) -> str:
    row = loan.answer("row")
    ended = reason_of(row) or ("stopped at the end of the budget" if row.get("stopped") else "all of it done")
    seconds = f"predicted {number(row.get('predicted_s'), 0)} s, took {number(row.get('seconds'), 0)} s"
    pairs = ", ".join(map(str, row["pairs"]))
    return f"- {loan.name}: {loan.card}, pairs {pairs}, {row['jobs']} tasks at once; {seconds}; {ended}."


def _accuracies(cells: Mapping[Cell, Mapping[int, Mapping[str, Any]]], rewind: str) -> list[str]:
    order = (*DECISIVE, *OTHERS)

    def place(cell: Cell) -> tuple[float, int, bool]:
        return cell.sparsity, order.index(cell.method) if cell.method in order else len(order), cell.match_at != "end"

    table = []
    for cell in sorted(cells, key=place):
        seen = {key: [row[key] for row in cells[cell].values() if row.get(key) is not None] for key in FIGURES}
        true, loss = (Stat.of(seen[key]).mean if seen[key] else None for key in FIGURES[1:])
        shown = ("–" if true is None else _percent(true), str(Stat.of(seen["accuracy"])), number(loss, 3))
        theirs = _published(cell, rewind)
        spread = f" ± {theirs.sd:.2f}" if theirs and theirs.sd is not None else ""
        paper = f"{theirs.mean:.2f}{spread}" + (f" (n={theirs.n})" if theirs.n else "") if theirs else "–"
        table.append([cell.name, _percent(cell.sparsity), *shown, paper])
    return _table(("method", "sparsity", "true sparsity", "accuracy", "test loss, nats", "paper"), table)


def _published(cell: Cell, rewind: str) -> Accuracy | None:
    """Return the paper's cell at k = 20; where B is taken at k, the paper's with B at epoch 20."""
    match = "end" if cell.match_at in (None, "end") else 20
    found = find_accuracies("cifar10", "resnet20", 1, cell.sparsity, 20, cell.method, match)
    return found[0] if found and cell.match_at in (None, "end", rewind) else None


def _differences(cells: Mapping[Cell, Mapping[int, Mapping[str, Any]]], rewind: str) -> list[str]:
    """Return the differences to naive, and the share of the gap, over the pairs that have all."""
    table = []
    accuracy = {cell: {seed: row["accuracy"] for seed, row in rows.items()} for cell, rows in cells.items()}
    for cell, own in sorted(accuracy.items(), key=lambda one: one[0].sparsity):
        naive, lth = (accuracy.get(Cell(name, cell.sparsity), {}) for name in ("naive", "lth"))
        if cell.method in ("lth", "permuted") and own.keys() & naive.keys():
            share = "" if cell.method == "lth" else _share(lth, naive, own)
            ours, theirs = (_published(one, rewind) for one in (cell, Cell("naive", cell.sparsity)))
            paper = number(ours.mean - theirs.mean, 2, sign=True) if ours and theirs else "–"
            table.append([f"{cell.name} − naive", _percent(cell.sparsity), *_difference(own, naive), paper, share])
    if not table:
        return [f"Differences: {NOT} (no pair has naive beside another method)."]
    head = ("difference over the same pairs", "sparsity", "points [95 % interval]", "n", "paper, points")
    return _table((*head, "share of LTH − naive closed [95 % interval]"), table)


def _difference(one: Mapping[int, float], other: Mapping[int, float]) -> tuple[str, str]:
    seeds = sorted(one.keys() & other.keys())
    if len(seeds) < 2:
        return f"{number(one[seeds[0]] - other[seeds[0]], 2, sign=True)}; one pair has no interval", "1"
    found = paired_difference([one[seed] for seed in seeds], [other[seed] for seed in seeds])
    ends = f"[{number(found.low, 2)}, {number(found.high, 2)}]"
    return f"{number(found.mean, 2, sign=True)} {ends}", str(found.n)


def _share(lth: Mapping[int, float], naive: Mapping[int, float], own: Mapping[int, float]) -> str:
    seeds = sorted(lth.keys() & naive.keys() & own.keys())
    if not seeds:
        return f"{NOT}: no pair has all three"
    found = gap_closed(*([one[seed] for seed in seeds] for one in (lth, naive, own)))
    share = "none" if found.share is None else f"{number(found.share, 0)} %"
    if found.low is None:
        return f"{share}; {found.reason} (n={found.n})"
    return f"{share} [{number(found.low, 0)}, {number(found.high, 0)}] (n={found.n})"


def _barriers(loans: Sequence[Loan]) -> list[str]:
    found: dict[tuple[str, bool, float, str | None], list[Mapping[str, Any]]] = defaultdict(list)
    for loan in loans:
        for one in loan.answer("row").get("barriers", []):
            found[one["pair"], one["repair"], one.get("sparsity") or 0.0, one.get("match_at")].append(one)
    if not found:
        return [f"Barriers: {NOT} (the loan did not come to them)."]
    table = []
    for (pair, repair, sparsity, match_at), rows in found.items():
        name = pair + (f", {_percent(sparsity)}" if sparsity else "") + (f", matched at {match_at}" if match_at else "")
        values = [Stat.of(row[key] for row in rows) for key in ("accuracy_barrier", "loss_barrier")]
        table.append([name, "yes" if repair else "no", *map(str, values)])
    return _table(("barrier between", "REPAIR", "accuracy, points", "loss, nats"), table)


def _matching(loans: Sequence[Loan]) -> list[str]:
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for loan in loans:
        for one in loan.answer("row").get("matching", []):
            found[one["match_at"]][one["seed"]].append(one["correlation"])
    if not found:
        return [f"Matching: {NOT} (the loan did not come to it)."]
    table = [
        [
            at,
            str(Stat.of(sum(groups) / len(groups) for groups in seeds.values())),
            f"{min(map(min, seeds.values())):.2f}",
        ]
        for at, seeds in found.items()
    ]
    return _table(("B matched at", "correlation of matched units, mean over groups", "lowest group"), table)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}".removesuffix(".0") + " %"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lease.page", description=__doc__)
    parser.add_argument("results", nargs="*", type=Path, help="files of loans; all of benchmarks/results when left out")
    parser.add_argument("--page", type=Path, default=PAGE, help="where to write the page")
    parsed = parser.parse_args(arguments)
    try:
        write_page(parsed.results or sorted(RESULTS.glob("lease-*.json")), parsed.page)
    except ReticketError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
