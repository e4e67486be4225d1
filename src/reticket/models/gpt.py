"""A small transformer that predicts the next token, all of whose matrices are layers of their own."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from reticket.models.attention import Block


class GPT(nn.Module):
    """Embeddings of tokens and positions, causal blocks, and logits of the token that follows each (GPT-2).

    Args:
        vocabulary: number of tokens.
        context: most tokens of a text.
        width: features of a token.
        depth: number of blocks.
        heads: of attention, which divide the width.
    """

    def __init__(self, vocabulary: int, context: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.empty(context, width))
        self.blocks = nn.ModuleList(Block(width, heads, causal=True) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self._draw()

    def _draw(self) -> None:
        """Draw all weights normal with deviation 0.02 and set biases to 0, as GPT-2."""
        nn.init.normal_(self.positions, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x: Int64[Tensor, "n tokens"]) -> Float[Tensor, "n tokens vocabulary"]:
        """Return the logits of the token that follows each."""
        x = self.tokens(x) + self.positions[: x.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def build_gpt(vocabulary: int = 96, context: int = 64, width: int = 64, depth: int = 2, heads: int = 4) -> GPT:
    """Return a GPT; named `reticket.models.gpt:build_gpt` in an experiment, which fills in vocabulary and context.

    Args:
        vocabulary: number of tokens.
        context: most tokens of a text.
        width: features of a token.
        depth: number of blocks.
        heads: of attention.
    """
    return GPT(vocabulary, context, width, depth, heads)
