"""Logits, loss and accuracy of a model on a part of a data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from reticket.copied import private_copy
from reticket.data import DataSource, Reading
from reticket.data.source import Split
from reticket.errors import ReticketError, TrainingError

BATCH = 500  # inputs in one forward pass, at most
LARGEST = {"cpu": 2**25, "cuda": 2**30}  # bytes of the largest activation; no bound on other devices


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

    Args:
        logits: of each input and class.
        labels: class of each input.

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
    batch_size: int | None = None,
    device: str | torch.device = "cpu",
) -> Evaluation:
    """Return the evaluation of a model in eval mode; the model is left as it is.

    Args:
        model: gives logits for normalised inputs.
        dataset: the data.
        split: "test" or "train" (never augmented).
        weights: a `state_dict` to evaluate instead of the model's own.
        batch_size: inputs in one forward pass; None for what `evaluation_batch` says.
        device: where to compute.

    Raises:
        TrainingError: when the model's output is not one row of logits for each input.
    """
    target = torch.device(device)
    evaluated = private_copy(model).to(target).eval()
    if weights is not None:
        evaluated.load_state_dict(dict(weights))
    evaluated.requires_grad_(False)
    first = next(evaluated.parameters(), torch.zeros((), device="cpu"))
    convolutional = any(p.dim() == 4 for p in evaluated.parameters())
    if convolutional:
        evaluated.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if batch_size is None:
        batch_size = _fitting(evaluated, dataset.input_shape, BATCH)
    y = dataset.labels(split)
    parts = []
    with torch.no_grad():
        for batch, _ in Reading(dataset, split, batch_size, device=target):
            inputs = batch.to(first.dtype)
            if inputs.dim() == 4 and convolutional:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            parts.append(logits_of(evaluated(inputs), TrainingError).float())
        logits = torch.cat(parts).cpu()
    if logits.shape != (len(y), len(dataset.classes)):
        raise TrainingError(
            f"the model's output has shape {tuple(logits.shape)}, but ({len(y)}, {len(dataset.classes)}) was expected: "
            f"build it for {len(dataset.classes)} classes"
        )
    return score(logits.clone(), y)


def logits_of(output: object, error: type[ReticketError]) -> Tensor:
    """Return a model's output, which must be one tensor.

    Raises:
        ReticketError: of the class `error`, when it is a tuple, a dict or an object: which of its parts are the logits
            is not guessed.
    """
    if isinstance(output, Tensor):
        return output
    inside = output.keys() if isinstance(output, Mapping) else [type(part).__name__ for part in _parts(output)]
    of = f" of {', '.join(map(str, inside))}" if inside else ""
    raise error(
        f"the model returns a {type(output).__name__}{of}, but one tensor of logits was expected; wrap it in a module "
        f"whose forward returns the logits alone"
    )


def _parts(output: object) -> Sequence[object]:
    return output if isinstance(output, tuple | list) else ()


def evaluation_batch(model: nn.Module, input_shape: tuple[int, ...], at_most: int = BATCH) -> int:
    """Return how many inputs are evaluated at once, so that no module's output takes more than 32 MB (1 GB on CUDA).

    Nothing is lost by it: on a CPU a ResNet20 evaluates 16 inputs at a time as fast as 500.

    Args:
        model: on the device that it is to be evaluated on; it is left as it is.
        input_shape: of one input.
        at_most: inputs in a batch of a small model.
    """
    return _fitting(private_copy(model).eval(), input_shape, at_most)


def _fitting(model: nn.Module, input_shape: tuple[int, ...], at_most: int) -> int:
    """Return what `evaluation_batch` does, for a copy in eval mode."""
    first = next(model.parameters(), torch.zeros((), device="cpu"))
    allowed = LARGEST.get(first.device.type)
    if allowed is None:
        return at_most
    largest = 1  # byte of an example

    def look(module: nn.Module, args: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.nbytes)

    hooks = [module.register_forward_hook(look) for module in model.modules()]
    with torch.no_grad():
        model(torch.zeros(1, *input_shape, dtype=first.dtype, device=first.device))
    for hook in hooks:
        hook.remove()
    return max(1, min(at_most, allowed // largest))
