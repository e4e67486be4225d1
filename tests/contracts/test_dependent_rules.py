"""Which rules work on each position of an axis by itself: on tables of which only symmetric functions are read.

Where an operator treats every row by itself, each of the rows may have its entries in an order of its own, 5! (4!)^5;
where it treats every column by itself, 4! (5!)^4; where it does neither, one order of rows and one of columns.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reticket.symmetry import discover
from tests.models_for_symmetry import Case, orders
from tests.together import Findings, built

Function = Callable[[Tensor, Tensor, Tensor], Tensor]
BY_ROW, BY_COLUMN, PLAIN = [5, *[4] * 5], [4, *[5] * 4], [5, 4]


class Tables(nn.Module):
    """Tables p (5, 4), q (7, 4) and r (7, 3); all that is read of what is made from them is a sum."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.p, self.q = nn.Parameter(torch.randn(5, 4)), nn.Parameter(torch.randn(7, 4))
        self.r, self.function = nn.Parameter(torch.randn(7, 3)), function

    def forward(self, x: Tensor) -> Tensor:
        return x.sum() * self.function(self.p, self.q, self.r).tanh().sum() + 1


def deep(p: Tensor) -> Tensor:
    """The table at three places that differ, (5, 4, 3)."""
    return (p[..., None] * torch.arange(1.0, 4)).sin()


def wide(p: Tensor) -> Tensor:
    """The table at three by three places, (5, 4, 3, 3)."""
    return (deep(p)[..., None] * torch.arange(1.0, 4)).sin()


def heads(p: Tensor) -> Tensor:
    """Rows as heads, three fixed tokens, columns as channels, (1, 5, 3, 4)."""
    return deep(p).transpose(1, 2)[None]


