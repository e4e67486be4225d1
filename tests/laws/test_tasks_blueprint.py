"""Planning: what is shared, what a changed field re-does, and what a position does not depend on."""

from collections import Counter
from collections.abc import Mapping
from functools import cache

import pytest

from reticket.errors import ConfigError, InputError
from reticket.experiment import Plan, Task
from reticket.experiment.task import closure
from reticket.tasks.blueprint import Blueprint
from reticket.tasks.cells import Cell, member_seeds
from reticket.tasks.checks.diversity import Ensemble
from reticket.tasks.networks import Facts, density_of
from reticket.tasks.presets import list_presets, load_config
from tests.zoo.torchvision_operators import named_operators

OPERATORS = named_operators()  # timm imports torchvision
FACTS = Facts("0" * 64, 1297, tuple("0123456789"), (64,))


@cache
def blueprint(*settings: str, preset: str = "digits") -> Blueprint:
    return Blueprint(load_config(preset, settings)[1], FACTS)


@cache
def all_tasks(plan: Blueprint) -> Mapping[str, Task]:
    return {task.key: task for task in closure(plan.targets, resumes=True)}


def kinds(tasks: set[str], known: Mapping[str, Task]) -> Counter[str]:
    return Counter(known[key].kind for key in tasks)


def test_one_dense_run_and_one_chain_serve_the_whole_table() -> None:
    counts = Counter(task.kind for task in Plan.of(blueprint("seeds=1", "diversity_members=0").targets).tasks)
    # A and B: positions 0, 5 epochs and the end; rounds 0.8^1..0.8^17 and three leaves each
    assert counts["dense"] == 2 * 3
    assert counts["prune-round"] == 2 * (17 + 3)
    assert counts["match"] == 1
    assert counts["symmetry"] == 1


def test_a_new_sparsity_keeps_every_old_task() -> None:
    before = all_tasks(blueprint("sparsities=[0.9]", "diversity_members=0"))
    after = all_tasks(blueprint("sparsities=[0.9, 0.95]", "diversity_members=0"))
    assert before.keys() <= after.keys()
    assert kinds(after.keys() - before.keys(), after)["dense"] == 0


def test_a_new_rewind_point_trains_no_dense_network_to_its_end_again() -> None:
    before, after = (all_tasks(blueprint(f"rewinds={r}", "diversity_members=0")) for r in ('["0ep"]', '["0ep", "7ep"]'))
    new = {key: after[key] for key in after.keys() - before.keys()}
    assert before.keys() <= after.keys()
    assert {task.spec["at"] for task in new.values() if task.kind == "dense"} == {7 * 21}
    assert "prune-round" not in {task.kind for task in new.values()}


@pytest.mark.parametrize(
    ("setting", "redone"),
    [
        ("sparse.lr=0.05", {"sparse"}),
        ("prune.lr=0.05", {"prune-round", "sparse", "barrier", "overlap"}),
        ("prune.include=['embedding']", {"prune-round", "sparse", "barrier", "overlap"}),
        ("matching.cost=cosine", {"match", "sparse", "barrier", "overlap"}),
        ("checks.alphas=5", {"barrier"}),
        ("dense.lr=0.05", {"dense", "prune-round", "match", "sparse", "barrier", "overlap"}),
        ("title=another", set()),
    ],
)
def test_a_changed_field_redoes_only_what_it_decides(setting: str, redone: set[str]) -> None:
    before, after = all_tasks(blueprint()), all_tasks(blueprint(setting))
    assert set(kinds(after.keys() - before.keys(), after)) == redone


def test_methods_of_one_pair_train_on_the_same_order_of_data() -> None:
    plan = blueprint()
    cells = {cell.method: cell for cell in plan.cells if (cell.sparsity, cell.rewind) == (0.9, "5ep")}
    orders = {method: plan.runs[cell][1].spec["order"] for method, cell in cells.items()}
    assert orders["naive"] == orders["permuted"] == orders["random"] != orders["lth"]


