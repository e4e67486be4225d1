"""Parameters of normalisation layers, in training at random places between what they begin as and what they are."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]

from reticket.errors import ConfigError
from reticket.training.flat import FlatParameters
from reticket.training.synchronised import SharedBatchNorm

NORMS = (_NormBase, SharedBatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
BEGINNING = {"weight": 1.0, "bias": 0.0}


def norm_beginnings(model: nn.Module) -> dict[str, float]:
    """Return the trainable parameters of normalisation layers, and what torch initialises each of them to.

    Args:
        model: a network with such layers.

    Raises:
        ConfigError: when it has none, or one whose beginning is not known.

    >>> norm_beginnings(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)))
    {'1.weight': 1.0, '1.bias': 0.0}
    """
    names = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    found: dict[str, float] = {}
    for place, module in model.named_modules():
        own = {kind: names[id(p)] for kind, p in module.named_parameters(recurse=False) if id(p) in names}
        known = isinstance(module, NORMS)
        if not own or not (known or "norm" in type(module).__name__.lower()):
            continue
        if not known or not set(own) <= set(BEGINNING):
            where = f"'{place}'" if place else "the model itself"
            raise ConfigError(
                f"recipe: interpolate_norms knows torch's normalisation layers, but {where} is a "
                f"{type(module).__name__} with {', '.join(own)}, of which it is not known what it begins as; leave "
                f"interpolate_norms out"
            )
        found |= {name: BEGINNING[kind] for kind, name in own.items()}
    if not found:
        raise ConfigError(
            "recipe: interpolate_norms is set, but the model has no normalisation layer with parameters that are "
            "trained; leave it out"
        )
    return found


class NormInterpolation:
    """Where the parameters of normalisation layers stand in a step: `(1 - share) now + share beginning`.

    The beginning is a weight of 1 and a bias of 0, as torch initialises them. A network that is trained at all shares
    between 0 and 1 leans less on what its normalisation has learned, so that its mask and signs mean more in another
    network, whose normalisation is at its beginning: Oh, Baik and Lee 2025, arXiv 2504.05357, in the pruning of their
    "A Winning Sign", with one share from U(0, 1) for all layers in every step. Evaluated are the parameters themselves.

    Args:
        model: what is trained.
        parameters: the model's own, as vectors.

    Raises:
        ConfigError: when the model has no such layer, or one whose beginning is not known.
    """

    def __init__(self, model: nn.Module, parameters: FlatParameters) -> None:
        self.parameters = parameters
        self._beginning = torch.zeros_like(parameters.weights)
        self._moves = torch.zeros_like(parameters.weights)  # 1 where a parameter is of a normalisation layer
        moves, beginning = parameters.views(self._moves), parameters.views(self._beginning)
        for name, value in norm_beginnings(model).items():
            moves[name].fill_(1.0)
            beginning[name].fill_(value)
        if parameters.held is not None:
            self._moves.masked_fill_(parameters.held, 0.0)

    @contextmanager
    def at(self, share: float) -> Iterator[None]:
        """Let the parameters stand at a share of the way to their beginning, inside the block.

        Args:
            share: from 0, where they are, to 1.
        """
        weights = self.parameters.weights
        kept = weights.clone()
        with torch.no_grad():
            weights.lerp_(self._beginning, share * self._moves)
            self.parameters.clear_masked_weights()
        try:
            yield
        finally:
            with torch.no_grad():
                weights.copy_(kept)

    @torch.no_grad()
    def scale(self, gradient: Float[Tensor, " n"], share: float) -> None:
        """Make of the gradient by where the parameters stood in a step that by the parameters: `1 - share` of it.

        Args:
            gradient: of all parameters; changed in place.
            share: that of the step.
        """
        gradient.mul_(1 - share * self._moves)
