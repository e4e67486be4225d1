"""What the numerical proof covers, what it says it does not, and that it can fail."""

import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reticket.errors import VerificationError
from reticket.symmetry import Symmetry, discover, verify
from reticket.symmetry.discover import without
from reticket.symmetry.graph import Inputs, named_state
from reticket.symmetry.reasons import read_reasons
from reticket.symmetry.terms import Atom, Fixed
from reticket.symmetry.trials import smaller
from reticket.symmetry.verify import CHANGES, Proof, guilty_groups
from tests.models_for_symmetry import ConvMeanLinear, PreNormAttention, features, ids, image, mlp, orders, solved


def trials(model: nn.Module, example: Tensor) -> list[tuple[tuple[int, ...], ...]]:
    symmetry = discover(model, example, verify=False)
    return [trial.shapes for trial in Proof(symmetry, model, Inputs.of(example))._trials]


@pytest.mark.slow
def test_other_batches_and_sizes_are_tried_where_the_model_runs() -> None:
    assert trials(ConvMeanLinear(), image()) == [((2, 3, 8, 8),), ((3, 3, 6, 6),), ((1, 3, 17, 17),)]
    assert trials(PreNormAttention(), ids()) == [((2, 4),), ((3, 3),), ((1, 9),)]
    assert trials(mlp(6, 8, 4), features()) == [((2, 6),), ((3, 6),), ((1, 6),)]
    assert [smaller(n) for n in (2, 3, 16, 64, 224)] == [1, 2, 12, 48, 96]


class OneBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu().view(2, 8))


def test_a_model_of_one_size_says_so() -> None:
    symmetry = discover(OneBatch(), features())
    assert symmetry.log10_order == pytest.approx(orders(8))
    assert any("at the sizes of the example inputs only" in note for note in symmetry.notes)


class LongInputs(nn.Module):
    """Works on the order of its units only for inputs of other lengths than the example's."""

    def __init__(self, usual: Callable[[int], bool], limit: int = 99) -> None:
        super().__init__()
        self.first, self.last, self.usual, self.limit = nn.Linear(6, 8), nn.Linear(8, 4), usual, limit

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] > self.limit:
            raise ValueError("too long")
        h = self.first(x).relu()
        return self.last(h if self.usual(x.shape[1]) else h.cumsum(-1))


LONG = {
    "other": lambda: LongInputs(lambda n: n == 4),
    "shorter": lambda: LongInputs(lambda n: n >= 4),
    "longer": lambda: LongInputs(lambda n: n <= 4),
    "much_longer": lambda: LongInputs(lambda n: n < 8),
    "one_more": lambda: LongInputs(lambda n: n <= 4, limit=5),
}


