"""Tensors that are constant along an axis: how far that frees it when they are joined, and whose values may say so."""

import copy
import sys
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reticket.symmetry import Symmetry, discover, load_into, random_alignment
from reticket.symmetry.terms import Term, Uniform, concat
from tests.models_for_symmetry import orders

Join = Callable[[Tensor, Tensor], Tensor]


def wide(h: Tensor, rows: int) -> Tensor:
    return h.unsqueeze(1).expand(-1, rows, -1)


# each makes 6 rows of 6 units, and how many of the rows that follow one another are the same
JOINED: dict[str, tuple[Join, list[int]]] = {
    "one": (lambda h, g: wide(h, 6), [6]),
    "cat": (lambda h, g: torch.cat([wide(h, 4), wide(g, 2)], 1), [4, 2]),
    "cat_of_three": (lambda h, g: torch.cat([wide(h, 2), wide(g, 2), wide(h + g, 2)], 1), [2, 2, 2]),
    "cat_with_zeros": (lambda h, g: torch.cat([wide(h, 3), h.new_zeros(len(h), 3, 6)], 1), [3, 3]),
    "cat_of_itself": (lambda h, g: torch.cat([wide(h, 3), wide(h, 3).relu()], 1), [3, 3]),
    "pad": (lambda h, g: F.pad(wide(h, 2), (0, 0, 2, 2)), [2, 2, 2]),
    "pad_behind": (lambda h, g: F.pad(wide(h, 4), (0, 0, 0, 2), value=1.5), [4, 2]),
    "pad_twice": (lambda h, g: F.pad(F.pad(wide(h, 2), (0, 0, 0, 2), value=1.0), (0, 0, 0, 2)), [2, 2, 2]),
    "activation": (lambda h, g: torch.cat([wide(h, 4), wide(g, 2)], 1).sigmoid(), [4, 2]),
    "cut": (lambda h, g: torch.cat([wide(h, 6), wide(g, 6)], 1)[:, 3:9], [3, 3]),
    # two rows of three: both are uniform, each on its own
    "viewed": (lambda h, g: torch.cat([wide(h, 3), wide(g, 3)], 1).view(-1, 2, 3, 6).flatten(1, 2), [3, 3]),
}


class Joined(nn.Module):
    """Weighs every row and reads all rows and units in their order."""

    def __init__(self, join: Join) -> None:
        super().__init__()
        self.one, self.other, self.last = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(36, 2)
        self.rows, self.join = nn.Parameter(torch.randn(6, 1)), join

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.join(self.one(x), self.other(x)) * self.rows).flatten(1))


def example() -> Tensor:
    return torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4).sin()


def off(model: nn.Module, symmetry: Symmetry) -> float:
    """The largest change that three random draws make."""
    worst = 0.0
    for draw in range(3):
        moved = copy.deepcopy(model)
        alignment = random_alignment(symmetry, torch.Generator().manual_seed(draw))
        load_into(moved, alignment.apply(model.state_dict()))
        with torch.no_grad():
            worst = max(worst, float((model(example()) - moved(example())).abs().max()))
    return worst


@pytest.mark.parametrize("name", JOINED)
def test_joined_axes_are_a_sum_of_their_parts(name: str) -> None:
    torch.manual_seed(0)
    join, rows = JOINED[name]
    model = Joined(join).double()
    symmetry = discover(model, example(), verify=False)
    assert off(model, symmetry) < 1e-9
    sizes = [g.size for g in symmetry.groups.values() if g.name.startswith("rows") for _ in range(g.copies)]
    assert orders(*sizes) == pytest.approx(orders(*rows)), sizes


def test_the_oracle_sees_parts_that_are_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def merged(*terms: Term) -> Term:
        whole = all(isinstance(term, Uniform) for term in terms)
        return Uniform(sum(term.size for term in terms)) if whole else concat(*terms)

    monkeypatch.setattr(sys.modules["reticket.symmetry.rules.shape"], "concat", merged)
    torch.manual_seed(0)
    model = Joined(JOINED["cat"][0]).double()
    assert off(model, discover(model, example(), verify=False)) > 1e-3


Scale = Callable[["Scaled"], Tensor]
# who holds the ones that the hidden units are multiplied with; only what cannot be set is known to stay ones
SCALES: dict[str, tuple[Scale, float]] = {
    "buffer": (lambda m: m.buffer, 0.0),
    "attribute": (lambda m: m.attribute, 0.0),
    "in_a_list": (lambda m: m.listed[0], 0.0),
    "state": (lambda m: m.state, orders(6)),
    "one_number": (lambda m: m.number, orders(6)),
    "literal": (lambda m: torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 1.0]), orders(6)),
    "made_there": (lambda m: torch.ones(6), orders(6)),
}


class Scaled(nn.Module):
    buffer: Tensor
    state: Tensor
    number: Tensor

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self.first, self.last, self.scale = nn.Linear(4, 6), nn.Linear(6, 2), scale
        self.register_buffer("buffer", torch.ones(6), persistent=False)
        self.register_buffer("number", torch.ones(1), persistent=False)
        self.register_buffer("state", torch.ones(6))
        self.attribute, self.listed = torch.ones(6), [torch.ones(6)]

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu() * self.scale(self))


@pytest.mark.parametrize("name", SCALES)
def test_values_outside_the_state_dict_free_nothing(name: str) -> None:
    torch.manual_seed(0)
    scale, order = SCALES[name]
    model = Scaled(scale).double()
    symmetry = discover(model, example())
    assert symmetry.log10_order == pytest.approx(order)
    assert symmetry.pinned_by_verify == ()
    with torch.no_grad():  # as a calibration would set them
        for held in (model.buffer, model.attribute, model.listed[0], model.number, model.state):
            held.copy_(torch.linspace(1, 2, held.numel()))
    assert off(model, symmetry) < 1e-9
