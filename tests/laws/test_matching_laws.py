"""Laws of matching: planted permutations are found, one look at each batch, nothing is left changed."""

import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reticket.matching import MatchedAlignment, activation, constraints, match
from reticket.matching.moments import CentredBatch
from reticket.rng import generator_for
from reticket.symmetry import Alignment, Symmetry, discover, identity_alignment, load_into, random_alignment
from tests.generic_models import SHAPES, generic


def batches(name: str, count: int = 2, size: int = 16) -> list[Tensor]:
    return [torch.randn(size, *SHAPES[name], generator=generator_for("batch", k)) for k in range(count)]


@functools.cache
def symmetry(name: str) -> Symmetry:
    return discover(generic(name, "any"), batches(name)[0][:2], verify=False)


def planted(name: str) -> tuple[nn.Module, nn.Module, Alignment]:
    """Return A, B = pi(A), and pi."""
    a, pi = generic(name, "a"), random_alignment(symmetry(name), generator_for("pi"))
    b = copy.deepcopy(a)
    load_into(b, pi.apply(a.state_dict()))
    return a, b, pi


def assert_recovers(name: str, *, matcher: Callable[..., Alignment] = match, **options: Any) -> None:
    a, b, pi = planted(name)
    assert matcher(a, b, symmetry(name), batches(name), **options).permutations == pi.permutations


@pytest.mark.slow_cases("vgg11", "resnet20")
@pytest.mark.parametrize("name", SHAPES)
def test_a_planted_permutation_is_found_exactly(name: str) -> None:
    assert_recovers(name)


@pytest.mark.parametrize("cost", ["covariance", "cosine"])
def test_a_planted_permutation_is_found_with_other_costs(cost: str) -> None:
    assert_recovers("mlp", cost=cost)
    assert_recovers("conv-small", cost=cost)


def test_the_recovery_law_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def backwards(*args: Any, **options: Any) -> Alignment:
        return match(*args, **options).inverse()

    with pytest.raises(AssertionError):
        assert_recovers("mlp", matcher=backwards)
    straight = constraints.assign
    monkeypatch.setattr(constraints, "assign", lambda scores: straight(scores.T.contiguous()))
    with pytest.raises(AssertionError):
        assert_recovers("mlp")


