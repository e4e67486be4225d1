"""Laws of tasks: the key holds everything that decides a result and nothing else; a task that exists cannot change."""

import copy
import pickle
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from reticket.errors import InputError
from reticket.experiment import Output, Task
from reticket.experiment.frozen import canonical, plain
from reticket.experiment.task import closure, from_flat, to_flat
from tests.counted import calls

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON = st.recursive(
    SCALARS, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(), x, max_size=3), max_leaves=8
)
SPECS = st.dictionaries(st.text(), JSON, max_size=4)


def key_of(kind: str, version: int, spec: Mapping[str, Any], inputs: Mapping[str, Task], **rest: Any) -> str:
    return Task(kind, version, spec, inputs, **rest).key


def key_is_sound(key: Callable[..., str]) -> None:
    """The law itself: what decides a result changes its key, what does not leaves it."""
    other, later = Task("draw", 1, {"seed": 1}), Task("draw", 1, {"seed": 2})
    base: tuple[Any, ...] = ("train", 1, {"lr": 0.1, "layers": [1, 2]}, {"a": other})
    changed: list[tuple[Any, ...]] = [
        ("prune", 1, {"lr": 0.1, "layers": [1, 2]}, {"a": other}),
        ("train", 2, {"lr": 0.1, "layers": [1, 2]}, {"a": other}),
        ("train", 1, {"lr": 0.1 + 1e-17 * 8, "layers": [1, 2]}, {"a": other}),
        ("train", 1, {"lr": 0.1, "layers": [2, 1]}, {"a": other}),
        ("train", 1, {"lr": 0.1, "layers": [1, 2], "default": None}, {"a": other}),
        ("train", 1, {"lr": 0.1, "layers": [1, 2.0]}, {"a": other}),
        ("train", 1, {"lr": 0.1, "layers": [1, True]}, {"a": other}),
        ("train", 1, {"lr": 0.1, "layers": [1, 2]}, {"b": other}),
        ("train", 1, {"lr": 0.1, "layers": [1, 2]}, {"a": later}),
        ("train", 1, {"lr": 0.1, "layers": [1, 2]}, {}),
    ]
    keys = [key(*case) for case in [base, *changed]]
    assert len(set(keys)) == len(keys)
    reordered = ("train", 1, {"layers": (1, 2), "lr": 0.1}, {"a": other})
    assert key(*reordered) == keys[0]
    assert key(*base, resumes=(later,), label="a name", cost=9.0) == keys[0]


def test_the_key_holds_what_decides_and_nothing_else() -> None:
    key_is_sound(key_of)


@pytest.mark.parametrize(
    "broken",
    [
        lambda kind, version, spec, inputs, **rest: key_of(kind, 1, spec, inputs, **rest),
        lambda kind, version, spec, inputs, **rest: key_of(kind, version, spec, {}, **rest),
        lambda kind, version, spec, inputs, **rest: key_of(kind, version, {**spec, "hints": len(rest)}, inputs),
        lambda kind, version, spec, inputs, **rest: repr((kind, version, spec, {n: t.key for n, t in inputs.items()})),
        lambda kind, version, spec, inputs, **rest: f"{kind}{version}{sorted(spec.items())!s}{list(inputs)}",
    ],
    ids=["no version", "no inputs", "hints too", "order of fields", "names of inputs only"],
)
def test_the_law_of_keys_can_fail(broken: Callable[..., str]) -> None:
    with pytest.raises(AssertionError):
        key_is_sound(broken)


@pytest.mark.slow
@given(SPECS, SPECS)
def test_specs_are_equal_exactly_when_keys_are(a: dict[str, Any], b: dict[str, Any]) -> None:
    same = canonical(plain(a, "a")) == canonical(plain(b, "b"))
    assert (Task("t", 1, a) == Task("t", 1, b)) is same
    assert Task("t", 1, a) == Task("t", 1, copy.deepcopy(a))


@given(SPECS)
def test_a_spec_comes_back_as_it_was(spec: dict[str, Any]) -> None:
    assert plain(Task("t", 1, spec).spec, "spec") == spec


def test_a_task_is_frozen_to_its_leaves() -> None:
    source: dict[str, Any] = {"a": {"b": [1, 2]}}
    task = Task("t", 1, source, {"x": Task("u", 1, {})})
    source["a"]["b"].append(3)
    assert task.spec["a"]["b"] == (1, 2)
    for write in (
        lambda: task.spec.__setitem__("a", 1),  # type: ignore[attr-defined]
        lambda: task.spec["a"].__setitem__("b", 1),
        lambda: task.inputs.__setitem__("x", task),  # type: ignore[attr-defined]
        lambda: setattr(task, "kind", "v"),
    ):
        with pytest.raises((TypeError, AttributeError)):
            write()


def test_flat_json_and_pickle_keep_tasks_however_long_their_chains() -> None:
    task = Task("t", 1, {"n": 0})
    for n in range(1, 1500):
        task = Task("t", 1, {"n": n}, {"before": task}, resumes=(task,), label=f"number {n}", cost=n)
    again = from_flat(to_flat([task]))
    assert [one.key for one in again] == [one.key for one in closure([task], resumes=True)]
    last = pickle.loads(pickle.dumps(task))
    for one in (again[-1], last):
        assert (one, one.label, one.cost) == (task, "number 1499", 1499)
        assert [other.key for other in one.resumes] == [other.key for other in task.resumes]


def test_naming_a_task_is_no_more_work_behind_a_long_chain() -> None:
    recipe = {f"field {n}": n / 7 for n in range(15)}
    work: list[int] = []
    made = [Task("t", 1, {})]
    for n in range(100, 400):
        later = partial(Task, "t", 1, {"recipe": recipe, "n": n}, {"before": made[-1]})
        work.append(calls(lambda later=later: made.append(later())))
    assert 0 < work[-1] <= 2 * work[1]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), r"spec\.a\[1\]\.lr is nan, which JSON cannot hold; give a finite number or null"),
        (float("inf"), r"spec\.a\[1\]\.lr is inf"),
        (np.int64(3), r"spec\.a\[1\]\.lr is of type int64, which JSON cannot hold"),
        (torch.tensor(3), r"is of type Tensor"),
        ({1, 2}, r"is of type set"),
        ({1: 2}, r"has the key 1, but keys must be text"),
        (b"x", r"is of type bytes"),
    ],
)
def test_what_json_cannot_say_is_refused(value: Any, words: str) -> None:
    with pytest.raises(InputError, match=f"task 'my task': .*{words}"):
        Task("t", 1, {"a": [0, {"lr": value}]}, label="my task")


def test_numpy_floats_are_floats_and_text_is_text() -> None:
    assert Task("t", 1, {"x": np.float64(0.1)}) == Task("t", 1, {"x": 0.1})


@pytest.mark.parametrize("cost", [-1.0, float("nan"), float("inf")])
def test_a_cost_is_a_finite_amount(cost: float) -> None:
    with pytest.raises(InputError, match="but a cost is finite and not negative"):
        Task("t", 1, {}, cost=cost)


def test_an_empty_kind_is_refused() -> None:
    with pytest.raises(InputError, match="a task needs a kind"):
        Task("", 1, {})


def test_an_output_without_json_is_refused() -> None:
    with pytest.raises(InputError, match=r"output\.loss is nan"):
        Output({"loss": float("nan")})
