"""The rules for index tensors and random numbers: what they leave free keeps the function, and they leave it free.

Every case is a branch of its own, `fan_in -> operator -> fan_out`, of one model: one trace serves all of them.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from reticket.symmetry import Symmetry, discover
from reticket.symmetry.graph import Inputs
from reticket.symmetry.verify import guilty_groups

Function = Callable[[Tensor], Tensor]
ORDER = torch.tensor([1, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
TOKENS = torch.tensor([[0, 2, 2], [1, 1, 0]])


def sign(x: Tensor) -> Tensor:
    return (x > 0).long()


def write_tokens(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, torch.tensor([0, 2])] = x[:, :2].relu()
    return y


def add_tokens(x: Tensor) -> Tensor:
    """Both index axes stand at the front, because a slice is between them."""
    y = x.permute(1, 2, 0).clone()
    y[torch.tensor([0, 2]), :, torch.tensor([1, 1])] += x[0, :2]
    return y.permute(2, 0, 1)


def write_units(x: Tensor) -> Tensor:
    y = x.clone()
    y[..., torch.tensor([0, 5, 7])] = 0.5
    return y


def write_unit_rows(x: Tensor) -> Tensor:
    """The values, not the tensor written to, bring the units."""
    y = torch.zeros(2, 12)
    y[torch.tensor([0, 1])] = x[:, 0]
    return x + torch.arange(12.0).index_put((ORDER,), y[0])


def write_masked(x: Tensor) -> Tensor:
    y = x.clone()
    y[x > 0.5] = 0.25
    y[:, x[0].amax(-1) > 1] = 0.75
    return y


def write_masked_units(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :, torch.arange(12) % 2 == 0] = 0.25
    return y


def write_masked_rows(x: Tensor) -> Tensor:
    """The values that are written stand in an order."""
    y = x.clone()
    y[x[..., 0].detach() < 5] = torch.arange(12.0)
    return y


def ones(x: Tensor) -> Tensor:
    return torch.ones_like(x)


# each maps (2, 3, 12) to (..., 12); the 12 units of the first layer stay free
FREE: dict[str, Function] = {
    "index": lambda x: x[:, torch.tensor([2, 0, 1, 1])],
    "index_pair": lambda x: x[torch.arange(2)[:, None], TOKENS],
    "index_apart": lambda x: x.permute(1, 2, 0)[torch.tensor([0, 1, 2]), :, torch.tensor([0, 1, 1])],
    "index_inner": lambda x: x.permute(2, 0, 1)[:, torch.tensor([0, 1, 1]), torch.tensor([0, 1, 2])].transpose(0, 1),
    "lookup": lambda x: x + torch.tensor([0.3, -0.7])[sign(x)],
    "lookup_pair": lambda x: x + torch.tensor([[0.3, -0.7], [0.1, 2.0]])[sign(x), sign(x - 0.2)],
    "index_select": lambda x: x.index_select(1, torch.tensor([2, 0, 0])),
    "gather": lambda x: x.gather(1, TOKENS[..., None].expand(-1, -1, 12)),
    "gather_by_value": lambda x: x.gather(1, sign(x)),
    "scatter": lambda x: x.scatter(1, sign(x), 0.5),
    "scatter_add": lambda x: torch.zeros(2, 3, 12).scatter_add(1, TOKENS[..., None].expand(-1, -1, 12), x),
    "scatter_reduce": lambda x: x.scatter_reduce(1, sign(x), x.sin(), "amax"),
    "index_add": lambda x: torch.zeros_like(x).index_add(1, torch.tensor([0, 2, 2]), x),
    "index_copy": lambda x: x.index_copy(1, torch.tensor([2, 0]), x[:, :2].relu()),
    "write_tokens": write_tokens,
    "add_tokens": add_tokens,
    "write_masked": write_masked,
    "diff": lambda x: x.diff(dim=1, prepend=x[:, 1:2]),
    "histogram": lambda x: x * torch.histc(x, 4, -2, 2)[0],
    "bits": lambda x: x * ((x > 0) & (x < 1) | (x < -1) ^ (x > 2)),
    "noise_of_tokens": lambda x: x * torch.rand(2, 3, 1) + torch.randn_like(x.mean(-1, keepdim=True)),
    "stochastic_depth": lambda x: x * x.new_empty(2, 1, 1).bernoulli_(0.5) + x,
    "uniform_of_tokens": lambda x: x + torch.zeros(3, 1).uniform_() + torch.zeros(3, 1).normal_(),
}
# operators that address the units or depend on their order: nothing may stay free
PINNED: dict[str, Function] = {
    "index_units": lambda x: x[..., ORDER],
    "lookup_by_place": lambda x: x + torch.linspace(-1, 1, 24).view(2, 12)[sign(x), torch.arange(12)],
    "index_select_units": lambda x: x.index_select(-1, ORDER),
    "gather_units": lambda x: x.gather(-1, ORDER.expand(2, 3, 12)),
    "gather_by_place": lambda x: x.gather(1, (ORDER % 3).expand(2, 3, 12)),
    "gather_some": lambda x: x.gather(1, TOKENS[..., None].expand(-1, -1, 6)).repeat(1, 1, 2),
    "scatter_units": lambda x: torch.zeros(2, 3, 12).scatter_add(-1, ORDER.expand(2, 3, 12), x),
    "scatter_by_place": lambda x: x.scatter(1, (ORDER % 3).expand(2, 3, 12), 0.5),
    "scatter_into_units": lambda x: x.scatter(-1, TOKENS[..., None], 0.5),
    "scatter_some": lambda x: x.scatter_add(1, TOKENS[..., None].expand(-1, -1, 6), x),
    "scatter_last_wins": lambda x: x[:, :, :1] + torch.zeros(2).scatter(0, sign(x[0, 0]), x[0, 0]).sum() * ones(x),
    "index_add_units": lambda x: torch.zeros_like(x).index_add(-1, ORDER, x),
    "index_copy_last_wins": lambda x: torch.zeros(2).index_copy(0, sign(x[0, 0]), x[0, 0]).sum() * ones(x),
    "index_add_into_units": lambda x: x.index_add(-1, torch.tensor([1]), torch.ones(2, 3, 1)),
    "index_add_by_place": lambda x: x.index_add(1, torch.tensor([1]), torch.arange(12.0).expand(2, 1, 12)),
    "write_masked_units": write_masked_units,
    "write_masked_rows": write_masked_rows,
    "write_masked_place": lambda x: x.index_put((torch.arange(2) > 0, torch.tensor([1])), torch.tensor(0.5)),
    "write_units": write_units,
    "write_unit_rows": write_unit_rows,
    "write_last_wins": lambda x: torch.zeros(2).index_put((sign(x[0, 0]),), x[0, 0]).sum() * ones(x),
    "write_by_place": lambda x: x.index_put((torch.tensor([1]),), torch.arange(12.0)),
    "diff_of_units": lambda x: x.diff(dim=-1, prepend=x[..., :1]),
    "diff_from_place": lambda x: x.diff(dim=1, prepend=torch.arange(12.0).expand(2, 1, 12)),
    "noise_of_units": lambda x: x + torch.rand(12),
    "noise_like": lambda x: x + torch.randn_like(x),
    "uniform": lambda x: x + torch.zeros_like(x).uniform_(),
    "bernoulli": lambda x: x + torch.bernoulli(x.sigmoid()),
    "bernoulli_mask": lambda x: x * torch.empty_like(x).bernoulli_(0.5),
    "normal": lambda x: torch.normal(x, 0.5),
}


class Branches(nn.Module):
    """`first[i] -> function i -> last[i]` for every function."""

    def __init__(self, functions: dict[str, Function]) -> None:
        super().__init__()
        self.functions = functions
        self.first = nn.ModuleDict({name: nn.Linear(5, 12) for name in functions})
        self.last = nn.ModuleDict({name: nn.Linear(12, 2) for name in functions})

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.last[name](function(self.first[name](x))) for name, function in self.functions.items())


def example() -> Tensor:
    return torch.linspace(-2, 2, 30).reshape(2, 3, 5).sin()


@pytest.fixture(scope="module")
def found() -> tuple[nn.Module, Symmetry]:
    torch.manual_seed(3)
    model = Branches({**FREE, **PINNED})
    return model, discover(model, example(), verify=False)


@pytest.mark.parametrize("name", [*FREE, *PINNED])
def test_rule_leaves_free_what_it_should(found: tuple[nn.Module, Symmetry], name: str) -> None:
    sizes = [group.size for group in found[1].groups.values() if group.name.startswith(f"first.{name}.")]
    assert sizes == ([12] if name in FREE else []), found[1].explain(f"first.{name}.weight")


def test_only_what_is_refused_is_noted(found: tuple[nn.Module, Symmetry]) -> None:
    assert found[1].notes == ("pinned at operators without a rule: aten.index_put.default",)


def test_what_the_rules_leave_free_keeps_the_function(found: tuple[nn.Module, Symmetry]) -> None:
    model, symmetry = found
    guilty, notes = guilty_groups(symmetry, model, Inputs.of(example()))
    assert not any("train mode" in note for note in notes)
    assert guilty == {}


class Looking(nn.Module):
    """Rows of a table picked by ids that stand along the table's own axis, beside the rows themselves."""

    def __init__(self, look: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.look = look
        self.table = nn.Parameter(torch.randn(4, 6))
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        ids = (self.table.square().sum(-1) > 6).long()
        return self.out(x * (self.look(self.table, ids) * self.table).sum(-1))


LOOKS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "embedding": lambda table, ids: nn.functional.embedding(ids, table),
    "index": lambda table, ids: table[ids],
    "index_select": lambda table, ids: table.index_select(0, ids),
    "gather": lambda table, ids: table.gather(0, ids[:, None].expand(-1, 6)),
    "scatter": lambda table, ids: table.scatter_add(0, ids[:, None].expand(-1, 6), table.sin()),
    "index_add": lambda table, ids: table.index_add(0, ids, table.sin()),
    "index_put": lambda table, ids: table.index_put((ids,), table.sin(), accumulate=True),
    "diff": lambda table, ids: table.diff(dim=0, prepend=table[:1]),
}


@pytest.mark.parametrize("look", LOOKS)
def test_columns_of_rows_that_are_picked_by_value_move_together(look: str) -> None:
    torch.manual_seed(3)
    model, x = Looking(LOOKS[look]), torch.randn(2, 4)
    symmetry = discover(model, x, verify=False)
    assert [(group.size, group.copies) for group in symmetry.groups.values()] == [(6, 1)]
    assert guilty_groups(symmetry, model, Inputs.of(x)) == ({}, ())


def test_columns_of_rows_that_meet_their_own_kind_move_row_by_row() -> None:
    model, x = Looking(lambda table, ids: table.exp()), torch.randn(2, 4)
    symmetry = discover(model, x, verify=False)
    assert [(group.size, group.copies) for group in symmetry.groups.values()] == [(6, 4)]
