"""How long tasks took before: seconds for a unit of cost, learned from how the results of a store came about."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from reticket.devices import hardware_of
from reticket.errors import StoreError
from reticket.experiment.execution import EXECUTORS, ExecutionConfig
from reticket.experiment.frozen import text_of
from reticket.experiment.store import KeptStore, Store
from reticket.experiment.task import Task

LOOKS = 300  # results that are looked at; their order is that of a hash, so that the first of them are a fair sample
PATIENCE = 1.0  # seconds spent on that, where each look is a question to another machine


@dataclass(frozen=True)
class Spent:
    """What some tasks took together.

    Args:
        tasks: how many.
        seconds: of work.
        cost: as their `Task.cost` says.
    """

    tasks: float = 0.0
    seconds: float = 0.0
    cost: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.tasks + other.tasks, self.seconds + other.seconds, self.cost + other.cost)


class Group(NamedTuple):
    """What tasks of one pace share.

    Args:
        network: as `network_of` says.
        kind: of the task.
        precision: of the recipe that it trains by; None for a task without one.
    """

    network: str
    kind: str
    precision: str | None = None


def group_of(kind: str, spec: Mapping[str, Any]) -> Group:
    """Return what tasks of one pace share: the network (`network_of`), the kind, and the precision of training.

    >>> group_of("dense", {"model": "mlp", "recipe": {"lr": 0.1, "precision": "bfloat16"}})
    Group(network='"mlp"', kind='dense', precision='bfloat16')
    """
    return Group(network_of(spec), kind, precision_of(spec))


def precision_of(spec: Mapping[str, Any]) -> str | None:
    """Return the precision of the recipe in a spec, which leaves float32 unsaid; None where there is no recipe.

    >>> precision_of({"recipe": {"lr": 0.1}}), precision_of({"model": "mlp"})
    ('float32', None)
    """
    recipe = spec.get("recipe")
    return str(recipe.get("precision", "float32")) if isinstance(recipe, Mapping) else None


def network_of(spec: Mapping[str, Any]) -> str:
    """Return one text for a model and the form of its inputs, as `model` and the `params` of `data` in a spec say.

    Args:
        spec: of a task.

    Returns:
        The model as JSON, and the parameters of the data in a second line where there are any; nothing where the task
        has no model.

    >>> network_of({"model": "mlp"}), network_of({"model": "mlp", "data": {"name": "x", "params": {"side": 16}}})
    ('"mlp"', '"mlp"\\n{"side":16}')
    """
    model, data = spec.get("model"), spec.get("data")
    if model is None:
        return ""
    params = data.get("params") if isinstance(data, Mapping) else None
    return f"{text_of(model)}\n{text_of(params)}" if params else text_of(model)


@dataclass(frozen=True)
class Pace:
    """Seconds for a unit of cost by model and kind of task; of a kind not seen yet, those of its model's other kinds.

    Args:
        spent: what tasks took, by the group that `group_of` gives.

    >>> pace = Pace({group_of("train", {"model": "mlp"}): Spent(tasks=2, seconds=8.0, cost=4.0)})
    >>> task = Task("prune", 1, {"model": "mlp"}, cost=3.0)
    >>> pace.seconds(task), pace.knows(task), Pace().seconds(task)
    (6.0, True, None)
    """

    spent: Mapping[Group, Spent] = field(default_factory=dict)

    @property
    def tasks(self) -> int:
        """How many results it was learned from."""
        return round(sum(one.tasks for one in self.spent.values()))

    def knows(self, task: Task) -> bool:
        """Return whether a task of the same model was seen, and trained in the same precision if it trains."""
        group = group_of(task.kind, task.spec)
        return any(_alike(other, group) for other in self.spent)

    def seconds(self, task: Task) -> float | None:
        """Return how long a task will take; None where nothing was learned."""
        rate = self.rate(group_of(task.kind, task.spec))
        return None if rate is None else rate * task.cost

    def rate(self, group: Group) -> float | None:
        """Return the seconds for a unit of cost of the tasks of a group; None where nothing was learned."""
        like: tuple[Callable[[Group], bool], ...] = (
            lambda other: other == group,
            lambda other: group.network != "" and _alike(other, group),
            lambda other: other.network == group.network != "",
            lambda other: True,
        )
        for alike in like:
            found = sum((one for other, one in self.spent.items() if alike(other)), Spent())
            if found.cost > 0:
                return found.seconds / found.cost
        return None

    @classmethod
    def learned(cls, store: Store, execution: ExecutionConfig) -> "Pace":
        """Return what the results of a store say of tasks that are carried out in the same way.

        Results of another device, other hardware (where the tasks compute here), other threads or of an earlier
        version, which did not note costs, say nothing.

        Args:
            store: one that cannot be listed teaches nothing.
            execution: what will carry tasks out.
        """
        here = not EXECUTORS.named(execution.executor).elsewhere
        alike = {
            "device": execution.device,
            "threads": execution.threads,
            **({"hardware": hardware_of(execution.device)} if here else {}),
        }
        spent: dict[Group, Spent] = {}
        for found in _provenances(store) if isinstance(store, KeptStore) else ():
            if all(found.get(name) == value for name, value in alike.items()) and "cost" in found:
                group = group_of(found["task"]["kind"], found["task"]["spec"])
                spent[group] = spent.get(group, Spent()) + Spent(1, found["seconds"], found["cost"])
        return cls(spent)


def _alike(other: Group, group: Group) -> bool:
    """Return whether what was seen of one group says something of another: in bfloat16 a step is another one."""
    return other.network == group.network and (group.precision is None or other.precision == group.precision)


def _provenances(store: KeptStore) -> Iterator[Mapping[str, Any]]:
    """Yield how results of a store came about: of a sample, and no more than can be had quickly."""
    started = time.monotonic()
    for key in itertools.islice(store.keys(), LOOKS):
        try:
            yield store.provenance(key)
        except StoreError:  # damaged, or gone meanwhile; whoever needs it is told
            continue
        if time.monotonic() - started > PATIENCE:
            return