# what stays free of the rows and columns of p, q and r; a table that is not read does not count
TABLES: dict[str, tuple[Function, list[int]]] = {
    "relu": (lambda p, q, r: p.relu(), BY_ROW),
    "cast": (lambda p, q, r: p.to(torch.float64) * torch.ones_like(p), BY_ROW),
    "softmax_of_rows": (lambda p, q, r: p.softmax(1), BY_ROW),
    "softmax_of_columns": (lambda p, q, r: p.softmax(0), BY_COLUMN),
    "sum_of_rows": (lambda p, q, r: p.sum(1).relu(), BY_ROW),
    "sum_of_columns": (lambda p, q, r: p.sum(0).relu(), BY_COLUMN),
    "spread_of_columns": (lambda p, q, r: p - p.std(0, keepdim=True), BY_COLUMN),
    "largest_of_columns": (lambda p, q, r: p - p.max(0, keepdim=True).values, BY_COLUMN),
    "layer_norm": (lambda p, q, r: F.layer_norm(p, (4,)), BY_ROW),
    "layer_norm_of_columns": (lambda p, q, r: F.layer_norm(p.T, (5,)), BY_COLUMN),
    "layer_norm_of_all": (lambda p, q, r: F.layer_norm(p, (5, 4)), BY_ROW),
    "rms_norm_of_columns": (lambda p, q, r: F.rms_norm(p.T, (5,)), BY_COLUMN),
    "batch_norm": (lambda p, q, r: F.batch_norm(p, None, None, training=True), BY_COLUMN),
    "batch_norm_of_rows": (lambda p, q, r: F.batch_norm(p.T, None, None, training=True), BY_ROW),
    "instance_norm": (lambda p, q, r: F.instance_norm(p[None]), BY_ROW),
    "instance_norm_of_columns": (lambda p, q, r: F.instance_norm(p.T[None]), BY_COLUMN),
    "group_norm": (lambda p, q, r: F.group_norm(p.flatten()[None], 5), BY_ROW),
    "group_norm_of_columns": (lambda p, q, r: F.group_norm(p.T.flatten()[None], 4), BY_COLUMN),
    "weight_norm": (lambda p, q, r: torch.ops.aten._weight_norm(p, p.sum(1, keepdim=True), 0), BY_ROW),
    "weight_norm_of_columns": (lambda p, q, r: torch.ops.aten._weight_norm(p, p.sum(0, keepdim=True), 1), BY_COLUMN),
    "weight_norm_of_all": (lambda p, q, r: torch.ops.aten._weight_norm(p, p.sum(), -1), BY_ROW),
    "glu": (lambda p, q, r: F.glu(torch.cat([p, p.sin()], 1), 1), BY_ROW),
    "pad": (lambda p, q, r: F.pad(p, (1, 2)).cos(), BY_ROW),
    "prelu": (lambda p, q, r: F.prelu(p, torch.tensor([0.3])), BY_ROW),
    "prelu_of_columns": (lambda p, q, r: F.prelu(p, p.sum(0)), BY_COLUMN),
    # an operator that leaves the table's axes alone leaves every row its order
    "sort_places": (lambda p, q, r: deep(p).sort(-1).values, BY_ROW),
    "largest_place": (lambda p, q, r: deep(p).argmax(-1).float(), BY_ROW),
    "linear_of_places": (lambda p, q, r: F.linear(deep(p), r, torch.ones(7)), [*BY_ROW, 7]),
    "bilinear_of_places": (lambda p, q, r: F.bilinear(deep(p), deep(p), torch.eye(3)[None], None), BY_ROW),
    "pool_places": (lambda p, q, r: F.max_pool1d(deep(p), 2, 1), BY_ROW),
    "average_places": (lambda p, q, r: F.adaptive_avg_pool1d(deep(p), 2), BY_ROW),
    "resize_places": (lambda p, q, r: F.interpolate(deep(p), scale_factor=2.0, mode="linear"), BY_ROW),
    "window_of_places": (lambda p, q, r: deep(p).unfold(-1, 2, 1).amax(-1), BY_ROW),
    "columns_of_places": (lambda p, q, r: F.unfold(wide(p), 2), BY_ROW),
    "folded_places": (lambda p, q, r: F.fold(F.unfold(wide(p), 2), (3, 3), 2), BY_ROW),
    "triangle_of_places": (lambda p, q, r: wide(p).tril(), BY_ROW),
    "depthwise_places": (lambda p, q, r: F.conv1d(deep(p).flatten(0, 1)[:, None], torch.ones(1, 1, 2)), BY_ROW),
    "shuffled_places": (lambda p, q, r: F.pixel_shuffle(wide(p)[:, :, None].transpose(2, 3)[..., 0], 1), BY_ROW),
    "sampled_places": (lambda p, q, r: F.grid_sample(wide(p), torch.linspace(-1, 1, 60).view(5, 3, 2, 2)), [4] * 5),
    # products: rows or columns that meet each other or their own kind must keep one order
    "gram": (lambda p, q, r: p @ p.T, PLAIN),
    "gram_of_columns": (lambda p, q, r: p.T @ p, PLAIN),
    "gram_by_linear": (lambda p, q, r: F.linear(p, p), PLAIN),
    "gram_by_addmm": (lambda p, q, r: torch.addmm(torch.zeros(5, 5), p, p.T), PLAIN),
    "gram_by_baddbmm": (lambda p, q, r: torch.baddbmm(torch.zeros(1, 5, 5), p[None], p.T[None]), PLAIN),
    "gram_by_einsum": (lambda p, q, r: torch.einsum("ri,si->rs", p, p), PLAIN),
    "gram_by_convolution": (lambda p, q, r: F.conv1d(p[:, :, None], p[:, :, None]), PLAIN),
    "gram_by_bilinear": (lambda p, q, r: F.bilinear(p, p, (p[:, :, None] * p[:, None]), None), PLAIN),
    "outer_by_rows": (lambda p, q, r: torch.einsum("ri,rj->rij", p, p), BY_ROW),
    "square_of_rows": (lambda p, q, r: torch.einsum("ri,ri->r", p, p.sin()), BY_ROW),
    "batched_square": (lambda p, q, r: torch.bmm(p[:, None], p.exp()[:, :, None]), BY_ROW),
    "batched_added": (lambda p, q, r: torch.baddbmm(torch.ones(5, 1, 1), p[:, None], p[:, :, None]), BY_ROW),
    "outer": (lambda p, q, r: torch.outer(p.sum(1), q.sum(1)), [*BY_ROW, 7, *[4] * 7]),
    "two_tables": (lambda p, q, r: p @ q.T, [5, 4, 7]),
    "table_and_vector": (lambda p, q, r: p @ q.sum(0), [5, 4, 7, *[7] * 3]),
    "three_tables": (lambda p, q, r: p @ q.T @ r, [5, 4, 7, 3]),
    "bilinear": (lambda p, q, r: F.bilinear(p, p.sin(), torch.ones(2, 4, 4), torch.ones(2)), BY_ROW),
    # the 5 rows of p are the first 5 of q
    "bilinear_of_two": (lambda p, q, r: F.bilinear(p, q[:5], torch.ones(2, 4, 4)), [*BY_ROW, 4]),
    "looked_up": (lambda p, q, r: F.embedding((p > 0).long(), torch.tensor([[0.3, 0.7], [0.1, 0.2]])), BY_ROW),
    "picked_places": (lambda p, q, r: deep(p).index_select(-1, torch.tensor([2, 0])), BY_ROW),
    "outer_of_entries": (lambda p, q, r: torch.outer(p.flatten(), torch.arange(1.0, 3)), BY_ROW),
    # which row of p is written last depends on the order of q's rows, each of which is only summed
    "written_rows": (
        lambda p, q, r: p.index_put(((q.sum(1) > 0).long(),), torch.arange(28.0).view(7, 4)),
        [4] * 7,
    ),
    "scattered_places": (lambda p, q, r: deep(p).scatter(-1, (deep(p) > 0).long(), 0.5), BY_ROW),
    "sampled_table": (lambda p, q, r: F.grid_sample(p[None, None], torch.linspace(-1, 1, 8).view(1, 2, 2, 2)), []),
    # columns are common; in each, the last 2 rows of p and the 2 of q that are written may move; the 2 rows of p that
    # are overwritten are not read
    "written_run": (lambda p, q, r: torch.slice_scatter(p, q[:2], 0, 1, 3).relu(), [4, *[2] * 8]),
    "folded": (lambda p, q, r: F.fold(p.T[None], (2, 6), 2), []),
    # the bins of a histogram, which q weighs, are counted in order
    "histogram": (lambda p, q, r: torch.histc(p, 4, -2, 2) @ q.T, [*BY_ROW, 7]),
    # q's columns; its other 2 rows are not read
    "place_of_largest": (lambda p, q, r: p.argmax(1).float() * q.sum(1)[:5], [5, 4]),
    # the columns of two tables side by side are one: within a column each table has its own order of rows
    "joined": (lambda p, q, r: torch.cat([p, q]).relu(), [*BY_COLUMN, *[7] * 4]),
    "heads_of_rows": (lambda p, q, r: F.scaled_dot_product_attention(heads(p), heads(p), heads(p)), BY_ROW),
    "attention": (lambda p, q, r: F.scaled_dot_product_attention(p[None], p[None], p[None]), PLAIN),
    # the scores sum over the columns, so that all of them share one order of the rows
    "attention_to_own_keys": (lambda p, q, r: F.scaled_dot_product_attention(q[None], p[None], p[None]), [5, 4, 7]),
    "cross_attention": (lambda p, q, r: F.scaled_dot_product_attention(p[None], q[None], r[None]), [5, 4, 7, 3]),
    "causal": (lambda p, q, r: F.scaled_dot_product_attention(p[None], q[None], r[None], is_causal=True), [4, 3]),
}
CASES = {
    name: Case(lambda function=function: Tables(function), lambda: torch.ones(2), orders(*sizes))
    for name, (function, sizes) in TABLES.items()
}


