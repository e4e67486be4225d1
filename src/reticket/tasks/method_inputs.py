"""What a method of a task is given: results it was planned with, and what its spec says of data and model."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from reticket.data import Reading
from reticket.data.subset import drawn_indices
from reticket.experiment import Context, Result, Task
from reticket.matching.agreement import weight_correlations
from reticket.rng import generator_for
from reticket.symmetry import random_alignment
from reticket.tasks.inputs import (
    alignment_of,
    checkpoints_in,
    dataset_for,
    model_for,
    network_of,
    required_mask,
    symmetry_in,
)
from reticket.tasks.recipes import recipe_in
from reticket.tasks.tensors import WEIGHTS, stripped
from reticket.tickets import MethodInputs, Target, Ticket, known_prunable

MATCHED = "matched "  # before the name of a matching's input that a method's task has too
EXAMPLES, BATCH = 512, 128  # training examples that a method sees, and in one batch of them


def examples_spec(b: int) -> dict[str, Any]:
    """Return which training examples a method sees that needs some, as a part of a spec.

    Args:
        b: the seed of the network that is trained.
    """
    return {"count": EXAMPLES, "batch_size": BATCH, "random": ["examples", "B", b]}


def method_inputs(task: Task, needs: Iterable[str], inputs: Mapping[str, Result], context: Context) -> MethodInputs:
    """Return the values a method asked for, made from the results of the tasks it was planned with.

    Args:
        task: that trains what the method starts from.
        needs: fields of `MethodInputs`.
        inputs: results by the names that the plan gave them.
        context: where the model and the examples are wanted.
    """

    def weights(name: str) -> dict[str, Tensor]:
        return stripped(inputs[name].tensors, WEIGHTS)

    sources = {
        "ticket": lambda: Ticket.of(weights("ticket"), required_mask(inputs["ticket"])),
        "pruned_a": lambda: weights("ticket"),
        "trained_a": lambda: weights("trained_a"),
        "rewound_a": lambda: weights("rewound_a"),
        "rewound_b": lambda: weights("rewound_b"),
        "trained_b": lambda: weights("trained_b"),
        "mask_b": lambda: required_mask(inputs["mask_b"]),
        "target": lambda: _target(task),
        "alignment": lambda: alignment_of(inputs),
        "random_alignment": lambda: random_alignment(symmetry_in(inputs), _generator(task)),
        "correlations": lambda: _correlations(task, inputs, context),
        "generator": lambda: _generator(task),
        "model": lambda: model_for(task, "structure").to(context.device),
        "batches": lambda: _examples(task, context),
        "example_inputs": lambda: _one_example(task, context),
    }
    settings = {"frame": task.spec.get("frame", "init"), "loss": recipe_in(task.spec).objective}
    return MethodInputs(**settings, **{need: sources[need]() for need in needs})


def _generator(task: Task) -> torch.Generator:
    return generator_for(*task.spec["random"])


def _target(task: Task) -> Target:
    target = task.spec["target"]
    names = known_prunable(model_for(task, "structure"), target["exclude"], target.get("include", ()))
    return Target(target["density"], names, target["scope"], target.get("pattern"))


def _examples(task: Task, context: Context) -> Reading:
    chosen, dataset = task.spec["examples"], dataset_for(task, context)
    drawn = drawn_indices(dataset.size("train"), chosen["count"], *chosen["random"])
    return Reading(dataset, "train", chosen["batch_size"], drawn, context.device)


def _one_example(task: Task, context: Context) -> Tensor:
    """Return the first training example as a batch, for its form."""
    first = torch.zeros(1, dtype=torch.int64, device="cpu")
    return next(iter(Reading(dataset_for(task, context), "train", 1, first, context.device)))[0]


def _correlations(task: Task, inputs: Mapping[str, Result], context: Context) -> dict[str, Tensor]:
    matched = {name.removeprefix(MATCHED): result for name, result in inputs.items() if name.startswith(MATCHED)}
    of_a, of_b = (
        [network_of(task, result).to(context.device) for result in checkpoints_in(matched, side)] for side in "ab"
    )
    names = required_mask(inputs["ticket"])
    return weight_correlations(of_a, of_b, alignment_of(inputs), _examples(task, context), names)
