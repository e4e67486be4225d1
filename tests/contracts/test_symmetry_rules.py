"""One contract for all rules: what a rule leaves free keeps the function, and it leaves free what it should.

Every case is a branch of its own, `fan_in -> operator -> fan_out`, of one model: one trace serves all of them.
"""

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reticket.symmetry.cause import Cause
from reticket.symmetry.terms import Atom, Fixed, Sum, Uniform, atoms, concat, product
from reticket.symmetry.unify import Solver
from tests.models_for_symmetry import Case, orders
from tests.together import Findings, built

Function = Callable[[Tensor], Tensor]

# each maps (batch, tokens, 12) to (batch, tokens, 12); the 12 units of the first layer stay free
FREE: dict[str, Function] = {
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "elu": F.elu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
    "hardswish": F.hardswish,
    "softplus": F.softplus,
    "clamp": lambda x: x.clamp(-1, 1),
    "pow": lambda x: x.pow(2) + 2.0 * x - x.abs().sqrt(),
    "where": lambda x: torch.where(x > 0, x, -0.5 * x),
    "masked_fill": lambda x: x.masked_fill(x < 0, 0.25),
    "softmax": lambda x: x.softmax(-1),
    "log_softmax": lambda x: F.log_softmax(x, dim=-1),
    "layer_norm": lambda x: F.layer_norm(x, (12,)),
    "rms_by_hand": lambda x: x * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-5),
    "standardise": lambda x: (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True),
    "norm": lambda x: x / x.norm(dim=-1, keepdim=True),
    "amax": lambda x: x - x.amax(-1, keepdim=True),
    "ones": lambda x: x * torch.ones(12) + torch.zeros_like(x) + x.new_full((12,), 0.5),
    "expand": lambda x: x + x.mean(-1, keepdim=True).expand(-1, -1, 12),
    "transpose": lambda x: x.transpose(1, 2).relu().permute(0, 2, 1),
    "squeeze": lambda x: x.unsqueeze(1).tanh().squeeze(1),
    "token_mean": lambda x: x + x.mean(1, keepdim=True),
    "token_slice": lambda x: x[:, :1] + x,
    "stack": lambda x: torch.stack([x, x.relu()], 0).sum(0),
    "cat_tokens": lambda x: torch.cat([x, x.sin()], 1)[:, 1:4],
    "flatten_batch": lambda x: x.reshape(-1, 12).relu().view(x.shape),
    "max_tokens": lambda x: x + x.max(dim=1, keepdim=True).values,
    "outer": lambda x: torch.einsum("bti,bsi->bts", x, x) @ x,
    "bmm": lambda x: torch.bmm(x.softmax(1), x.transpose(1, 2)) @ x,
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
    "causal": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "pool_tokens": lambda x: F.max_pool1d(x.transpose(1, 2), 3, 1, 1).transpose(1, 2),
    "pad_windows": lambda x: F.pad(x, (0, 0, 0, 1)).view(2, 2, 2, 12).relu().flatten(1, 2)[:, :3],
    "pad_tokens": lambda x: F.pad(x, (0, 0, 1, 1))[:, 1:4],
    "in_place": lambda x: x.clone().mul_(2).add_(1).relu_(),
    "dropout": lambda x: F.dropout(x, 0.5),
}
# operators that depend on the order of the units: nothing may stay free
PINNED: dict[str, Function] = {
    "cumsum": lambda x: x.cumsum(-1),
    "flip": lambda x: x.flip(-1),
    "sort": lambda x: x.sort(-1).indices + x,
    "topk": lambda x: x.topk(12, -1).indices + x,
    "arange": lambda x: x * torch.arange(12),
    "argmax": lambda x: x + x.argmax(-1, keepdim=True),
    "avg_pool": lambda x: F.avg_pool1d(x, 3, 1, 1),
    "reflect": lambda x: F.pad(x, (1, 1), mode="reflect")[..., 1:13],
    "tril": lambda x: x.unsqueeze(-1).expand(-1, -1, -1, 12).tril().sum(-1),
    "index": lambda x: x[..., torch.tensor([1, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])],
    "lrn": lambda x: F.local_response_norm(x.transpose(1, 2), 3).transpose(1, 2),
    "noise": lambda x: x + torch.rand_like(x),
}
# operators that cut the units: what stays free is a part
PARTLY: dict[str, tuple[Function, list[int]]] = {
    # what the weights of the 6 padded zeros are makes no difference: 6! for each of the 2 rows that hold them
    "glu": (lambda x: F.pad(F.glu(x, -1), (0, 6)), [6, 6, 6]),
    "every_second": (lambda x: F.pad(x[..., ::2], (0, 6)), [6, 6]),
    "roll": (lambda x: x.roll(-3, -1), [3, 9]),
    "chunk": (lambda x: torch.cat(x.chunk(3, -1)[::-1], -1), [4, 4, 4]),
    "slice": (lambda x: torch.cat([x[..., 5:].relu(), x[..., :5]], -1), [5, 7]),
    "select": (lambda x: x + x[..., 3:4], [3, 8]),
    "heads": (lambda x: x.view(*x.shape[:2], 3, 4).softmax(-1).flatten(2), [3, 4, 4, 4]),
    "group_max": (lambda x: x - x.view(*x.shape[:2], 3, 4).amax(2).repeat(1, 1, 3), [4, 3, 3, 3, 3]),
    "write_slice": (lambda x: write(x), [5, 7]),
}


