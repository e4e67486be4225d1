"""Laws of the line between two networks, of the barrier on it and of REPAIR."""

import copy
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reticket.connectivity import BarrierCurve, barrier, interpolate, repair
from reticket.rng import generator_for


class Convs(nn.Module):
    """Two convolutions and a linear layer, with or without BatchNorm and biases."""

    def __init__(self, *, norm: bool, bias: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 6, 3, padding=1, bias=bias)
        self.norm1 = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.conv2 = nn.Conv2d(6, 8, 3, padding=1, bias=bias)
        self.norm2 = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)), inplace=True)
        x = F.relu(self.norm2(self.conv2(x)), inplace=True)
        return self.fc(self.drop(x).mean((2, 3)))


def randomised(model: nn.Module, label: str) -> nn.Module:
    """Fill weights and statistics with values far from their defaults."""
    generator = generator_for(label)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.normal_(generator=generator).mul_(0.4)
            if name.endswith("running_var"):
                tensor.abs_().add_(0.5)
    return model


def images(label: str, *sizes: int) -> list[tuple[Tensor, Tensor]]:
    generator = generator_for(label)
    return [
        (torch.randn(n, 2, 7, 7, generator=generator) + 1, torch.randint(4, (n,), generator=generator)) for n in sizes
    ]


def assert_same_state(a: Mapping[str, Tensor], b: Mapping[str, Tensor], *, rtol: float = 0, atol: float = 0) -> None:
    assert list(a) == list(b)
    torch.testing.assert_close(dict(a), dict(b), rtol=rtol, atol=atol)


@pytest.mark.parametrize("norm", [False, True])
def test_interpolation_ends_equal_the_inputs_bit_for_bit(norm: bool) -> None:
    a, b = (randomised(Convs(norm=norm), label).state_dict() for label in "ab")
    assert_same_state(interpolate(a, b, 0), dict(a))
    assert_same_state(interpolate(a, b, 1), dict(b))
    half = interpolate(a, b, 0.5)
    torch.testing.assert_close(half["fc.weight"], (a["fc.weight"] + b["fc.weight"]) / 2)
    assert half["fc.weight"].data_ptr() != a["fc.weight"].data_ptr()


def test_the_ends_law_can_fail() -> None:
    a, b = torch.tensor([0.1, 1e8]), torch.tensor([1e8, 0.3])

    def broken(alpha: float) -> Tensor:
        return a + alpha * (b - a)

    assert torch.equal(interpolate({"w": a}, {"w": b}, 1)["w"], b)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(broken(1.0), b, rtol=0, atol=0)


def test_equal_entries_stay_and_counters_come_from_the_nearer_end() -> None:
    a = {"mask": torch.tensor([0.0, -torch.inf]), "steps": torch.tensor(3), "seen": torch.tensor([True])}
    b = {"mask": torch.tensor([2.0, -torch.inf]), "steps": torch.tensor(7), "seen": torch.tensor([False])}
    mixed = interpolate(a, b, 0.25)
    assert mixed["mask"].tolist() == [0.5, -torch.inf]
    assert (mixed["steps"].item(), mixed["seen"].item()) == (3, True)
    assert interpolate(a, b, 0.5)["steps"].item() == 7


@pytest.mark.parametrize("repaired", [False, True])
@pytest.mark.parametrize("norm", [False, True])
def test_a_line_from_a_network_to_itself_has_no_barrier(norm: bool, repaired: bool) -> None:
    model = randomised(Convs(norm=norm), "a")
    a = copy.deepcopy(model.state_dict())
    curve = barrier(model, a, a, images("x", 9, 5), (0, 0.3, 1), repair=repaired)
    assert curve.loss_barrier == 0 == curve.accuracy_barrier
    assert len(set(curve.loss)) == 1


def test_barrier_is_the_largest_excess_over_the_chord_and_leaves_everything_alone() -> None:
    model = randomised(Convs(norm=True), "a").train()
    a, b = copy.deepcopy(model.state_dict()), randomised(Convs(norm=True), "b").state_dict()
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    data = images("x", 16, 8)
    curve = barrier(model, a, b, iter(data), repair=True)
    assert_same_state(dict(model.state_dict()), dict(before))
    assert model.training
    assert torch.equal(random, torch.get_rng_state())
    chord = [(1 - t) * curve.loss[0] + t * curve.loss[-1] for t in curve.alphas]
    excess = max(loss - line for loss, line in zip(curve.loss, chord, strict=True))
    assert curve.loss_barrier == pytest.approx(excess)
    assert curve == barrier(model, a, b, data, repair=True)


def test_barrier_evaluates_each_end_as_the_network_itself() -> None:
    model = randomised(Convs(norm=True), "a")
    a, b = copy.deepcopy(model.state_dict()), randomised(Convs(norm=True), "b").state_dict()
    data = images("x", 16, 7)
    curve = barrier(model, a, b, data, (0, 1))
    x, y = (torch.cat(part) for part in zip(*data, strict=True))
    for end, loss, accuracy in zip((a, b), curve.loss, curve.accuracy, strict=True):
        model.load_state_dict(end)
        logits = model.eval()(x)
        assert F.cross_entropy(logits, y).item() == pytest.approx(loss, rel=1e-5)
        assert 100 * (logits.argmax(1) == y).double().mean().item() == pytest.approx(accuracy)


