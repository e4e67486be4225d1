"""What a dry run counts: the epochs that a run then reports, and less where results are stored or shared."""

from collections.abc import Collection
from typing import Any

import pytest
import torch
from torch import nn

from reticket.experiment import Pace, Task
from reticket.experiment.pace import Spent, group_of, network_of
from reticket.tasks import timing
from reticket.tasks.blueprint import Blueprint
from reticket.tasks.forecast import Forecast, forecast, way_of, work_of
from reticket.tasks.networks import Facts
from reticket.tasks.presets import load_config
from reticket.tasks.timing import Speed, Workload, measure
from reticket.tasks.work import Sizes, Work
from reticket.training import Recipe, TrainingRun

FACTS = Facts("0" * 64, 1297, tuple("0123456789"), (64,))
SIZES = Sizes(1297, 500)


class Kept:
    """A store in which these results exist."""

    def __init__(self, keys: Collection[str]) -> None:
        self.keys = keys

    def has(self, key: str) -> bool:
        return key in self.keys


def counted(plan: Blueprint, kept: Collection[str] = ()) -> Forecast:
    def work(task: Task, resumed: Task | None) -> Work:
        return work_of(task, resumed, SIZES)

    return forecast(plan.targets, work, Kept(kept))


def small(*settings: str) -> Blueprint:
    only = ("seeds=1", "sparsities=[0.4]", "diversity_members=0", 'methods=["lth", "permuted", "naive"]', *settings)
    return Blueprint(load_config("digits", only)[1], FACTS)


def test_epochs_are_those_that_are_trained() -> None:
    found = counted(small("overlap=false"))
    epochs = {kind: total.work.epochs for kind, total in found.kinds.items()}
    # A and B once to 25 epochs; two rounds and a leaf of 6; three methods from 0 and from 5 epochs to 25
    assert epochs["dense"] == pytest.approx(2 * 25)
    assert epochs["prune-round"] == 3 * 6
    assert epochs["sparse"] == 3 * (25 + 20)
    assert found.epochs == pytest.approx(50 + 18 + 135)
    assert found.apart > 3 * found.epochs


def test_a_network_that_is_only_rewound_is_trained_from_the_nearest_point_that_is_there() -> None:
    plan = small("overlap=false", "barriers=false", 'rewinds=["0ep", "3ep", "5ep"]', 'methods=["naive"]')
    assert counted(plan).kinds["dense"].work.epochs == pytest.approx(25 + 5), "A to its end, B to 5 through 3"
    three = plan.networks.at(("B", 0), 3 * plan.networks.epoch)
    assert counted(plan, {three.key}).kinds["dense"].work.epochs == pytest.approx(25 + 2)
    only_five = small("overlap=false", "barriers=false", 'rewinds=["3ep", "5ep"]', 'methods=["naive"]')
    targets = [task for cell, (task,) in only_five.runs.items() if cell.rewind == "5ep"]
    alone = forecast(targets, lambda task, resumed: work_of(task, resumed, SIZES))
    assert alone.kinds["dense"].work.epochs == pytest.approx(25 + 5), "nobody stops at 3"


def test_what_is_stored_is_not_counted() -> None:
    plan = small()
    everything = {task.key for task in counted(plan).plan.tasks}
    assert not counted(plan, everything).plan.tasks
    ends = {task.key for tasks in plan.runs.values() for task in tasks}
    assert "sparse" not in counted(plan, ends).kinds


def test_images_of_evaluations_and_checks() -> None:
    plan = small("checks.alphas=5", "barrier_samples=100", "matching.samples=300")
    found = counted(plan).kinds
    assert found["match"].work.evaluated == 2 * 300
    curves = len(plan.of("barriers"))
    assert found["barrier"].work.evaluated == curves * 5 * 100 + curves / 2 * 7 * 100
    assert found["sparse"].work.evaluated == 6 * 500


def test_time_is_work_times_speed_shared_by_processes_but_no_shorter_than_the_longest_chain() -> None:
    found = counted(small("barriers=false", "overlap=false"))
    seconds = found.timed({way_of(found.plan.tasks[0].spec): Speed(1e-3, 0.0, 64)})
    assert found.by_kind(seconds)["sparse"] == pytest.approx(135 * 1297 * 1e-3)
    assert found.elapsed(seconds, 1) == pytest.approx(sum(seconds.values()))
    assert found.elapsed(seconds, 2) >= sum(seconds.values()) / 2
    longest = (25 + 18 + 25) * 1297 * 1e-3  # A, its rounds, a sparse run from the initialisation
    assert found.elapsed(seconds, 1000) == pytest.approx(longest)