# each maps (4, 6, 12), all of which may move, to (..., 12): what stays free of sequences, tokens and units
AXES: dict[str, tuple[Function, list[int]]] = {
    "relu": (F.relu, [4, 6, 12]),
    "layer_norm": (lambda x: F.layer_norm(x, (12,)), [4, 6, 12]),
    "layer_norm_two": (lambda x: F.layer_norm(x, (6, 12)), [4, 6, 12]),
    "softmax_tokens": (lambda x: x.softmax(1), [4, 6, 12]),
    "mean_all": (lambda x: x - x.mean(), [4, 6, 12]),
    "norm_sequences": (lambda x: F.normalize(x, dim=0), [4, 6, 12]),
    "group_norm": (lambda x: F.group_norm(x.mT, 3).mT, [4, 6, 3, 4, 4, 4]),
    "instance_norm": (lambda x: F.instance_norm(x), [4, 6, 12]),
    "batch_norm": (lambda x: F.batch_norm(x.mT, None, None, training=True).mT, [4, 6, 12]),
    "cumsum": (lambda x: x.cumsum(1), [4, 12]),
    "flip": (lambda x: x.flip(0), [6, 12]),
    "sort": (lambda x: x.sort(1).values, [4, 6, 12]),
    "cumulative": (lambda x: x.cummax(1).values, [4, 12]),
    "argmax": (lambda x: x * x.argmax(1, keepdim=True), [4, 12]),
    "max_index": (lambda x: x * x.max(1, keepdim=True).indices, [4, 12]),
    "max_value": (lambda x: x * x.max(1, keepdim=True).values - x.median(0).values, [4, 6, 12]),
    "max_pool": (lambda x: F.max_pool1d(x.mT, 3, 1, 1).mT, [4, 12]),
    "adaptive_pool": (lambda x: F.adaptive_avg_pool1d(x.mT, 2).mT, [4, 2, 3, 3, 12]),
    "adaptive_max_pool": (lambda x: F.adaptive_max_pool1d(x.mT, 2).mT, [4, 2, 3, 3, 12]),
    "upsample": (lambda x: F.interpolate(x.mT, scale_factor=2, mode="linear").mT, [4, 12]),
    "pad_tokens": (lambda x: F.pad(x, (0, 0, 1, 2)).relu(), [4, 6, 12]),
    "pad_reflect": (lambda x: F.pad(x.mT, (1, 1), mode="reflect").mT, [4, 12]),
    "conv": (lambda x: F.conv1d(x.mT, torch.ones(12, 12, 2)).mT, [4, 12, 12]),
    "depthwise": (lambda x: F.conv1d(x.mT, torch.ones(12, 1, 2), groups=12).mT, [4, 12]),
    "unfold": (lambda x: x.unfold(1, 2, 1).amax(-1), [4, 12]),
    "fold": (lambda x: F.fold(F.unfold(x.mT[:, :, :, None], (2, 1)), (6, 1), (2, 1))[..., 0].mT, [4, 12]),
    "pixel_unshuffle": (lambda x: F.pixel_unshuffle(x[:, :, None].transpose(0, 1), 1)[:, :, 0].mT.mT, [4, 6, 12]),
    "attention": (lambda x: F.scaled_dot_product_attention(x, x.relu(), x), [4, 6, 12]),
    "causal": (lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), [4, 12]),
    "mask": (lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=torch.ones(6, 6).tril() > 0), [4, 12]),
    "mask_batch": (lambda x: F.scaled_dot_product_attention(x, x, x, torch.arange(4.0)[:, None, None]), [6, 12]),
    "bmm": (lambda x: torch.bmm(x, torch.bmm(x.mT, x).softmax(1)), [4, 6, 12]),
    "baddbmm": (lambda x: torch.baddbmm(x, x @ x.mT, x.tanh()), [4, 6, 12]),
    "place": (lambda x: x * torch.arange(6.0)[:, None], [4, 12]),
    "place_of_both": (lambda x: x + torch.arange(24.0).reshape(4, 6, 1), [12]),
    "tril": (lambda x: (x @ x.mT).tril() @ x, [4, 12]),
    "where": (lambda x: torch.where(x[:, :1] > 0, x, x.mean(1, keepdim=True)), [4, 5, 12]),
    # what is cut off is not read and does not move, here and below: only the 2 outputs, which are averaged, do
    "outer": (lambda x: torch.outer(x[0, 0], x[0, 1]) + x[1, 2:3].relu(), [12, 2]),
    "einsum": (lambda x: torch.einsum("nti,nsi,nsj->ntj", x, x, x), [4, 6, 12]),
    "diagonal": (lambda x: torch.einsum("ntt->nt", x @ x.mT)[..., None] * x, [4, 6, 12]),
    "repeat": (lambda x: x.repeat(2, 1, 1).relu(), [4, 6, 12]),
    "repeat_interleave": (lambda x: x.repeat_interleave(2, 1).relu(), [4, 6, 12]),
    "cat_tokens": (lambda x: torch.cat([x, x.relu()], 1), [4, 6, 12]),
    "stack": (lambda x: torch.stack([x, x.relu()], 1).amax(1), [4, 6, 12]),
    "unbind": (lambda x: sum(x.unbind(1), torch.zeros(())).unsqueeze(1), [4, 12]),
    "step": (lambda x: x[:, ::2], [4, 12]),
    "select": (lambda x: x[:, 2:3], [4, 12]),
    "scatter_slice": (lambda x: torch.slice_scatter(x, x[:, :2].relu(), 1, 2, 4), [4, 12, 2, 2]),
    "roll": (lambda x: x.roll(2, 1), [4, 4, 2, 12]),
    "trade": (lambda x: x.flatten(0, 1).relu().unflatten(0, (4, 6)), [4, 6, 12]),
    "swap": (lambda x: (x.transpose(0, 1).flatten(0, 1).tanh().unflatten(0, (6, 4)) + 1).transpose(0, 1), [4, 6, 12]),
}


