"""What a run says first, and what was run, in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reticket.errors import InputError
from reticket.figures.looks import label
from reticket.figures.text import (
    counts,
    duration,
    listed,
    number,
    percent,
    plural,
    position,
    rewound,
    without_folders,
)
from reticket.report.accuracy_rows import accuracy_rows, at
from reticket.report.gap import leading, open_gap, sentence
from reticket.report.metric_words import MetricWords
from reticket.report.run_folder import RunFolder
from reticket.tasks.checks.matching import Match
from reticket.tasks.results import Results
from reticket.training import find_optimiser

INTERPOLATED = "normalisation at random places on the way to its beginning"


@dataclass(frozen=True)
class Fact:
    """One figure of the summary: what it is, its value, and where it holds."""

    name: str
    value: str
    note: str


def headline(results: Results) -> tuple[str, ...]:
    """Return the sentences that open the report."""
    gaps, words = leading(results), MetricWords.of(results)
    told = [sentence(gap, words) for gap in dict.fromkeys((*gaps[:1], *gaps[-1:]))]
    if gaps:
        told.insert(1, _three(results, gaps[0].sparsity, gaps[0].rewind))
    else:
        told += _bare(results)
    return tuple(filter(None, told))


def _three(results: Results, sparsity: float, rewind: str | None) -> str:
    rows, words = accuracy_rows(results), MetricWords.of(results)
    found = [(method, at(rows, method, sparsity, rewind)) for method in ("naive", "permuted", "lth")]
    parts = [f"{label(method)} {words.plus_minus(row)}" for method, row in found if row is not None]
    spread = " (mean ± sd)" if any(row is not None and row.sd is not None for _, row in found) else ""
    return f"Test {words.name} there is {listed(parts)}{words.unit}{spread}." if len(parts) > 1 else ""


def _bare(results: Results) -> list[str]:
    rows, words = [row for row in accuracy_rows(results) if row.sparsity > 0], MetricWords.of(results)
    if not rows:
        return [f"No {words.name} has been measured yet."]
    top = max(row.sparsity for row in rows)
    best = words.best([row for row in rows if row.sparsity == top])
    where = f"At {percent(top)} sparsity the best network is {label(best.method)}, {rewound(best.rewind)}"
    return [f"{where}, with {words.plus_minus(best)}{words.unit} test {words.name} ({counts([best.n])})."]


def facts(results: Results) -> tuple[Fact, ...]:
    """Return the few figures of the summary."""
    found: list[Fact] = []
    gaps, words = leading(results), MetricWords.of(results)
    if gaps and gaps[0].share is not None and open_gap(gaps[0]):
        gap = gaps[0]
        bounds = f"[{number(gap.low, 0)}, {number(gap.high, 0)}] · " if gap.low is not None else ""
        where = f"{percent(gap.sparsity)} sparsity, {rewound(gap.rewind)}"
        found.append(Fact("gap closed by the permuted ticket", f"{number(gap.share, 0)}\u00a0%", f"{bounds}{where}"))
        found.append(
            Fact(
                "left between LTH and permuted",
                f"{words.number(gap.left)}{words.points}",
                f"of {words.number(gap.gap)}{words.points} to naive",
            )
        )
    known = [one.correlation.mean for one in results.of(Match) if one.correlation.mean is not None]
    if known:
        found.append(
            Fact("matched correlation", number(sum(known) / len(known), 2), f"mean over {plural(len(known), 'group')}")
        )
    if results.cost:
        tasks, seconds = sum(one.tasks for one in results.cost), sum(one.seconds or 0.0 for one in results.cost)
        epochs = sum(one.model_epochs or 0.0 for one in results.cost)
        found.append(
            Fact("cost", duration(seconds), f"of one process: {plural(tasks, 'task')}, {epochs:,.0f} model-epochs")
        )
    return tuple(found)


def what_was_run(config: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the configuration as (subject, sentence) pairs; what a file leaves out is left out here."""
    makers = {
        "data": _data,
        "model": _model,
        "dense": _training,
        "prune": _pruning,
        "sparse": _sparse,
        "matching": _matching,
        "grid": _grid,
    }
    words = {
        "data": "Data",
        "model": "Network",
        "dense": "Dense training",
        "prune": "Pruning",
        "sparse": "Sparse training",
    }
    told = []
    for name, make in makers.items():
        section = config.get(name)
        if isinstance(section, dict) and section:
            text = without_folders(make(section))
            told.append((words.get(name, {"matching": "Matching", "grid": "Grid"}.get(name, name)), text))
    return tuple(told)


def _data(section: Mapping[str, Any]) -> str:
    size = section.get("train_size")
    part = f"{size:,} training images, drawn by class" if isinstance(size, int) else "all training images"
    params = "".join(f", {name} {value}" for name, value in (section.get("params") or {}).items())
    return f"{section.get('name', 'unnamed')}{params}, {part}."


def _model(section: Mapping[str, Any]) -> str:
    params = section.get("params") or {}
    told = ", ".join(f"{key.replace('_', ' ')} {_plain(value)}" for key, value in params.items())
    return f"{section.get('name', 'unnamed')}{f' ({told})' if told else ''}."


