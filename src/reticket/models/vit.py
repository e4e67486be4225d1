"""A small vision transformer whose matrices are all layers of their own."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reticket.errors import ModelError
from reticket.models.attention import Block
from reticket.models.registry import model


class ViT(nn.Module):
    """Patches, learned positions, blocks of attention, the mean of all tokens (arXiv 2010.11929, without its token).

    Args:
        shape: of an image, (channels, side, side).
        patch: side of a patch, which divides that of the image.
        width: features of a token.
        depth: number of blocks.
        heads: of attention, which divide the width.
        classes: number of classes.
    """

    def __init__(
        self, shape: tuple[int, int, int], patch: int, width: int, depth: int, heads: int, classes: int
    ) -> None:
        super().__init__()
        self.shape = shape
        self.patches = nn.Conv2d(shape[0], width, patch, patch)
        self.positions = nn.Parameter(0.02 * torch.randn((shape[1] // patch) ** 2, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n classes"]:
        """Return the logits; images may come as rows of pixels."""
        x = self.patches(x.view(-1, *self.shape)).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


@model("vit", input_shape=lambda in_features, **_: (in_features,))
def build_vit(
    in_features: int = 64,
    channels: int = 1,
    patch: int = 2,
    width: int = 48,
    depth: int = 2,
    heads: int = 4,
    classes: int = 10,
) -> ViT:
    """Return a vision transformer, for instance for the digits: 16 patches of 2 x 2, two blocks of four heads.

    Weights are torch's own draw for each layer, positions normal with deviation 0.02.

    Args:
        in_features: pixels of one square image, all channels together.
        channels: of an image.
        patch: side of a patch in pixels.
        width: features of a token.
        depth: number of blocks.
        heads: of attention.
        classes: number of classes.
    """
    side = math.isqrt(in_features // channels)
    if channels * side * side != in_features or side % patch:
        raise ModelError(
            f"model 'vit' cannot cut {in_features} values of {channels} channels into square patches of side {patch}; "
            f"give a square image and a patch whose side divides its own"
        )
    return ViT((channels, side, side), patch, width, depth, heads, classes)
