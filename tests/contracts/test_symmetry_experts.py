"""The rule for rows that are dealt out to stacked experts, and proofs that computing in float64 must not spoil."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reticket.errors import VerificationError
from reticket.symmetry import discover, verify
from reticket.symmetry.exact import grouped_product

pytestmark = pytest.mark.skipif(not hasattr(F, "grouped_mm"), reason="this torch has no grouped_mm")


class Experts(nn.Module):
    """Eight rows, of which the first five go to the first of two experts; torch traces this in bfloat16 alone."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(2, 8, 16))
        self.down = nn.Parameter(torch.randn(2, 16, 8))
        self.activation = activation
        self.offsets = nn.Buffer(torch.tensor([5, 8], dtype=torch.int32))
        self.bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.activation(F.grouped_mm(x, self.up, offs=self.offsets))
        return F.grouped_mm(hidden, self.down, offs=self.offsets)


class Backwards(nn.Module):
    """A layer that the order of units matters to."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(-1)


ROWS = torch.linspace(-2, 2, 64).reshape(8, 8).sin().bfloat16()


def test_experts_and_rows_stay_and_all_experts_share_their_units() -> None:
    torch.manual_seed(3)
    model = Experts(nn.SiLU())
    symmetry = discover(model, ROWS, free=["input0:0", "output0:0"], verify=False)
    assert symmetry.notes == ()
    assert [(group.size, group.copies) for group in symmetry.groups.values()] == [(16, 1)]
    verify(symmetry, model, ROWS)


def test_the_features_that_rows_and_experts_meet_in_move_together() -> None:
    torch.manual_seed(3)
    model = Experts(nn.SiLU())
    symmetry = discover(model, ROWS, free=["input0:1", "output0:1"], verify=False)
    assert sorted(group.size for group in symmetry.groups.values()) == [8, 8, 16]
    verify(symmetry, model, ROWS)


def test_the_proof_sees_what_experts_compute() -> None:
    claimed = discover(Experts(nn.SiLU()), ROWS, verify=False)
    with pytest.raises(VerificationError, match="up"):
        verify(claimed, Experts(Backwards()), ROWS)


def test_the_product_of_the_proof_is_the_one_of_torch() -> None:
    torch.manual_seed(3)
    rows, experts = torch.randn(8, 4), torch.randn(3, 4, 8)
    offsets = torch.tensor([2, 2, 8], dtype=torch.int32)
    torch.testing.assert_close(grouped_product(rows, experts, offs=offsets), F.grouped_mm(rows, experts, offs=offsets))


class Gated(nn.Module):
    """A branch behind a gate that begins at zero, as in ReZero."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(4, 6), inner, nn.Linear(6, 4)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gate * self.last(self.inner(self.first(x)))


def test_a_gate_at_zero_hides_nothing_from_the_proof() -> None:
    x = torch.randn(3, 4)
    claimed = discover(Gated(nn.ReLU()), x)
    assert [group.size for group in claimed.groups.values()] == [6]
    with pytest.raises(VerificationError, match=r"first\.weight"):
        verify(claimed, Gated(Backwards()), x)
