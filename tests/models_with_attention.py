"""Attention in the forms that people write it, with the freedom of each derived by hand.

H heads, dk channels of queries and keys, dv of values: whole heads may change places (H!), and within each head the
channels of queries and keys together (dk! for each head) and those of values (dv! for each head).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.models_for_symmetry import Case, orders

HEADS, WIDTH = 3, 4


def tokens() -> Tensor:
    """Two sequences of five tokens with seven features."""
    return torch.linspace(-2, 2, 70).reshape(2, 5, 7).sin()


def wreath(heads: int, *inner: int) -> float:
    """log10 of heads! and, for every head, of the orders inside it."""
    return orders(heads) + heads * orders(*inner)


class Attention(nn.Module):
    """Embedding, self-attention with a residual stream, classifier; subclasses say how queries, keys, values arise."""

    def __init__(self, stream: int = 12) -> None:
        super().__init__()
        self.embed, self.out, self.head = nn.Linear(7, stream), nn.Linear(12, stream), nn.Linear(stream, 2)

    def attend(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x + self.out(self.attend(x))
        return self.head(x.mean(1))


def by_head(x: Tensor, heads: int = HEADS) -> Tensor:
    """(n, t, h d) to (n, h, t, d)."""
    return x.unflatten(-1, (heads, x.shape[-1] // heads)).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    """(n, h, t, d) to (n, t, h d)."""
    return x.transpose(1, 2).flatten(2)


class FusedByPart(Attention):
    """One projection whose output is (3, heads, d)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(12, 36)

    def attend(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, HEADS, WIDTH).permute(2, 0, 3, 1, 4)
        return joined(((q @ k.mT) / math.sqrt(WIDTH)).softmax(-1) @ v)


class FusedByHead(Attention):
    """One projection whose output is (heads, 3, d), as in GPT-NeoX."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(12, 36)

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (HEADS, 3 * WIDTH)).transpose(1, 2).chunk(3, -1)
        return joined(F.scaled_dot_product_attention(q, k, v))


class FusedByChunk(Attention):
    """One projection, cut in three before the heads, as in GPT-2."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(12, 36)

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = map(by_head, self.qkv(x).split(12, dim=-1))
        return joined(F.scaled_dot_product_attention(q, k, v, is_causal=True))


class GroupedQueries(Attention):
    """Two heads of keys and values, three heads of queries for each of them."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.q, self.k, self.v, self.way = nn.Linear(12, 12), nn.Linear(12, 4), nn.Linear(12, 8), way
        self.out = nn.Linear(24, 12)

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = by_head(self.q(x), 6), by_head(self.k(x), 2), by_head(self.v(x), 2)
        if self.way == "native":
            return joined(F.scaled_dot_product_attention(q, k, v, enable_gqa=True))
        if self.way == "interleave":
            k, v = (y.repeat_interleave(3, 1) for y in (k, v))
        else:
            k, v = (y[:, :, None].expand(-1, -1, 3, -1, -1).flatten(1, 2) for y in (k, v))
        return joined(F.scaled_dot_product_attention(q, k, v))


class NormedQueries(Attention):
    """Queries and keys are normalised with one weight for all heads."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(12, 12) for _ in range(3))
        self.qnorm, self.knorm = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = by_head(self.q(x)), by_head(self.k(x)), by_head(self.v(x))
        return joined(F.scaled_dot_product_attention(self.qnorm(q), self.knorm(k), v))


class Rotary(Attention):
    """Rotary positions: queries and keys are turned by angles that differ from channel to channel."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(12, 12, bias=False) for _ in range(3))

    def attend(self, x: Tensor) -> Tensor:
        angle = torch.outer(torch.arange(x.shape[1]), 0.1 ** torch.arange(0, WIDTH, 2)).repeat(1, 2)

        def turn(y: Tensor) -> Tensor:
            first, second = y.chunk(2, -1)
            return y * angle.cos() + torch.cat([-second, first], -1) * angle.sin()

        q, k, v = by_head(self.q(x)), by_head(self.k(x)), by_head(self.v(x))
        return joined(F.scaled_dot_product_attention(turn(q), turn(k), v))


class ByEinsum(Attention):
    """Projections kept as (heads, d, stream) and used by einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Parameter(torch.randn(HEADS, WIDTH, 12)) for _ in range(3))
        self.o = nn.Parameter(torch.randn(12, HEADS, WIDTH))
        self.out = nn.Identity()

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = (torch.einsum("ntc,hdc->nhtd", x, w) for w in (self.q, self.k, self.v))
        scores = torch.einsum("nhtd,nhsd->nhts", q, k).softmax(-1)
        return torch.einsum("nhts,nhsd,chd->ntc", scores, v, self.o)


