"""From stored results to `results.json`: every number with its n, its spread and the keys it came from."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from jaxtyping import Shaped
from torch import Tensor

from reticket.analysis import Stat, gap_closed, paired_difference
from reticket.experiment import Result, Store, Summary, Task
from reticket.experiment.task import closure
from reticket.models import build_model, model_params
from reticket.rng import generator_for
from reticket.tasks.behind import seed_of
from reticket.tasks.blueprint import Blueprint
from reticket.tasks.cells import Cell
from reticket.tasks.check import checks
from reticket.tasks.config import Config
from reticket.tasks.costs import mean_cost, target_cost
from reticket.tasks.metric import Metric
from reticket.tasks.results import SCHEMA, Results, results_model
from reticket.tasks.rows import Cost, Difference, Experiment, Failure, Gap, Row
from reticket.tasks.stored import Stored, place_of
from reticket.tickets import Mask, coverage, known_prunable, weights_of

ORDER = (("lth", "permuted"), ("permuted", "naive"))  # what the method promises, best first


class ResultsBuilder:
    """Makes the results of an experiment from what is in the store.

    Args:
        blueprint: what was planned.
        store: where the results are; what failed is absent and left out of the rows.
        labels: classes of the test images, shape `(n,)`, or the numbers that are to be predicted.
    """

    def __init__(self, blueprint: Blueprint, store: Store, labels: Shaped[Tensor, " n"]) -> None:
        self.blueprint = blueprint
        planned = frozenset(task.key for task in closure(blueprint.targets, resumes=True))
        is_classified, objective = blueprint.facts.is_classified, blueprint.config.dense.objective
        self.metric = Metric() if is_classified else Metric.of(objective)
        self.stored = Stored(blueprint, store, planned, labels)

    def results(self, title: str, preset: str, summary: Summary, environment: Mapping[str, Any]) -> Results:
        """Return all of it, as `results.json` holds it."""
        cost = self.costs()  # reads every result, which `origins` then knows of
        failed = {**summary.failed, **self.lost(summary)}
        return results_model()(
            schema_version=SCHEMA,
            title=title,
            preset=preset,
            scale=self.blueprint.config.scale,
            complete=summary.complete and not failed,
            experiment=self.experiment(),
            rows=self.rows(),
            gap_closed=self.gaps(),
            differences=self.differences(),
            cost=cost,
            failures=tuple(Failure(label=label, error=error) for label, error in failed.values()),
            environment={**environment, "computed_with": self.origins()},
            **self.sections(),
        )

    def sections(self) -> dict[str, Any]:
        """Return what every check found, by section."""
        found: dict[str, Any] = {}
        for check in checks():
            if self.blueprint.facts.is_classified or not check.of_classes:
                found |= check.results(self.stored, self.blueprint.of(check.name))
        return found

    def lost(self, summary: Summary) -> dict[str, tuple[str, str]]:
        """Return by key label and error of what a run found in the store, or put there, and is not there any more."""
        known = {*summary.failed, *summary.skipped, *summary.unfinished}
        wanted = {task.key: task for task in (*self.blueprint.targets, *self.blueprint.compared)}
        gone = {key: task for key, task in wanted.items() if key not in known and self.stored.get(task) is None}
        text = "its result is not in the store any more; run again to compute it anew"
        return {key: (task.name, self.stored.damaged.get(key, text)) for key, task in gone.items()}

    def experiment(self) -> Experiment:
        """Return what was trained, as far as it decides what the numbers may be compared with."""
        config, facts = self.blueprint.config, self.blueprint.facts
        found = config.model_dump(mode="json", include={"data", "model", "dense", "sparse", "prune", "matching"})
        found["model"]["params"] = model_params(
            config.model.name, facts.input_shape, len(facts.classes), **config.model.params
        )
        pruned = any(cell.sparsity for cell in self.blueprint.runs)
        return Experiment(
            **found,
            unpruned=_unpruned(config, found["model"]["params"]) if pruned else {},
            train_size=facts.train_size,
            metric=self.metric,
            steps_per_epoch=self.blueprint.networks.epoch,
        )

    def origins(self) -> list[str]:
        """Return what the results were computed with, each combination once: a store may be older than this run."""
        found = [result.provenance for result in self.stored.read]
        return sorted({f"torch {p['torch']}, {p['device']}, {p['threads']} thread(s) a task" for p in found})

    def rows(self) -> tuple[Row, ...]:
        """Return accuracy (percent), or what else the networks are judged by, and loss (nats) of every cell."""
        return tuple(
            Row(
                **place_of(cell),
                **priced,
                true_sparsity=results[0].values["true_sparsity"],
                metric=metric,
                **Stat.of([r.values[metric] for r in results]).as_dict(),
                keys=_keys(results),
                seeds=tuple(map(seed_of, results)),
            )
            for cell, results in self.stored.cells()
            for priced in (self._priced(cell),)
            for metric in dict.fromkeys((self.metric.name, "loss"))
        )

    def _priced(self, cell: Cell) -> dict[str, float | None]:
        """Return what a network of a cell costs, mean over the seeds that there are."""
        find, sizes = self.stored.get, self.blueprint.facts.sizes
        return mean_cost([target_cost(task, find, sizes) for task in self.blueprint.runs[cell] if find(task)])

    def gaps(self) -> tuple[Gap, ...]:
        """Return the share of the LTH - naive gap that each method closes, paired by seed."""
        rows = []
        for cell, tasks in self.blueprint.runs.items():
            if cell.rewind is None or cell.method in ("lth", "naive"):
                continue
            paired = self.stored.paired(self._beside("lth", cell), self._beside("naive", cell), tasks)
            if not paired:
                continue
            lth, naive, other = zip(*(self._scores(trial) for trial in paired), strict=True)
            unit = "points" if self.metric.unit == "%" else self.metric.unit
            gap = gap_closed(lth, naive, other, confidence=self.blueprint.config.checks.confidence, unit=unit)
            rows.append(Gap(**place_of(cell), **asdict(gap), keys=_keys_of(paired)))
        return tuple(rows)

    def differences(self) -> tuple[Difference, ...]:
        """Return how much better each step of LTH > permuted > naive is, paired by seed; two seeds or more."""
        rows = []
        for cell in self.blueprint.runs:
            for higher, lower in ORDER if cell.method == "permuted" else ():
                paired = self.stored.paired(self._beside(higher, cell), self._beside(lower, cell))
                if len(paired) < 2:
                    continue
                one, other = zip(*(self._scores(trial) for trial in paired), strict=True)
                found = paired_difference(one, other, self.blueprint.config.checks.confidence)
                place = {key: value for key, value in place_of(cell).items() if key != "method"}
                rows.append(Difference(higher=higher, lower=lower, **place, **asdict(found), keys=_keys_of(paired)))
        return tuple(rows)

    def costs(self) -> tuple[Cost, ...]:
        """Return model-epochs and seconds by kind of task, and of how many tasks no result is there to be counted."""
        totals: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
        targets = self.blueprint.targets
        missing = Counter(task.kind for task in closure(targets) if self.stored.get(task) is None)
        for task in closure(targets, resumes=True):
            result = self.stored.get(task)
            if result is not None:
                total = totals[task.kind]
                total[0] += 1
                total[1] += result.values.get("epochs", 0.0)
                total[2] += result.provenance["seconds"]
        return tuple(
            Cost(
                kind=kind,
                tasks=int(count),
                model_epochs=round(epochs, 3),
                seconds=round(seconds, 3),
                missing=missing[kind],
            )
            for kind, (count, epochs, seconds) in sorted(totals.items())
        )

    def _scores(self, results: Iterable[Result]) -> list[float]:
        """Return the metric of some networks, with the sign that makes the higher one better."""
        return [self.metric.better_by(result.values[self.metric.name], 0.0) for result in results]

    def _beside(self, method: str, cell: Cell) -> Sequence[Task]:
        """Return the runs of a method where `cell` is, `cell` itself if it is that method's."""
        found = cell if method == cell.method else Cell(method, cell.sparsity, cell.rewind)
        return self.blueprint.runs.get(found, ())


def _unpruned(config: Config, params: Mapping[str, Any]) -> dict[str, float]:
    """Return the weight matrices that pruning leaves as they are, each with its fraction of the weights in matrices."""
    model = build_model(config.model.name, generator=generator_for("structure", "init"), **params)
    names = known_prunable(model, config.prune.exclude, config.prune.include)
    seen = coverage(Mask.full(weights_of(model, names)), model)
    return {name: size / seen.matrices for name, size in seen.unpruned.items()}


def _keys(results: Iterable[Result]) -> tuple[str, ...]:
    return tuple(result.key for result in results)


def _keys_of(paired: Iterable[Iterable[Result]]) -> tuple[str, ...]:
    return tuple(result.key for trial in paired for result in trial)
