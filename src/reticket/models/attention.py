"""Blocks of a transformer: attention and two layers, each with a norm before it and a residual around it."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from reticket.errors import ModelError


class Attention(nn.Module):
    """Attention of several heads; queries, keys, values and output have a layer each.

    Args:
        width: features of a token.
        heads: which divide the width.
        causal: whether a token sees only itself and those before it.

    Raises:
        ModelError: when the heads do not divide the width.
    """

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ModelError(f"{heads} heads cannot share {width} features; choose a width that they divide")
        self.heads, self.causal = heads, causal
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "n tokens width"]) -> Float[Tensor, "n tokens width"]:
        """Return what each token gathers from those that it sees."""
        q, k, v = (self._split(layer(x)) for layer in (self.query, self.key, self.value))
        gathered = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(gathered.transpose(1, 2).flatten(2))

    def _split(self, x: Float[Tensor, "n tokens width"]) -> Float[Tensor, "n heads tokens _"]:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """Attention, then two layers with GELU of four times the width.

    Args:
        width: features of a token.
        heads: of attention.
        causal: whether a token sees only itself and those before it.
    """

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads, causal)
        self.norm2, self.widen, self.narrow = (
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Float[Tensor, "n tokens width"]) -> Float[Tensor, "n tokens width"]:
        """Return the tokens, each with what was added to it."""
        x = x + self.attention(self.norm1(x))
        return x + self.narrow(F.gelu(self.widen(self.norm2(x))))