@pytest.mark.parametrize("sizes", [(12,), (7, 5)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("alpha", [0, 1])
def test_repair_at_the_ends_returns_a_network_without_batchnorm_bit_for_bit(
    sizes: tuple[int, ...], bias: bool, alpha: int
) -> None:
    model = Convs(norm=False, bias=bias)
    ends = (randomised(model, "a").state_dict(), randomised(Convs(norm=False, bias=bias), "b").state_dict())
    assert_same_state(repair(model, ends, alpha, images("x", *sizes)), dict(ends[alpha]))


def test_repair_at_an_end_with_batchnorm_is_idempotent_and_keeps_the_function() -> None:
    model = randomised(Convs(norm=True), "a")
    b, data = randomised(Convs(norm=True), "b").state_dict(), images("x", 32)
    a = repair(model, (dict(model.state_dict()), dict(b)), 0, data)
    again = repair(model, (a, b), 0, data)
    assert_same_state(again, a, rtol=1e-5, atol=1e-6)
    logits = []
    for state in (a, again):
        model.load_state_dict(state)
        logits.append(model.eval()(data[0][0]))
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", [False, True])
def test_repair_gives_plain_tensors_that_can_be_trained(norm: bool) -> None:
    model = randomised(Convs(norm=norm).double(), "a")
    ends = (copy.deepcopy(model.state_dict()), randomised(Convs(norm=norm).double(), "b").state_dict())
    state = repair(model, ends, 0.5, [x.double() for x, _ in images("x", 8)])
    assert not any(tensor.is_inference() or tensor.requires_grad for tensor in state.values())
    model.load_state_dict(state)
    model.train()(torch.ones(3, 2, 7, 7, dtype=torch.float64)).sum().backward()


def test_repair_keeps_masked_weights_at_zero() -> None:
    model = randomised(Convs(norm=False), "a")
    ends = (copy.deepcopy(model.state_dict()), randomised(Convs(norm=False), "b").state_dict())
    for end in ends:
        end["conv2.weight"][:, ::2] = 0
    repaired = repair(model, ends, 0.5, images("x", 8))
    assert not repaired["conv2.weight"][:, ::2].any()
    assert repaired["conv2.weight"][:, 1::2].all()


def test_barrier_curve_is_zero_or_more_whatever_the_ends() -> None:
    for first, last in ((0.1, 0.3), (1e-8, 1e8), (0.7, 0.1)):
        curve = BarrierCurve((0.0, 1.0), (first, last), (10.0, 33.3))
        assert curve.loss_barrier == 0 == curve.accuracy_barrier


def test_the_line_goes_on_beyond_both_networks() -> None:
    a, b = (randomised(Convs(norm=True), label).state_dict() for label in "ab")
    for alpha, nearest in ((-0.5, a), (1.5, b)):
        mixed = interpolate(a, b, alpha)
        for name, value in mixed.items():
            if value.is_floating_point():
                torch.testing.assert_close(value, a[name] + alpha * (b[name] - a[name]))
            else:
                assert torch.equal(value, nearest[name])
        torch.testing.assert_close(interpolate(a, a, alpha), dict(a), rtol=0, atol=0)


def test_points_beyond_the_networks_are_no_part_of_the_barrier() -> None:
    a, b = (randomised(Convs(norm=False), label) for label in "ab")
    batches = images("beyond", 20)
    wide = barrier(a, a, b, batches, (-1, 0, 0.5, 1, 2))
    narrow = barrier(a, a, b, batches, (0, 0.5, 1))
    assert (wide.loss[1:4], wide.loss_barrier) == (narrow.loss, narrow.loss_barrier)
    assert wide.accuracy_barrier == narrow.accuracy_barrier == wide.metric_barrier
    logits = torch.func.functional_call(copy.deepcopy(a).eval(), interpolate(a, b, -1), batches[0][0])
    assert wide.loss[0] == pytest.approx(F.cross_entropy(logits, batches[0][1]).item(), rel=1e-5)
    assert (
        BarrierCurve((-1.0, 0.0, 0.5, 1.0), (99.0, 1.0, 3.0, 1.0)).loss_barrier == 2
    )  # and could be wrong: 99 is far above


def test_repair_beyond_a_network_keeps_its_spread() -> None:
    a, b = Convs(norm=False), Convs(norm=False)
    _ = randomised(a, "a"), randomised(b, "b")
    batches = images("beyond", 40)
    repaired = torch.func.functional_call(
        nn.Sequential(a.conv1).eval(),
        {f"0.{k.removeprefix('conv1.')}": v for k, v in repair(a, (a, b), 1.7, batches).items() if "conv1" in k},
        batches[0][0],
    )
    ends = [end.conv1(batches[0][0]) for end in (a, b)]
    torch.testing.assert_close(repaired.std((0, 2, 3)), ends[1].std((0, 2, 3)), rtol=1e-4, atol=1e-5)
    means = [end.mean((0, 2, 3)) for end in ends]
    torch.testing.assert_close(repaired.mean((0, 2, 3)), means[0] + 1.7 * (means[1] - means[0]), rtol=1e-4, atol=1e-4)