class JoinedWithBatch(nn.Module):
    """Returns its units beside the batch, on one axis."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x).flatten(0, 1)


def test_a_batch_with_which_an_output_that_moves_has_another_size_is_not_tried() -> None:
    symmetry = discover(JoinedWithBatch(), features(), free=["output0:0"])
    assert symmetry.log10_order == pytest.approx(orders(8))
    assert any("at the sizes of the example inputs only" in note for note in symmetry.notes)


@pytest.mark.slow_cases(but=["much_longer"])
@pytest.mark.parametrize("name", LONG)
def test_what_only_other_sizes_show_is_pinned(name: str) -> None:
    example = torch.linspace(-1, 1, 48).reshape(2, 4, 6).sin()
    assert discover(LONG[name](), example, verify=False).log10_order == pytest.approx(orders(8))
    found = discover(LONG[name](), example)
    assert found.log10_order == 0
    assert found.pinned_by_verify == (), "no rule can know it"
    assert [r.kind.name for r in read_reasons(found.reasons["first.weight"][0])] == ["size"]
    assert "discover(..., verify=False)" in found.explain("first.weight")


class SummedRows(nn.Module):
    """Sums as many rows of a table as the second axis is long, and as many of another one as the last axis is."""

    def __init__(self) -> None:
        super().__init__()
        self.steps, self.channels = nn.Parameter(torch.randn(9, 2)), nn.Parameter(torch.randn(11, 2))

    def forward(self, x: Tensor) -> Tensor:
        return x.mean() * self.steps[: x.shape[1]].sum(0) + self.channels[: x.shape[2]].sum(0)


@pytest.mark.slow
def test_every_axis_on_which_the_model_runs_is_tried_at_other_sizes() -> None:
    example = torch.linspace(-1, 1, 40).reshape(2, 4, 5).sin()
    assert trials(SummedRows(), example) == [((2, 4, 5),), ((3, 3, 3),), ((1, 9, 11),)]
    assert discover(SummedRows(), example, verify=False).log10_order == pytest.approx(
        orders(4, 4, 5, 5)
    )  # an order of its own for each column
    assert discover(SummedRows(), example).log10_order == 0


DROPOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "dropout": lambda x: F.dropout(x, 0.5),
    "dropout1d": lambda x: F.dropout1d(x.transpose(1, 2), 0.5).transpose(1, 2),
    "dropout2d": lambda x: F.dropout2d(x.transpose(1, 2)[..., None], 0.5)[..., 0].transpose(1, 2),
    "dropout3d": lambda x: F.dropout3d(x.transpose(1, 2)[..., None, None], 0.5)[..., 0, 0].transpose(1, 2),
    "alpha_dropout": lambda x: F.alpha_dropout(x, 0.5, training=True),
    "feature_alpha_dropout": lambda x: F.feature_alpha_dropout(x.transpose(1, 2), 0.5, training=True).transpose(1, 2),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x, None, 0.5),
    "attention_by_name": lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5),
}


class Noisy(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.function = nn.Linear(6, 8), nn.Linear(8, 4), function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))


def claimed(model: nn.Module, example: Tensor) -> Symmetry:
    """The hidden units of a `Noisy` model, claimed without asking a rule."""
    unit, n = Atom("first.weight", 8), example.dim()
    layouts = {
        "first.weight": (unit, Fixed(6)),
        "first.bias": (unit,),
        "last.weight": (Fixed(4), unit),
        "last.bias": (Fixed(4),),
    }
    reasons = {name: ("",) * len(layout) for name, layout in layouts.items()}
    ends = tuple(map(Fixed, example.shape)), tuple(map(Fixed, (*example.shape[: n - 1], 4)))
    return Symmetry(layouts, reasons, inputs=(ends[0],), outputs=(ends[1],))


@pytest.mark.parametrize("name", DROPOUTS)
def test_dropout_is_the_identity_in_a_proof(name: str) -> None:
    example = torch.linspace(-1, 1, 36).reshape(2, 3, 6).sin()
    model = Noisy(DROPOUTS[name])
    verify(claimed(model, example), model, example)


def test_other_noise_comes_from_equal_seeds() -> None:
    example = torch.linspace(-1, 1, 36).reshape(2, 3, 6).sin()
    shared = Noisy(lambda x: x + torch.rand(3, 1))
    verify(claimed(shared, example), shared, example)
    own = Noisy(lambda x: x + torch.rand(3, 8))
    with pytest.raises(VerificationError, match=r"permuting first\.weight changes"):
        verify(claimed(own, example), own, example)


class Wrong(nn.BatchNorm1d):
    """Forgets the order of its channels while it trains."""

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        y = super().forward(x)
        if self.training:
            assert self.running_mean is not None
            self.running_mean.copy_(self.running_mean.flip(0))
        return y


def test_buffers_after_a_step_are_part_of_the_proof() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    symmetry = discover(model, features(), verify=False)
    verify(symmetry, model, features())
    model[1] = Wrong(8)
    assert guilty_groups(symmetry, model, Inputs.of(features()))[0] == {"0.weight": CHANGES}


@pytest.mark.slow
def test_statistics_that_training_updates_are_seen_and_compared() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    proof = Proof(discover(model, features(), verify=False), model, Inputs.of(features()))
    written = proof._reference(0, True).written
    assert set(written) == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}


def test_what_has_no_effect_is_listed() -> None:
    torch.manual_seed(0)
    (note,) = discover(PreNormAttention(), ids()).notes
    assert note == "cannot be proven, for it has no effect on the output: k.bias"
    assert not discover(mlp(6, 8, 4), features()).notes


@pytest.mark.parametrize("frozen", ["embed.weight", "k.bias", ""])
def test_what_has_no_effect_is_listed_of_models_with_frozen_parameters_too(frozen: str) -> None:
    torch.manual_seed(0)
    model = PreNormAttention()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen))  # all of them where none is named
    before = [parameter.requires_grad for parameter in model.parameters()]
    assert discover(model, ids()).notes == ("cannot be proven, for it has no effect on the output: k.bias",)
    assert [parameter.requires_grad for parameter in model.parameters()] == before
    assert not discover(mlp(6, 8, 4).requires_grad_(False), features()).notes


def test_a_model_without_values_is_not_proven_and_says_so() -> None:
    with torch.device("meta"):
        model, example = mlp(6, 8, 4), torch.zeros(2, 6)
    symmetry = discover(model, example)
    assert symmetry.log10_order == pytest.approx(orders(8))
    assert symmetry.notes == ("not proven: the model is on the meta device and holds no values",)
    with pytest.raises(VerificationError, match="the symmetry of Sequential is not proven: the model is on the meta"):
        verify(symmetry, model, example)


def test_a_model_too_big_for_float64_is_proven_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    model, symmetry = solved("residual-batchnorm")
    module = sys.modules["reticket.symmetry.verify"]
    size = sum(t.numel() for t in model.state_dict().values() if t.is_floating_point())
    monkeypatch.setattr(module, "free_memory", lambda device: 31 * size)
    guilty, notes = guilty_groups(symmetry, model, Inputs.of(image()))
    assert guilty == {}
    assert notes == ("proven in float32 to 0.0001 only: no room for a copy in float64",)
    wrong = replace(symmetry, layouts={**symmetry.layouts, "bn1.running_mean": (Fixed(7),)})
    assert guilty_groups(wrong, model, Inputs.of(image()))[0] == {"conv1.weight": CHANGES}
    monkeypatch.setattr(module, "free_memory", lambda device: 7 * size)
    guilty, (note,) = guilty_groups(symmetry, model, Inputs.of(image()))
    assert guilty == {}
    assert "not proven: a copy of the model takes" in note


def test_rounding_is_not_taken_for_a_mistake() -> None:
    """BatchNorm over two samples that hardly differ magnifies rounding: that is no fault of the symmetry."""
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8, eps=1e-30), nn.Linear(8, 4))
    example = torch.ones(2, 6)
    example[1] += 1e-6
    symmetry = discover(model, example)
    assert symmetry.log10_order == pytest.approx(orders(8))
    assert symmetry.pinned_by_verify == ()


@pytest.mark.parametrize("apart", [1e-8, 1e-11])
def test_rounding_is_judged_by_the_value_that_it_moves(apart: float) -> None:
    """The variance of two numbers that hardly differ is a buffer that rounding moves; no output depends on it."""
    torch.manual_seed(0)
    layers = nn.Linear(6, 8), nn.Linear(8, 7), nn.BatchNorm1d(7, momentum=1.0), nn.Linear(7, 4)
    model = nn.Sequential(*layers).double()
    example = torch.ones(2, 6, dtype=torch.float64)
    example[1, 0] += apart
    symmetry = discover(model, example)
    assert symmetry.log10_order == pytest.approx(orders(8, 7))
    assert symmetry.pinned_by_verify == ()
    assert any("rounding" in note for note in symmetry.notes)
    # a forgotten mean is refused all the same: what rounding hardly moves is held against a claim
    wrong = replace(symmetry, layouts={**symmetry.layouts, "2.running_mean": (Fixed(7),)})
    assert tuple(guilty_groups(wrong, model, Inputs.of(example))[0]) == ("1.weight",)


def test_rounding_judged_by_outputs_alone_would_refuse_what_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = Proof._rounding

    def by_outputs(proof: Proof, trial: int, train: bool, shakes: int = 1) -> dict[int | str, float]:
        found = judged(proof, trial, train, shakes)
        most = max(size for key, size in found.items() if isinstance(key, int))
        return dict.fromkeys(found, most)

    monkeypatch.setattr(Proof, "_rounding", by_outputs)
    with pytest.raises(AssertionError):
        test_rounding_is_judged_by_the_value_that_it_moves(1e-8)


def test_pinning_a_parent_leaves_a_valid_symmetry() -> None:
    model, symmetry = solved("grouped")
    parents = {parent for group in symmetry.groups.values() for parent in group.parents if parent in symmetry.groups}
    assert parents
    for parent in parents:
        rest = without(symmetry, {parent: CHANGES})
        assert parent not in rest.groups
        assert rest.pinned_by_verify == (parent,)
        assert rest.log10_order == pytest.approx(symmetry.log10_order - symmetry.groups[parent].log10_order)
        assert Symmetry.from_json(rest.to_json()) == rest
        verify(rest, model, image())


def test_discovery_says_how_long_it_took() -> None:
    symmetry = discover(mlp(6, 8, 4), features())
    assert set(symmetry.seconds) == {"tracing", "solving", "proving"}
    assert all(seconds > 0 for seconds in symmetry.seconds.values())
    assert Symmetry.from_json(symmetry.to_json()) == symmetry
    assert not Symmetry.from_json(symmetry.to_json()).seconds


class Doubled(nn.Module):
    """One matrix under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8, bias=False), nn.Linear(6, 8, bias=False)
        self.last.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.first.weight).relu(), self.last.weight.t())