def write(x: Tensor) -> Tensor:
    y = x.clone()
    y[..., :5] = y[..., :5].relu()
    return y


class Branch(nn.Module):
    """`first -> function -> last`."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.first, self.function, self.last = nn.Linear(5, 12), function, nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))


class Spread(nn.Module):
    """Sequences, tokens and units are all made by weights, 4, 6 and 12 of them, and averaged or read in the end."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.sequences, self.tokens, self.first = nn.Linear(2, 4), nn.Linear(3, 6), nn.Linear(5, 12)
        self.function, self.last = function, nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(self.sequences(x.movedim(0, -1)).movedim(-1, 0).mT).mT
        return self.last(self.function(self.first(x))).tanh().mean((0, 1))


def example() -> Tensor:
    return torch.linspace(-2, 2, 30).reshape(2, 3, 5).sin()


def case(kind: type[nn.Module], function: Function, sizes: Sequence[int]) -> Case:
    return Case(lambda: kind(function), example, orders(*sizes))


CASES = {
    **{name: case(Branch, function, [12]) for name, function in FREE.items()},
    **{name: case(Branch, function, []) for name, function in PINNED.items()},
    **{name: case(Branch, function, sizes) for name, (function, sizes) in PARTLY.items()},
    **{f"axes-{name}": case(Spread, function, sizes) for name, (function, sizes) in AXES.items()},
}


