"""Methods with options and dynamics in an experiment: which tasks they are, and what decides them."""

from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor

from reticket.errors import ConfigError
from reticket.experiment import Task
from reticket.tasks.blueprint import Blueprint
from reticket.tasks.cells import Cell
from reticket.tasks.inputs import thawed
from reticket.tasks.networks import Facts
from reticket.tasks.presets import load_config
from reticket.training import OwnTraining

FACTS = Facts("0" * 64, 1297, tuple("0123456789"), (64,))


def fit(run: OwnTraining) -> dict[str, Tensor]:
    """Train nothing."""
    return dict(run.model.state_dict())


def plan(*methods: str, settings: tuple[str, ...] = ()) -> Blueprint:
    config = load_config("digits", settings)[1]
    return Blueprint(config.model_copy(update={"grid": config.grid.model_copy(update={"methods": methods})}), FACTS)


def task(method: str, *others: str, spelling: str | None = None) -> Task:
    return plan(spelling or method, *others).runs[Cell(method, 0.98, "5ep")][0]


def spec_of(found: Task) -> dict[str, Any]:
    return thawed(found.spec)


def test_dynamics_stand_in_the_spec_with_all_defaults_and_nothing_else_changes() -> None:
    still, changing = task("erk"), task("erk+rigl", "erk")
    spec = spec_of(changing)
    assert spec.pop("dynamics") == {"name": "rigl", "options": {"alpha": 0.3, "end": 0.75, "every": 12}}
    assert spec == spec_of(still)
    assert replace(changing, spec=spec).key == still.key != changing.key
    assert changing.inputs == still.inputs
    assert changing.label == "erk+rigl 98%, 5ep, A0 to B0"


def test_the_key_is_that_of_the_meaning() -> None:
    spellings = ("erk+rigl", "erk + rigl()", "erk+rigl(end=0.75, alpha=0.3)")
    keys = [task("erk+rigl", spelling=text).key for text in spellings]
    assert len(set(keys)) == 1
    assert task("erk+rigl(alpha=0.2)").key != keys[0]
    assert task("erk+set").key != keys[0]


def test_a_method_that_stands_there_twice_is_named() -> None:
    with pytest.raises(ConfigError, match=r"grid.methods: 'erk \+ rigl\(alpha=0.3\)' is 'erk\+rigl', which stands"):
        plan("erk+rigl", "erk + rigl(alpha=0.3)")


def test_an_unknown_method_is_an_error_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match=r"^grid.methods: unknown dynamics 'riggl', did you mean 'rigl'"):
        plan("erk+riggl")


def test_dynamics_that_break_a_pattern_are_refused() -> None:
    pattern = ('prune.pattern="fan-in"',)
    with pytest.raises(ConfigError, match=r"'lth\+rigl' changes single weights, which breaks prune.pattern fan-in"):
        plan("lth+rigl", settings=pattern)
    with pytest.raises(ConfigError, match=r"'gradual' changes single weights"):
        plan("gradual", settings=pattern)
    plan("lth+srigl", settings=pattern)


def test_the_control_that_prunes_gradually_needs_no_ticket() -> None:
    found = task("gradual")
    assert set(found.inputs) == {"rewound_b"}
    assert thawed(found.spec)["dynamics"] == {
        "name": "gradual",
        "options": {"scope": "global", "end": 0.75, "every": 12},
        "density": 0.02,
    }
    assert task("gradual(end=0.5)", spelling="gradual( end = 0.50)").label.startswith("gradual(end=0.5) 98")
    with pytest.raises(
        ConfigError, match=r"'gradual\+rigl': 'gradual' changes its mask by itself, by 'gradual'; leave"
    ):
        plan("gradual+rigl")
    with pytest.raises(ConfigError, match="dynamics 'gradual' has no option 'ends', did you mean 'end'"):
        plan("gradual(ends=0.5)")


def test_gradual_pruning_compares_as_pruning_does_in_the_experiment() -> None:
    (key, *_), (by_layer, *_), (told, *_) = (
        plan(text, settings=settings).runs[Cell(text, 0.98, "5ep")]
        for text, settings in (
            ("gradual", ()), ("gradual", ('prune.scope="layer"',)), ('gradual(scope="layer")', ())
        )
    )  # fmt: skip
    scopes = [thawed(one.spec)["dynamics"]["options"]["scope"] for one in (key, by_layer, told)]
    assert scopes == ["global", "layer", "layer"]


def test_a_mask_that_would_never_change_is_refused() -> None:
    for text in ("erk+rigl(every=1000)", "erk+set(end=0.001)"):
        with pytest.raises(ConfigError, match=r"every \d+ steps up to step \d+ of \d+, which is never"):
            _ = plan(text).runs


def test_members_that_share_a_ticket_are_those_of_methods_with_a_ticket() -> None:
    """What B makes of itself is another one for every B, whatever happens to it then."""
    shared = plan("lth+rigl", "imp-b+rigl", "one-shot", "permuted+set", settings=("checks.diversity_members=3",))
    assert [one.cell.method for one in shared.of("diversity")] == ["lth+rigl", "permuted+set"]
    (of_lth, of_b) = (tasks for tasks in shared.of("diversity").values())
    assert len({one.key for one in (*of_lth, *of_b)}) == 6


def test_no_dynamics_under_a_training_of_the_users_own() -> None:
    own = (f"dense.train={__name__}:fit",)
    with pytest.raises(ConfigError, match=r"'erk\+set' changes the mask while .*:fit' trains it by itself"):
        plan("erk+set", settings=own)
    plan("erk", settings=own)
