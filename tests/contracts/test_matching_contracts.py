"""What every matching method must do; a new one is found here by its registration."""

import copy
import functools

import pytest
import torch
from torch import nn

from reticket.errors import AlignmentError
from reticket.matching import MATCHERS, list_matchers, match
from reticket.rng import generator_for
from reticket.symmetry import Symmetry, discover, load_into, random_alignment

CONTROLS = ("identity", "random")
DATA = [
    (
        torch.randn(32, 6, generator=generator_for("data", k)),
        torch.randint(3, (32,), generator=generator_for("labels", k)),
    )
    for k in range(3)
]


def net(label: str) -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3))
    for tensor in model.parameters():
        tensor.data.normal_(generator=generator_for(label, *tensor.shape))
    return model


@functools.cache
def sym() -> Symmetry:
    return discover(net("any"), DATA[0][0], verify=False)


@pytest.mark.parametrize("method", list_matchers())
class TestEveryMatcher:
    def test_gives_a_permutation_and_a_quality_for_every_group(self, method: str) -> None:
        alignment = match(net("a"), net("b"), sym(), DATA, method)
        assert list(alignment.permutations) == list(sym().groups)
        for name, quality in alignment.quality.items():
            assert -1 <= quality.correlation <= 1
            assert -2 <= quality.margin <= 2
            assert name in sym().groups

    def test_is_deterministic(self, method: str) -> None:
        first, second = (match(net("a"), net("b"), sym(), DATA, method) for _ in range(2))
        assert first.permutations == second.permutations
        assert first.quality == second.quality

    def test_finds_a_planted_permutation(self, method: str) -> None:
        if method in CONTROLS:
            pytest.skip("a control that looks at nothing")
        a, pi = net("a"), random_alignment(sym(), generator_for("pi"))
        b = copy.deepcopy(a)
        load_into(b, pi.apply(a.state_dict()))
        assert match(a, b, sym(), DATA, method).permutations == pi.permutations

    def test_leaves_both_models_as_they_were(self, method: str) -> None:
        models = [net("a").train(), net("b").eval()]
        before = [copy.deepcopy(model.state_dict()) for model in models]
        match(models[0], models[1], sym(), DATA, method)
        assert [model.training for model in models] == [True, False]
        for model, state in zip(models, before, strict=True):
            torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)

    def test_refuses_a_model_of_another_symmetry(self, method: str) -> None:
        with pytest.raises(AlignmentError, match="model_b is not of this symmetry"):
            match(net("a"), nn.Linear(6, 3), sym(), DATA, method)

    def test_is_documented(self, method: str) -> None:
        assert MATCHERS[method].function.__doc__
        assert list_matchers()[method].endswith(".")
