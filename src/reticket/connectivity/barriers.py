"""Loss and accuracy along the line between two networks, and the barrier on it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reticket.connectivity.interpolation import Weights, check_same_layout, interpolate, state_of
from reticket.connectivity.repairing import Repairer, load
from reticket.copied import private_copy
from reticket.dense import dense
from reticket.errors import InputError
from reticket.forward import call
from reticket.nested import described, inputs_of
from reticket.symmetry.filled import check_filled
from reticket.symmetry.untouched import kept

ALPHAS = tuple(step / 10 for step in range(11))


@dataclass(frozen=True)
class BarrierCurve:
    """Loss and accuracy at each point of a line between two networks.

    Args:
        alphas: positions, increasing from exactly 0 to exactly 1.
        loss: mean cross-entropy at each position, in nats.
        accuracy: at each position, in percent.

    Raises:
        InputError: a grid without both ends or out of order, or curves of another length.

    >>> curve = BarrierCurve((0.0, 0.5, 1.0), (1.0, 3.0, 2.0), (80.0, 50.0, 70.0))
    >>> curve.loss_barrier, curve.accuracy_barrier
    (1.5, 25.0)
    """

    alphas: tuple[float, ...]
    loss: tuple[float, ...]
    accuracy: tuple[float, ...]

    def __post_init__(self) -> None:
        check_grid(self.alphas)
        if not len(self.alphas) == len(self.loss) == len(self.accuracy):
            raise InputError(
                f"a barrier curve needs one loss and one accuracy per alpha, got {len(self.alphas)} alphas, "
                f"{len(self.loss)} losses and {len(self.accuracy)} accuracies"
            )

    @property
    def loss_barrier(self) -> float:
        """`max over alpha of L(alpha) - ((1 - alpha) L(0) + alpha L(1))`, in nats; never below 0."""
        return float(np.max(np.asarray(self.loss) - self._chord(self.loss)))

    @property
    def accuracy_barrier(self) -> float:
        """`max over alpha of (1 - alpha) acc(0) + alpha acc(1) - acc(alpha)`, in points of percent; never below 0."""
        return float(np.max(self._chord(self.accuracy) - np.asarray(self.accuracy)))

    def _chord(self, values: tuple[float, ...]) -> np.ndarray:
        first, last, at = values[0], values[-1], np.asarray(self.alphas)
        line = first + at * (last - first)
        line[-1] = last  # rounding must not open a barrier at an end
        return line


def check_grid(alphas: Sequence[float | int]) -> None:
    """Raise InputError unless `alphas` increases from exactly 0 to exactly 1."""
    if len(alphas) < 2 or alphas[0] != 0 or alphas[-1] != 1 or any(np.diff(np.asarray(alphas)) <= 0):
        raise InputError(f"alphas must increase from 0 to 1, both ends included, got {list(alphas)[:12]}")


def barrier(
    model: nn.Module,
    a: Weights,
    b: Weights,
    batches: Iterable[object],
    alphas: Sequence[float | int] = ALPHAS,
    *,
    repair: bool = False,
    repair_batches: Iterable[object] | None = None,
    to_inputs: Callable[[object], object] | None = None,
) -> BarrierCurve:
    """Return loss and accuracy on `batches` along the line from `a` to `b`.

    `barrier = max over alpha of L((1 - alpha) a + alpha b) - ((1 - alpha) L(a) + alpha L(b))` (Frankle et al. 2020).

    Args:
        model: gives the architecture; it is copied, and neither its weights nor its mode are used or changed.
        a: state at alpha = 0, a state_dict or a network; what is no weight in it (`_extra_state`) goes along as
            `interpolate` says.
        b: state at alpha = 1.
        batches: pairs of inputs and class labels, read once per alpha; an iterator (which can be read only once) is
            kept in memory.
        alphas: positions, increasing from 0 to 1, both ends included.
        repair: renormalise activations at every alpha, the ends included, so that all points are treated alike.
        repair_batches: batches the statistics are taken on, best of training data (default: `batches`); read as
            `batches` are.
        to_inputs: what of a batch the model takes, in place of its first element.

    Returns:
        The curve, with the barrier in nats and in points of accuracy.

    Raises:
        InputError: no batches, batches that are not pairs with integer labels, or a wrong grid.
        ModelError: states of different models, a batch the model cannot take, or a model without values (lazy, meta).
    """
    alphas = tuple(float(alpha) for alpha in alphas)
    check_grid(alphas)
    a, b = state_of(a), state_of(b)
    check_same_layout(a, b)
    pairs = list(batches) if isinstance(batches, Iterator) else batches
    check_filled(model)
    with kept(model):  # a copy shares caches, hooks and what functions hold with its original
        work = private_copy(model).eval()
        repairer = None
        if repair:
            repairer = Repairer(model, (a, b), pairs if repair_batches is None else repair_batches, to_inputs=to_inputs)
        points = []
        for alpha in alphas:
            load(work, interpolate(a, b, alpha) if repairer is None else repairer.at(alpha))
            points.append(_loss_and_accuracy(work, pairs, to_inputs))
    losses, accuracies = zip(*points, strict=True)
    return BarrierCurve(alphas, losses, accuracies)


def _loss_and_accuracy(
    model: nn.Module, pairs: Iterable[object], to_inputs: Callable[[object], object] | None
) -> tuple[float, float]:
    loss, correct, count = 0.0, 0, 0
    for pair in pairs:
        if not (isinstance(pair, tuple | list) and len(pair) >= 2 and isinstance(pair[-1], Tensor)):
            raise InputError(f"barrier needs batches of (inputs, labels), got {described(pair)}")
        logits = call(model, inputs_of(pair, to_inputs))
        labels = pair[-1]
        if not isinstance(logits, Tensor) or logits.dim() != 2 or labels.shape != logits.shape[:1]:
            raise InputError(
                f"barrier needs a model that gives (examples, classes) and one label per example, got "
                f"{described(logits)} for labels of shape {tuple(labels.shape)}"
            )
        logits, labels = dense(logits), labels.to(logits.device, torch.int64)
        loss += F.cross_entropy(logits.double(), labels, reduction="sum").item()
        correct += int((logits.argmax(dim=1) == labels).sum())
        count += len(labels)
    if count == 0:
        raise InputError("barrier got no batches: give at least one batch of (inputs, labels)")
    return loss / count, 100.0 * correct / count
