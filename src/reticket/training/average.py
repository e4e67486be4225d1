"""The moving average of a run's weights, which its last step leaves in the model."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from reticket.fixed import BUFFER
from reticket.training.flat import FlatParameters


class WeightAverage:
    """The exponential moving average of weights and floating buffers: `a <- d a + (1 - d) w` after every step.

    It begins as the weights that a run begins with. Masked weights are 0 in it as in the model; what a frame fixes of
    an asymmetric model is no buffer that a run changes, and is left out.

    Args:
        model: whose buffers are averaged.
        parameters: the model's own, as vectors.
        decay: d, in (0, 1).
    """

    def __init__(self, model: nn.Module, parameters: FlatParameters, decay: float) -> None:
        self._parameters, self._share = parameters, 1 - decay
        self._buffers = {
            name: buffer
            for name, buffer in model.named_buffers()
            if buffer.is_floating_point() and name.rpartition(".")[2] != BUFFER
        }
        self._average = {name: buffer.clone() for name, buffer in self._buffers.items()}
        self.weights = parameters.weights.clone()

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The average by the names of parameters and buffers; changed in place."""
        return {**self._parameters.views(self.weights), **self._average}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are; nothing is read from the device."""
        self.weights.lerp_(self._parameters.weights, self._share)
        for name, buffer in self._buffers.items():
            self._average[name].lerp_(buffer, self._share)

    @torch.no_grad()
    def clear_masked(self) -> None:
        """Set to 0 what the mask masks."""
        if self._parameters.keep is not None:
            self.weights.masked_fill_(self._parameters.keep == 0, 0)

    @torch.no_grad()
    def write(self) -> None:
        """Put the average into the model."""
        self._parameters.weights.copy_(self.weights)
        for name, buffer in self._buffers.items():
            buffer.copy_(self._average[name])