def test_members_of_an_ensemble_share_one_ticket_and_reuse_the_table() -> None:
    plan = blueprint()
    permuted = plan.of("diversity")[Ensemble("one ticket", Cell("permuted", 0.98, "5ep", "end"))]
    assert len({task.inputs["ticket"].key for task in permuted}) == 1
    assert len({task.inputs["rewound_b"].key for task in permuted}) == 5
    assert permuted[0] == plan.runs[Cell("permuted", 0.98, "5ep", "end")][0]
    lth = plan.of("diversity")[Ensemble("one ticket", Cell("lth", 0.98, "5ep"))]
    assert len({task.spec["order"] for task in lth}) == 5
    assert len({task.inputs["rewound_a"].key for task in lth}) == 1


def test_weight_rewinding_rewinds_and_replays_the_dense_schedule() -> None:
    plan = blueprint("prune.style=weight-rewind", "prune.rewind=2ep")
    leaf = plan.runs[Cell("imp", 0.9, None)][0]
    assert leaf.inputs["rewound"].spec["at"] == leaf.spec["start"] == 2 * 21
    assert leaf.spec["recipe"] == blueprint().runs[Cell("dense", None, None)][0].spec["recipe"]
    kept = blueprint("prune.style=lr-rewind", "prune.rewind=2ep").runs[Cell("imp", 0.9, None)][0]
    assert set(kept.inputs) == {"previous"}


def test_lines_to_every_round_of_pruning() -> None:
    plan = blueprint("seeds=1", "sparsities=[0.4, 0.5]", 'barriers=["dense A to IMP A"]', "checks.rounds=true")
    curves = {cell.sparsity: tasks[0] for cell, tasks in plan.of("barriers").items() if not cell.repair}
    assert list(curves) == [0.2, 0.36, 0.4, 0.488, 0.5]
    ends = [curves[sparsity].inputs["b"] for sparsity in (0.2, 0.36, 0.488)]
    assert [end.spec["density"] for end in ends] == pytest.approx([0.8, 0.64, 0.512])
    assert ends[1].inputs["previous"] == ends[0] == curves[0.36].inputs["b"].inputs["previous"]
    assert curves[0.4].inputs["b"].inputs["previous"] == ends[1], "a target is a leaf, the chain goes on without it"
    assert {cell.pair for cell in plan.of("barriers")} == {"dense A to IMP A"}


def test_independent_members_are_networks_of_their_own_at_the_diversity_sparsity() -> None:
    plan = blueprint("independent_members=6", "diversity_sparsity=0.9", "diversity_rewind=0ep")
    ensembles = plan.of("diversity")
    ((cell, tasks),) = [(one.cell, tasks) for one, tasks in ensembles.items() if one.protocol == "independent"]
    assert cell == Cell("imp", 0.9, None)
    assert len({task.key for task in tasks}) == 6
    assert tasks[:5] == plan.runs[cell]
    assert {(one.cell.sparsity, one.cell.rewind) for one in ensembles if one.protocol == "one ticket"} == {(0.9, "0ep")}


@pytest.mark.parametrize("preset", list(list_presets()))
def test_every_preset_plans(preset: str) -> None:
    if load_config(preset)[1].model.name.startswith("timm:"):
        pytest.importorskip("timm")
    plan = blueprint(preset=preset)
    assert len(Plan.of(plan.targets).tasks) > len(plan.cells)


def early(*settings: str) -> Blueprint:
    only = ("seeds=1", 'methods=["lth", "permuted", "naive"]', 'rewinds=["5ep"]', "diversity_members=0")
    return blueprint(*only, "checks.barriers=false", "checks.overlap=false", *settings)


