"""Logits, loss and accuracy of a model on a part of a data set, or what any objective says of it on batches."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import overload

import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from reticket.copied import private_copy
from reticket.data import DataSource, Reading
from reticket.data.source import Split
from reticket.devices import available_device
from reticket.errors import TrainingError
from reticket.forward import Score, scored
from reticket.objectives import Function, Measure, Objective, chosen_objective, logits_of
from reticket.weights import Weights, module_of, state_of
from reticket.wrapped import inside, named_like

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

    @property
    def metric(self) -> float:
        """The accuracy, which is the metric of a classification."""
        return self.accuracy


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


@overload
def evaluate(
    model: nn.Module,
    dataset: DataSource,
    split: Split = "test",
    *,
    weights: Weights | None = None,
    batch_size: int | None = None,
    device: str | torch.device = "cpu",
) -> Evaluation: ...
@overload
def evaluate(
    model: nn.Module,
    dataset: Iterable[object],
    split: Split = "test",
    *,
    weights: Weights | None = None,
    batch_size: int | None = None,
    device: str | torch.device = "cpu",
    loss: Objective | Measure | Function | str | None = None,
    metric: Measure | Function | str | None = None,
    to_inputs: Callable[[object], object] | None = None,
) -> Score: ...
@overload
def evaluate(
    model: nn.Module,
    dataset: DataSource,
    split: Split = "test",
    *,
    weights: Weights | None = None,
    batch_size: int | None = None,
    device: str | torch.device = "cpu",
    loss: Objective | Measure | Function | str,
    metric: Measure | Function | str | None = None,
    to_inputs: Callable[[object], object] | None = None,
) -> Score: ...
def evaluate(
    model: nn.Module,
    dataset: DataSource | Iterable[object],
    split: Split = "test",
    *,
    weights: Weights | None = None,
    batch_size: int | None = None,
    device: str | torch.device = "cpu",
    loss: Objective | Measure | Function | str | None = None,
    metric: Measure | Function | str | None = None,
    to_inputs: Callable[[object], object] | None = None,
) -> Evaluation | Score:
    """Return the evaluation of a model in eval mode; the model is left as it is.

    A data set of classes without a loss gives an `Evaluation`, with the logits of every input (of tokens: of every
    token); anything else a `Score`.

    Args:
        model: gives logits for normalised inputs, or whatever the loss takes.
        dataset: the data, or batches, as of a DataLoader.
        split: of a data set "test" or "train" (never augmented).
        weights: a `state_dict`, or a module that has it, to evaluate instead of the model's own.
        batch_size: inputs in one forward pass; None for what `evaluation_batch` says.
        device: where to compute.
        loss: what the model is judged by, as `barrier` takes it; None for what the batches are made for.
        metric: a metric in place of the loss's own, as `barrier` takes it.
        to_inputs: what of a batch the model takes, in place of its first element.

    Raises:
        InputError: for an unknown split, device, loss or metric, no batches or batches that do not fit the loss.
        ModelError: when the model cannot take a batch.
        TrainingError: when the model's output is not one row of logits for each input.
    """
    target = available_device(device)
    evaluated = _copied(module_of(model), weights).to(target)
    objective = chosen_objective(loss, metric)
    if not isinstance(dataset, DataSource):
        return scored(evaluated, dataset, objective, to_inputs=to_inputs, who="evaluate")
    first = next(evaluated.parameters(), torch.zeros((), device="cpu"))
    convolutional = any(p.dim() == 4 for p in evaluated.parameters())
    if convolutional:
        evaluated.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if batch_size is None:
        batch_size = _fitting(evaluated, dataset.input_shape, BATCH, tokens=dataset.is_tokens)
    reading = Reading(dataset, split, batch_size, device=target)
    tokens = dataset.is_tokens
    batches = ((x if tokens else _laid_out(x.to(first.dtype), convolutional), y) for x, y in reading)
    if objective is not None:
        return scored(evaluated, batches, objective, to_inputs=to_inputs, who="evaluate")
    with torch.no_grad():
        parts = [logits_of(evaluated(inputs), TrainingError).float() for inputs, _ in batches]
        logits = torch.cat(parts).cpu()
    y = dataset.labels(split)
    if y.dim() == 2 and logits.shape[:2] == y.shape:  # of every token
        logits, y = logits.flatten(0, 1), y.flatten()
    if logits.shape != (len(y), len(dataset.classes)):
        raise TrainingError(
            f"the model's output has shape {tuple(logits.shape)}, but ({len(y)}, {len(dataset.classes)}) was expected: "
            f"build it for {len(dataset.classes)} classes"
        )
    return score(logits.clone(), y)


def _copied(model: nn.Module, weights: Weights | None) -> nn.Module:
    """Return a copy of the model in eval mode, with other weights where these are given."""
    copied = inside(private_copy(model)).eval()
    if weights is not None:
        copied.load_state_dict(dict(named_like(copied.state_dict(), state_of(weights))))
    return copied.requires_grad_(False)


def _laid_out(inputs: Tensor, convolutional: bool) -> Tensor:
    """Return images of a convolutional network with their channels last, which is faster."""
    if inputs.dim() == 4 and convolutional:
        return inputs.contiguous(memory_format=torch.channels_last)
    return inputs


def evaluation_batch(
    model: nn.Module, input_shape: tuple[int, ...], at_most: int = BATCH, *, tokens: bool = False
) -> int:
    """Return how many inputs are evaluated at once, so that no module's output takes more than 32 MB (1 GB on CUDA).

    Nothing is lost by it: on a CPU a ResNet20 evaluates 16 inputs at a time as fast as 500.

    Args:
        model: on the device that it is to be evaluated on; it is left as it is.
        input_shape: of one input.
        at_most: inputs in a batch of a small model.
        tokens: whether an input is a row of tokens.
    """
    return _fitting(private_copy(model).eval(), input_shape, at_most, tokens=tokens)


def _fitting(model: nn.Module, input_shape: tuple[int, ...], at_most: int, *, tokens: bool = False) -> int:
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
        model(torch.zeros(1, *input_shape, dtype=torch.int64 if tokens else first.dtype, device=first.device))
    for hook in hooks:
        hook.remove()
    return max(1, min(at_most, allowed // largest))
