"""The dial on signs: nothing at 0, all of them at 1, and each share's choice inside that of a larger one."""

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reticket.errors import MaskError
from reticket.rng import generator_for
from reticket.tickets import Mask, Ticket, prune_magnitude, share_of_signs

SHAPES = {"first": (9, 7), "second": (5, 9)}
SHARES = (0.0, 0.1, 0.3, 0.5, 0.55, 0.9, 1.0)
Choose = Callable[[Ticket, dict[str, Tensor], float], Ticket]


def drawn(label: str, seed: int) -> dict[str, Tensor]:
    g = generator_for("signs", label, seed)
    return {name: torch.randn(shape, generator=g).round(decimals=1) for name, shape in SHAPES.items()}


def case(seed: int) -> tuple[Ticket, dict[str, Tensor]]:
    weights = drawn("a", seed)
    return Ticket.of(weights, prune_magnitude(weights, 0.4, names=list(SHAPES))), drawn("scores", seed)


def check_law(choose: Choose, seed: int) -> None:
    ticket, scores = case(seed)
    parts = [choose(ticket, scores, share) for share in SHARES]
    assert parts[0].mask.kept == 0
    assert parts[-1] == ticket
    for share, part in zip(SHARES, parts, strict=True):
        assert part.signs is not None
        for name, kept in ticket.mask.items():
            n, chosen = int(kept.sum()), part.mask[name]
            assert int(chosen.sum()) == int(share * n + 0.5), "the share of each layer"
            assert not (chosen & ~kept).any()
            if 0 < int(chosen.sum()) < n:
                assert scores[name][chosen].min() >= scores[name][kept & ~chosen].max(), "the highest scores"
            assert ticket.signs is not None
            assert torch.equal(part.signs[name], ticket.signs[name] * chosen)
    for less, more in itertools.pairwise(parts):
        assert all((less.mask[name] <= more.mask[name]).all() for name in SHAPES), "one share's choice in the next's"


@settings(max_examples=25)
@given(seed=st.integers(0, 200))
def test_the_choices_of_growing_shares_are_nested(seed: int) -> None:
    check_law(share_of_signs, seed)


def lowest_first(ticket: Ticket, scores: dict[str, Tensor], share: float) -> Ticket:
    return share_of_signs(ticket, {name: -score for name, score in scores.items()}, share)


def over_all_layers(ticket: Ticket, scores: dict[str, Tensor], share: float) -> Ticket:
    """Lets the layers compete."""
    shifted = {name: scores[name].masked_fill(~ticket.mask[name], -1e9) for name in SHAPES}
    flat = torch.cat([shifted[name].flatten() for name in SHAPES])
    least = flat.sort(descending=True).values[max(0, int(share * ticket.mask.kept + 0.5) - 1)]
    chosen = {name: ticket.mask[name] & (shifted[name] >= least) & (share > 0) for name in SHAPES}
    assert ticket.signs is not None
    return Ticket(Mask(chosen), {name: ticket.signs[name] * chosen[name] for name in SHAPES})


@pytest.mark.parametrize("broken", [lowest_first, over_all_layers])
def test_the_law_catches_other_choices(broken: Choose) -> None:
    with pytest.raises(AssertionError):
        check_law(broken, 0)


def test_a_part_writes_its_signs_alone() -> None:
    ticket, scores = case(3)
    b = drawn("b", 3)
    part = share_of_signs(ticket, scores, 0.5)
    assert ticket.signs is not None
    for name, weight in part.write_signs(b).items():
        torch.testing.assert_close(weight.abs(), b[name].abs(), rtol=0, atol=0)
        chosen = part.mask[name]
        torch.testing.assert_close(weight[~chosen], b[name][~chosen], rtol=0, atol=0)
        torch.testing.assert_close(weight[chosen], (b[name].abs() * ticket.signs[name])[chosen], rtol=0, atol=0)


def test_what_cannot_be_shared_is_refused() -> None:
    ticket, scores = case(0)
    with pytest.raises(MaskError, match="the ticket has no signs; make it"):
        share_of_signs(Ticket(ticket.mask), scores, 0.5)
    with pytest.raises(MaskError, match=r"the share of signs is 1\.1, expected a number in"):
        share_of_signs(ticket, scores, 1.1)
    with pytest.raises(MaskError, match="it masks 'second', which is not among the 1 tensors"):
        share_of_signs(ticket, {"first": scores["first"]}, 0.5)
    kept = ticket.mask["second"]
    for value in (float("nan"), float("inf")):
        with pytest.raises(MaskError, match=rf"give 'second' {int(kept.sum())} NaN or infinite ones of kept"):
            share_of_signs(ticket, {**scores, "second": scores["second"].masked_fill(kept, value)}, 0.5)
        of_pruned = {**scores, "second": scores["second"].masked_fill(~kept, value)}
        assert share_of_signs(ticket, of_pruned, 0.5) == share_of_signs(ticket, scores, 0.5)
