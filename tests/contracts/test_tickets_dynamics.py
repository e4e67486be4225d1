"""What all dynamics keep to, whoever registered them."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from reticket.cli.listing import listing
from reticket.errors import MaskError
from reticket.tickets import Mask
from reticket.tickets.dynamics import DYNAMICS, Dynamics, MaskMoment, dynamics

SHAPES = {"conv.weight": (6, 3, 2, 2), "fc.weight": (5, 12), "out.weight": (4, 5)}


def moment(density: float, progress: float, seed: int = 0) -> MaskMoment:
    generator = torch.Generator().manual_seed(seed)
    mask = Mask({name: torch.rand(shape, generator=generator) < density for name, shape in SHAPES.items()})
    weights, gradient = ({n: torch.randn(s, generator=generator) for n, s in SHAPES.items()} for _ in range(2))
    return MaskMoment(mask, mask.apply_to(weights), progress, 0.1, mask.density, gradient, generator)


def content(now: MaskMoment) -> list[Tensor]:
    assert now.gradient is not None
    return [t.clone() for tensors in (now.mask, now.weights, now.gradient) for t in tensors.values()]


def check_dynamics(member: Dynamics, density: float, progress: float, options: Mapping[str, Any] | None = None) -> None:
    """The contract."""
    now = moment(density, progress)
    before = content(now)
    found = member(now, options or {})
    assert {name: kept.shape for name, kept in found.items()} == SHAPES
    assert list(found) == list(SHAPES)
    assert 0 < found.kept <= now.mask.kept, "more weights are kept"
    assert all(map(torch.equal, content(now), before)), "its inputs were changed"
    assert member(moment(density, progress), options or {}) == found, "equal moments give different masks"
    assert member.description.endswith(".")
    assert listing("dynamics")[member.name].startswith(member.description)
    assert {"every", "end"} <= set(member.options)


@pytest.mark.parametrize("progress", [0.01, 0.5, 1.0])
@pytest.mark.parametrize("density", [0.15, 0.6, 1.0])
@pytest.mark.parametrize("name", DYNAMICS)
def test_all_dynamics_keep_the_contract(name: str, density: float, progress: float) -> None:
    check_dynamics(DYNAMICS[name], density, progress)


@pytest.fixture
def registry() -> Iterator[None]:
    before = dict(DYNAMICS._members)
    yield
    DYNAMICS._members.clear()
    DYNAMICS._members.update(before)


@pytest.mark.usefixtures("registry")
def test_the_contract_can_fail() -> None:
    @dynamics("grows")
    def grows(mask: Mask) -> Mask:
        """Keeps everything."""
        return Mask.full(mask)

    @dynamics("writes")
    def writes(mask: Mask, gradient: dict[str, Tensor]) -> Mask:
        """Writes into what it is given."""
        gradient["out.weight"].zero_()
        return mask

    @dynamics("random")
    def random(mask: Mask) -> Mask:
        """Draws from where it should not."""
        return Mask({name: kept & (torch.rand(kept.shape) < 0.5) for name, kept in mask.items()})

    for member, words in ((grows, "more weights"), (writes, "inputs were changed"), (random, "different masks")):
        with pytest.raises(AssertionError, match=words):
            check_dynamics(member, 0.6, 0.5)


@pytest.mark.usefixtures("registry")
def test_registering_dynamics() -> None:
    def thin(mask: Mask, *, share: float = 0.5) -> Mask:
        """Keeps a share of each layer's first weights."""
        return Mask(
            {n: k & (k.flatten().cumsum(0) <= max(1, share * int(k.sum()))).view_as(k) for n, k in mask.items()}
        )

    made = dynamics("thin", end=0.5)(thin)
    assert DYNAMICS.named("thin") is made
    assert made.uses == ("mask",)
    assert made.options.settings({}) == {"share": 0.5, "end": 0.5}
    check_dynamics(made, 0.6, 0.5, {"share": 0.2, "every": 3})
    assert made(moment(0.6, 0.5), {"share": 0.2}).kept < made(moment(0.6, 0.5)).kept
    with pytest.raises(MaskError, match="dynamics 'thin' has no option 'shar', did you mean 'share'"):
        made(moment(0.6, 0.5), {"shar": 0.2})
    with pytest.raises(MaskError, match="dynamics 'thin' is registered already"):
        dynamics("thin")(thin)


@pytest.mark.usefixtures("registry")
def test_dynamics_that_cannot_be_are_refused() -> None:
    def asks(masks: Mask) -> Mask:
        """Asks for what there is not."""
        return masks

    def silent(mask: Mask) -> Mask:
        return mask

    def clashes(mask: Mask, *, every: int = 2) -> Mask:
        """Has an option of all."""
        return mask

    with pytest.raises(MaskError, match="ask for 'masks', which is no field of MaskMoment: mask, weights, progress"):
        dynamics("asks")(asks)
    with pytest.raises(MaskError, match="have no docstring"):
        dynamics("silent")(silent)
    with pytest.raises(MaskError, match="have an option 'every', which all have"):
        dynamics("clashes")(clashes)
    with pytest.raises(MaskError, match=r"unknown dynamics 'rgl', did you mean 'rigl'\?; known are set, rigl, srigl"):
        DYNAMICS.named("rgl")

    @dynamics("loses")
    def loses(mask: Mask) -> Mask:
        """Loses a layer."""
        return Mask({"fc.weight": mask["fc.weight"]})

    with pytest.raises(MaskError, match=r"dynamics 'loses' returned a mask of fc.weight, but one of conv.weight, fc"):
        loses(moment(0.5, 0.5))
