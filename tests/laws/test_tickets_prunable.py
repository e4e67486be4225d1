"""Every weight matrix is pruned, and what is not is said: counted by hand in models with every kind of parameter."""

import copy
import re
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.pruned import CASES, Case, Counted, counted
from reticket.errors import MaskError
from reticket.models import build_model
from reticket.models.registry import example_input
from reticket.rng import generator_for
from reticket.symmetry import discover, random_alignment
from reticket.tickets import (
    Mask,
    coverage,
    iterative_magnitude_pruning,
    prunable,
    prune_magnitude,
    sparse,
    true_density,
)
from tests.zoo.torchvision_operators import named_operators


@pytest.fixture(scope="module", autouse=True)
def torchvision_operators() -> object:
    """Let torchvision be imported, which transformers and its own models need."""
    return named_operators()


def found(case: Case, density: float) -> Counted:
    try:
        return counted(case, density)
    except ModuleNotFoundError as problem:
        pytest.skip(str(problem))


@pytest.mark.slow_cases(but=["LSTM"])
@pytest.mark.parametrize("name", CASES)
def test_what_is_reported_is_what_counting_zeros_gives(name: str) -> None:
    seen = found(CASES[name], 0.1)
    assert seen.pruned == seen.matrices
    assert seen.reported == seen.true == pytest.approx(seen.counted, abs=1e-6)
    assert seen.counted == pytest.approx(0.1, abs=0.5 / seen.matrices)
    assert "matrices left as they are" not in seen.coverage


@pytest.mark.slow
def test_counting_sees_a_matrix_that_is_left_out() -> None:
    build = CASES["nn.TransformerEncoder"].build
    model, inputs = build()
    names = [name for name in prunable(model, inputs) if "in_proj" not in name]
    mask = prune_magnitude(model, 0.1, names=names)
    kept = mask.apply_to(model.state_dict())
    zeros = sum(int((kept[name] == 0).sum()) for name in prunable(model, inputs))
    density = 1 - zeros / sum(kept[name].numel() for name in prunable(model, inputs))
    assert true_density(mask, model) == pytest.approx(density, abs=1e-6)
    assert density > mask.density + 0.3
    said = str(coverage(mask, model))
    assert "prunes 62.5 % of the weights in matrices to density 0.1" in said
    assert "left as they are: 'layers.0.self_attn.in_proj_weight' 18.8 %, 'layers.1.self_attn.in_proj_weight'" in said


