"""Operators that work on each head separately leave every head a permutation of its own."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reticket.symmetry import discover
from reticket.symmetry.graph import Inputs
from reticket.symmetry.verify import guilty_groups

SEPARATE: dict[str, Callable[[Tensor], Tensor]] = {
    "norm in float32": lambda x: x * torch.rsqrt(x.to(torch.float32).square().mean(-1, keepdim=True) + 1e-5),
    "padded tokens": lambda x: F.pad(x, (0, 0, 0, 0, 1, 1)).relu()[:, 1:4],
    "picked tokens": lambda x: x[:, torch.tensor([2, 0, 1])],
    "looked up": lambda x: x + torch.tensor([0.3, -0.7])[(x > 0).long()],
    "added tokens": lambda x: torch.zeros_like(x).index_add(1, torch.tensor([0, 2, 2]), x),
    "gathered tokens": lambda x: x.gather(1, (x > 0).long()),
    "written tokens": lambda x: x.index_put((torch.arange(2)[:, None], torch.tensor([[0], [2]])), x[:, :1].sin()),
    "masked": lambda x: x.index_put((x > 1,), torch.tensor(0.5)),
    "differences of tokens": lambda x: x.diff(dim=1, prepend=x[:, :1]),
    "counted": lambda x: x * torch.histc(x, 4, -2, 2)[2],
    "stochastic depth": lambda x: x * x.new_empty(2, 1, 1, 1).bernoulli_(0.5) + x,
    "noise of its shape": lambda x: x + torch.randn_like(x).mul(0.0).sum(),
}


class Heads(nn.Module):
    """Three heads of four channels, worked on by one operator."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.first, self.last = nn.Linear(5, 12), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x).unflatten(-1, (3, 4)).softmax(-1)).flatten(2))


@pytest.mark.slow_cases(but=["noise of its shape"])
@pytest.mark.parametrize("name", SEPARATE)
def test_every_head_has_a_permutation_of_its_own(name: str) -> None:
    torch.manual_seed(3)
    model, x = Heads(SEPARATE[name]), torch.linspace(-2, 2, 30).reshape(2, 3, 5).sin()
    symmetry = discover(model, x, verify=False)
    assert [(group.size, group.copies) for group in symmetry.groups.values()] == [(3, 1), (4, 3)]
    guilty, notes = guilty_groups(symmetry, model, Inputs.of(x))
    assert guilty == {}
    assert [note for note in notes if "sizes of the example" not in note] == []
