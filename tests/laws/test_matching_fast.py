"""What makes matching fast changes rounding alone: derived sites, channels last, one A for several Bs, less data."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reticket.errors import InputError
from reticket.matching import MatchedAlignment, activation, match, match_each
from reticket.matching.accumulated import MomentAccumulator
from reticket.matching.assignment import COSTS
from reticket.matching.moments import ScaledUnits
from reticket.rng import generator_for
from reticket.symmetry import Symmetry, discover, load_into, random_alignment
from tests.generic_models import generic
from tests.laws.test_matching_laws import Counting, batches, planted, symmetry


def accumulated_on(
    a: nn.Module, b: nn.Module, sym: Symmetry, *, derive: bool = True, data: list[Tensor] | None = None
) -> MomentAccumulator:
    """Return the moments of two models; with every site measured where `derive` is False."""
    seen = MomentAccumulator(sym)
    seen.norms = None if derive else frozenset()
    for batch in data or batches("resnet20"):
        seen.take([a.eval()], [b.eval()], batch)
    return seen


def assert_same_scores(one: MomentAccumulator, other: MomentAccumulator) -> None:
    for score in COSTS.values():
        for group, similarity in one.forest(score).direct.items():
            expected = other.forest(score).direct[group].scores
            torch.testing.assert_close(similarity.scores, expected, rtol=1e-4, atol=2e-6)


def odd_norms(label: str) -> nn.Module:
    """Return a ResNet20 in whose BatchNorms some factors are negative and one is 0."""
    model = generic("resnet20", label)
    for number, module in enumerate(model.modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data[number % 3 :: 2] *= -1
            module.weight.data[number % 8] = 0
    return model


@pytest.mark.slow
def test_what_follows_from_the_input_of_a_batchnorm_is_what_its_output_shows() -> None:
    a, b, sym = odd_norms("a"), odd_norms("b"), symmetry("resnet20")
    derived, measured = accumulated_on(a, b, sym), accumulated_on(a, b, sym, derive=False)
    norms = [name for name, module in a.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert sorted(site for site, _ in derived.scaled) == sorted(norms)
    assert not measured.scaled
    assert measured.moments.keys() == derived.moments.keys() | derived.scaled.keys()
    assert_same_scores(derived, measured)


def test_a_wrong_factor_would_show() -> None:
    a, b, sym = odd_norms("a"), odd_norms("b"), symmetry("resnet20")
    wrong, measured = accumulated_on(a, b, sym), accumulated_on(a, b, sym, derive=False)
    of_a, of_b = wrong.scaled["bn1", "conv1.weight"][0]
    wrong.scaled["bn1", "conv1.weight"] = [(replace(of_a, factor=of_a.factor.abs()), of_b)]
    with pytest.raises(AssertionError):
        assert_same_scores(wrong, measured)


def test_a_batchnorm_that_somebody_hooked_is_measured() -> None:
    a, b, sym = odd_norms("a"), odd_norms("b"), symmetry("resnet20")
    for model in (a, b):
        model.get_submodule("bn1").register_forward_hook(lambda module, args, output: output.clamp(max=0.5))
    seen = accumulated_on(a, b, sym)
    assert "bn1" not in [site for site, _ in seen.scaled]
    assert_same_scores(seen, accumulated_on(a, b, sym, derive=False))


class Overwritten(nn.Module):
    """What the convolution gave is overwritten before the BatchNorm reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.end = nn.Conv2d(3, 9, 3), nn.BatchNorm2d(9), nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        torch.sin_(y)
        return self.end(F.relu(self.norm(y)).mean((2, 3)))


def test_a_batchnorm_of_what_was_overwritten_is_measured() -> None:
    a, b = Overwritten(), Overwritten()
    sym, data = discover(a, torch.zeros(2, 3, 8, 8), verify=False), [torch.randn(8, 3, 8, 8)]
    seen = accumulated_on(a, b, sym, data=data)
    assert not seen.scaled
    assert_same_scores(seen, accumulated_on(a, b, sym, derive=False, data=data))