@pytest.mark.parametrize("name", ["mlp", "resnet20", "vgg11"])
def test_the_package_s_own_models_are_pruned_as_ever_with_a_trace_and_without(name: str) -> None:
    options: dict[str, Any] = {} if name == "mlp" else {"width": 0.25}
    model = build_model(name, **options)
    layers = [n for n, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    expected = tuple(f"{layer}.weight" for layer in layers if "shortcut" not in layer)
    assert prunable(model) == expected
    assert prunable(model, example_input(name, **options)) == expected


class Mixed(nn.Module):
    """Bare matrices among known layers, what is added, a norm over two axes, a tied table."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.norm = nn.Embedding(7, 4), nn.LayerNorm([5, 4])
        self.shift, self.matrix = nn.Parameter(torch.randn(5, 4)), nn.Parameter(torch.randn(4, 6))
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 4)
        self.third = nn.Linear(6, 6)
        self.third.weight = self.first.weight
        self.head = nn.Linear(4, 7)
        self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.norm(self.words(ids) + self.shift) @ self.matrix
        return self.head(self.second(self.third(self.first(x))))


IDS = torch.zeros(2, 5, dtype=torch.long)


def test_what_is_in_and_what_is_out_and_what_can_be_asked_for() -> None:
    model = Mixed()
    assert prunable(model, IDS) == ("matrix", "first.weight", "second.weight")
    assert prunable(model, IDS, include="embedding")[1] == "words.weight"
    assert prunable(model, IDS, include=("elementwise", "norm"), exclude=("first.*", "second")) == (
        *("shift", "matrix", "norm.weight", "norm.bias"),
    )
    assert prunable(model, IDS, include="head.weight") == prunable(model, IDS, include="embedding")
    assert prunable(model, {"ids": IDS}) == prunable(model, None, {"ids": IDS}) == prunable(model, (IDS,))


def test_without_inputs_what_is_not_known_is_named_with_its_share() -> None:
    model = Mixed()
    share = 100 * (20 + 24) / sum(p.numel() for p in model.parameters() if p.dim() > 1)
    said = rf"Mixed has parameters in modules that are not known, 'shift', 'matrix', {share:.3g} % of its parameters"
    with pytest.warns(UserWarning, match=re.escape(said).replace(r"\.3g", "")):
        assert prunable(model) == ("first.weight", "second.weight")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert prunable(model, exclude="shift", include="matrix") == ("matrix", "first.weight", "second.weight")
    with pytest.raises(
        MaskError, match="ParameterList has parameters in modules that are not known, '0', 100 % of its"
    ):
        prunable(nn.ParameterList([torch.ones(2, 2)]))


def test_what_a_trace_does_not_reach_is_named_too() -> None:
    model = Mixed()
    model.unused = nn.Parameter(torch.randn(3, 3))
    with pytest.warns(
        UserWarning, match="'unused', .* nothing was computed with them on these inputs, or by an operator"
    ):
        assert "unused" not in prunable(model, IDS)


class BareTable(nn.Module):
    """A table in no layer for tables, read by index and multiplied by at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.matrix = nn.Parameter(torch.randn(7, 4)), nn.Parameter(torch.randn(4, 4))

    def forward(self, ids: Tensor) -> Tensor:
        return self.table[ids] @ self.matrix @ self.table.T


def test_a_table_is_known_by_how_it_is_read() -> None:
    assert prunable(BareTable(), IDS) == ("matrix",)
    assert prunable(BareTable(), IDS, include="embedding") == ("table", "matrix")


@pytest.mark.parametrize("name", ["positions", "pos_embed", "relative_position_bias_table", "rel_pos_h"])
def test_what_is_called_after_positions_is_taken_for_them_without_a_trace(name: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    model.register_parameter(name, nn.Parameter(torch.randn(5, 4)))
    assert prunable(model) == ("0.weight",)
    assert true_density(prune_magnitude(model, 0.5), model) == 0.5
    model.register_parameter("transposed", nn.Parameter(torch.randn(5, 4)))
    with pytest.warns(UserWarning, match="'transposed'"):
        prunable(model)


class Scaled(nn.Conv2d):
    """A convolution of another library: standardised weights, a gain, and a matrix that nobody knows."""

    def __init__(self) -> None:
        super().__init__(3, 4, 3)
        self.gain, self.low = nn.Parameter(torch.ones(4, 1, 1, 1)), nn.Parameter(torch.ones(4, 2))


def test_of_a_layer_that_extends_one_of_torch_the_weight_alone_is_known() -> None:
    with pytest.warns(UserWarning, match="'low', 6"):
        assert prunable(Scaled()) == ("weight",)


def test_coverage_counts_what_is_left_by_name() -> None:
    model = Mixed()
    mask = prune_magnitude(model, 0.5, names=("first.weight", "words.weight"))
    seen = coverage(mask, model, IDS)
    assert (seen.kept, seen.masked, seen.matrices) == (32, 64, 64 + 24 + 24)
    assert seen.unpruned == {"matrix": 24, "second.weight": 24}
    assert seen.others == {"shift": ("elementwise", 20), "norm.weight": ("norm", 20), "norm.bias": ("norm", 20)}
    assert seen.true_density == true_density(mask, model, example_inputs=IDS) == (32 + 48) / 112
    untraced = coverage(mask, model)
    assert untraced.unknown == ("shift", "matrix")
    assert untraced.matrices == 112 + 20


def test_the_model_is_left_as_it_was() -> None:
    model = Mixed()
    before = copy.deepcopy(dict(model.state_dict()))
    prunable(model, IDS)
    assert model.training
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["LSTM", "nn.TransformerEncoder"])
def test_masks_of_fused_weights_hold_under_adamw(name: str) -> None:
    torch.manual_seed(0)
    model, inputs = CASES[name].build()
    mask = prune_magnitude(model, 0.1, scope="layer")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    before = {key: model.get_parameter(key).detach().clone() for key in mask}
    with sparse(model, mask, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            model(inputs).square().mean().backward()
            optimizer.step()
    for key, kept in mask.items():
        after = model.get_parameter(key).detach()
        assert int((after[~kept] != 0).sum()) == 0, key
        assert float((after - before[key])[kept].abs().min()) > 0, key
    model.eval()
    with torch.no_grad():
        dense = copy.deepcopy(model)
        dense.load_state_dict(mask.apply_to(model.state_dict()))
        torch.testing.assert_close(model(inputs), dense(inputs), rtol=0, atol=0)


def test_a_mask_of_experts_moves_into_their_weights() -> None:
    weights = {"experts": torch.randn(3, 4, 5)}
    mask = prune_magnitude(weights, 0.25, names="experts")
    assert int((mask.apply_to(weights)["experts"] != 0).sum()) == 15
    assert isinstance(mask, Mask)


@pytest.mark.slow_cases(but=["LSTM"])
@pytest.mark.parametrize("name", ["LSTM", "nn.TransformerEncoder", "Mixtral"])
def test_masks_of_fused_and_stacked_weights_move_with_them(name: str) -> None:
    torch.manual_seed(0)
    try:
        model, inputs = CASES[name].build()
    except ModuleNotFoundError as problem:
        pytest.skip(str(problem))
    mask = prune_magnitude(model, 0.1, names=prunable(model, inputs))
    alignment = random_alignment(discover(Logits(model), inputs, verify=False), generator_for("fused"))
    carried = Mask({f"model.{key}": kept for key, kept in mask.items()})
    weights = dict(Logits(model).state_dict())
    moved = alignment.apply(carried)
    assert moved != carried
    torch.testing.assert_close(alignment.apply(carried.apply_to(weights)), moved.apply_to(alignment.apply(weights)))


class Logits(nn.Module):
    """A model of which the logits alone are looked at."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        found = self.model(*args, **kwargs)
        return getattr(found, "logits", found)


def test_iterative_pruning_of_recurrent_weights() -> None:
    torch.manual_seed(0)
    model, inputs = CASES["LSTM"].build()
    names = prunable(model)

    def retrain(weights: Any, mask: Mask, step: object) -> dict[str, Tensor]:
        model.load_state_dict(weights)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
        with sparse(model, mask, optimizer):
            for _ in range(2):
                optimizer.zero_grad()
                model(inputs).square().mean().backward()
                optimizer.step()
        return {key: weight.clone() for key, weight in model.state_dict().items()}

    found = iterative_magnitude_pruning(model.state_dict(), [0.5, 0.3], retrain, names=names)
    for density, start in found.items():
        zeros = sum(int((start.weights[name] == 0).sum()) for name in names)
        assert zeros == start.mask.numel - start.mask.kept
        assert start.mask.density == pytest.approx(density, abs=1e-4)
        assert {"lstm.weight_ih_l0", "lstm.weight_hh_l1_reverse", "head.weight"} <= set(start.mask)
