"""Logits, loss and accuracy of a model on a part of a data set."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from reticket.data import DataSource, Reading
from reticket.data.source import Split
from reticket.errors import TrainingError

BATCH = 500


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How a model does on labelled inputs.

    Args:
        logits: of every input, on the CPU.
        loss: mean cross entropy in nats.
        accuracy: share of inputs whose largest logit is the label's, in percent.
    """

    logits: Float32[Tensor, "n classes"]
    loss: float
    accuracy: float


def score(logits: Float32[Tensor, "n classes"], labels: Int64[Tensor, " n"]) -> Evaluation:
    """Return loss (in float64) and accuracy of given logits.

    >>> score(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0])).accuracy
    50.0
    """
    loss = float(F.cross_entropy(logits.double(), labels))
    correct = int((logits.argmax(1) == labels).sum())
    return Evaluation(logits, loss, 100.0 * correct / len(labels))


def evaluate(
    model: nn.Module,
    dataset: DataSource,
    split: Split = "test",
    *,
    weights: Mapping[str, Tensor] | None = None,
    batch_size: int = BATCH,
    device: str | torch.device = "cpu",
) -> Evaluation:
    """Return the evaluation of a model in eval mode; the model is left as it is.

    Args:
        model: gives logits for normalised inputs.
        dataset: the data.
        split: "test" or "train" (never augmented).
        weights: a `state_dict` to evaluate instead of the model's own.
        batch_size: inputs in one forward pass.
        device: where to compute.

    Raises:
        TrainingError: when the model's output is not one row of logits for each input.
    """
    target = torch.device(device)
    evaluated = copy.deepcopy(model).to(target).eval()
    if weights is not None:
        evaluated.load_state_dict(dict(weights))
    evaluated.requires_grad_(False)
    first = next(evaluated.parameters(), torch.zeros(()))
    convolutional = any(p.dim() == 4 for p in evaluated.parameters())
    if convolutional:
        evaluated.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    y = dataset.labels(split)
    parts = []
    with torch.inference_mode():
        for batch, _ in Reading(dataset, split, batch_size, device=target):
            inputs = batch.to(first.dtype)
            if inputs.dim() == 4 and convolutional:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            parts.append(evaluated(inputs).float())
        logits = torch.cat(parts).cpu()
    if logits.shape != (len(y), len(dataset.classes)):
        raise TrainingError(
            f"the model's output has shape {tuple(logits.shape)}, but ({len(y)}, {len(dataset.classes)}) was expected: "
            f"build it for {len(dataset.classes)} classes"
        )
    return score(logits.clone(), y)
