"""Inputs of a batch mixed with each other, and labels likewise: mixup and CutMix."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from reticket.data import DataSource
from reticket.errors import ConfigError


@dataclass(frozen=True)
class Mixing:
    """Mixes every batch with itself in another order; where both ways are given, each batch takes one of them.

    With p a permutation of the batch and w drawn from Beta(alpha, alpha) once a batch: mixup (arXiv 1710.09412,
    equation 1) is `x' = w x + (1 - w) x[p]`, `y' = w y + (1 - w) y[p]` with labels as rows of probabilities. CutMix
    (arXiv 1905.04899, equations 1 and 2) puts a box of `x[p]`, of the share 1 - w of an image before it is cut at the
    border, into x, and w becomes the share that is left of x.

    Args:
        mixup: alpha, above 0; None for no mixup.
        cutmix: alpha, above 0; None for no CutMix.
        classes: how many there are.
    """

    mixup: float | None
    cutmix: float | None
    classes: int

    def __call__(
        self, x: Float[Tensor, "n ..."], y: Shaped[Tensor, " n"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "n ..."], Float[Tensor, "n classes"]]:
        """Return mixed inputs, and the probabilities of the classes of each.

        Args:
            x: inputs of a batch, ready for a model.
            y: their classes.
            generator: decides partners, share and place; on the CPU.
        """
        order = torch.randperm(len(y), generator=generator, device="cpu").to(y.device)
        coin, u, *place = torch.rand(4, generator=generator, dtype=torch.float64, device="cpu").tolist()
        cuts = self.mixup is None or (self.cutmix is not None and coin < 0.5)
        alpha = self.cutmix if cuts else self.mixup
        assert alpha is not None, "a recipe without either has no mixing"
        w = _beta_quantile(alpha, u)
        if cuts:
            x, w = _pasted(x, x[order], w, place)
        else:
            x = w * x + (1 - w) * x[order]
        rows = F.one_hot(y, self.classes).to(x.dtype)
        return x, w * rows + (1 - w) * rows[order]


def mixing_of(dataset: DataSource, mixup: float | None, cutmix: float | None) -> Mixing | None:
    """Return how batches of a data set are mixed, None where they are not.

    Args:
        dataset: the data.
        mixup, cutmix: those of a recipe.

    Raises:
        ConfigError: when its inputs or labels cannot be mixed.
    """
    if mixup is None and cutmix is None:
        return None
    name, wanted = ("mixup", "floating inputs or images") if cutmix is None else ("cutmix", "images")
    if not dataset.is_classified or dataset.is_tokens or (cutmix is not None and not dataset.is_images):
        raise ConfigError(
            f"{name} needs {wanted} with a class each, which data set '{dataset.name}' does not have; leave it out"
        )
    return Mixing(mixup, cutmix, len(dataset.classes))


def _beta_quantile(alpha: float, u: float) -> float:
    """Return the number below which a draw from Beta(alpha, alpha) lies with probability u."""
    from scipy.special import betaincinv

    return float(betaincinv(alpha, alpha, u))


def _pasted(
    x: Float[Tensor, "n c h w"], other: Float[Tensor, "n c h w"], share: float, centre: list[float]
) -> tuple[Float[Tensor, "n c h w"], float]:
    """Return images with one box of others, and the share of the pixels that stays.

    Args:
        x: the images.
        other: those that the box is of.
        share: of an image that is to stay.
        centre: of the box, down and across, as fractions of the image.
    """
    sizes, half = x.shape[2:], math.sqrt(1 - share) / 2
    bounds = [
        (round(size * max(0.0, at - half)), round(size * min(1.0, at + half)))
        for size, at in zip(sizes, centre, strict=True)
    ]
    (top, bottom), (left, right) = bounds
    mixed = x.clone()
    mixed[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / sizes.numel()
