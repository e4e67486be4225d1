"""Matching at some positions of an example: what a plain computation on the same samples gives, and no other."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reticket.matching import match
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
    """Return the correlations of the first convolution's channels over every so-many-th pixel of each image."""
    with torch.no_grad():
        seen = [model[0](x).double().flatten(2).numpy() for model in (a, b)]  # pyright: ignore
    one, other = seen[0][:, :, ::every], seen[1][:, :, first_of_b::every]
    n = min(one.shape[2], other.shape[2])
    flat = [part[:, :, :n].transpose(1, 0, 2).reshape(6, -1) for part in (one, other)]
    return np.corrcoef(*flat)[:6, 6:]


def similarity(a: nn.Module, b: nn.Module, sym: Symmetry, x: Tensor, positions: int | None) -> np.ndarray:
    seen = MomentAccumulator(sym, positions=positions)
    seen.take([a], [b], x)
    (moments,) = next(found for (site, _), found in seen.moments.items() if site == "0")
    spread = torch.outer(moments.a.variance, moments.b.variance).sqrt() * moments.samples
    return (moments.cross / spread).numpy()


def test_moments_at_some_positions_are_those_of_the_same_pixels_by_numpy() -> None:
    a, b, sym, x = setting()
    found = similarity(a, b, sym, x, POSITIONS)
    distance = 10  # 5 of 49 positions at most: 0, 10, ... 40, and 10 has no factor in common with 49
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


@pytest.mark.parametrize("each", [64, 96, 1000, 1024])
@pytest.mark.parametrize("most", [1, 3, 10, 63, 500, 2000])
def test_every_column_is_looked_at_alike(each: int, most: int) -> None:
    left = thinned(torch.arange(2 * each), 2, most)
    assert len(left) % 2 == 0
    first, second = left.chunk(2)
    torch.testing.assert_close(second, first + each)
    assert 1 <= len(first) <= most or len(first) == each <= most
    if 8 <= len(first) < each:
        counts = torch.bincount(first % 8, minlength=8)  # columns of images eight wide
        assert int(counts.max() - counts.min()) <= 1