@pytest.fixture(scope="module")
def found() -> Findings:
    return Findings(*built(CASES, seed=3))


@pytest.mark.parametrize("name", CASES)
def test_rows_and_columns_depend_on_each_other_where_they_may(found: Findings, name: str) -> None:
    assert found.log10_order(name) == pytest.approx(CASES[name].log10_order), found.sizes(name)
    assert found.wrong(name) == []


class CutBetweenCopies(nn.Module):
    """A row of 6, times itself, 36, and cut into 12 by 3: the second twos lose their threes to the other axis."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Parameter(torch.randn(2, 6)), nn.Parameter(torch.randn(6, 2))
        self.weight = nn.Parameter(torch.randn(3, 12))

    def forward(self, x: Tensor) -> Tensor:
        y = x + F.linear(F.linear(x, self.up).relu(), self.down)
        row = y.flatten()[:6]
        return F.linear(torch.outer(row, row).reshape(12, 3).T, self.weight).tanh().sum()


def test_a_copy_that_is_cut_from_its_parent_depends_on_no_other() -> None:
    """On the axis of 12 stand twos, threes and twos: the threes there are those of the first twos alone."""
    torch.manual_seed(0)
    x = torch.linspace(-2, 2, 144).mul(7).sin().reshape(6, 4, 6)
    found = discover(CutBetweenCopies(), x, free=[f"input0:{axis}" for axis in range(3)])
    assert found.pinned_by_verify == ()
    assert [(group.size, group.parents) for group in found.groups.values()] == [(2, ()), (2, ()), (3, ()), (3, ())]
