"""What a network costs in training: what it needs for itself, and what all networks of the same ticket can share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from statistics import fmean

from reticket.experiment import Result, Task
from reticket.experiment.task import closure
from reticket.tasks.forecast import work_of
from reticket.tasks.networks import matching_work
from reticket.tasks.work import Sizes, Work
from reticket.tickets.methods import get_method

Find = Callable[[Task], Result | None]


@dataclass(frozen=True)
class NetworkCost:
    """What one network, or one ensemble, costs; `m` of them that use one ticket cost `own + shared / m` each.

    Args:
        own_epochs: model-epochs of what is made for it alone.
        shared_epochs: model-epochs of what every other network of the same ticket can use too.
        own_seconds, shared_seconds: what it took, of one process after the other; None where a result is missing.
    """

    own_epochs: float
    shared_epochs: float
    own_seconds: float | None = None
    shared_seconds: float | None = None


def network_cost(targets: Sequence[Task], find: Find, sizes: Sizes, *, reused: bool) -> NetworkCost:
    """Return what the networks of `targets` cost together, everything that several of them need counted once.

    A dense training is a chain of positions; it is counted from its initialisation as far as somebody needs it, however
    it was computed. Matching is counted by its forward passes, at a third of a training pass each (those that its
    result says, or all it may take), and by the steps of training that a matcher may take. Examples that a method looks
    at before the training (SNIP's) are one training pass. Discovering the symmetry takes seconds and is 0 model-epochs,
    and so is judging.

    Args:
        targets: the tasks that train the networks, of which each is its own.
        find: the result of a task, or None where there is none.
        sizes: of the data.
        reused: whether other networks may use what was made of network A alone: its dense training and its pruning.

    >>> from reticket.tasks.blueprint import Blueprint
    >>> from reticket.tasks.config import Config
    >>> from reticket.tasks.networks import Facts
    >>> config = Config.model_validate({
    ...     "title": "t", "data": {"name": "digits"}, "model": {"name": "mlp"}, "dense": {"epochs": 8, "lr": 0.1},
    ...     "sparse": {"lr": 0.1}, "prune": {"epochs": 2, "lr": 0.1},
    ...     "grid": {"methods": ["naive"], "rewinds": ["3ep"]},
    ... })
    >>> plan = Blueprint(config, Facts("0" * 64, 1297, tuple("0123456789"), (64,)))
    >>> (task,) = [task for tasks in plan.runs.values() for task in tasks]
    >>> network_cost([task], lambda task: None, plan.facts.sizes, reused=True)  # B to 3 and on to 8; A, eleven rounds
    NetworkCost(own_epochs=8.0, shared_epochs=30.0, own_seconds=None, shared_seconds=None)
    """
    needed = _needed(targets)
    passed = {earlier.key for task in needed for earlier in closure(task.resumes, resumes=True)}
    made = {task.key for task in targets}
    shared = _of_a_alone(needed) - made if reused else frozenset[str]()
    mine, others = ([task for task in needed if (task.key in shared) == place] for place in (False, True))
    epochs = [
        round(sum(_epochs(task, find, sizes) for task in part if task.key not in passed), 6) for part in (mine, others)
    ]
    return NetworkCost(*epochs, *(_seconds(part, find) for part in (mine, others)))


def target_cost(target: Task, find: Find, sizes: Sizes) -> NetworkCost:
    """Return what one network of the table costs; one that is A's own shares nothing, for a new one needs all of it.

    Args:
        target: the task that trains it.
        find, sizes: as for `network_cost`.
    """
    return network_cost([target], find, sizes, reused=_side(target) == "B")


def mean_cost(costs: Sequence[NetworkCost]) -> dict[str, float | None]:
    """Return the mean of each part over some networks, by name; None where it is not known of all of them.

    Args:
        costs: one a network, at least one.

    >>> mean_cost([NetworkCost(1.0, 4.0, 7.0), NetworkCost(2.0, 4.0)])
    {'own_epochs': 1.5, 'shared_epochs': 4.0, 'own_seconds': None, 'shared_seconds': None}
    """
    parts = {field.name: [getattr(one, field.name) for one in costs] for field in fields(NetworkCost)}
    return {name: None if None in values else round(fmean(values), 6) for name, values in parts.items()}


def _needed(targets: Sequence[Task]) -> list[Task]:
    """Return the targets and all that has to be there for them, once each, what is needed before what needs it."""
    before = [other for target in targets for name, other in target.inputs.items() if name not in _counted(target)]
    return list({task.key: task for task in (*closure(before), *targets)}.values())


def _counted(target: Task) -> tuple[str, ...]:
    """Return the inputs of which a method takes only how many weights are kept, which is known without them."""
    return ("ticket",) if target.kind == "sparse" and get_method(target.spec["method"]).counts_alone else ()


def _of_a_alone(needed: Sequence[Task]) -> frozenset[str]:
    """Return the keys of what no B had a part in; `needed` has what a task is made from before it."""
    of_b: set[str] = set()
    for task in needed:
        if _side(task) == "B" or any(other.key in of_b for other in task.inputs.values()):
            of_b.add(task.key)
    return frozenset(task.key for task in needed if task.key not in of_b)


def _side(task: Task) -> str | None:
    """Return whose training a task is, A's or B's, as its spec says; None for one that trains nothing."""
    named = task.spec.get("network") or task.spec.get("order")
    return named[0] if named else None


def _epochs(task: Task, find: Find, sizes: Sizes) -> float:
    """Return the model-epochs of a task that starts from nothing, without those of its inputs."""
    work = work_of(task, None, sizes)
    if "recipe" in task.spec:  # it trains; what it is judged by at its end is no part of it
        looked_at = min(task.spec.get("examples", {}).get("count", 0), sizes.train)
        return float(work.epochs) + Work(trained=looked_at).cost(sizes.train)
    result = find(task)
    if task.kind == "match" and result is not None and "samples" in result.values:  # it may have stopped early
        work = matching_work(task.spec, task.inputs, replace(sizes, train=result.values["samples"]))
    return work.cost(sizes.train)


def _seconds(tasks: Sequence[Task], find: Find) -> float | None:
    """Return what tasks took with the earlier points they went on from; None where a result of theirs is missing."""
    if any(find(task) is None for task in tasks):
        return None
    earlier = [one for task in tasks for one in closure(task.resumes, resumes=True)]
    found = [find(task) for task in {task.key: task for task in (*tasks, *earlier)}.values()]
    return round(sum(float(result.provenance["seconds"]) for result in found if result is not None), 3)
