"""What a method is planned with: a control asks nothing of A, an option asks for what it looks at and nothing else."""

from functools import cache
from pathlib import Path

import pytest

from reticket.errors import ConfigError
from reticket.experiment import Context, Task
from reticket.experiment.task import closure
from reticket.tasks.blueprint import Blueprint
from reticket.tasks.cells import Cell
from reticket.tasks.method_inputs import method_inputs
from reticket.tasks.networks import Facts
from reticket.tasks.presets import load_config
from reticket.tickets.choice import Choice

FACTS = Facts("0" * 64, 1297, tuple("0123456789"), (64,))
DIALS = (
    "signed",
    "signed(share=0.5)",
    "signed(by=correlation, share=0.5)",
    "polished",
    "polished(by=gradient)",
    "polished(share=0.2)",
)
METHODS = ("one-shot", "snip", "grasp", "synflow", "permuted", *DIALS)


@cache
def plan(*settings: str) -> Blueprint:
    methods = ", ".join(f"'{name}'" for name in METHODS)
    grid = (f"grid.methods=[{methods}]", 'grid.rewinds=["5ep"]', "grid.sparsities=[0.98]", "grid.seeds=2")
    return Blueprint(load_config("digits", (*grid, *settings))[1], FACTS)


def task_of(method: str, *settings: str, a: int = 0, b: int = 0) -> Task:
    made = plan(*settings)
    return made.run(next(cell for cell in made.runs if cell.method == str(Choice.parse(method))), a, b)


def networks(task: Task) -> set[str]:
    """Return A and B where any task before this one trains or prunes them."""
    before = [one.spec for one in closure([task], resumes=True)]
    return {spec["network"][0] for spec in before if "network" in spec}


@pytest.mark.parametrize("method", ["one-shot", "snip", "grasp", "synflow"])
def test_a_control_plans_nothing_of_a(method: str) -> None:
    task = task_of(method)
    assert networks(task) == {"B"}
    assert {one.kind for one in closure([task])} == {"dense", "sparse"}
    assert task_of(method, a=0, b=1).key == task_of(method, a=1, b=1).key != task.key
    assert networks(task_of("permuted")) == {"A", "B"}, "this would be seen"


def test_one_shot_begins_at_the_end_of_b_and_the_others_at_k() -> None:
    assert {name: one.spec["at"] for name, one in task_of("one-shot").inputs.items()} == {"trained_b": 25 * 21}
    for method in ("snip", "grasp", "synflow"):
        assert {name: one.spec["at"] for name, one in task_of(method).inputs.items()} == {"rewound_b": 5 * 21}


def test_a_spec_holds_what_the_pruning_of_b_is_decided_by_and_no_more() -> None:
    target = {"density": 0.02, "scope": "global", "exclude": ("shortcut",)}
    for method in ("one-shot", "snip", "grasp", "synflow"):
        assert dict(task_of(method).spec["target"]) == target
        assert task_of(method, "prune.rate=0.5").key == task_of(method).key
        assert task_of(method, "prune.scope=layer").key != task_of(method).key
        assert task_of(method, 'prune.exclude=["last"]').key != task_of(method).key
    assert "target" not in task_of("permuted").spec


def test_examples_are_part_of_what_decides_a_task_that_sees_them() -> None:
    seeing = {m for m in METHODS if "examples" in task_of(m).spec}
    assert seeing == {"snip", "grasp", "polished(by=gradient)", "signed(by=correlation, share=0.5)"}
    one, other = (task_of("snip", b=b).spec["examples"] for b in (0, 1))
    assert one["random"] != other["random"]
    assert one["count"] == other["count"] == 512


def test_correlations_are_those_of_the_networks_that_were_matched() -> None:
    task = task_of("signed(by=correlation, share=0.5)", 'grid.match_at=["7ep"]', 'matching.a_at="end"')
    matched = task.inputs["alignment"].inputs
    assert {"matched a": matched["a"].key, "matched b": matched["b"].key} == {
        name: one.key for name, one in task.inputs.items() if name.startswith("matched")
    }
    assert task.inputs["matched b"].spec["at"] == 7 * 21
    assert not any(name.startswith("matched") for name in task_of("signed(share=0.5)").inputs)


def test_the_dial_at_its_default_is_the_method_without() -> None:
    key = task_of("signed").key
    assert (
        Blueprint(
            load_config(
                "digits",
                ("grid.methods=['signed(share=1.0, by=magnitude)']", 'grid.rewinds=["5ep"]', "grid.sparsities=[0.98]"),
            )[1],
            FACTS,
        )
        .runs[Cell("signed", 0.98, "5ep", "end")][0]
        .key
        == key
    )
    assert len({task_of(m).key for m in METHODS}) == len(METHODS)


def test_a_key_holds_every_option_but_of_what_is_older_than_its_options() -> None:
    assert dict(task_of("polished").spec["options"]) == {"share": 0.1, "by": "magnitude", "scope": "layer"}
    assert dict(task_of("signed(share=0.5)").spec["options"]) == {"share": 0.5, "by": "magnitude"}
    assert all("options" not in task_of(m).spec for m in ("signed", "permuted", "one-shot"))


def test_what_chooses_weight_by_weight_refuses_a_pattern() -> None:
    with pytest.raises(
        ConfigError, match=r"'polished' chooses weight by weight, which breaks prune\.pattern fan-in; leave"
    ):
        plan("prune.pattern=fan-in")


def test_the_slope_is_that_of_the_loss_which_the_network_is_trained_by() -> None:
    tokens = Facts("0" * 64, 500, tuple(map(str, range(96))), (48,), is_tokens=True)
    small = ("grid.methods=['snip']", "grid.seeds=1", "model.params.width=32", "model.params.depth=1")
    spoken = next(iter(Blueprint(load_config("text-gpt", small)[1], tokens).runs.values()))[0]
    here = Context(1, "cpu", Path())
    assert method_inputs(spoken, (), {}, here).loss == "language-model"
    assert method_inputs(task_of("snip"), (), {}, here).loss == "classification"