def trained_to(plan: Blueprint, network: str) -> set[int]:
    """Return the steps to which A or B is trained in a plan."""
    tasks = (task for task in Plan.of(plan.targets).tasks if task.kind == "dense")
    return {task.spec["at"] // 21 for task in tasks if task.spec["network"][0] == network}


@pytest.mark.parametrize(("match_at", "steps"), [("end", {5, 25}), ("5ep", {5}), ("2ep", {2, 5}), ("9ep", {5, 9})])
def test_b_is_trained_no_further_than_to_be_matched_and_rewound(match_at: str, steps: set[int]) -> None:
    plan = early(f"match_at={match_at}")
    assert trained_to(plan, "B") == steps
    assert trained_to(plan, "A") == {5, 25}
    assert {cell.match_at for cell in plan.cells} == {match_at, None}


def test_either_side_is_matched_early() -> None:
    match = {at: early("match_at=9ep", f"a_at={at}").of("matching")["9ep"][0] for at in ("end", "3ep", "same")}
    assert [match[at].inputs["a"].spec["at"] // 21 for at in ("end", "3ep", "same")] == [25, 3, 9]
    assert {task.inputs["b"].spec["at"] // 21 for task in match.values()} == {9}


def test_positions_of_matching_are_an_axis_of_the_table() -> None:
    plan = early('match_at=["5ep", "end"]', 'methods=["lth", "permuted", "naive", "signed"]', "checks.barriers=true")
    cells = Counter(cell.method for cell in plan.cells)
    assert cells == {"lth": 3, "naive": 3, "permuted": 6, "signed": 6}
    assert plan.runs[Cell("permuted", 0.9, "5ep", "5ep")] != plan.runs[Cell("permuted", 0.9, "5ep", "end")]
    assert set(plan.runs.items()) >= set(early('methods=["lth", "permuted", "naive", "signed"]').runs.items())
    moved = [cell.match_at for cell in plan.of("barriers") if cell.pair == "permuted A to B" and not cell.repair]
    assert moved == ["5ep", "end"]


def test_a_consensus_takes_both_networks_at_each_checkpoint() -> None:
    plan = early('match_at=["5ep", "5ep+9ep+end"]', "a_at=3ep")
    one, several = plan.of("matching")["5ep"][0], plan.of("matching")["5ep+9ep+end"][0]
    assert set(one.inputs) == {"a", "b", "symmetry"}
    steps = {name: task.spec["at"] // 21 for name, task in several.inputs.items() if task.kind == "dense"}
    assert steps == {"a0": 5, "b0": 5, "a1": 9, "b1": 9, "a2": 25, "b2": 25}
    assert trained_to(plan, "A") == {3, 5, 9, 25}


def test_a_position_of_matching_past_the_end_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"grid.match_at: 26ep is step 546, past the end of training at step 525"):
        blueprint("match_at=26ep")
    with pytest.raises(ConfigError, match=r"matching.a_at: 26ep is step 546"):
        blueprint("a_at=26ep")


def test_a_rewind_past_the_end_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"grid.rewinds: rewind point 9ep is step 189, at or past the end"):
        blueprint("dense.epochs=9", 'rewinds=["9ep"]')


def test_an_unknown_method_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match="permuted"):
        blueprint('methods=["permutd"]')


def test_densities_and_members() -> None:
    assert [density_of(s) for s in (0.9, 0.95, 0.98)] == [0.1, 0.05, 0.02]
    assert member_seeds((0, 3), 4) == (0, 3, 4, 5)


def test_only_a_warm_up_past_a_milestone_has_another_version() -> None:
    """Of ImageNet's recipe (warm-up 5 epochs, milestones at 30 and 60) runs from 26 epochs on."""
    settings = ('rewinds=["0ep", "25ep", "26ep", "60ep"]', "seeds=1", "diversity_members=0")
    facts = Facts("0" * 64, 2560, tuple(map(str, range(1000))), (3, 224, 224))
    plan = Blueprint(load_config("imagenet-resnet50", settings)[1], facts)
    versions = {(cell.rewind, task.version) for cell, (task,) in plan.runs.items() if task.kind == "sparse"}
    assert versions == {("0ep", 1), ("25ep", 1), ("26ep", 2), ("60ep", 2)}
    others = [task for task in closure(plan.targets) if task.kind in ("dense", "prune-round")]
    assert {task.version for task in others} == {1}
    cold = Blueprint(load_config("imagenet-resnet50", (*settings, "dense.warmup_epochs=0"))[1], facts)
    assert {task.version for (task,) in cold.runs.values() if task.kind == "sparse"} == {1}
