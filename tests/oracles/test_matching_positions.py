"""Matching at some positions of an example: what a plain computation on the same samples gives, and no other."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reticket.matching import Activations, match
from reticket.matching.accumulated import MomentAccumulator, thinned
from reticket.rng import generator_for
from reticket.symmetry import Symmetry, discover, load_into, random_alignment

IMAGES, SIDE, POSITIONS = 12, 7, 5


def net(label: str) -> nn.Module:
    """Return a convolution in whose output a group is seen, and a head."""
    generator = generator_for("positions", label)
    model = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.Flatten(2), nn.Linear(SIDE * SIDE, 3), nn.Flatten(1))
    model.append(nn.Linear(18, 4))
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, device="cpu")
    return model.eval()


def images() -> Tensor:
    return torch.randn(IMAGES, 2, SIDE, SIDE, generator=generator_for("positions", "images"))


def setting() -> tuple[nn.Module, nn.Module, Symmetry, Tensor]:
    a, x = net("a"), images()
    return a, net("b"), discover(a, x[:2]), x


def pairwise_correlation(a: nn.Module, b: nn.Module, x: Tensor, every: int, first_of_b: int = 0) -> np.ndarray:
    """Return the correlations of the first convolution's channels over every so-many-th pixel of the batch."""
    with torch.no_grad():
        seen = [model[0](x).permute(1, 0, 2, 3).reshape(6, -1).double().numpy() for model in (a, b)]  # pyright: ignore
    one, other = seen[0][:, ::every], seen[1][:, first_of_b::every]
    n = min(one.shape[1], other.shape[1])
    return np.corrcoef(one[:, :n], other[:, :n])[:6, 6:]


def similarity(a: nn.Module, b: nn.Module, sym: Symmetry, x: Tensor, positions: int | None) -> np.ndarray:
    seen = MomentAccumulator(sym, positions=positions)
    seen.take([a], [b], x)
    (moments,) = next(found for (site, _), found in seen.moments.items() if site == "0")
    spread = torch.outer(moments.a.variance, moments.b.variance).sqrt() * moments.samples
    return (moments.cross / spread).numpy()


def test_moments_at_some_positions_are_those_of_the_same_pixels_by_numpy() -> None:
    a, b, sym, x = setting()
    found = similarity(a, b, sym, x, POSITIONS)
    distance = 10  # 5 of 49 positions at most, and 10 has no factor in common with 49
    np.testing.assert_allclose(found, pairwise_correlation(a, b, x, distance), atol=1e-5)
    for other in (pairwise_correlation(a, b, x, 1), pairwise_correlation(a, b, x, distance, first_of_b=1)):
        assert np.abs(found - other).max() > 0.05  # all pixels, or other pixels of B, are told from them


def test_as_many_positions_as_there_are_change_nothing() -> None:
    a, b, sym, x = setting()
    whole, bounded = (match(a, b, sym, [x], positions=most) for most in (None, SIDE**2))
    assert bounded.permutations == whole.permutations
    assert bounded.quality == whole.quality


def test_a_planted_permutation_is_found_at_few_positions() -> None:
    a, _, sym, x = setting()
    planted, b = random_alignment(sym, generator_for("positions", "planted")), net("b")
    load_into(b, planted.apply(a.state_dict()))
    assert match(a, b, sym, [x], positions=POSITIONS).permutations == planted.permutations


def test_what_is_held_at_once_does_not_change_what_is_looked_at() -> None:
    a, b, sym, x = setting()
    whole, cut = (match(a, b, sym, [x], positions=POSITIONS, held_bytes=held) for held in (None, 2_000))
    assert cut.permutations == whole.permutations
    for group, quality in whole.quality.items():
        assert cut.quality[group].correlation == pytest.approx(quality.correlation, abs=1e-5)
    seen = [MomentAccumulator(sym, 2_000, positions) for positions in (None, POSITIONS)]
    assert seen[0].at_once(a, x) < seen[1].at_once(a, x) < IMAGES  # it was cut, into larger parts than all would be


def test_further_batches_go_on_where_the_last_one_ended() -> None:
    a, b, sym, x = setting()
    whole, apart = (match(a, b, sym, batches, positions=POSITIONS, stop="never") for batches in ([x], x.split(5)))
    for group, quality in whole.quality.items():
        assert apart.quality[group].correlation == pytest.approx(quality.correlation, abs=1e-5)
    kept = Activations(sym)
    calls = [match(a, b, sym, [part], positions=POSITIONS, stop="never", seen=kept) for part in x.split(5)]
    assert calls[-1].permutations == whole.permutations
    first = match(a, b, sym, [x.roll(1, dims=0)], positions=POSITIONS, stop="never")
    assert any(
        first.quality[group].correlation != pytest.approx(quality.correlation, abs=1e-5)
        for group, quality in whole.quality.items()
    )  # where every image begins at the same position, its place in the batch would not matter


@pytest.mark.parametrize("each", [64, 96, 1000, 1024])
@pytest.mark.parametrize("most", [1, 3, 10, 63, 500, 2000])
def test_every_position_has_its_turn(each: int, most: int) -> None:
    counts = torch.zeros(each, dtype=torch.long)
    for before in range(0, 3 * each, 3):
        left = thinned(torch.arange(3 * each), 3, most, before)
        assert 1 <= len(left) <= 3 * most or len(left) == 3 * each <= 3 * most
        counts += torch.bincount(left % each, minlength=each)
    assert int(counts.max() - counts.min()) <= 6
