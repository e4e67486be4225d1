"""A task is a frozen value whose sha256 names its result."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import Tensor

from reticket.errors import InputError
from reticket.experiment.frozen import frozen_and_written, plain, written


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Task:
    """One piece of work, named by everything that decides its result and nothing else.

    Equal keys are equal tasks, whatever their labels, costs and hints.

    Args:
        kind: which runner computes it.
        version: raised when the runner's code changes results.
        spec: everything that decides the result besides the inputs, defaults included; nested JSON, frozen deeply
            (mappings become read-only, lists become tuples). A part that many tasks have is best a `SharedSpec`.
        inputs: the tasks whose results the runner reads, by name.
        resumes: earlier points of the same trajectory, whose results may save work but never change the result; they
            are not part of the key.
        label: text for people.
        cost: expected work in any unit that tasks share; finite and not negative.

    Raises:
        InputError: when a field is not of that form.

    >>> a = Task("train", 1, {"lr": 0.1, "seeds": [0, 1]}, label="a network")
    >>> a == Task("train", 1, {"seeds": (0, 1), "lr": 0.1}, cost=7.0) != Task("train", 1, {"lr": 0.2, "seeds": [0, 1]})
    True
    >>> a.key[:16]
    '1b7d05ee67cf5f41'
    """

    kind: str
    version: int
    spec: Mapping[str, Any]
    inputs: Mapping[str, "Task"] = field(default_factory=dict)
    resumes: Sequence["Task"] = ()
    label: str = ""
    cost: int | float = 1.0
    key: str = field(init=False)

    def __post_init__(self) -> None:
        if not self.kind:
            raise InputError("a task needs a kind, got an empty text; name the runner that computes it")
        if not (math.isfinite(self.cost) and self.cost >= 0):
            raise InputError(
                f"task '{self.label or self.kind}' has cost {self.cost}, but a cost is finite and not negative"
            )
        spec, text = frozen_and_written(self.spec, f"task '{self.label or self.kind}': spec")
        inputs = dict(self.inputs)
        object.__setattr__(self, "spec", spec)
        object.__setattr__(self, "inputs", MappingProxyType(inputs))
        object.__setattr__(self, "resumes", tuple(self.resumes))
        object.__setattr__(self, "cost", float(self.cost))
        object.__setattr__(self, "key", hashlib.sha256(self._identity(text).encode()).hexdigest())

    def _identity(self, spec: str) -> str:
        """Return the canonical text of all that decides the result, put together from that of the spec."""
        inputs = ",".join([f'{written(name)}:"{self.inputs[name].key}"' for name in sorted(self.inputs)])
        kind, version = written(self.kind), written(self.version)
        return f'{{"inputs":{{{inputs}}},"kind":{kind},"spec":{spec},"version":{version}}}'

    @property
    def name(self) -> str:
        """Text for people: the label, or kind and key where there is none."""
        return self.label or f"{self.kind} {self.key[:8]}"

    def __repr__(self) -> str:
        return (
            f"Task({self.kind!r}, {self.version}, {plain(self.spec, 'spec')}, label={self.label!r}, key={self.key[:8]})"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __reduce__(self) -> tuple[Any, ...]:
        return _last_of, (to_flat([self]),)


@dataclass(frozen=True)
class Output:
    """What a runner gives back.

    Args:
        values: nested JSON without NaN.
        tensors: what is too large for JSON, by name.

    Raises:
        InputError: when `values` is not JSON or `tensors` holds anything but tensors.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wrong = next((name for name, tensor in self.tensors.items() if not isinstance(tensor, Tensor)), None)
        if wrong is not None:
            raise InputError(f"output '{wrong}' is of type {type(self.tensors[wrong]).__name__}, expected a tensor")
        object.__setattr__(self, "values", plain(self.values, "output"))
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))


def closure(tasks: Iterable[Task], *, resumes: bool = False) -> list[Task]:
    """Return `tasks` and all they are made from, once each, what is needed before what needs it.

    Args:
        tasks: where to begin.
        resumes: follow `Task.resumes` too, not the inputs alone.
    """
    found: dict[str, Task] = {}
    stack = [(task, False) for task in reversed(list(tasks))]
    while stack:
        task, expanded = stack.pop()
        if task.key in found:
            continue
        if expanded:
            found[task.key] = task
            continue
        stack.append((task, True))
        before = [*task.inputs.values(), *(task.resumes if resumes else ())]
        stack += [(other, False) for other in reversed(before) if other.key not in found]
    return list(found.values())


def to_flat(tasks: Iterable[Task]) -> list[dict[str, Any]]:
    """Return `tasks` and their closure as flat JSON, each one after those that it names by position."""
    ordered = closure(tasks, resumes=True)
    place = {task.key: position for position, task in enumerate(ordered)}
    return [
        {
            "kind": task.kind,
            "version": task.version,
            "spec": plain(task.spec, "spec"),
            "inputs": {name: place[other.key] for name, other in task.inputs.items()},
            "resumes": [place[other.key] for other in task.resumes],
            "label": task.label,
            "cost": task.cost,
        }
        for task in ordered
    ]


def from_flat(rows: Iterable[Mapping[str, Any]]) -> list[Task]:
    """Return the tasks that `to_flat` wrote, in the same order."""
    tasks: list[Task] = []
    for row in rows:
        links = {
            "inputs": {name: tasks[place] for name, place in row["inputs"].items()},
            "resumes": tuple(tasks[place] for place in row["resumes"]),
        }
        tasks.append(Task(**{**row, **links}))
    return tasks


def _last_of(rows: list[dict[str, Any]]) -> Task:
    return from_flat(rows)[-1]