def test_two_names_of_one_tensor_are_both_tried() -> None:
    model, unit = Doubled(), Atom("first.weight", 8)
    right = discover(model, features(), verify=False)
    assert right.log10_order == pytest.approx(orders(8))
    verify(right, model, features())
    wrong = replace(right, layouts={"first.weight": (unit, Fixed(6)), "last.weight": (Fixed(8), Atom("columns", 6))})
    with pytest.raises(VerificationError, match="changes the function of Doubled"):
        verify(wrong, model, features())


class Twice(nn.Module):
    """One module under two names, or two of its own with the same shapes."""

    def __init__(self, make: Callable[[], nn.Module], *, tied: bool) -> None:
        super().__init__()
        self.first, self.one, self.last = nn.Linear(6, 8), make(), nn.Linear(8, 4)
        self.two = self.one if tied else make()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.two(self.one(self.first(x)).relu()).relu())


class TiedBias(nn.Module):
    """One vector under two names, as the bias of a language model's head."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.first, self.one, self.two, self.last = nn.Linear(6, 8), nn.Linear(8, 5), nn.Linear(8, 5), nn.Linear(5, 4)
        if tied:
            self.two.bias = self.one.bias

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).relu()
        return self.last((self.one(h) * self.two(h)).relu())


TWICE: dict[str, tuple[Callable[[bool], nn.Module], float]] = {
    "bias": (lambda tied: TiedBias(tied=tied), orders(8, 5)),
    "layer_norm": (lambda tied: Twice(lambda: nn.LayerNorm(8), tied=tied), orders(8)),
    "batch_norm": (lambda tied: Twice(lambda: nn.BatchNorm1d(8), tied=tied), orders(8)),
    "prelu": (lambda tied: Twice(lambda: nn.PReLU(8), tied=tied), orders(8)),
    "constant_matrix": (lambda tied: Twice(ones, tied=tied), orders(8)),
}


def ones() -> nn.Module:
    linear = nn.Linear(8, 8)
    nn.init.constant_(linear.weight, 0.25)
    return linear


@pytest.mark.slow_cases(but=["layer_norm"])
@pytest.mark.parametrize("name", TWICE)
def test_a_tensor_of_two_names_has_the_freedom_of_two_tensors(name: str) -> None:
    torch.manual_seed(0)
    build, order = TWICE[name]
    tied = build(True)
    symmetry = discover(tied, features())
    assert symmetry.pinned_by_verify == ()
    assert symmetry.log10_order == pytest.approx(order)
    verify(discover(tied, features(), verify=False), tied, features())
    assert discover(build(False), features(), verify=False).log10_order >= symmetry.log10_order - 1e-9


def test_noise_for_each_name_of_a_tensor_would_refuse_what_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_name(model: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        found = {}
        for name, tensor in named_state(model).items():
            if tensor.dim() == 1:
                with torch.no_grad():
                    tensor.add_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
                found[name] = tensor.detach().clone()
        return found

    torch.manual_seed(0)
    model = TWICE["bias"][0](True)
    symmetry = discover(model, features(), verify=False)
    monkeypatch.setattr(sys.modules["reticket.symmetry.verify"], "randomise", by_name)
    with pytest.raises(VerificationError, match="changes the function of TiedBias"):
        verify(symmetry, model, features())


@pytest.mark.slow
def test_what_a_run_disturbs_is_put_back() -> None:
    """The copy is permuted and disturbed many times; what it holds for the identity stays the same to the bit."""
    model, symmetry = solved("residual-batchnorm")
    proof = Proof(symmetry, model, Inputs.of(image()))
    names = tuple(symmetry.groups)
    first = proof._run(proof._trials[0], False, proof._identity)
    assert proof.guilty(names, 4) == []
    assert proof.without_effect() == ()
    assert max(proof._rounding(0, False).values()) < 1e-9
    again = proof._run(proof._trials[0], False, proof._identity)
    torch.testing.assert_close(again.outputs, first.outputs, rtol=0, atol=0)