def _plain(value: Any) -> str:
    return "-".join(str(part) for part in value) if isinstance(value, (list, tuple)) else str(value)


def _training(section: Mapping[str, Any]) -> str:
    parts = [
        f"{section.get('epochs', '?')} epochs of {section.get('optimizer', 'SGD')}",
        f"batch {section.get('batch_size', 128)}",
    ]
    parts += [f"learning rate {section.get('lr', '?')} ({section.get('schedule', 'cosine')})"]
    for name in ("momentum", "weight_decay"):
        if name in section and name in _given_to(str(section.get("optimizer", "sgd"))):
            parts.append(f"{name.replace('_', ' ')} {section[name]}")
    options = section.get("optimizer_options") or {}
    parts += [f"{name} {tuple(value) if isinstance(value, list) else value}" for name, value in options.items()]
    parts += [f"{section['warmup_epochs']} warm-up epochs"] if section.get("warmup_epochs") else []
    parts += [INTERPOLATED] if section.get("interpolate_norms") else []
    return ", ".join(parts) + "."


def _given_to(optimiser: str) -> tuple[str, ...]:
    """Return what an optimiser is given of the recipe; nothing of one that is not there where the report is written."""
    try:
        return find_optimiser(optimiser).uses
    except InputError:
        return ()


def _pruning(section: Mapping[str, Any]) -> str:
    styles = {"finetune": "fine-tuning", "weight-rewind": "weight rewinding", "lr-rewind": "learning-rate rewinding"}
    rate = section.get("rate", 0.2)
    share = percent(rate) if isinstance(rate, (int, float)) else str(rate)
    style = styles.get(str(section.get("style", "finetune")), str(section.get("style")))
    scope = section.get("scope", "global")
    text = f"Iterative magnitude pruning, {scope}, {share} of the remaining weights a round, {style}"
    text += f" for {section.get('epochs', '?')} epochs at learning rate {section.get('lr', '?')}"
    if section.get("style") in ("weight-rewind", "lr-rewind"):
        text += f" from {position(str(section.get('rewind', '0it')))}"
    if section.get("pattern"):
        text += f"; its masks are in the pattern {section['pattern']}, those of controls are drawn freely"
    spared = section.get("exclude") or ()
    return f"{text}; not pruned: {listed(str(one) for one in spared)}." if spared else f"{text}."


def _sparse(section: Mapping[str, Any]) -> str:
    decay = f", weight decay {section['weight_decay']}" if "weight_decay" in section else ""
    told = f"From the rewind point to the last epoch of dense training, learning rate {section.get('lr', '?')}{decay}"
    if section.get("interpolate_norms") is not None:
        told += f"; {INTERPOLATED if section['interpolate_norms'] else 'normalisation as it is'}"
    if section.get("parametrization") in (None, "plain"):
        return f"{told}."
    options = section.get("parametrization_options") or {}
    own = ", ".join(f"{name} {value}" for name, value in options.items())
    return f"{told}; kept weights are parametrized as {section['parametrization']}{f' ({own})' if own else ''}."


def _matching(section: Mapping[str, Any]) -> str:
    samples = section.get("samples")
    count = f"{samples:,}" if isinstance(samples, int) else "all"
    method, options = section.get("method", "activation"), section.get("options") or {}
    cost = options.get("cost", section.get("cost", "correlation" if method == "activation" else ""))
    by = f"{method}, {cost} of the units" if cost else method
    return f"By {by} over {count} training images, one linear assignment a group."


def _grid(section: Mapping[str, Any]) -> str:
    seeds = section.get("seeds", ())
    count = seeds if isinstance(seeds, int) else len(seeds)
    levels = [percent(level) for level in section.get("sparsities", ()) if isinstance(level, (int, float))]
    rewinds = [position(str(rewind)) for rewind in section.get("rewinds", ())]
    methods = [label(str(method)) for method in section.get("methods", ())]
    text = f"{plural(count, 'seed')} (each a pair of networks A and B), sparsity {listed(levels)}, "
    text += f"rewind to {listed(rewinds)}; "
    return f"{text}{plural(len(methods), 'method')}: {listed(methods)}."


def environment(run: RunFolder) -> tuple[tuple[str, str], ...]:
    """Return the environment as (name, value) pairs, nested tables flattened, folders left out."""
    told: list[tuple[str, str]] = []

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                add(f"{prefix} {key}".strip().replace("_", " "), inner)
        elif value is not None:
            shown = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            told.append((prefix, without_folders(shown)))

    add("", dict(run.environment))
    return tuple(told)


def commands(run: RunFolder) -> tuple[str, ...]:
    """Return the commands that make this run again, from its own configuration."""
    known = run.environment
    versions = [f"{name}=={str(known[name]).partition('+')[0]}" for name in ("torch", "reticket") if known.get(name)]
    threads = f" --threads {known['threads']}" if isinstance(known.get("threads"), int) else ""
    again = f"reticket run config.toml --out again{threads}"
    return (*([f"pip install {' '.join(versions)}"] if versions else []), again, "reticket report again")
