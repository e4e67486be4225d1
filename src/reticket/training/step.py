"""One step of training: the gradient of the loss on a batch, then the optimiser's move, masked weights held at 0."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from reticket.ranks import ALONE, Ranks
from reticket.training.average import WeightAverage
from reticket.training.chain import LossAndGradient
from reticket.training.flat import FlatParameters
from reticket.training.norms import NormInterpolation
from reticket.training.optimisers import Optimiser


class TrainingStep:
    """A step on a batch. It reads nothing from the device, so it may be recorded.

    Args:
        model: what is trained.
        parameters: the model's own, as vectors.
        loss_and_gradient: adds to the gradient's vector, see `chain.loss_and_gradient`.
        optimiser: moves the parameters.
        ranks: the processes that train this model together, each of which adds the gradient of its part of the batch.
        clip_norm: largest norm of the gradient, None for any.
        parts: how many parts a batch is passed in.
        average: takes in the weights after every step.
        norms: where the parameters of normalisation layers stand in a step; None for where they are.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: FlatParameters,
        loss_and_gradient: LossAndGradient,
        optimiser: Optimiser,
        ranks: Ranks = ALONE,
        *,
        clip_norm: float | None = None,
        parts: int = 1,
        average: WeightAverage | None = None,
        norms: NormInterpolation | None = None,
    ) -> None:
        self.model, self.parameters, self.ranks = model, parameters, ranks
        self.loss_and_gradient, self.optimiser = loss_and_gradient, optimiser
        self.clip_norm, self.parts, self.average, self.norms = clip_norm, parts, average, norms

    def __call__(
        self,
        x: Shaped[Tensor, "b ..."],
        y: Shaped[Tensor, "b ..."],
        n: int,
        lr: float | Float[Tensor, ""],
        share: float = 0.0,
    ) -> Float[Tensor, ""]:
        """Do the step and return the loss before it in nats, or this process's share of it.

        Args:
            x: normalised inputs or tokens, those of this process.
            y: their labels.
            n: inputs in the batch, those of all processes together.
            lr: learning rate.
            share: how far on the way to their beginning the parameters of normalisation layers stand, see `norms`.
        """
        apart = self.clip_norm is not None or self.norms is not None
        self.optimiser.before_backward(leads=self.ranks.first or apart)
        if apart:
            loss = self._changed(x, y, n, share)
        else:
            loss = self._loss_and_gradient(x, y, n)
            self.ranks.all_reduce_(self.parameters.gradient)
        before = self.parameters.before_step()
        self.optimiser.after_backward(lr)
        self.parameters.put_back(before)
        if self.average is not None:
            self.average.update()
        return loss

    def _changed(self, x: Tensor, y: Tensor, n: int, share: float) -> Float[Tensor, ""]:
        """Add the gradient of the kept weights, through `norms`, shortened as by `torch.nn.utils.clip_grad_norm_`."""
        gradient = self.parameters.gradient
        before = gradient.clone()  # what an optimiser has there already, as SGD its velocity
        gradient.zero_()
        with nullcontext() if self.norms is None else self.norms.at(share):
            loss = self._loss_and_gradient(x, y, n)
        self.ranks.all_reduce_(gradient)
        if self.norms is not None:
            self.norms.scale(gradient, share)
        self.parameters.clear_masked_gradient()
        if self.clip_norm is not None:
            gradient.mul_((self.clip_norm / (gradient.norm() + 1e-6)).clamp_(max=1.0))
        gradient.add_(before)
        return loss

    def _loss_and_gradient(self, x: Tensor, y: Tensor, n: int) -> Float[Tensor, ""]:
        """Add the gradient of a batch, part by part, and return its loss."""
        if self.parts == 1:
            return self.loss_and_gradient(x, y, n)
        cut = zip(x.tensor_split(self.parts), y.tensor_split(self.parts), strict=True)
        losses = [self.loss_and_gradient(x_part, y_part, n) for x_part, y_part in cut if len(y_part)]
        return torch.stack(losses).sum() if losses else self.parameters.weights.new_zeros(())

    def dense_gradient(self, x: Shaped[Tensor, "b ..."], y: Shaped[Tensor, "b ..."], n: int) -> dict[str, Tensor]:
        """Return the gradient of the loss by parameter, masked weights included; model and optimiser stay as they are.

        Args:
            x: normalised inputs or tokens, those of this process.
            y: their labels.
            n: inputs in the batch, those of all processes together.
        """
        gradient = self.parameters.gradient
        with self._buffers_kept():
            kept = gradient.clone()
            gradient.zero_()
            self._loss_and_gradient(x, y, n)
            self.ranks.all_reduce_(gradient)
            found = gradient.clone()
            gradient.copy_(kept)
        return self.parameters.views(found)

    @contextmanager
    def _buffers_kept(self) -> Iterator[None]:
        """Put the model's buffers back at the end: a forward in train mode brings BatchNorm's statistics forward."""
        kept = [buffer.clone() for buffer in self.model.buffers()]
        yield
        with torch.no_grad():
            for buffer, value in zip(self.model.buffers(), kept, strict=True):
                buffer.copy_(value)
