"""Matching, REPAIR and barriers on a GPU give what they give on the CPU, in float64."""

import copy
import functools

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from reticket.connectivity import barrier, repair
from reticket.matching import match
from reticket.rng import generator_for
from reticket.symmetry import Alignment, Symmetry, discover, load_into, random_alignment
from tests.generic_models import SHAPES
from tests.generic_models import generic as in_float32

pytestmark = pytest.mark.cuda


def generic(name: str, label: str) -> nn.Module:
    return in_float32(name, label).double()


@functools.cache
def symmetry(name: str) -> Symmetry:
    return discover(
        in_float32(name, "any"), torch.randn(2, *SHAPES[name], generator=generator_for("example")), verify=False
    )


def pair(name: str) -> tuple[nn.Module, nn.Module, Alignment]:
    """Return A, B that is A moved by a permutation and disturbed a little, and the permutation."""
    a, pi = generic(name, "a"), random_alignment(symmetry(name), generator_for("pi"))
    b = copy.deepcopy(a)
    load_into(b, pi.apply(a.state_dict()))
    with torch.no_grad():
        for key, parameter in b.named_parameters():
            parameter.add_(
                1e-3 * torch.randn(parameter.shape, generator=generator_for("noise", key), dtype=torch.float64)
            )
    return a, b, pi


def batches(name: str, device: str) -> list[tuple[Tensor, Tensor]]:
    """Return two batches of inputs and labels."""
    shape = SHAPES[name]
    inputs = [torch.randn(24, *shape, generator=generator_for("batch", k), dtype=torch.float64) for k in range(2)]
    return [(x.to(device), torch.arange(24, device=device) % 3) for x in inputs]


@pytest.mark.parametrize("name", SHAPES)
def test_matching_equals_the_cpu(name: str, device: str) -> None:
    a, b, pi = pair(name)
    there = match(a, b, symmetry(name), batches(name, "cpu"))
    here = match(copy.deepcopy(a).to(device), copy.deepcopy(b).to(device), symmetry(name), batches(name, device))
    assert here.permutations == there.permutations == pi.permutations
    assert here.quality.keys() == there.quality.keys()
    for group, quality in there.quality.items():
        assert here.quality[group].correlation == pytest.approx(quality.correlation, rel=0, abs=1e-9)
        assert here.quality[group].margin == pytest.approx(quality.margin, rel=0, abs=1e-9)
    other = match(a, generic(name, "c"), symmetry(name), batches(name, "cpu"))
    assert other.permutations != here.permutations


@pytest.mark.parametrize("name", SHAPES)
def test_repair_equals_the_cpu(name: str, device: str) -> None:
    model, ends = generic(name, "a"), (generic(name, "a").state_dict(), generic(name, "c").state_dict())
    there = repair(model, ends, 0.3, batches(name, "cpu"))
    here = repair(copy.deepcopy(model).to(device), ends, 0.3, batches(name, device))
    assert_close(here, there, rtol=1e-9, atol=1e-9)
    with pytest.raises(AssertionError, match="not close"):
        assert_close(here, repair(model, ends, 0.3 + 1e-6, batches(name, "cpu")), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("repaired", [True, False])
@pytest.mark.parametrize("name", SHAPES)
def test_barriers_equal_the_cpu(name: str, repaired: bool, device: str) -> None:
    model, ends = generic(name, "a"), (generic(name, "a").state_dict(), generic(name, "c").state_dict())
    grid = (0, 0.25, 0.5, 1)
    there = barrier(model, *ends, batches(name, "cpu"), grid, repair=repaired)
    here = barrier(copy.deepcopy(model).to(device), *ends, batches(name, device), grid, repair=repaired)
    assert here.loss == pytest.approx(there.loss, rel=1e-9)
    assert here.accuracy == there.accuracy
    assert here.loss_barrier == pytest.approx(there.loss_barrier, rel=1e-9, abs=1e-9)
    assert len({round(loss, 6) for loss in here.loss}) == 4, "the curve is not flat"