@pytest.fixture(scope="module")
def found() -> Findings:
    return Findings(*built(CASES, seed=3))


@pytest.mark.parametrize("name", CASES)
def test_rule_leaves_free_what_it_should(found: Findings, name: str) -> None:
    assert found.log10_order(name) == pytest.approx(CASES[name].log10_order), found.sizes(name)
    assert found.wrong(name) == []


def test_everything_is_proven(found: Findings) -> None:
    assert not any("train mode" in note for note in found.notes)


CAUSE = Cause("test")


def test_unification_is_the_common_refinement() -> None:
    solver = Solver()
    a, b, c = solver.fresh(3), solver.fresh(4), solver.fresh(12)
    solver.unify(product(a, b), c, CAUSE)
    assert solver.resolve(c) == product(a, b)
    whole, left, right = solver.fresh(7), solver.fresh(3), solver.fresh(4)
    solver.unify(whole, concat(left, right), CAUSE)
    solver.unify(concat(solver.fresh(5), solver.fresh(2)), whole, CAUSE)
    assert [part.size for part in parts(solver.resolve(whole))] == [3, 2, 2]
    assert not solver.broken()


def parts(term: object) -> tuple:
    assert isinstance(term, Sum)
    return term.parts


def test_copies_written_out_equal_their_product() -> None:
    solver = Solver()
    e = solver.fresh(4)
    first, second = solver.fresh(4), solver.fresh(4)
    solver.unify(concat(first, second), product(Fixed(2), e), CAUSE)
    assert solver.resolve(first) == solver.resolve(second) == solver.resolve(e)
    assert not solver.broken()


def test_radices_that_do_not_refine_are_pinned() -> None:
    solver = Solver()
    left, right = product(solver.fresh(4), solver.fresh(6)), product(solver.fresh(6), solver.fresh(4))
    solver.unify(left, right, CAUSE)
    assert not list(atoms(solver.resolve(left)))
    assert not list(atoms(solver.resolve(right)))
    assert "cannot be cut along its groups" in str(solver.causes(next(iter(parts_of(left))))[0])


def parts_of(term: object) -> tuple[Atom, ...]:
    return tuple(factor for factor in getattr(term, "factors", ()) if isinstance(factor, Atom))


def test_a_sum_of_products_splits_into_their_common_factor() -> None:
    solver = Solver()
    a, b, space = solver.fresh(3), solver.fresh(5), solver.fresh(4)
    flat = concat(product(a, space), product(b, space))
    channels, rest = solver.split(flat, (8, 4), CAUSE)
    assert (channels, rest) == (concat(a, b), space)
    padded = concat(product(a, space), Uniform(8))
    assert solver.split(padded, (5, 4), CAUSE) == (concat(a, Uniform(2)), space)


def test_the_solver_would_notice_an_equality_it_broke() -> None:
    solver = Solver()
    a, b = solver.fresh(3), solver.fresh(3)
    solver._equations.append((a, b))
    assert solver.broken()
