"""Laws of matching by the loss: what it returns does no worse than its start, and leaves nothing changed."""

import copy
import functools
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import reticket as rt
from reticket.errors import AlignmentError, InputError
from reticket.forward import scored
from reticket.matching.refine import Line, RefinedAlignment
from reticket.matching.soft import corner
from reticket.objectives import objective_of
from reticket.rng import generator_for

Batch = tuple[Tensor, Tensor]
BIAS = "0.bias"


@functools.cache
def digits() -> Batch:
    """Return 1280 images of digits with their classes."""
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images[:1280] / 16, dtype=torch.float32), torch.tensor(labels[:1280])


def net(*, norm: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 10)]
    if norm:
        layers[1:1] = [nn.BatchNorm1d(16), nn.Dropout(0.5)]
    return nn.Sequential(*layers)


@functools.cache
def trained(label: str, *, norm: bool = False) -> nn.Sequential:
    """Return a network trained on the digits."""
    model, (x, y) = net(norm=norm), digits()
    for number, tensor in enumerate(model.parameters()):
        nn.init.normal_(tensor, std=0.2, generator=generator_for(label, number))
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


@functools.cache
def symmetry(*, norm: bool = False) -> rt.Symmetry:
    return rt.discover(net(norm=norm).eval(), digits()[0][:2], verify=False)


def refine(a: nn.Module, b: nn.Module, sym: rt.Symmetry, batches: Any = None, **options: Any) -> RefinedAlignment:
    batches = [digits()] if batches is None else batches
    found = rt.match(a, b, sym, batches, method="refine", **{"steps": 60, **options})
    assert isinstance(found, RefinedAlignment)
    return found


def exchanged(alignment: rt.Alignment, pairs: int) -> rt.Alignment:
    """Return the alignment with so many pairs of units of every group exchanged."""

    def other(permutation: rt.Permutation) -> rt.Permutation:
        index = permutation.index.clone()
        index[: 2 * pairs] = index[: 2 * pairs].reshape(-1, 2).flip(1).flatten()
        return rt.Permutation(index)

    permutations = {name: other(one) for name, one in alignment.permutations.items()}
    return rt.Alignment(alignment.symmetry, permutations)


@pytest.mark.slow
def test_it_does_better_than_its_start_and_says_by_how_much() -> None:
    a, b, sym = trained("a"), trained("b"), symmetry()
    start = rt.match(a, b, sym, [digits()])
    found = refine(a, b, sym, start=start, steps=150)
    held_out = list(zip(*(part.split(128) for part in digits()), strict=True))[4::5]
    for alignment, loss in ((start, found.loss_before), (found, found.loss_after)):
        curve = rt.barrier(net(), alignment.apply(a.state_dict()), b.state_dict(), held_out, (0, 0.5, 1))
        assert curve.loss[1] == pytest.approx(loss, rel=1e-5)
    assert found.loss_after < found.loss_before


def first_of(batch: object) -> object:
    assert isinstance(batch, tuple)
    return batch[0]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["sinkhorn", "straight-through"])
@pytest.mark.parametrize("norm", [False, True])
def test_units_exchanged_in_a_planted_permutation_are_seen_in_the_loss_and_found(norm: bool, how: str) -> None:
    a, sym = trained("a", norm=norm), symmetry(norm=norm)
    pi, b = rt.random_alignment(sym, 1), copy.deepcopy(trained("a", norm=norm))
    rt.load_into(b, pi.apply(a.state_dict()))
    found = refine(a, b, sym, start=exchanged(pi, 2), how=how, steps=150, learning_rate=0.1)
    least = refine(a, b, sym, start=pi, steps=1).loss_after
    assert found.loss_after - least < 0.75 * (found.loss_before - least)


def test_where_there_is_no_barrier_the_start_is_returned() -> None:
    a, sym = trained("a"), symmetry()
    pi, b = rt.random_alignment(sym, 1), copy.deepcopy(trained("a"))
    rt.load_into(b, pi.apply(a.state_dict()))
    found = refine(a, b, sym, steps=10**9)  # none of them is taken
    assert found.permutations == pi.permutations
    assert found.loss_after == found.loss_before


@pytest.mark.slow
def test_a_seed_decides_the_result() -> None:
    a, b, sym = trained("a"), trained("b"), symmetry()
    first, again, other = (refine(a, b, sym, seed=seed, steps=100) for seed in (0, 0, 1))
    assert first.permutations == again.permutations
    assert first.loss_after == again.loss_after
    assert first.permutations != other.permutations


@pytest.mark.slow
def test_models_and_the_random_state_are_left_as_they_were() -> None:
    a, b, sym = copy.deepcopy(trained("a", norm=True)), copy.deepcopy(trained("b", norm=True)), symmetry(norm=True)
    a.train()
    b.eval().get_parameter("0.weight").requires_grad_(False)
    before = [copy.deepcopy(model.state_dict()) for model in (a, b)]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    with torch.no_grad():
        refine(a, b, sym, steps=8)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)
    assert (a.training, b.training, b.get_parameter("0.weight").requires_grad) == (True, False, False)
    for model, kept in zip((a, b), before, strict=True):
        torch.testing.assert_close(model.state_dict(), kept, rtol=0, atol=0)
        assert all(parameter.grad is None for parameter in model.parameters())


