"""Operators taken apart into operators with rules, and rules for those that cannot be: freedom worked out by hand."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import default_decompositions

from reticket.symmetry import discover, verify
from reticket.symmetry.graph import Inputs, Trace, trace
from reticket.symmetry.rules.operator import has_rule
from tests.contracts.test_dependent_rules import BY_ROW, Tables, deep
from tests.contracts.test_symmetry_rules import Branch, Spread, case, example
from tests.models_for_symmetry import Case, orders
from tests.together import Findings, built

Function = Callable[[Tensor], Tensor]


def positive(x: Tensor) -> Tensor:
    return (x > 0).long()


def some(x: Tensor) -> Tensor:
    """A number 0 or 1 for each token."""
    return positive(x.sum((0, 2)))


# each maps (4, 6, 12), all of which may move, to (..., 12): what stays free of sequences, tokens and units
APART: dict[str, tuple[Function, list[int]]] = {
    "cosine_similarity": (lambda x: x * F.cosine_similarity(x, x.mean(1, keepdim=True), -1)[..., None], [4, 6, 12]),
    "cosine_of_tokens": (lambda x: x * F.cosine_similarity(x, x.relu())[:, None], [4, 6, 12]),
    "hstack": (lambda x: torch.hstack([x, x.relu()]), [4, 6, 12]),
    "vstack": (lambda x: torch.vstack([x, x.relu()]), [4, 6, 12]),
    "tile": (lambda x: x.tile(2, 1).relu(), [4, 6, 12]),
    "tensordot": (lambda x: torch.tensordot(torch.tensordot(x, x.mean(0).mT, 1), x.mean(0), 1), [4, 6, 12]),
    "inner": (lambda x: x * torch.inner(x, x.mean((0, 1)))[..., None], [4, 6, 12]),
    "multi_dot": (lambda x: (torch.linalg.multi_dot([x[0], x[1].mT, x[2]]) + x.sum(0))[None], [6, 12]),
    "huber": (lambda x: x * F.huber_loss(x, x.relu()), [4, 6, 12]),
    "kl_div": (lambda x: x * F.kl_div(x, x.sigmoid(), reduction="none"), [4, 6, 12]),
    "pairwise": (lambda x: x * F.pairwise_distance(x, x.relu(), keepdim=True), [4, 6, 12]),
    "renorm": (lambda x: x.renorm(2, 1, 0.5), [4, 6, 12]),
    "index_fill": (lambda x: x.index_fill(1, torch.tensor([1, 2]), 0.5) * x.sum(1, keepdim=True), [4, 12]),
    "response_norm": (lambda x: F.local_response_norm(x, 3), [4, 12]),
}
RULED: dict[str, tuple[Function, list[int]]] = {
    "type_as": (lambda x: x.type_as(torch.arange(12.0)), [4, 6, 12]),
    "written_whole": (lambda x: torch.arange(12.0).expand_as(x).clone().copy_(x), [4, 6, 12]),
    "shift": (lambda x: x * ((3 * x).abs().long() << positive(x)) * ((9 * x).abs().long() >> positive(x)), [4, 6, 12]),
    "special": (lambda x: torch.special.i1e(x) + torch.signbit(x) + torch.frexp(x).mantissa, [4, 6, 12]),
    "cdist": (lambda x: x * torch.cdist(x, x.relu()).mean(-1, keepdim=True), [4, 6, 12]),
    "cdist_of_positions": (lambda x: torch.cdist(x, torch.arange(60.0).view(5, 12)) @ torch.ones(5, 12), [4, 6, 12]),
    "pdist": (lambda x: x * F.pdist(x.sum(0)).cumsum(0)[-1], [4, 12]),
    "dist": (lambda x: x * torch.dist(x, x.relu()), [4, 6, 12]),
    "addbmm": (lambda x: torch.addbmm(x.sum(0), x @ x.mT, x)[None], [4, 6, 12]),
    "in_time": (
        lambda x: torch.conv_tbc(x.transpose(0, 1).contiguous(), torch.ones(2, 12, 12), torch.ones(12)),
        [4, 12, 12],
    ),
    "circular": (lambda x: F.pad(x.mT, (1, 2), mode="circular").mT, [4, 3, 2, 12]),
    "strided": (lambda x: x.sin().contiguous().as_strided((24, 12), (12, 1)).unflatten(0, (4, 6)), [4, 6, 12]),
    # six tokens as three windows of two: an order of the windows, and one within each
    "side_by_side": (lambda x: F.max_pool1d(x.mT, 2).mT, [4, 3, 2, 2, 2, 12]),
    "adaptive": (lambda x: F.adaptive_avg_pool1d(x.mT, 2).mT, [4, 2, 3, 3, 12]),
    "window_of_one": (lambda x: F.max_pool1d(x.mT, 1).mT, [4, 6, 12]),
    "window_of_all": (lambda x: F.avg_pool1d(x.mT, 6).mT, [4, 6, 12]),
    "one_way": (lambda x: F.max_pool2d(x.transpose(0, 2), (1, 3), 1).transpose(0, 2), [6, 12]),
    "with_a_gap": (lambda x: F.max_pool1d(x.mT, 2, 4).mT, [4, 12]),
    "overlapping": (lambda x: F.max_pool1d(x.mT, 2, 1).mT, [4, 12]),
    "padded_windows": (lambda x: F.avg_pool1d(x.mT, 2, 2, 1).mT, [4, 12]),
    "dilated": (lambda x: F.max_pool1d(x.mT, 2, 2, 0, 2, ceil_mode=True).mT, [4, 12]),
    "place_of_largest": (lambda x: x.sum(1, True) * F.max_pool1d(x.mT, 2, return_indices=True)[1].mT, [4, 12]),
    "nearest": (lambda x: F.interpolate(x.mT, scale_factor=2).mT, [4, 6, 12]),
    "nearest_uneven": (lambda x: F.interpolate(x.mT, 9).mT, [4, 12]),
    "one_size": (lambda x: F.interpolate(x.mT, 6, mode="linear").mT, [4, 6, 12]),
    "scaled_within_one_size": (lambda x: F.interpolate(x.mT, scale_factor=1.1, mode="linear").mT, [4, 12]),
    "antialias": (
        lambda x: F.interpolate(x.mT[:, :, None], (1, 3), mode="bilinear", antialias=True)[:, :, 0].mT,
        [4, 12],
    ),
    "bicubic": (lambda x: F.interpolate(x.mT[:, :, None], (1, 3), mode="bicubic", antialias=True)[:, :, 0].mT, [4, 12]),
    # the kernel is the same for all channels, so that the channels made are free as well
    "kernel_of_one": (lambda x: F.conv1d(x.mT, torch.ones(12, 12, 1)).mT, [4, 6, 12, 12]),
    "kernel_of_all": (lambda x: F.conv1d(x.mT, torch.ones(12, 12, 6)).mT, [4, 6, 12, 12]),
    "kernel_in_order": (lambda x: F.conv1d(x.mT, torch.ones(12, 12, 6) * torch.arange(6.0)).mT, [4, 12, 12]),
    "kernel_of_one_padded": (lambda x: F.conv1d(x.mT, torch.ones(12, 12, 1), padding=1).mT, [4, 12, 12]),
    "transposed": (lambda x: F.conv_transpose1d(x.mT, torch.ones(12, 12, 1)).mT, [4, 6, 12, 12]),
    "added_where": (lambda x: torch.zeros(4, 2, 12).index_add(1, some(x), x), [4, 6, 12]),
    "largest_where": (lambda x: torch.zeros(4, 2, 12).index_reduce(1, some(x), x, "amax"), [4, 6, 12]),
    "copied_where": (lambda x: torch.zeros(4, 2, 12).index_copy(1, some(x), x), [4, 12]),
    "scattered": (lambda x: torch.zeros(4, 2, 12).scatter_add(1, positive(x), x), [4, 6, 12]),
    "marked": (lambda x: torch.zeros(4, 2, 12).scatter(1, positive(x), 1.0), [4, 6, 12]),
    "overwritten": (lambda x: torch.zeros(4, 2, 12).scatter(1, positive(x), x), [4, 12]),
    "put": (lambda x: torch.zeros(2, 4, 12).index_put((some(x),), x.transpose(0, 1)).transpose(0, 1), [4, 12]),
    "put_and_added": (lambda x: torch.zeros(2, 4, 12).index_put((some(x),), x.transpose(0, 1), True), [4, 6, 12]),
    "random_slope": (F.rrelu, [4, 6, 12]),
    "random_slope_in_training": (lambda x: F.rrelu(x, training=True), []),
}


# of tables p (5, 4), q (7, 4) and r (7, 3), of which only sums of what is made of them are read
TABLES: dict[str, tuple[Callable[[Tensor, Tensor, Tensor], Tensor], list[int]]] = {
    "distances": (lambda p, q, r: torch.cdist(p, q), [5, 7, 4]),
    # for each row a matrix of its own, and so orders of its own of the columns of both tables
    "distances_by_row": (lambda p, q, r: torch.cdist(q[:, :, None], r[:, :, None]), [7, *[4] * 7, *[3] * 7]),
    "distances_along_rows": (lambda p, q, r: torch.cdist(deep(p).mT, deep(p.cos()).mT), BY_ROW),
    "distance": (lambda p, q, r: torch.dist(r, q.sum(1, keepdim=True)), [7, *[4] * 7, *[3] * 7]),
    "triangle": (lambda p, q, r: F.pdist(p), [4]),
    "summed_products": (lambda p, q, r: torch.addbmm(p.sum(0)[:, None], q[None].mT, r[None]), [4, *[5] * 4, 7, 3]),
    "products_by_row": (lambda p, q, r: torch.addbmm(torch.zeros(1, 1), q[:, None], q.cos()[..., None]), [7, *[4] * 7]),
    "summed_over_rows": (lambda p, q, r: torch.addbmm(torch.zeros(4, 3), q[..., None], r[:, None]), [7, 4, 3]),
    "bias_in_time": (
        lambda p, q, r: torch.conv_tbc(p[None], torch.ones(1, 4, 7), r.sum(1)) * q.sum(1),
        [5, *[4] * 5, 7, *[4] * 7, *[3] * 7],
    ),
    "kernel_in_time": (lambda p, q, r: torch.conv_tbc(q[:, None], p[..., None], torch.zeros(1)), [4]),
    "copied": (lambda p, q, r: torch.zeros(5, 4).copy_(p), BY_ROW),
    "random_slope": (lambda p, q, r: F.rrelu(p), BY_ROW),
    "bags": (lambda p, q, r: F.embedding_bag(positive(q), r, per_sample_weights=q, mode="sum"), [7, *[4] * 7, 3]),
    "weights_of_bags": (
        lambda p, q, r: F.embedding_bag(
            positive(q), torch.arange(6.0).view(2, 3), per_sample_weights=r.sum(1, True) * p.sum(0), mode="sum"
        ),
        [7, 4, *[5] * 4, *[3] * 7],
    ),
    "added_where": (
        lambda p, q, r: torch.zeros(2, 3).index_add(0, positive(q.sum(1)), r) * torch.arange(2.0)[:, None],
        [7, *[4] * 7, 3],
    ),
    "scattered": (
        lambda p, q, r: torch.zeros(7, 2).scatter_add(1, positive(q), r.sum(1, True) * p.sum(0)) * torch.arange(2.0),
        [7, 4, *[5] * 4, *[3] * 7],
    ),
}


class Bags(nn.Module):
    """Ids 0, 1 and 2 of 4 tokens, in bags of 4 or in two bags of unequal length, each with the weight of its token."""

    def __init__(self, even: bool, mode: str = "mean") -> None:
        super().__init__()
        self.even, self.mode = even, mode
        self.tokens, self.table, self.last = nn.Linear(3, 4), nn.Embedding(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.tokens(x)
        ids = positive(y) + positive(y - 1)
        weights = y if self.mode == "sum" else None
        if self.even:
            return self.last(F.embedding_bag(ids, self.table.weight, mode=self.mode, per_sample_weights=weights))
        return self.last(F.embedding_bag(ids.flatten(), self.table.weight, torch.tensor([0, 3]), mode=self.mode))


def bags(even: bool, mode: str, *sizes: int) -> Case:
    return Case(lambda: Bags(even, mode), lambda: torch.linspace(-2, 2, 15).view(5, 3).cos(), orders(*sizes))


def tables(function: Callable[[Tensor, Tensor, Tensor], Tensor], sizes: list[int]) -> Case:
    return Case(lambda: Tables(function), lambda: torch.linspace(0.5, 2, 6).view(2, 3), orders(*sizes))


CASES = {
    **{name: case(Spread, function, sizes) for name, (function, sizes) in {**APART, **RULED}.items()},
    **{f"tables-{name}": tables(function, sizes) for name, (function, sizes) in TABLES.items()},
    "bags": bags(True, "mean", 4, 6),
    "bags-weighted": bags(True, "sum", 4, 6),
    "bags-largest": bags(True, "max", 4, 6),
    "bags-uneven": bags(False, "mean", 6),
}


@pytest.fixture(scope="module")
def found() -> Findings:
    return Findings(*built(CASES, seed=3))


@pytest.mark.parametrize("name", CASES)
def test_what_is_left_free(found: Findings, name: str) -> None:
    assert found.log10_order(name) == pytest.approx(CASES[name].log10_order), (found.sizes(name), found.explain(name))
    assert found.wrong(name) == []


def traced(model: nn.Module) -> Trace:
    return trace(model, Inputs.of(example()), train=False, known=has_rule)


def names(model: nn.Module) -> list[str]:
    return [str(node.target) for node in traced(model).graph.nodes if node.op == "call_function"]


def test_operators_with_a_rule_stay_whole() -> None:
    def function(x: Tensor) -> Tensor:
        y = F.scaled_dot_product_attention(x, x, x) * F.cosine_similarity(x, x.relu(), -1)[..., None]
        return F.layer_norm(y, (12,)).softmax(-1)

    found = names(Branch(function))
    assert "aten.cosine_similarity.default" not in found
    assert {"aten.scaled_dot_product_attention.default", "aten.layer_norm.default", "aten.softmax.int"} <= {*found}


@pytest.mark.parametrize("apart", [False, True])
def test_type_as_asks_for_nothing(apart: bool) -> None:
    """Whether or not something else in the graph is taken apart."""

    def function(x: Tensor) -> Tensor:
        y = torch.hstack([x, x]) if apart else x
        return y.type_as(torch.arange(12.0))

    model = Branch(function)
    symmetry = discover(model, example(), verify=False)
    assert symmetry.log10_order == pytest.approx(orders(12))
    verify(symmetry, model, example())


@pytest.mark.slow
def test_what_cannot_be_taken_apart_is_pinned_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of one operator ask for a value; the other is taken apart nevertheless."""

    def asking(x: Tensor, *others: object) -> Tensor:
        return x * float(x.sum())

    table = {**default_decompositions(), torch.ops.aten.cosine_similarity.default: asking}
    monkeypatch.setattr("reticket.symmetry.decomposed.default_decompositions", lambda: table)
    model = Branch(lambda x: x * F.cosine_similarity(x, x.relu(), -1)[..., None] * F.huber_loss(x, x.sin()))
    symmetry = discover(model, example(), verify=False)
    assert symmetry.notes == ("pinned at operators without a rule: aten.cosine_similarity.default",)
    assert symmetry.log10_order == 0