class Viewing(nn.Module):
    """Looks at how its activations lie in memory, which channels last does not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.end = nn.Conv2d(3, 9, 3), nn.BatchNorm2d(9), nn.Linear(9 * 36, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(F.relu(self.norm(self.conv(x))).view(len(x), -1))


@pytest.mark.parametrize("build", [Overwritten, Viewing, lambda: generic("resnet20", "a")])
def test_weights_lie_where_they_lay_and_a_model_that_looks_at_memory_is_matched(build: Callable[[], nn.Module]) -> None:
    a = build()
    x = torch.randn(12, 3, 16, 16) if not isinstance(a, Viewing) else torch.randn(12, 3, 8, 8)
    sym, b = discover(a, x[:2], verify=False), copy.deepcopy(a)
    pi = random_alignment(sym, generator_for("pi"))
    load_into(b, pi.apply(a.state_dict()))
    before = [(p.data_ptr(), p.stride(), p._version) for model in (a, b) for p in model.parameters()]
    seen: list[Any] = []
    a.get_submodule("end" if hasattr(a, "end") else "fc").register_forward_hook(lambda m, args, out: seen.append(out))
    assert match(a, b, sym, [x]).permutations == pi.permutations
    assert before == [(p.data_ptr(), p.stride(), p._version) for model in (a, b) for p in model.parameters()]
    assert [len(one) for one in seen] == [12]  # what was tried on copies was seen by nobody


def test_convolutions_run_with_their_channels_last() -> None:
    a, b, _ = planted("resnet20")
    laid: list[bool] = []

    def look(module: nn.Module, args: object, output: Tensor) -> None:
        laid.append(output.is_contiguous(memory_format=torch.channels_last) and not output.is_contiguous())

    a.get_submodule("layer1.0.conv1").register_forward_hook(look)
    match(a, b, symmetry("resnet20"), batches("resnet20", 1))
    assert laid == [True]


@pytest.mark.slow_cases(but=["options3"])
@pytest.mark.parametrize("options", [{}, {"stop": None, "held_bytes": 40_000}, {"stop": 0.5}, {"cost": "cosine"}])
def test_one_network_is_matched_to_each_as_to_each_alone(options: dict[str, Any]) -> None:
    name = "conv-small"
    a, others, data = generic(name, "a"), [generic(name, f"b{k}") for k in range(3)], batches(name, 3)
    alone = [match(a, b, symmetry(name), data, **options) for b in others]
    count = Counting(a)
    found = match_each(a, others, symmetry(name), iter(data), **options)
    assert [one.permutations for one in found] == [one.permutations for one in alone]
    for one, other in zip(found, alone, strict=True):
        assert isinstance(other, MatchedAlignment)
        assert (one.examples, one.unsettled, one.quality) == (other.examples, other.unsettled, other.quality)
    assert torch.cat(count.seen).equal(torch.cat(data))


def test_what_is_no_list_of_networks_is_refused() -> None:
    a, sym = generic("mlp", "a"), symmetry("mlp")
    with pytest.raises(InputError, match=r"models_b is empty, but a list of at least one network was expected"):
        match_each(a, [], sym, batches("mlp"))
    with pytest.raises(InputError, match=r"has no option 'stopp', did you mean 'stop'"):
        match_each(a, [a], sym, batches("mlp"), stopp=1)


def noisy(amount: float) -> tuple[nn.Module, nn.Module, Symmetry]:
    """Return a network and a permuted copy with noise in its weights, as a share of their spread."""
    a, b, _ = planted("mlp")
    for name, p in b.named_parameters():
        p.data += amount * p.data.std() * torch.randn(p.shape, generator=generator_for("noise", name))
    return a, b, symmetry("mlp")


def found_at(share: float, amount: float, limit: int = 200) -> MatchedAlignment:
    a, b, sym = noisy(amount)
    endless = (torch.randn(64, 12, generator=generator_for("endless", k)) for k in range(limit))
    found = match(a, b, sym, endless, stop=share)
    assert isinstance(found, MatchedAlignment)
    return found


@pytest.mark.slow
def test_matching_stops_where_few_units_are_unsettled() -> None:
    clear = found_at(0.01, 0.1)
    assert (clear.examples, clear.unsettled) == (activation.HALVES_FROM, 0.0)
    strict, loose = found_at(0.01, 1.5), found_at(0.2, 1.5)
    assert strict.unsettled is not None
    assert loose.unsettled is not None
    assert strict.examples > loose.examples >= activation.HALVES_FROM
    assert strict.unsettled <= 0.01
    assert loose.unsettled <= 0.2


@pytest.mark.slow
def test_the_share_that_is_unsettled_is_about_the_share_that_changes() -> None:
    changed, said = [], []
    for amount in (2.0, 3.0, 4.0, 6.0):
        few, many = (found_at(1.0 if limit == 4 else 1e-9, amount, limit) for limit in (4, 250))
        pairs = [(p.index, many.permutations[name].index) for name, p in few.permutations.items()]
        changed.append(sum(int((one != other).sum()) for one, other in pairs) / sum(len(one) for one, _ in pairs))
        assert few.unsettled is not None
        said.append(few.unsettled)
    assert sum(changed) / 2 <= sum(said) <= 2 * sum(changed)


@pytest.mark.parametrize("stop", [0.0, -0.1, 1.5, "soon"])
def test_a_stop_that_is_no_share_is_refused(stop: object) -> None:
    a = generic("mlp", "a")
    with pytest.raises(InputError, match=r"stop"):
        match(a, a, symmetry("mlp"), batches("mlp"), stop=stop)


def test_a_scaled_unit_knows_its_source() -> None:
    a, b, sym = odd_norms("a"), odd_norms("b"), symmetry("resnet20")
    of_a, of_b = accumulated_on(a, b, sym).scaled["layer1.0.bn1", "layer1.0.conv1.weight"][0]
    assert isinstance(of_a, ScaledUnits)
    assert of_a.source == of_b.source == "layer1.0.conv1"
