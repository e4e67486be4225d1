"""From stored results to `results.json`: every number with its n, its spread and the keys it came from."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from reticket.analysis import Stat, diversity, gap_closed, paired_difference, per_class_accuracy
from reticket.experiment import DamagedResult, MissingResult, Result, Store, Summary, Task
from reticket.experiment.task import closure
from reticket.models import model_params
from reticket.tasks.blueprint import Blueprint, Cell
from reticket.tasks.exemplars import Population, sheet_cell

SCHEMA = 1
ORDER = (("lth", "permuted"), ("permuted", "naive"))  # what the method promises, best first


class Findings:
    """The results of an experiment, read once from the store.

    Args:
        blueprint: what was planned.
        store: where the results are; what failed is absent and left out of the rows.
        labels: classes of the test images, shape `(n,)`.
    """

    def __init__(self, blueprint: Blueprint, store: Store, labels: Tensor) -> None:
        self.blueprint = blueprint
        self.labels = labels
        self._store = store
        self._planned = {task.key for task in closure(blueprint.targets, resumes=True)}
        self._seen: dict[str, Result | None] = {}
        self._damaged: dict[str, str] = {}
        self._predictions: dict[str, Tensor] = {}

    def to_json(self, title: str, preset: str, summary: Summary, environment: Mapping[str, Any]) -> dict[str, Any]:
        """Return the content of `results.json`, schema 1."""
        costs = self.costs()  # reads every result, which `origins` then knows of
        failed = {**summary.failed, **self.lost(summary)}
        return {
            "schema": SCHEMA,
            "title": title,
            "preset": preset,
            "scale": {name: list(both) for name, both in self.blueprint.config.scale.items()},
            "complete": summary.complete and not failed,
            "experiment": self.experiment(),
            "rows": self.rows(),
            "gap_closed": self.gaps(),
            "differences": self.differences(),
            "barriers": self.barriers(),
            "matching": self.matching(),
            "overlap": self.overlaps(),
            "diversity": self.diversities(),
            "per_class": self.per_class(),
            "exemplars": self.exemplars(),
            "contact_sheet": self.contact_sheet(),
            "cost": costs,
            "failures": [{"label": label, "error": error} for label, error in failed.values()],
            "environment": {**environment, "computed_with": self.origins()},
        }

    def lost(self, summary: Summary) -> dict[str, tuple[str, str]]:
        """Return by key label and error of what a run found in the store, or put there, and is not there any more."""
        known = {*summary.failed, *summary.skipped, *summary.unfinished}
        shown = {task.key: task for task in (*self.blueprint.targets, *self.blueprint.compared)}
        gone = {key: task for key, task in shown.items() if key not in known and self._get(task) is None}
        text = "its result is not in the store any more; run again to compute it anew"
        return {key: (task.name, self._damaged.get(key, text)) for key, task in gone.items()}

    def experiment(self) -> dict[str, Any]:
        """Return what was trained, as far as it decides what the numbers may be compared with."""
        config, facts = self.blueprint.config, self.blueprint.facts
        sections = ("data", "model", "dense", "sparse", "prune", "matching")
        found = {name: getattr(config, name).model_dump(mode="json") for name in sections}
        found["model"]["params"] = model_params(
            config.model.name, facts.input_shape, len(facts.classes), **config.model.params
        )
        return {**found, "train_size": facts.train_size, "steps_per_epoch": self.blueprint.networks.epoch}

    def origins(self) -> list[str]:
        """Return what the results were computed with, each combination once: a store may be older than this run."""
        found = [result.provenance for result in self._seen.values() if result is not None]
        return sorted({f"torch {p['torch']}, {p['device']}, {p['threads']} thread(s) a task" for p in found})

    def rows(self) -> list[dict[str, Any]]:
        """Return accuracy (percent) and loss (nats) of every cell."""
        return [
            {**_place(cell), "true_sparsity": results[0].values["true_sparsity"], "metric": metric}
            | Stat.of([r.values[metric] for r in results]).as_dict()
            | {"keys": [r.key for r in results]}
            for cell, results in self._cells()
            for metric in ("accuracy", "loss")
        ]

    def gaps(self) -> list[dict[str, Any]]:
        """Return the share of the LTH - naive gap that each method closes, paired by seed."""
        rows = []
        for cell, tasks in self.blueprint.runs.items():
            if cell.rewind is None or cell.method in ("lth", "naive"):
                continue
            paired = self._paired(self._beside("lth", cell), self._beside("naive", cell), tasks)
            if not paired:
                continue
            lth, naive, other = zip(*(_accuracies(trial) for trial in paired), strict=True)
            gap = gap_closed(lth, naive, other, confidence=self.blueprint.config.checks.confidence)
            rows.append({**_place(cell), **asdict(gap), "keys": [r.key for trial in paired for r in trial]})
        return rows

    def differences(self) -> list[dict[str, Any]]:
        """Return each step of LTH > permuted > naive in points of accuracy, paired by seed; two seeds or more."""
        rows = []
        for cell in self.blueprint.runs:
            for higher, lower in ORDER if cell.method == "permuted" else ():
                paired = self._paired(self._beside(higher, cell), self._beside(lower, cell))
                if len(paired) < 2:
                    continue
                one, other = zip(*(_accuracies(trial) for trial in paired), strict=True)
                found = paired_difference(one, other, self.blueprint.config.checks.confidence)
                place = {key: value for key, value in _place(cell).items() if key != "method"}
                keys = [r.key for trial in paired for r in trial]
                rows.append({"higher": higher, "lower": lower, **place, **asdict(found), "keys": keys})
        return rows

    def barriers(self) -> list[dict[str, Any]]:
        """Return every curve between two networks, one line a seed."""
        rows = []
        for cell, tasks in self.blueprint.barriers.items():
            results = self._present(tasks)
            if not results:
                continue
            rows.append(
                {"pair": cell.pair, "repair": cell.repair, "sparsity": cell.sparsity, "match_at": cell.match_at}
                | {"n": len(results)}
                | {"alphas": results[0].values["alphas"]}
                | {metric: [r.values[metric] for r in results] for metric in ("loss", "accuracy")}
                | {m: _stat(results, m) for m in ("loss_barrier", "accuracy_barrier")}
                | {"keys": [r.key for r in results]}
            )
        return rows

    def matching(self) -> list[dict[str, Any]]:
        """Return how well each group of units was matched, at every position where it was."""
        rows = []
        for place, tasks in self.blueprint.matchings.items():
            results = self._present(tasks)
            groups = results[0].values["groups"] if results else {}
            rows += [
                {"group": name, "size": group["size"], "copies": group["copies"], "match_at": place}
                | {m: _over(results, name, m) for m in ("correlation", "margin")}
                | {"keys": [r.key for r in results]}
                for name, group in groups.items()
            ]
        return rows

    def overlaps(self) -> list[dict[str, Any]]:
        """Return the share of B's own mask that A's mask hits, moved and unmoved, against chance (percent)."""
        rows = []
        for sparsity, tasks in self.blueprint.overlaps.items():
            results = self._present(tasks)
            layers = results[0].values["permuted"] if results else {}
            for mask in ("permuted", "naive"):
                for layer in layers:
                    shares = [r.values[mask][layer] for r in results]
                    whole = [share for share in shares if share["overlap"] is not None]  # a layer may lose every weight
                    if whole:
                        rows.append(
                            {"sparsity": sparsity, "layer": layer or None, "mask": mask}
                            | {m: Stat.of([share[m] for share in whole]).as_dict() for m in ("overlap", "chance")}
                            | {"keys": [r.key for r in results]}
                        )
        return rows

    def diversities(self) -> list[dict[str, Any]]:
        """Return how different the members of an ensemble are: independent runs, and one ticket on several networks."""
        ensembles: list[tuple[str, Cell, Sequence[Result]]] = [
            ("independent", cell, results) for cell, results in self._cells() if cell not in self.blueprint.independent
        ]
        ensembles += [("independent", c, self._present(tasks)) for c, tasks in self.blueprint.independent.items()]
        ensembles += [("one ticket", cell, self._present(tasks)) for cell, tasks in self.blueprint.members.items()]
        return [
            {**_place(cell), "protocol": protocol}
            | asdict(diversity(torch.stack([r.tensors["logits"] for r in results]), self.labels))
            | {"keys": [r.key for r in results]}
            for protocol, cell, results in ensembles
            if len(results) > 1
        ]

    def per_class(self) -> list[dict[str, Any]]:
        """Return each class's accuracy after sparse training against the same network's dense training (percent)."""
        rows = []
        for cell, tasks in self.blueprint.runs.items():
            if cell.method == "dense":
                continue
            network = self.blueprint.methods[cell.method].network
            pairs = [
                (self._by_class(self.blueprint.networks.dense(network, seed)), self._by_class(task))
                for seed, task in zip(self.blueprint.config.grid.seeds, tasks, strict=True)
            ]
            whole = [(before, after) for before, after in pairs if before and after]
            for number, name in enumerate(self.blueprint.facts.classes):
                both = [(before[number], after[number]) for before, after in whole]
                known = [(x, y) for x, y in both if x is not None and y is not None]
                if known:
                    stats = {"dense": [x for x, _ in known], "sparse": [y for _, y in known]}
                    stats["change"] = [y - x for x, y in known]
                    rows.append({**_place(cell), "class": name} | {k: Stat.of(v).as_dict() for k, v in stats.items()})
        return rows

    def exemplars(self) -> list[dict[str, Any]]:
        """Return for every cell how many test images pruning makes the networks see differently, and which classes."""
        return [
            {**_place(cell), **found.as_dict(self.labels, self.blueprint.facts.classes)}
            for cell in self.blueprint.runs
            if (found := self._exemplars(cell)) is not None
        ]

    def contact_sheet(self) -> dict[str, Any]:
        """Return the surest exemplars of one cell, whose images stand in `exemplars/`; nothing where there are none."""
        cell = sheet_cell(self.blueprint.runs, self.blueprint.config.grid.match_at)
        found = None if cell is None else self._exemplars(cell)
        if cell is None or found is None:
            return {}
        return {**_place(cell), "images": found.surest(self.labels, self.blueprint.facts.classes)}

    def _exemplars(self, cell: Cell) -> Population | None:
        if cell.method == "dense":
            return None
        networks, seeds = self.blueprint.networks, self.blueprint.config.grid.seeds
        a, b = (self._predicted(networks.dense(side, seed) for seed in seeds) for side in ("A", "B"))
        own = b if self.blueprint.methods[cell.method].network == "B" and b is not None else a
        sparse = self._predicted(self.blueprint.runs[cell])
        if own is None or sparse is None:
            return None
        return Population(own, sparse, (a, b) if a is not None and b is not None else None)

    def _predicted(self, tasks: Iterable[Task]) -> Tensor | None:
        """Return (networks, n) predictions of the networks that are there."""
        found = [self._prediction(result) for result in self._present(tasks)]
        return torch.stack(found) if found else None

    def _prediction(self, result: Result) -> Tensor:
        """Return (n,) predictions, kept because a dense network stands beside every cell."""
        if result.key not in self._predictions:
            self._predictions[result.key] = result.tensors["logits"].argmax(-1)
        return self._predictions[result.key]

    def costs(self) -> list[dict[str, Any]]:
        """Return model-epochs and seconds by kind of task, and of how many tasks no result is there to be counted."""
        totals: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
        missing = Counter(task.kind for task in closure(self.blueprint.targets) if self._get(task) is None)
        for task in closure(self.blueprint.targets, resumes=True):
            result = self._get(task)
            if result is not None:
                total = totals[task.kind]
                total[0] += 1
                total[1] += result.values.get("epochs", 0.0)
                total[2] += result.provenance["seconds"]
        return [
            {"kind": kind, "tasks": int(count), "model_epochs": round(epochs, 3), "seconds": round(seconds, 3)}
            | ({"missing": missing[kind]} if missing[kind] else {})
            for kind, (count, epochs, seconds) in sorted(totals.items())
        ]

    # ---------------------------------------------------------------- reading

    def _get(self, task: Task) -> Result | None:
        if task.key not in self._planned:  # a store may be shared: what else it holds decides nothing here
            return None
        if task.key not in self._seen:
            try:
                self._seen[task.key] = self._store.get(task.key)
            except MissingResult as error:
                self._seen[task.key] = None
                if isinstance(error, DamagedResult):
                    self._damaged[task.key] = str(error)
        return self._seen[task.key]

    def _present(self, tasks: Iterable[Task]) -> list[Result]:
        return [result for task in tasks if (result := self._get(task)) is not None]

    def _cells(self) -> list[tuple[Cell, list[Result]]]:
        found = [(cell, self._present(tasks)) for cell, tasks in self.blueprint.runs.items()]
        return [(cell, results) for cell, results in found if results]

    def _beside(self, method: str, cell: Cell) -> Sequence[Task]:
        """Return the runs of a method where `cell` is, `cell` itself if it is that method's."""
        found = cell if method == cell.method else Cell(method, cell.sparsity, cell.rewind)
        return self.blueprint.runs.get(found, ())

    def _paired(self, *columns: Sequence[Task]) -> list[tuple[Result, ...]]:
        """Return the results of the seeds that all columns have."""
        trials = [[self._get(task) for task in trial] for trial in zip(*columns, strict=False)]
        return [tuple(filter(None, trial)) for trial in trials if None not in trial]

    def _by_class(self, task: Task) -> tuple[float | None, ...] | None:
        result = self._get(task)
        return None if result is None else per_class_accuracy(result.tensors["logits"], self.labels)


def _accuracies(results: Iterable[Result]) -> list[float]:
    return [result.values["accuracy"] for result in results]


def _place(cell: Cell) -> dict[str, Any]:
    return {
        "method": cell.method,
        "sparsity": 0.0 if cell.sparsity is None else cell.sparsity,
        "rewind": cell.rewind,
        "match_at": cell.match_at,
    }


def _over(results: Sequence[Result], group: str, name: str) -> dict[str, Any]:
    return Stat.of([r.values["groups"][group][name] for r in results]).as_dict()


def _stat(results: Sequence[Result], name: str) -> dict[str, Any]:
    return Stat.of([r.values[name] for r in results]).as_dict()
