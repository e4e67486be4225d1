"""One line between two networks: its record, and the runner that walks it."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from pydantic import Field
from torch import nn

from reticket.connectivity import barrier
from reticket.data import DataSource
from reticket.experiment import Context, Output, Result, Task
from reticket.records import Measured, Number, Record, Stat
from reticket.tasks.inputs import alignment_of, dataset_for, model_for, reading_for
from reticket.tasks.metric import judged_by
from reticket.tasks.rows import KEYS, MATCH_AT
from reticket.tasks.tensors import WEIGHTS, stripped
from reticket.training import evaluation_batch


class Barrier(Record):
    """The line between two networks, one curve a seed."""

    pair: str = Field(description="the first network and the second")
    repair: bool = Field(default=False, description="whether REPAIR recomputed the statistics of the mixed network")
    sparsity: Number = Field(default=None, description="of the second network, fraction pruned; null where it is dense")
    match_at: str | None = Field(default=None, description=MATCH_AT)
    n: int = Field(default=0, description="seeds")
    alphas: tuple[float, ...] = Field(description="share of the second network, from 0 to 1")
    loss: tuple[tuple[Number, ...], ...] = Field(default=(), description="test loss along the line (nats), by seed")
    accuracy: tuple[tuple[Number, ...], ...] = Field(
        default=(), description="test accuracy along the line (percent), by seed"
    )
    loss_barrier: Measured = Field(
        default=Stat(), description="most that the loss is above the line of its ends (nats)"
    )
    accuracy_barrier: Measured = Field(default=Stat(), description="most that the accuracy is below it (points)")
    keys: tuple[str, ...] = Field(default=(), description=KEYS)


def run_barrier(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """Walk the line between two networks."""
    spec, dataset = task.spec, dataset_for(task, context)
    a, b = (stripped(inputs[side].tensors, WEIGHTS) for side in ("a", "b"))
    if "alignment" in inputs:
        a = alignment_of(inputs).apply(a)
    model = model_for(task, "structure").to(context.device)
    train, test = (reading_for(task, dataset, split, context) for split in ("train", "test"))
    curve = barrier(
        model,
        a,
        b,
        replace(test, batch_size=_at_once(model, dataset, test.batch_size)),
        torch.linspace(0, 1, spec["alphas"], dtype=torch.float64, device="cpu").tolist(),
        repair=spec["repair"],
        repair_batches=train if spec["repair"] else None,
        loss=judged_by(dataset, spec.get("objective")),
    )
    values = {"alphas": list(curve.alphas), "loss": list(curve.loss), "loss_barrier": curve.loss_barrier}
    if "objective" not in spec:  # else the loss says what the metric says
        values |= {"accuracy": list(curve.accuracy), "accuracy_barrier": curve.accuracy_barrier}
    return Output(values)


def _at_once(model: nn.Module, dataset: DataSource, most: int) -> int:
    return evaluation_batch(model, dataset.input_shape, most, tokens=dataset.is_tokens)
