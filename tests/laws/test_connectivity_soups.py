"""Laws of soups: in the ticket's frame every member has the ticket's mask, and computes what it computed before."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import reticket as rt
from reticket.connectivity import soup
from reticket.errors import InputError, MaskError
from reticket.models import build_model
from reticket.training import evaluate

DATA = rt.load_dataset("digits", train_size=120)
IMAGES = torch.randn(64, 3, 8, 8, generator=rt.generator_for("soup images")).double()
MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "mlp": (lambda: build_model("mlp", hidden=(12, 10)).double(), DATA.normalise(DATA.train_x).double()),
    "batchnorm": (
        lambda: build_model("conv-small", in_channels=3, widths=(4, 6, 6, 8), classes=4).double(),
        IMAGES,
    ),
}


@dataclass(frozen=True)
class Trained:
    """Networks that have one ticket, each in an order of units of its own."""

    model: nn.Module
    x: Tensor
    mask: rt.Mask
    alignments: list[rt.Alignment]
    networks: list[dict[str, Tensor]]


@cache
def symmetry_of(name: str) -> rt.Symmetry:
    make, x = MODELS[name]
    return rt.discover(make(), x[:2])


def trained(name: str, count: int = 3, *, alike: bool = False) -> Trained:
    """Return networks with the carried masks and weights drawn for each, or for all together."""
    (make, x), sym = MODELS[name], symmetry_of(name)
    model = make()
    mask = rt.prune_magnitude(model, density=0.4)
    alignments = [rt.random_alignment(sym, number) for number in range(count)]
    networks = []
    for number, alignment in enumerate(alignments):
        generator = rt.generator_for("member", 0 if alike else number)
        drawn = {
            key: tensor + 0.3 * torch.rand(tensor.shape, generator=generator).double() * tensor.std().nan_to_num(0.1)
            if tensor.is_floating_point()
            else tensor
            for key, tensor in model.state_dict().items()
        }
        own = alignment.apply(mask)
        networks.append(own.apply_to(alignment.apply(drawn)))
    return Trained(model, x, mask, alignments, networks)


def outputs(found: Trained, weights: dict[str, Tensor]) -> Tensor:
    rt.load_into(found.model, weights)
    return found.model.eval()(found.x).detach()


@pytest.mark.parametrize("name", MODELS)
def test_every_member_is_itself_in_the_tickets_frame_with_the_tickets_mask(name: str) -> None:
    found = trained(name)
    for alignment, network in zip(found.alignments, found.networks, strict=True):
        own = {key: network[key] != 0 for key in found.mask}
        assert any(not torch.equal(own[key], found.mask[key]) for key in own)
        back = alignment.inverse().apply(network)
        assert all(torch.equal(back[key] != 0, kept) for key, kept in found.mask.items())
        assert_close(outputs(found, back), outputs(found, network), rtol=1e-10, atol=1e-12)
        astray = alignment.apply(network)
        with pytest.raises(AssertionError):  # of a wrong direction neither holds
            assert all(torch.equal(astray[key] != 0, kept) for key, kept in found.mask.items())


@pytest.mark.parametrize("repaired", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_a_soup_is_the_mean_in_the_tickets_frame_and_as_sparse_as_the_ticket(name: str, repaired: bool) -> None:
    found = trained(name)
    batches = [found.x] if repaired else None
    mean = soup(found.model, found.networks, found.mask, found.alignments, batches)
    for key, kept in found.mask.items():
        assert torch.equal(mean[key] != 0, kept)
    if not repaired:
        carried = [a.inverse().apply(n) for a, n in zip(found.alignments, found.networks, strict=True)]
        by_hand = {key: sum(one[key] for one in carried) / 3 for key in found.mask}
        assert_close({key: mean[key] for key in by_hand}, by_hand, rtol=1e-12, atol=1e-14)
        heavy = soup(found.model, found.networks, found.mask, found.alignments, weights=[0.0, 1.0, 0.0])
        assert_close(heavy, carried[1], rtol=0, atol=0)


@pytest.mark.parametrize("name", MODELS)
def test_a_soup_of_one_member_several_times_is_the_member(name: str) -> None:
    found = trained(name, alike=True)
    member = found.alignments[0].inverse().apply(found.networks[0])
    mean = soup(found.model, found.networks, found.mask, found.alignments)
    assert_close(mean, member, rtol=0, atol=0)
    if name == "mlp":
        repaired = soup(found.model, found.networks, found.mask, found.alignments, [found.x])
        assert_close(repaired, member, rtol=1e-9, atol=1e-11)
    other = trained(name)
    with pytest.raises(AssertionError):
        assert_close(soup(other.model, other.networks, other.mask, other.alignments), member, rtol=1e-3, atol=1e-3)


def test_carrying_a_member_back_keeps_its_accuracy_to_the_image() -> None:
    found = trained("mlp")
    for alignment, network in zip(found.alignments, found.networks, strict=True):
        before, after = (
            evaluate(found.model, DATA, weights=weights).accuracy
            for weights in (network, alignment.inverse().apply(network))
        )
        assert before == after


def test_networks_that_are_not_of_the_ticket_are_refused() -> None:
    found = trained("mlp")
    with pytest.raises(MaskError, match=r"networks\[0\] was not trained from this ticket: \d+ pruned weights of"):
        soup(found.model, found.networks, found.mask)
    with pytest.raises(MaskError, match=r"networks\[1\] was not trained from this ticket"):
        soup(found.model, found.networks, found.mask, [found.alignments[0], *found.alignments[:2]])
    with pytest.raises(InputError, match="soup got 3 networks and 1 alignments; give one for each network"):
        soup(found.model, found.networks, found.mask, found.alignments[:1])
    with pytest.raises(InputError, match="a soup is made of a list of two networks or more"):
        soup(found.model, found.networks[:1], found.mask)
