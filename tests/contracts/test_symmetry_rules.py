"""One contract for all rules: what a rule leaves free keeps the function, and it leaves free what it should.

Every case is a branch of its own, `fan_in -> operator -> fan_out`, of one model: one trace serves all of them.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reticket.symmetry import Symmetry, discover
from reticket.symmetry.cause import Cause
from reticket.symmetry.graph import Inputs
from reticket.symmetry.terms import Atom, Fixed, Sum, Uniform, atoms, concat, product
from reticket.symmetry.unify import Solver
from reticket.symmetry.verify import guilty_groups

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
    "roll": lambda x: x.roll(1, -1),
    "sort": lambda x: x.sort(-1).values,
    "topk": lambda x: x.topk(12, -1).values,
    "every_second": lambda x: F.pad(x[..., ::2], (0, 6)),
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
    "glu": (lambda x: F.pad(F.glu(x, -1), (0, 6)), [6]),
    "chunk": (lambda x: torch.cat(x.chunk(3, -1)[::-1], -1), [4, 4, 4]),
    "slice": (lambda x: torch.cat([x[..., 5:].relu(), x[..., :5]], -1), [5, 7]),
    "select": (lambda x: x + x[..., 3:4], [3, 8]),
    "heads": (lambda x: x.view(*x.shape[:2], 3, 4).softmax(-1).flatten(2), [3, 4]),
    "group_max": (lambda x: x - x.view(*x.shape[:2], 3, 4).amax(2).repeat(1, 1, 3), [3, 4]),
    "write_slice": (lambda x: write(x), [5, 7]),
}


def write(x: Tensor) -> Tensor:
    y = x.clone()
    y[..., :5] = y[..., :5].relu()
    return y


class Branches(nn.Module):
    """`first[i] -> function i -> last[i]` for every function."""

    def __init__(self, functions: list[Function]) -> None:
        super().__init__()
        self.functions = functions
        self.first = nn.ModuleList(nn.Linear(5, 12) for _ in functions)
        self.last = nn.ModuleList(nn.Linear(12, 2) for _ in functions)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        parts = zip(self.first, self.functions, self.last, strict=True)
        return tuple(last(function(first(x))) for first, function, last in parts)


NAMES = [*FREE, *PINNED, *PARTLY]


@pytest.fixture(scope="module")
def found() -> tuple[nn.Module, Symmetry]:
    torch.manual_seed(3)
    model = Branches([*FREE.values(), *PINNED.values(), *(function for function, _ in PARTLY.values())])
    return model, discover(model, example(), verify=False)


def example() -> Tensor:
    return torch.linspace(-2, 2, 30).reshape(2, 3, 5).sin()


def sizes(symmetry: Symmetry, name: str) -> list[int]:
    """Sizes of the free groups of one branch, each once."""
    prefix = f"first.{NAMES.index(name)}."
    return sorted(g.size for g in symmetry.groups.values() if g.name.startswith(prefix))


@pytest.mark.parametrize("name", NAMES)
def test_rule_leaves_free_what_it_should(found: tuple[nn.Module, Symmetry], name: str) -> None:
    expected = [12] if name in FREE else [] if name in PINNED else PARTLY[name][1]
    assert sizes(found[1], name) == expected, found[1].explain(f"first.{NAMES.index(name)}.weight")


def test_what_the_rules_leave_free_keeps_the_function(found: tuple[nn.Module, Symmetry]) -> None:
    model, symmetry = found
    guilty, notes = guilty_groups(symmetry, model, Inputs.of(example()))
    assert notes == ()
    assert [NAMES[int(name.split(".")[1])] for name in guilty] == []


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