def test_a_planted_match_is_perfect_and_the_copy_computes_the_same() -> None:
    a, b, _ = planted("conv-small")
    alignment = match(a, b, symmetry("conv-small"), batches("conv-small"))
    for quality in alignment.quality.values():
        assert quality.correlation == pytest.approx(1, abs=1e-5)
        assert quality.margin > 0.01
    moved = alignment.apply(a.state_dict())
    torch.testing.assert_close(dict(moved), dict(b.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["mlp", "conv-small"])
def test_matching_raises_the_correlation_and_the_other_way_round_is_the_inverse(name: str) -> None:
    a, b, sym = generic(name, "a"), generic(name, "b"), symmetry(name)
    there, back = match(a, b, sym, batches(name, 4)), match(b, a, sym, batches(name, 4))
    assert back.permutations == there.inverse().permutations
    moved = copy.deepcopy(a)
    load_into(moved, there.apply(a.state_dict()))
    again = match(moved, b, sym, batches(name, 4))
    assert again.permutations == identity_alignment(sym).permutations
    for group, quality in there.quality.items():
        assert again.quality[group].correlation == pytest.approx(quality.correlation, abs=1e-5)
        assert again.quality[group].margin == pytest.approx(quality.margin, abs=1e-5)
        assert quality.correlation > 0


class Counting:
    """Counts the forward calls of a model, and the examples in them."""

    def __init__(self, model: nn.Module) -> None:
        self.seen: list[Tensor] = []
        model.register_forward_pre_hook(lambda _, args: self.seen.append(args[0].clone()))


@pytest.mark.parametrize("stop", [None, "stable"])
def test_each_model_sees_each_batch_exactly_once(stop: str | None) -> None:
    a, b = generic("conv-small", "a"), generic("conv-small", "b")
    counts, data = [Counting(a), Counting(b)], batches("conv-small", 5)

    def once() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in data:
            yield batch, torch.zeros(len(batch))

    one_shot = match(a, b, symmetry("conv-small"), once(), stop=stop)
    for count in counts:
        torch.testing.assert_close(count.seen, data, rtol=0, atol=0)
    assert one_shot.permutations == match(a, b, symmetry("conv-small"), data).permutations


@pytest.mark.parametrize("name", ["mlp", "conv-small"])
def test_a_batch_is_cut_to_what_may_be_held_and_the_cut_changes_rounding_alone(name: str) -> None:
    a, b, sym, data = generic(name, "a"), generic(name, "b"), symmetry(name), batches(name, 3)
    whole = match(a, b, sym, data)
    one = activation.MomentAccumulator(sym)
    one.take([a.eval()], [b.eval()], data[0])
    held = [units.values.nbytes for units in one.hold(a, data[0]).values() if isinstance(units, CentredBatch)]
    assert sum(held) == len(data[0]) * one.bytes_an_example(a, data[0])
    counts = [Counting(a), Counting(b)]
    cut = match(a, b, sym, data, held_bytes=6 * one.bytes_an_example(a, data[0]) + 1)
    parts = [part for batch in data for part in batch.split(6)]
    for count in counts:
        torch.testing.assert_close(count.seen, parts, rtol=0, atol=0)
    assert cut.permutations == whole.permutations
    assert isinstance(cut, MatchedAlignment)
    assert isinstance(whole, MatchedAlignment)
    assert (cut.examples, cut.batches) == (whole.examples, whole.batches) == (48, 3)
    for group, quality in whole.quality.items():
        assert cut.quality[group].correlation == pytest.approx(quality.correlation, abs=1e-5)


def test_a_second_look_at_a_batch_would_be_counted() -> None:
    a, b = generic("mlp", "a"), generic("mlp", "b")
    count, data = Counting(a), batches("mlp", 2)
    match(a, b, symmetry("mlp"), [*data, data[0]])
    with pytest.raises(AssertionError):
        torch.testing.assert_close(count.seen, data, rtol=0, atol=0)


class Noisy(nn.Module):
    """Dropout, BatchNorm and noise drawn in every forward, whatever the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm, self.two = nn.Linear(12, 15), nn.BatchNorm1d(15), nn.Linear(15, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        torch.rand(3)
        return self.two(self.drop(torch.relu_(self.norm(self.one(x)))))


def test_models_modes_and_random_state_are_left_as_they_were() -> None:
    a, b = Noisy().train(), Noisy()
    b.norm.eval()
    before = [copy.deepcopy(model.state_dict()) for model in (a, b)]
    modes = [[module.training for module in model.modules()] for model in (a, b)]
    sym = discover(Noisy(), torch.zeros(2, 12), verify=False)
    random = torch.get_rng_state()
    match(a, b, sym, batches("mlp"))
    assert torch.equal(random, torch.get_rng_state())
    assert modes == [[module.training for module in model.modules()] for model in (a, b)]
    for model, state in zip((a, b), before, strict=True):
        torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
        assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(RuntimeError, match="from the loader"):
        match(a, b, sym, (_ for _ in [0] if _raise()))
    assert modes[0] == [module.training for module in a.modules()]


def _raise() -> bool:
    raise RuntimeError("from the loader")


def test_batches_may_be_tensors_tuples_dicts_or_anything_with_to_inputs() -> None:
    a, b, data = generic("mlp", "a"), generic("mlp", "b"), batches("mlp")
    expected = match(a, b, symmetry("mlp"), data).permutations
    for form in (
        [(x, torch.zeros(len(x))) for x in data],
        [[x, "label"] for x in data],
        [{"x": x, "label": torch.zeros(len(x))} for x in data],
    ):
        assert match(a, b, symmetry("mlp"), form).permutations == expected
    forms: list[Callable[[Tensor], object]] = [lambda x: x, lambda x: (x,), lambda x: {"x": x}]
    for to_inputs in forms:
        strange = match(a, b, symmetry("mlp"), [("label", x) for x in data], to_inputs=lambda p, f=to_inputs: f(p[1]))
        assert strange.permutations == expected


class TwoInputs(nn.Module):
    """Takes two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.end = nn.Linear(12, 9), nn.Linear(12, 9), nn.Linear(9, 3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.end(torch.relu(self.one(x) + self.two(y)))


@pytest.mark.slow
def test_as_many_elements_of_a_batch_are_taken_as_there_were_example_inputs() -> None:
    a, b = TwoInputs(), TwoInputs()
    sym = discover(a, (torch.zeros(2, 12), torch.zeros(2, 12)), verify=False)
    x, y = batches("mlp")
    expected = match(a, b, sym, [(x, y)]).permutations
    assert match(a, b, sym, [(x, y, "label")]).permutations == expected
    assert match(a, b, sym, [{"x": x, "y": y, "label": 0}]).permutations == expected
    for batch in ((x, y), {"x": x, "y": y, "label": 0}):
        assert match(a, b, sym, [batch], held_bytes=1).permutations == expected


def test_matching_stops_when_assignments_are_stable_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation, "CHECK_FROM", 64)
    a, b, pi = planted("mlp")
    count = Counting(b)
    endless = (torch.randn(64, 12, generator=generator_for("endless", k)) for k in range(10_000))
    found = match(a, b, symmetry("mlp"), endless)
    assert found.permutations == pi.permutations
    assert isinstance(found, activation.MatchedAlignment)
    assert found.examples == sum(map(len, count.seen)) == 64 * 2**3
    assert found.batches == len(count.seen)
    count.seen.clear()
    match(a, b, symmetry("mlp"), batches("mlp", 12, 64), stop=None)
    assert len(count.seen) == 12


def test_a_dead_unit_costs_no_other_its_partner() -> None:
    a, b, pi = planted("mlp")
    state = a.state_dict()
    state["layers.0.weight"][3], state["layers.0.bias"][3] = 0, -1
    load_into(b, pi.apply(state))
    alignment = match(a, b, symmetry("mlp"), batches("mlp", 8))
    assert alignment.permutations == pi.permutations
    quality = alignment.quality["layers.0.weight"]
    assert quality.correlation == pytest.approx(14 / 15, abs=1e-5)


def test_a_model_matches_itself() -> None:
    a = generic("conv-small", "a")
    alignment = match(a, a, symmetry("conv-small"), batches("conv-small"))
    assert alignment.permutations == identity_alignment(symmetry("conv-small")).permutations
