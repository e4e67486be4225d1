"""Matching of groups that depend on one another: planted wreath products are found, and the tree is solved exactly."""

import copy
import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reticket.matching import match
from reticket.matching.forest import GroupForest, SimilarityScores
from reticket.rng import generator_for
from reticket.symmetry import Symmetry, discover, load_into, random_alignment
from reticket.symmetry.terms import Atom, concat, product

Order = tuple[int, ...]


class Attention(nn.Module):
    """Three heads of 8 channels from one fused projection."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(6, 72), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, 3, 8).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class GroupedQueries(nn.Module):
    """Six heads of queries share three of keys and values: queries are only seen beside the channels of the keys."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = nn.Linear(6, 24), nn.Linear(6, 12), nn.Linear(6, 12), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (-1, 4)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return self.out(F.scaled_dot_product_attention(q, k, v, enable_gqa=True).transpose(1, 2).flatten(2))


class SharedNorm(nn.Module):
    """Query and key channels are normalised by one weight for all heads: they move alike in every head."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(6, 12) for _ in range(4))
        self.out, self.norm = nn.Linear(12, 4), nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (3, 4)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(self.norm(q), self.norm(k), v)
        return self.out(y.transpose(1, 2).flatten(2))


class Experts(nn.Module):
    """Stacked experts, mixed softly or, where `fixed`, each with a weight of its own."""

    def __init__(self, fixed: bool = False) -> None:
        super().__init__()
        self.up, self.down = nn.Parameter(torch.randn(3, 6, 5)), nn.Parameter(torch.randn(3, 5, 4))
        self.gate, self.fixed = nn.Linear(6, 3), fixed

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x).softmax(-1) * (torch.arange(3) if self.fixed else 1)
        hidden = torch.einsum("bnd,edh->bneh", x, self.up).relu()
        return (torch.einsum("bneh,ehd->bned", hidden, self.down) * gate[..., None]).sum(2)


class GroupNorm(nn.Module):
    """Channels are normalised group by group."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 12), nn.GroupNorm(3, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.first(x.flatten(0, 1))).relu()).unflatten(0, x.shape[:2])


MODELS: dict[str, Any] = {
    "attention": Attention,
    "grouped queries": GroupedQueries,
    "shared norm": SharedNorm,
    "soft experts": Experts,
    "fixed experts": lambda: Experts(fixed=True),
    "group norm": GroupNorm,
}


def tokens(label: object, batch: int = 2) -> Tensor:
    return torch.randn(batch, 5, 6, generator=generator_for("tokens", str(label)))


@pytest.mark.slow_cases(but=["correlation-fixed experts", "covariance-soft experts", "covariance-fixed experts"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("cost", ["correlation", "covariance"])
def test_a_planted_wreath_product_is_found_exactly(name: str, cost: str) -> None:
    torch.manual_seed(0)
    a = MODELS[name]()
    sym = discover(a, tokens("example"), verify=False)
    assert any(group.parents for group in sym.groups.values())
    b, pi = copy.deepcopy(a), random_alignment(sym, generator_for("pi", name))
    load_into(b, pi.apply(a.state_dict()))
    found = match(a, b, sym, [tokens(k, 64) for k in range(4)], cost=cost)
    assert found.permutations == pi.permutations
    assert set(found.quality) == set(sym.groups)
    assert all(q.correlation == pytest.approx(1, abs=1e-4) and q.margin > 0 for q in found.quality.values())


def tree(heads: int, channels: int) -> Symmetry:
    one, two = Atom("one", channels, ("head",)), Atom("two", channels, ("head",))
    return Symmetry({"w": (product(Atom("head", heads), concat(one, two)),)}, {"w": ("",)})


def test_a_tree_is_solved_exactly() -> None:
    """Against every one of 3! * (2!)^3 * (2!)^3 choices, where the greedy choice for heads alone is another one."""
    generator, heads, channels, differs = generator_for("tree"), 3, 2, 0
    for _ in range(20):
        own = torch.randn(heads, heads, generator=generator, dtype=torch.float64)
        below = [torch.randn(3, 2, 3, 2, generator=generator, dtype=torch.float64) for _ in range(2)]
        seen = {
            "head": SimilarityScores((), own),
            "one": SimilarityScores(("head",), below[0]),
            "two": SimilarityScores(("head",), below[1]),
        }
        found = GroupForest(tree(heads, channels), seen).assign()

        def value(index: Order, inner: list[list[Order]], own: Tensor = own, below: Any = below) -> float:
            total = sum(own[old, new].item() for new, old in enumerate(index))
            for scores, blocks in zip(below, inner, strict=True):
                for new, old in enumerate(index):
                    total += sum(scores[old, i, new, j].item() for j, i in enumerate(blocks[new]))
            return total

        blocks = list(itertools.product(itertools.permutations(range(channels)), repeat=heads))
        best = max(
            value(index, [list(one), list(two)])
            for index in itertools.permutations(range(heads))
            for one in blocks
            for two in blocks
        )
        head = tuple(found["head"].index.tolist())
        inner = [[tuple(row) for row in found[name].index.tolist()] for name in ("one", "two")]
        assert value(head, inner) == pytest.approx(best)
        alone = GroupForest(tree(heads, channels), {"head": SimilarityScores((), own)}).assign()["head"]
        differs += alone != found["head"]
    assert differs
