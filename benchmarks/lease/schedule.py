"""The longest schedule of the paper's row that a budget allows, and the order in which its tasks matter.

The row is ResNet20x1 / CIFAR-10 / 90 %: T dense epochs, T/4 a round of pruning, k = T/10. Three pairs are whole before
95 % or a fourth pair begins. How long that takes is found by playing the plan through, task by task.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType

import numpy as np

from reticket.errors import InputError
from reticket.experiment import Plan, Task
from reticket.experiment.schedule import Schedule
from reticket.tasks.blueprint import Blueprint
from reticket.tasks.config import Config
from reticket.tasks.networks import Facts
from reticket.tasks.presets import load_config
from reticket.tasks.scale import scaled
from reticket.tasks.work import Sizes

DECISIVE = ("dense", "imp", "lth", "naive", "permuted")
OTHERS = ("random-permutation", "signed", "naive-signed", "imp-b")
ROW = ('grid.rewinds=["20ep"]', 'grid.match_at=["end", "20ep"]', "checks.barriers=true", "checks.alphas=11")
LESS = (
    "matching.samples=10000",
    "checks.barrier_samples=10000",
    "checks.diversity_members=0",
    "checks.independent_members=0",
)
MAIN, BOTH = (0.9,), (0.9, 0.95)  # fractions pruned
PAIRS, MOST_PAIRS, SAFETY = 3, 5, 0.85  # the first three pairs may take this share of the budget
LEAST_EPOCHS, PAPER_EPOCHS = 10, 200  # below the least, only the decisive methods count
OVERHEAD, SYMMETRY = 0.5, 5.0  # seconds of a task beside its inputs, and of the discovery: assumptions
CIFAR10 = Facts("", 50_000, tuple(map(str, range(10))), (3, 32, 32))


@dataclass(frozen=True)
class Rates:
    """Throughput by the number of models that train side by side.

    Linear between two measured numbers, constant above the largest, in proportion below the smallest.

    Args:
        measured: by the number of models, inputs a second of all of them together.

    Raises:
        InputError: when nothing was measured or a number is not positive.

    >>> Rates({4: 100.0, 8: 180.0})(6), Rates({4: 100.0, 8: 180.0})(1)
    (140.0, 25.0)
    """

    measured: Mapping[int, float]

    def __post_init__(self) -> None:
        if not self.measured or not all(n >= 1 and 0 < rate < math.inf for n, rate in self.measured.items()):
            seen = f"{dict(self.measured)} inputs a second by number of models"
            raise InputError(f"throughput: {seen}; give at least one, and positive numbers alone")
        object.__setattr__(self, "measured", MappingProxyType(dict(sorted(self.measured.items()))))

    def __call__(self, models: int) -> float:
        """Return the inputs a second of this many models together."""
        share = min(1.0, models / min(self.measured))
        return share * float(np.interp(models, list(self.measured), list(self.measured.values())))


def row_config(
    epochs: int,
    seeds: Sequence[int],
    sparsities: Sequence[float] = MAIN,
    precision: str = "float32",
    imp_b: bool = True,
    train_size: int = CIFAR10.train_size,
    settings: Sequence[str] = (),
) -> Config:
    """Return the row with the paper's settings, scaled to `epochs` as `--epochs` does.

    Args:
        epochs: of dense training, 1 to 200.
        seeds: the pairs.
        sparsities: fractions pruned, the row's own first.
        precision: "float32" or "bfloat16".
        imp_b: also prune B itself, for the method imp-b and the overlap of masks.
        train_size: images for training.
        settings: more `key=value`, of the experiment before it is scaled.

    Raises:
        ConfigError: for a value that is out of range.
    """
    methods = ", ".join(f'"{name}"' for name in (*DECISIVE, *OTHERS) if imp_b or name != "imp-b")
    chosen = [f"grid.seeds={list(seeds)}", f"grid.sparsities={list(sparsities)}", f"grid.methods=[{methods}]"]
    chosen += [f'dense.precision="{precision}"', f"checks.overlap={str(imp_b).lower()}"]
    config = load_config("cifar10-resnet20", [*ROW, *LESS, *chosen, *settings])[1]
    return scaled(config, Sizes(train_size, 10_000), epochs=epochs)


def stages(blueprint: Blueprint, pairs: int = PAIRS) -> tuple[tuple[Task, ...], ...]:
    """Return every target in one stage, the most important first.

    The first `pairs` seeds at the first sparsity: the decisive methods, then all else; then these seeds at the other
    sparsities; then one more seed after another, the decisive methods first.
    """
    placed: dict[Task, int] = {}
    for rank, tasks in _ranked(blueprint):
        for position, task in enumerate(tasks):
            stage = rank if position < pairs else 3 + 2 * (position - pairs) + min(rank, 1)
            placed[task] = min(stage, placed.get(task, stage))
    last, found = max(placed.values(), default=0) + 1, dict[int, dict[Task, None]]()
    for task in blueprint.targets:
        found.setdefault(placed.get(task, last), {})[task] = None
    return tuple(tuple(found[stage]) for stage in sorted(found))


def _ranked(blueprint: Blueprint) -> Iterator[tuple[int, tuple[Task, ...]]]:
    """Yield one task a seed with its rank: 0 decisive, 1 of the same sparsity, 2 of another."""
    main = (None, blueprint.config.grid.sparsities[0])
    for cell, tasks in blueprint.runs.items():
        decisive = cell.method in DECISIVE and cell.match_at in (None, "end")
        yield (2 if cell.sparsity not in main else 0 if decisive else 1), tasks
    for at, tasks in blueprint.of("matching").items():
        yield (0 if at == "end" else 1), tasks
    barriers = [(cell.sparsity, tasks) for cell, tasks in blueprint.of("barriers").items()]
    for sparsity, tasks in (*barriers, *blueprint.of("overlap").items()):
        yield (1 if sparsity in main else 2), tasks


def simulate(
    plan: Plan, rates: Rates, train_size: int, jobs: int, overhead: float = OVERHEAD, symmetry: float = SYMMETRY
) -> tuple[float, ...]:
    """Return by stage the second at which it and all before it are whole, in the order in which an executor would go.

    While m tasks run, each passes `rates(m) / m` inputs a second. A task is its cost times `train_size` inputs, after
    seconds of its own. Tasks that only evaluate count as if they trained.

    Args:
        plan: what is computed, nothing of it stored.
        rates: inputs a second by the number of tasks.
        train_size: inputs of an epoch.
        jobs: tasks side by side.
        overhead: seconds of every task beside its inputs.
        symmetry: seconds of the discovery of the symmetry, in place of its cost.
    """
    schedule, now, ends = Schedule(plan, lambda key: False, lambda event: None), 0.0, dict[str, float]()
    left: dict[str, tuple[Task, float, float]] = {}  # of what runs: seconds of its own, then inputs
    while not schedule.finished:
        while len(left) < jobs and (task := schedule.next()) is not None:
            own, inputs = (symmetry, 0.0) if task.kind == "symmetry" else (overhead, task.cost * train_size)
            left[task.key] = (task, own, inputs)
        pace = rates(len(left)) / len(left)
        needed = {key: own + inputs / pace for key, (_, own, inputs) in left.items()}
        now += (step := min(needed.values()))
        for key, seconds in needed.items():
            task, own, inputs = left.pop(key)
            if seconds > step + 1e-9:
                left[key] = (task, max(0.0, own - step), inputs - max(0.0, step - own) * pace)
            else:
                ends[key] = now
                schedule.finish(task, 0.0)
    numbers = range(max(plan.stage.values(), default=-1) + 1)
    return tuple(max((ends[t.key] for t in plan.targets if plan.stage[t.key] <= n), default=0.0) for n in numbers)


@dataclass(frozen=True)
class Chosen:
    """A schedule and what it is predicted to take.

    Args:
        epochs, jobs, precision: T, tasks side by side, and in which arithmetic.
        config: the experiment; its seeds are the pairs.
        stages: the targets, the most important first, as `Plan.of(*stages)` takes them.
        seconds: by stage, when it is predicted to be whole, with all before it; may lie past the budget.
        sentence: the choice in words.
    """

    epochs: int
    jobs: int
    precision: str
    config: Config
    stages: tuple[tuple[Task, ...], ...]
    seconds: tuple[float, ...]
    sentence: str


@dataclass(frozen=True)
class _Draft:
    epochs: int
    seeds: tuple[int, ...]
    facts: Facts
    settings: tuple[str, ...]
    sparsities: tuple[float, ...] = MAIN
    imp_b: bool = True

    def blueprint(self, precision: str = "float32") -> Blueprint:
        chosen = (self.sparsities, precision, self.imp_b, self.facts.train_size, self.settings)
        return Blueprint(row_config(self.epochs, self.seeds, *chosen), self.facts)


@cache
def _planned(draft: _Draft) -> Plan:
    return Plan.of(*stages(draft.blueprint()))


@dataclass(frozen=True)
class _Way:
    """One way to use the device, and the seconds that three pairs (`limit`) and everything (`budget`) may take."""

    precision: str
    rates: Rates
    jobs: int
    overhead: float
    limit: float
    budget: float

    def ends(self, draft: _Draft) -> tuple[float, ...]:
        return simulate(_planned(draft), self.rates, draft.facts.train_size, self.jobs, self.overhead)

    def longest(self, draft: _Draft, epochs: Sequence[int], stage: int) -> _Draft | None:
        """Return the draft with the most of `epochs` at which `stage` ends within the limit, or None."""
        peak = max(map(self.rates, range(1, self.jobs + 1))) / draft.facts.train_size

        def least_seconds(one: _Draft) -> float:
            plan = _planned(one)
            return sum(t.cost for t in plan.tasks if plan.stage[t.key] <= stage and t.kind != "symmetry") / peak

        drafts = [replace(draft, epochs=number) for number in epochs]
        possible = drafts[: bisect_right(drafts, self.limit, key=least_seconds)]
        return next((one for one in reversed(possible) if self.ends(one)[stage] <= self.limit), None)

    def best(self, draft: _Draft) -> tuple[int, _Draft]:
        """Return what is given up (0 nothing, 1 imp-b, 2 all but the decisive methods) and the draft to take."""
        long, least, short = range(LEAST_EPOCHS, PAPER_EPOCHS + 1), [LEAST_EPOCHS], range(1, LEAST_EPOCHS + 1)
        for lost, (epochs, stage, imp_b) in enumerate(((long, 1, True), (least, 1, False), (short, 0, False))):
            if found := self.longest(replace(draft, imp_b=imp_b), epochs, stage):
                return lost, found
        return 2, replace(draft, epochs=1, imp_b=False)

    def extended(self, draft: _Draft) -> _Draft:
        """Return the draft with the second sparsity, then with more pairs, as far as they are predicted to fit."""

        def fits(more: _Draft) -> bool:
            ends = self.ends(more)
            return ends[1] <= self.limit and ends[-1] <= self.budget

        draft = more if fits(more := replace(draft, sparsities=BOTH)) else draft
        for _ in range(PAIRS, MOST_PAIRS):
            draft = more if fits(more := replace(draft, seeds=(*draft.seeds, draft.seeds[-1] + 1))) else draft
        return draft


def choose(
    rates: Mapping[str, Rates],
    budget: float,
    first_seed: int = 0,
    jobs: Sequence[int] | None = None,
    facts: Facts = CIFAR10,
    overhead: float = OVERHEAD,
    safety: float = SAFETY,
    settings: Sequence[str] = (),
) -> Chosen:
    """Return the longest schedule at which three pairs end within `safety` of the budget; there is always one.

    Where 10 epochs do not fit, imp-b and the overlap of masks are left out; then T falls until the decisive methods
    fit, to 1 at least. 95 % and more pairs are added where all of it is predicted to end within the budget.

    Args:
        rates: by precision, at least one. Of equal T the first precision wins, then the earlier decisive methods.
        budget: seconds from the start of the first task.
        first_seed: the first pair.
        jobs: how many tasks may run side by side, to choose from; the measured numbers when None.
        facts: of the data.
        overhead: seconds of every task beside its inputs.
        safety: share of the budget, in (0, 1].
        settings: more `key=value` for the configuration; those of `grid` are decided here.

    Raises:
        InputError: when no precision is given.
    """
    if not rates:
        raise InputError("throughput: no precision was measured; give choose() at least one, such as {'float32': ...}")
    draft = _Draft(LEAST_EPOCHS, tuple(range(first_seed, first_seed + PAIRS)), facts, tuple(settings))
    seconds, names = (overhead, safety * budget, budget), list(rates)
    ways = [_Way(name, rate, count, *seconds) for name, rate in rates.items() for count in jobs or rate.measured]
    ranked = [(*way.best(draft), way) for way in ways]
    lost, draft, way = min(ranked, key=lambda x: (x[0], -x[1].epochs, names.index(x[2].precision), x[2].ends(x[1])))
    draft = draft if lost else way.extended(draft)
    blueprint, ends = draft.blueprint(way.precision), way.ends(draft)
    words = _sentence(blueprint.config, way, ends, lost)
    return Chosen(draft.epochs, way.jobs, way.precision, blueprint.config, stages(blueprint), ends, words)


def _sentence(config: Config, way: _Way, ends: tuple[float, ...], lost: int) -> str:
    names = ["decisive methods", "all methods", *[f"{sparsity:.0%}" for sparsity in config.grid.sparsities[1:]]]
    names += [f"{part} of pair {seed}" for seed in config.grid.seeds[PAIRS:] for part in ("decisive methods", "all")]
    when = ", ".join(f"{name} by {end:.0f} s" for name, end in zip(names, ends, strict=True))
    left = "; imp-b and the overlap of masks are left out" if lost else ""
    left += "; what is not done at the end of the budget is cut" if lost == 2 else ""
    return (
        f"T = {config.dense.epochs} of {PAPER_EPOCHS} dense epochs, {config.prune.epochs} a round of pruning, "
        f"k = {config.grid.rewinds[0]}, {way.precision}, {way.jobs} tasks side by side, pairs "
        f"{', '.join(map(str, config.grid.seeds))}; predicted: {when}, of a budget of {way.budget:.0f} s{left}."
    )
