"""Consensus over checkpoints: what it must equal, what it is good for, and an oracle in numpy."""

import copy
import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from reticket.errors import AlignmentError, InputError
from reticket.matching import match
from reticket.rng import generator_for
from reticket.symmetry import Alignment, Symmetry, discover, load_into, random_alignment

SIZES = (10, 24, 20, 4)
X = [torch.randn(40, SIZES[0], generator=generator_for("consensus data", k), dtype=torch.float64) for k in range(4)]


def net(label: str, scale: float = 1.0) -> nn.Sequential:
    model = nn.Sequential(*(layer for n, m in itertools.pairwise(SIZES) for layer in _layer(n, m)))
    generator = generator_for("consensus net", label)
    for tensor in model.double().parameters():
        tensor.data.normal_(0, scale / tensor.shape[-1] ** 0.5, generator=generator)
    return model


def _layer(fan_in: int, fan_out: int) -> tuple[nn.Module, nn.Module]:
    return nn.Linear(fan_in, fan_out), nn.Tanh()


@pytest.fixture(scope="module")
def sym() -> Symmetry:
    return discover(net("any"), X[0][:2], verify=False)


def added(model: nn.Module, noise: nn.Module) -> nn.Module:
    """Return a copy of `model` with the weights of `noise` added."""
    result = copy.deepcopy(model)
    for name, tensor in result.named_parameters():
        tensor.data += noise.get_parameter(name).data
    return result


def noisy_pairs(sym: Symmetry, count: int) -> tuple[list[nn.Module], list[nn.Module], Alignment]:
    """Return checkpoints of A and B, each with noise of its own, where B's units are A's under one planted pi."""
    pi = random_alignment(sym, generator_for("consensus pi"))
    of_a = [added(net("shared"), net(f"noise a{t}", 0.8)) for t in range(count)]
    of_b = [added(net("shared"), net(f"noise b{t}", 0.8)) for t in range(count)]
    for model in of_b:
        load_into(model, pi.apply(model.state_dict()))
    return of_a, of_b, pi


def right(found: Alignment, planted: Alignment) -> int:
    pairs = zip(found.permutations.values(), planted.permutations.values(), strict=True)
    return sum(int((one.index == other.index).sum()) for one, other in pairs)


def test_one_checkpoint_or_the_same_twice_is_plain_matching(sym: Symmetry) -> None:
    a, b = net("a"), net("b")
    plain = match(a, b, sym, X)
    for several in (match([a], [b], sym, X), match([a, a, a], [b, b, b], sym, X)):
        assert several.permutations == plain.permutations
        for name, quality in plain.quality.items():
            assert several.quality[name].correlation == pytest.approx(quality.correlation, abs=1e-12)
            assert several.quality[name].margin == pytest.approx(quality.margin, abs=1e-12)


def test_the_order_of_checkpoints_does_not_matter_but_their_pairing_does(sym: Symmetry) -> None:
    of_a, of_b, _ = noisy_pairs(sym, 3)
    forward = match(of_a, of_b, sym, X)
    assert match(of_a[::-1], of_b[::-1], sym, X).permutations == forward.permutations
    assert match(of_a[::-1], of_b, sym, X).permutations != forward.permutations


@pytest.mark.slow
def test_a_planted_permutation_is_found_better_from_noisy_pairs_than_from_any_one(sym: Symmetry) -> None:
    of_a, of_b, pi = noisy_pairs(sym, 6)
    single = [right(match(a, b, sym, X), pi) for a, b in zip(of_a, of_b, strict=True)]
    assert right(match(of_a, of_b, sym, X), pi) > max(single)


def activations(model: nn.Module, x: Tensor) -> dict[str, list[Tensor]]:
    """Return the units of each group before and after its nonlinearity, by the layer that makes them."""
    found: dict[str, list[Tensor]] = {}
    layers = list(model.children())
    for number in range(0, len(layers) - 2, 2):
        before = layers[number](x)
        x = layers[number + 1](before)
        found[f"{number}.weight"] = [before, x]
    return found


def oracle(of_a: list[nn.Module], of_b: list[nn.Module]) -> dict[str, list[int]]:
    """Average numpy's correlations over pairs and sites, and let scipy solve once for each group."""
    x, found = torch.cat(X), {}
    with torch.no_grad():
        pairs = [(activations(a, x), activations(b, x)) for a, b in zip(of_a, of_b, strict=True)]
    for group in pairs[0][0]:
        scores = np.mean(
            [
                np.corrcoef(of_a.numpy(), of_b.numpy(), rowvar=False)[: of_a.shape[1], of_a.shape[1] :]
                for a, b in pairs
                for of_a, of_b in zip(a[group], b[group], strict=True)
            ],
            axis=0,
        )
        found[group] = linear_sum_assignment(-scores.T)[1].tolist()
    return found


def test_it_is_the_assignment_of_the_mean_correlation(sym: Symmetry) -> None:
    of_a, of_b, _ = noisy_pairs(sym, 3)
    found = {name: p.index.tolist() for name, p in match(of_a, of_b, sym, X).permutations.items()}
    assert found == oracle(of_a, of_b)
    assert found != oracle(of_a[:1], of_b[:1]), "the oracle can tell one pair from three"


def test_batches_are_taken_once_and_every_checkpoint_sees_each(sym: Symmetry) -> None:
    of_a, of_b, _ = noisy_pairs(sym, 2)
    calls = [0, 0, 0, 0]
    for number, model in enumerate((*of_a, *of_b)):
        model.register_forward_pre_hook(lambda *_, n=number: calls.__setitem__(n, calls[n] + 1))

    def once() -> Iterator[Tensor]:
        yield from X

    match(of_a, of_b, sym, once(), stop=None)
    assert calls == [4, 4, 4, 4]


def test_wrong_calls(sym: Symmetry) -> None:
    a, b = net("a"), net("b")
    with pytest.raises(InputError, match="matching got 2 checkpoints of A and 1 of B; give as many of each"):
        match([a, a], b, sym, X)
    with pytest.raises(InputError, match="matching got 0 checkpoints of A and 0 of B"):
        match([], [], sym, X)
    with pytest.raises(AlignmentError, match=r"model_b\[1\] is not of this symmetry"):
        match([a, a], [b, nn.Linear(10, 4)], sym, X)