class TalkingHeads(Attention):
    """Scores of all heads are mixed before the softmax and after it: the heads of values are others than of queries."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 12)
        self.before, self.after = nn.Linear(HEADS, 5), nn.Linear(5, 2)

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = by_head(self.q(x)), by_head(self.k(x)), by_head(self.v(x), 2)
        scores = self.before((q @ k.mT).movedim(1, -1)).movedim(-1, 1).softmax(-1)
        return joined(self.after(scores.movedim(1, -1)).movedim(-1, 1) @ v)


class Built(Attention):
    """torch's own attention module, with or without the weights it can return."""

    def __init__(self, *, weights: bool, **options: object) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, HEADS, batch_first=True, **options)  # pyright: ignore
        self.out, self.weights = nn.Identity(), weights

    def attend(self, x: Tensor) -> Tensor:
        result, scores = self.attention(x, x, x, need_weights=self.weights)
        return result if scores is None else result * (1 + scores.mean())


class EncoderLayer(nn.Module):
    """torch's own encoder layer between two linear layers."""

    def __init__(self, *, norm_first: bool) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(7, 12), nn.Linear(12, 2)
        self.layer = nn.TransformerEncoderLayer(12, HEADS, 10, batch_first=True, norm_first=norm_first)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(x))[:, 0])


class Perceiver(nn.Module):
    """Learned latents read the input by attention, then each other; nothing tells one latent from another."""

    def __init__(self) -> None:
        super().__init__()
        self.latents, self.embed = nn.Parameter(torch.randn(5, 12)), nn.Linear(7, 12)
        self.q, self.k, self.v, self.out = (nn.Linear(12, 12) for _ in range(4))
        self.own, self.head = nn.MultiheadAttention(12, 2, batch_first=True), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        x, latents = self.embed(x), self.latents.expand(x.shape[0], -1, -1)
        q, k, v = by_head(self.q(latents)), by_head(self.k(x)), by_head(self.v(x))
        latents = latents + self.out(joined(F.scaled_dot_product_attention(q, k, v)))
        latents = latents + self.own(latents, latents, latents, need_weights=False)[0]
        return self.head(latents.mean(1))


class EqualSizes(nn.Module):
    """Batch, tokens, channels and heads times width are all four: sizes say nothing about what belongs together."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(4, 4), nn.Linear(4, 4)
        self.q, self.k, self.v, self.out = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        q, k, v = (by_head(f(x), 2) for f in (self.q, self.k, self.v))
        return self.head(x + self.out(joined(F.scaled_dot_product_attention(q, k, v))))


FULL = orders(12) + wreath(HEADS, WIDTH, WIDTH)
ATTENTION = {
    # the residual stream (12!) beside H! (dk!)^H (dv!)^H, however q, k and v are packed
    "fused-qkv-by-part": Case(FusedByPart, tokens, FULL),
    "fused-qkv-by-head": Case(FusedByHead, tokens, FULL),
    "fused-qkv-by-chunk": Case(FusedByChunk, tokens, FULL),
    "einsum-heads": Case(ByEinsum, tokens, FULL),
    "multihead-attention": Case(lambda: Built(weights=False), tokens, FULL),
    "multihead-attention-weights": Case(lambda: Built(weights=True), tokens, FULL),
    "multihead-attention-kdim": Case(lambda: Built(weights=False, kdim=12, vdim=12, bias=False), tokens, FULL),
    # 2 heads of keys and values, each with its 3 heads of queries (3!), the 2 channels of queries and keys and the 4 of
    # values; all queries of a head of keys share their channels
    "grouped-queries": Case(lambda: GroupedQueries("native"), tokens, orders(12) + wreath(2, 3, 2, 4)),
    "grouped-queries-interleaved": Case(lambda: GroupedQueries("interleave"), tokens, orders(12) + wreath(2, 3, 2, 4)),
    "grouped-queries-expanded": Case(lambda: GroupedQueries("expand"), tokens, orders(12) + wreath(2, 3, 2, 4)),
    # one weight for the channels of all heads: the 4 channels of queries, and of keys, move alike in all of them
    "qk-norm-shared-by-heads": Case(NormedQueries, tokens, orders(12, 4) + wreath(HEADS, WIDTH)),
    # the angles pin the channels of queries and keys
    "rotary": Case(Rotary, tokens, orders(12) + wreath(HEADS, WIDTH)),
    # 3 heads of queries with their channels; 5 heads of mixed scores; 2 heads of values with 6 channels each
    "talking-heads": Case(TalkingHeads, tokens, orders(12) + wreath(HEADS, WIDTH) + orders(5) + wreath(2, 6)),
    # the 10 units of the feed-forward part beside the attention
    "transformer-encoder-layer": Case(lambda: EncoderLayer(norm_first=False), tokens, FULL + orders(10)),
    "transformer-encoder-layer-pre-norm": Case(lambda: EncoderLayer(norm_first=True), tokens, FULL + orders(10)),
    # 5 latents with a stream of their own (12!) beside the embedding's; 3 heads of 4 channels in the reading, 2 heads
    # of 6 in the attention of the latents among themselves
    "perceiver-latents": Case(Perceiver, tokens, orders(5, 12) + FULL + wreath(2, 6, 6)),
    # stream 4!, 2 heads with 2 channels of queries and keys and 2 of values
    "equal-sizes": Case(
        EqualSizes, lambda: torch.linspace(-2, 2, 64).reshape(4, 4, 4).sin(), orders(4) + wreath(2, 2, 2)
    ),
}
