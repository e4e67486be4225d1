"""Loss and metric along the line between two networks, and the barrier on it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import numpy as np
from torch import nn

from reticket.connectivity.interpolation import alike, interpolate
from reticket.connectivity.repairing import Repairer, load
from reticket.copied import private_copy
from reticket.errors import InputError
from reticket.extras import axes_of
from reticket.forward import Score, scored
from reticket.lookup import nearest
from reticket.notebook import html_table
from reticket.objectives import Function, Measure, Objective, chosen_objective
from reticket.progress import Progress, Tracked
from reticket.symmetry.filled import check_filled
from reticket.symmetry.untouched import kept
from reticket.weights import Weights, module_of, state_of
from reticket.wrapped import inside, renamed_like

ALPHAS = tuple(step / 10 for step in range(11))


@dataclass(frozen=True)
class BarrierCurve:
    """Loss and metric at each point of a line between two networks.

    Args:
        alphas: positions, increasing, with 0 and 1 among them; further ones lie beyond the two networks.
        loss: at each position; of classification the mean cross-entropy in nats.
        metric: at each position, of classification the accuracy in percent; None where there is none.
        metric_name: what it is.
        higher_is_better: whether the metric rises as a network gets better.

    Raises:
        InputError: a grid without both ends or out of order, or curves of another length.

    >>> curve = BarrierCurve((0.0, 0.5, 1.0), (1.0, 3.0, 2.0), (80.0, 50.0, 70.0))
    >>> curve.loss_barrier, curve.accuracy_barrier
    (1.5, 25.0)
    >>> curve
    BarrierCurve(3 points from 0 to 1, loss barrier 1.5, accuracy barrier 25)
    """

    alphas: tuple[float, ...]
    loss: tuple[float, ...]
    metric: tuple[float, ...] | None = None
    metric_name: str = "accuracy"
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        check_grid(self.alphas)
        many = len(self.loss if self.metric is None else self.metric)
        if not len(self.alphas) == len(self.loss) == many:
            raise InputError(
                f"a barrier curve needs one loss and one metric per alpha, got {len(self.alphas)} alphas, "
                f"{len(self.loss)} losses and {many} metrics"
            )

    @property
    def accuracy(self) -> tuple[float, ...]:
        """The accuracy at each position, in percent."""
        if self.metric is None or self.metric_name != "accuracy":
            raise AttributeError(f"this curve has no accuracy; it has {self._has}")
        return self.metric

    @property
    def loss_barrier(self) -> float:
        """`max over alpha in [0, 1] of L(alpha) - ((1 - alpha) L(0) + alpha L(1))`; never below 0.

        In the unit of the loss, nats for cross-entropy.
        """
        return self._barrier(self.loss, 1)

    @property
    def accuracy_barrier(self) -> float:
        """`max over alpha in [0, 1] of (1 - alpha) acc(0) + alpha acc(1) - acc(alpha)`, in points; never below 0."""
        return self._barrier(self.accuracy, -1)

    @property
    def metric_barrier(self) -> float:
        """How much worse than the straight line between the ends the metric gets, in its unit; never below 0."""
        if self.metric is None:
            raise AttributeError(f"this curve has no metric; it has {self._has}")
        return self._barrier(self.metric, -1 if self.higher_is_better else 1)

    @property
    def _has(self) -> str:
        return "the loss" if self.metric is None else f"the loss and, as metric, {self.metric_name}"

    def _barrier(self, values: tuple[float, ...], sign: int) -> float:
        """Return the most that values lie above (sign 1) or below (-1) the straight line between the ends."""
        first, last = self.alphas.index(0), self.alphas.index(1)
        at, inner = np.asarray(self.alphas[first : last + 1]), np.asarray(values[first : last + 1])
        line = inner[0] + at * (inner[-1] - inner[0])
        line[-1] = inner[-1]  # rounding must not open a barrier at an end
        return float(np.max(inner - line if sign > 0 else line - inner))

    def plot(self, axes: Any = None) -> Any:
        """Draw the loss along the line and, on a second axis, the metric.

        Args:
            axes: of matplotlib, to draw on; None for new ones.

        Returns:
            The axes of the loss; those of the metric stand beside them in `axes.figure.axes`.

        Raises:
            InputError: when matplotlib is not installed.
        """
        axes = axes_of(axes, "BarrierCurve.plot")
        axes.plot(self.alphas, self.loss, "o-", color="C0", label=f"loss, barrier {self.loss_barrier:.3g}")
        axes.set_xlabel("share of the second network")
        axes.set_ylabel("loss", color="C0")
        if self.metric is not None:
            beside = axes.twinx()
            beside.plot(self.alphas, self.metric, "s--", color="C1")
            beside.set_ylabel(f"{self.metric_name}, barrier {self.metric_barrier:.3g}", color="C1")
        axes.legend()
        return axes

    def _repr_html_(self) -> str:
        metrics = self.metric or [""] * len(self.alphas)
        rows = [
            (f"{at:g}", f"{loss:.4g}", m and f"{m:.4g}")
            for at, loss, m in zip(self.alphas, self.loss, metrics, strict=True)
        ]
        return html_table(repr(self), ("alpha", "loss", self.metric_name if self.metric else ""), rows)

    def __repr__(self) -> str:
        metric = "" if self.metric is None else f", {self.metric_name} barrier {self.metric_barrier:.4g}"
        ends = f"{len(self.alphas)} points from {self.alphas[0]:g} to {self.alphas[-1]:g}"
        return f"BarrierCurve({ends}, loss barrier {self.loss_barrier:.4g}{metric})"


class WalkOptions(TypedDict, total=False):
    """How the line is walked; see `barrier`."""

    repair_batches: Iterable[object] | None
    to_inputs: Callable[[object], object] | None
    progress: Progress


def check_grid(alphas: Sequence[float | int]) -> None:
    """Raise InputError unless `alphas` increases, is finite and has 0 and 1 in it."""
    grid = np.asarray(alphas, dtype=float)
    if not np.isfinite(grid).all() or not {0, 1} <= set(alphas) or any(np.diff(grid) <= 0):
        raise InputError(f"alphas must increase and have 0 and 1 among them, the two ends; got {list(alphas)[:12]}")


def barrier(
    model: nn.Module,
    a: Weights,
    b: Weights,
    batches: Iterable[object],
    alphas: Sequence[float | int] = ALPHAS,
    *,
    loss: Objective | Measure | Function | str | None = None,
    metric: Measure | Function | str | None = None,
    repair: bool = False,
    **options: Unpack[WalkOptions],
) -> BarrierCurve:
    """Return loss and metric on `batches` along the line from `a` to `b`.

    `barrier = max over alpha of L((1 - alpha) a + alpha b) - ((1 - alpha) L(a) + alpha L(b))` (Frankle et al. 2020).

    Args:
        model: gives the architecture; it is copied, and neither its weights nor its mode are used or changed.
        a: state at alpha = 0, a state_dict or a network; what is no weight in it (`_extra_state`) goes along as
            `interpolate` says.
        b: state at alpha = 1.
        batches: pairs of inputs and labels, or mappings for a model with a loss of its own, read once per alpha; an
            iterator (which can be read only once) is kept in memory.
        alphas: positions, increasing, with 0 and 1 among them; those outside [0, 1] go beyond the two networks.
        loss: what the networks are judged by: "classification" (cross-entropy and accuracy: the default for pairs),
            "own" (the model's own loss, with the accuracy or the perplexity of its labels: the default for mappings),
            "language-model", "regression", "segmentation", `package.module:function`, or a function of model and
            batch, see `reticket.objectives`.
        metric: the name of a metric or a function of model and batch (better where higher), in place of the loss's own.
        repair: renormalise activations at every alpha, the ends included, so that all points are treated alike.
        options: `repair_batches`, batches that the statistics are taken on, best of training data (default:
            `batches`), read as `batches` are; `to_inputs`, what of a batch the model takes, in place of its first
            element; `progress`, True for a bar, or a function of the points done and how many there are.

    Returns:
        The curve, with the barriers of the loss (in nats) and of the metric (in points of accuracy).

    Raises:
        InputError: no batches, batches that do not fit the loss, an unknown loss or metric, or a wrong grid.
        ModelError: states of different models, a batch the model cannot take, or a model without values (lazy, meta).
    """
    if not isinstance(alphas, Sequence) or isinstance(alphas, str):
        raise InputError(f"alphas is a {type(alphas).__name__}, but several positions were expected, as (0, 0.5, 1)")
    alphas = tuple(float(alpha) for alpha in alphas)
    check_grid(alphas)
    how = _checked_options(options)
    model = inside(module_of(model))
    a, b = alike([renamed_like(model.state_dict(), state_of(end, name)) for end, name in ((a, "a"), (b, "b"))])
    objective = chosen_objective(loss, metric)
    every = list(batches) if isinstance(batches, Iterator) else batches
    check_filled(model)
    with kept(model):  # a copy shares caches, hooks and what functions hold with its original
        work = private_copy(model).eval()
        repairer = None
        if repair:
            statistics = how.get("repair_batches")
            repairer = Repairer(
                model, (a, b), every if statistics is None else statistics, to_inputs=how.get("to_inputs")
            )
        points = []
        for alpha in Tracked(alphas, how.get("progress", False), "barrier"):
            load(work, interpolate(a, b, alpha) if repairer is None else repairer.at(alpha))
            points.append(scored(work, every, objective, to_inputs=how.get("to_inputs"), who="barrier"))
    return _curve(alphas, points)


def _checked_options(options: WalkOptions) -> WalkOptions:
    """Refuse an option that there is not."""
    known = WalkOptions.__optional_keys__
    if odd := [key for key in options if key not in known]:
        raise InputError(f"barrier has no option '{odd[0]}'{nearest(odd[0], known)}; it has {', '.join(sorted(known))}")
    return options


def _curve(alphas: tuple[float, ...], points: Sequence[Score]) -> BarrierCurve:
    measure = points[0].objective.metric
    losses = tuple(point.loss for point in points)
    if measure is None:
        return BarrierCurve(alphas, losses)
    metrics = tuple(point.metric for point in points if point.metric is not None)
    return BarrierCurve(alphas, losses, metrics, measure.name, measure.higher_is_better)