def test_dropout_is_off_and_batchnorm_normalises_by_the_batch() -> None:
    a, b, sym = trained("a", norm=True), trained("b", norm=True), symmetry(norm=True)
    x, y = (part[:128] for part in digits())
    start, line = rt.identity_alignment(sym), Line(sym, a, b, objective_of("classification"), first_of)
    mixed = copy.deepcopy(b).train()
    mixed[2].eval()
    rt.load_into(mixed, rt.interpolate(a, b, 0.5))
    with torch.no_grad():
        wanted = float(F.cross_entropy(mixed(x), y))
    assert line.loss(start.permutations, 0.5, [(x, y)]) == pytest.approx(wanted, rel=1e-5)


def assert_gradient(line: Line, batch: Any) -> None:
    """Compare the gradient with respect to one share with a finite difference."""
    start = corner(line.sym, rt.random_alignment(line.sym, 0).permutations)
    shares = {name: one.double().requires_grad_() for name, one in start.items()}
    line.backward(shares, 0.45, batch)
    name = next(iter(shares))

    def loss(step: float) -> float:
        moved = {key: one.detach().clone() for key, one in shares.items()}
        moved[name][2, 3] += step
        line._load(line._between(line.mixed(moved), 0.45))
        return scored(line.work, [batch], line.objective, to_inputs=line.take).loss

    gradient = shares[name].grad
    assert gradient is not None
    assert float(gradient[2, 3]) == pytest.approx((loss(1e-5) - loss(-1e-5)) / 2e-5, rel=1e-4)


def test_the_gradient_is_that_of_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = (copy.deepcopy(trained(label)).double() for label in "ab")
    line = Line(symmetry(), a, b, objective_of("classification"), first_of)
    batch = (digits()[0][:50].double(), digits()[1][:50])
    assert_gradient(line, batch)
    straight = Line._between

    def elsewhere(self: Line, moved: Any, at: float) -> Any:  # the gradient alone is that of another position
        return straight(self, moved, at + 0.1 * moved[BIAS].requires_grad)

    monkeypatch.setattr(Line, "_between", elsewhere)
    with pytest.raises(AssertionError):
        assert_gradient(line, batch)


class Tied(nn.Module):
    """A model of its own loss, two layers of which share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.again = nn.Linear(64, 12), nn.Linear(12, 12), nn.Linear(12, 12)
        self.again.weight, self.last = self.middle.weight, nn.Linear(12, 10)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        hidden = self.first(x).relu()
        for layer in (self.middle, self.again):
            hidden = hidden + layer(hidden).tanh()
        logits = self.last(hidden)
        return logits if labels is None else {"logits": logits, "loss": F.cross_entropy(logits, labels)}


def tied(label: str) -> nn.Module:
    model = Tied()
    for number, tensor in enumerate(model.parameters()):
        nn.init.normal_(tensor, std=0.3, generator=generator_for(label, number))
    return model


def test_mappings_are_judged_by_the_models_own_loss_and_shared_weights_count_once() -> None:
    a, b, (x, y) = tied("a"), tied("b"), digits()
    sym = rt.discover(a, x[:2], verify=False)
    found = refine(a, b, sym, [{"x": x, "labels": y}], steps=8)
    assert found.loss_after <= found.loss_before
    line = Line(sym, a.double(), b.double(), objective_of("own"), lambda batch: batch)
    assert_gradient(line, {"x": x[:50].double(), "labels": y[:50]})


@pytest.mark.slow
def test_a_loss_of_the_users_decides() -> None:
    a, b, sym = trained("a"), trained("b"), symmetry()

    def brier(model: nn.Module, batch: Batch) -> Tensor:
        return (model(batch[0]).softmax(dim=1) - F.one_hot(batch[1], 10)).square().sum(dim=1)

    found = refine(a, b, sym, loss=brier, steps=120)
    assert found.loss_after < found.loss_before < 2  # the most that a Brier score can be


def test_a_loss_without_a_gradient_is_refused() -> None:
    def flat(model: nn.Module, batch: Batch) -> float:
        return float((model(batch[0]).argmax(dim=1) != batch[1]).float().mean())

    with pytest.raises(InputError, match="the loss 'flat' has no gradient, which matcher 'refine' goes by"):
        refine(trained("a"), trained("b"), symmetry(), loss=flat)


def test_wrong_calls_are_one_sentence() -> None:
    a, b, sym, (x, y) = trained("a"), trained("b"), symmetry(), digits()
    with pytest.raises(InputError, match=r"needs batches of \(inputs, labels\), got float32 \(128, 64\)"):
        refine(a, b, sym, [x])
    with pytest.raises(InputError, match="'refine' got 1 batches of at most 128 examples, but needs 2 or more"):
        refine(a, b, sym, [(x[:9], y[:9])])
    with pytest.raises(InputError, match="steps and batch_size must be at least 1 and learning_rate above 0, got 0"):
        refine(a, b, sym, steps=0)
    with pytest.raises(InputError, match=r"'how' of .* is 'sinkhron', did you mean 'sinkhorn'\?"):
        refine(a, b, sym, how="sinkhron")
    with pytest.raises(AlignmentError, match="start is an alignment of another symmetry"):
        refine(a, b, sym, start=rt.identity_alignment(symmetry(norm=True)))


def test_networks_that_have_diverged_are_refused() -> None:
    b, sym = copy.deepcopy(trained("b")), symmetry()
    with torch.no_grad():
        b.get_parameter("2.bias")[0] = float("nan")
    with pytest.raises(AlignmentError, match="the loss between the two networks is nan: give networks that have not"):
        refine(trained("a"), b, sym, start=rt.identity_alignment(sym))