def test_time_is_learned_where_every_model_was_seen_before() -> None:
    found = counted(small())
    assert found.learned(Pace()) is None
    one = next(task for task in found.plan.tasks if task.kind == "sparse")
    pace = Pace({group_of(one.kind, one.spec): Spent(2, 10.0, 5.0)})
    seconds = found.learned(pace)
    assert seconds is not None
    assert seconds == {task.key: pytest.approx(2.0 * task.cost) for task in found.plan.tasks}
    others = small("model.params.hidden=[8]")
    assert counted(others).learned(pace) is None, "of another model nothing is known"
    assert counted(small("dense.precision=bfloat16")).learned(pace) is None, "and nothing of another precision"


def test_each_kind_of_step_has_a_speed_of_its_own() -> None:
    found = counted(small("sparse.parametrization=sign-in", "barriers=false", "overlap=false"))
    ways = {task.kind: way_of(task.spec) for task in found.plan.tasks}
    assert ways["dense"] == ways["prune-round"] != ways["sparse"]
    assert {way[0] for way in ways.values() if way[0]} == {network_of(found.plan.tasks[0].spec)}
    seconds = found.timed({ways["dense"]: Speed(1e-3, 0.0, 64), ways["sparse"]: Speed(1e-2, 0.0, 64)})
    one = {task.kind: task for task in found.plan.tasks if task.kind in ("sparse", "dense")}
    for kind, speed in (("sparse", 1e-2), ("dense", 1e-3)):
        assert seconds[one[kind].key] == pytest.approx(found.work[one[kind].key].trained * speed)


def test_costs_are_the_work_in_epochs_an_evaluation_a_third() -> None:
    facts = Facts("0" * 64, SIZES.train, tuple("0123456789"), (64,), test_size=SIZES.test)
    only = ("seeds=1", "sparsities=[0.4]", "checks.trust_halves=2", 'methods=["lth", "permuted", "naive"]')
    found = forecast(
        Blueprint(load_config("digits", only)[1], facts).targets, lambda task, resumed: work_of(task, resumed, SIZES)
    )
    kinds = {"dense", "prune-round", "sparse", "match", "barrier", "trust"}
    assert kinds <= {task.kind for task in found.plan.tasks}
    for task in found.plan.tasks:
        if task.kind in kinds - {"dense"}:  # which may go on from a point that this plan does not have
            assert task.cost == pytest.approx(found.work[task.key].cost(SIZES.train)), task.label


@pytest.mark.slow_cases("2-False")
@pytest.mark.parametrize(("jobs", "augment"), [(1, True), (2, False)])
def test_a_model_is_really_timed(jobs: int, augment: bool) -> None:
    params = {"in_channels": 3, "widths": (4, 4, 4, 4), "classes": 10}
    recipe = Recipe(90, 8, 0.1, milestones=(30, 60), schedule="step", warmup_epochs=5, accumulate=3, mixup=0.2)
    found = measure(Workload("conv-small", params, (3, 32, 32), 10, recipe, augment), jobs=jobs)
    assert 0 < found.evaluation < found.training < 1
    assert (found.batch_size, found.jobs) == (8, jobs)


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bfloat16"},
        {"optimizer": "adamw"},
        {"clip_norm": 1.0},
        {"label_smoothing": 0.1, "mixup": 0.2},
        {"accumulate": 4},
        {"parametrization": "sign-in"},
        {"objective": "regression"},
    ],
)
def test_what_is_timed_are_the_steps_of_the_recipe(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, seen = Recipe(5, 8, 0.1, **changes), []

    class Seen(TrainingRun):
        def go(self, *args: Any, **options: Any) -> Any:
            seen.append(self.recipe)
            return super().go(*args, **options)

    monkeypatch.setattr(timing, "TrainingRun", Seen)
    measure(Workload("mlp", {"in_features": 64, "hidden": [8], "classes": 10}, (64,), 10, recipe))
    assert seen
    assert all(getattr(one, name) == value for one in seen[-2:] for name, value in changes.items())


def test_rows_of_tokens_with_one_label_each_are_timed() -> None:
    net = f"{__name__}:OfTokens"
    found = measure(Workload(net, {}, (6,), 5, Recipe(1, 8, 0.1), tokens=True))
    assert found.training > 0


class OfTokens(nn.Module):
    """One of five classes for a row of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(5, 4), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.embedding(x).mean(dim=1))
