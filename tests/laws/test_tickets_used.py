"""What is pruned and counted is what the model's next forward uses, under whatever names its tensors go."""

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from reticket.errors import MaskError
from reticket.tickets import Mask, iterative_magnitude_pruning, prunable, prune_magnitude, true_density, weights_of


def older_weight_norm(layer: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        weight_norm(layer)


WRAPS: dict[str, Callable[[nn.Module], object]] = {
    "identity": lambda layer: prune.identity(layer, "weight"),
    "unstructured": lambda layer: prune.l1_unstructured(layer, "weight", 0.4),
    "twice": lambda layer: [prune.l1_unstructured(layer, "weight", 0.3) for _ in range(2)],
    "weight_norm": older_weight_norm,
    "spectral_norm": spectral_norm,
    "parametrized weight_norm": parametrizations.weight_norm,
    "parametrized spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
}


def net(wrap: Callable[[nn.Module], object] = lambda layer: None) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    for layer in (model[0], model[2]):
        wrap(layer)
    return model


def forward_weights(model: nn.Sequential) -> dict[str, Tensor]:
    """Return the weights that a forward in eval mode multiplies by, seen from outside, on unit inputs."""
    model.eval()
    with torch.no_grad():
        seen = {f"{i}.weight": model[i](torch.eye(n)) - model[i](torch.zeros(n, n)) for i, n in ((0, 6), (2, 8))}
    return {name: weight.T for name, weight in seen.items()}


def attribute_weights(model: nn.Sequential) -> dict[str, Tensor]:
    """Read the attribute as it stands: wrong."""
    return {f"{i}.weight": model[i].weight.detach() for i in (0, 2)}  # pyright: ignore


@pytest.mark.parametrize("name", WRAPS)
def test_the_weights_are_those_of_the_next_forward(name: str) -> None:
    model = net(WRAPS[name])
    model(torch.ones(2, 6))
    with torch.no_grad():  # what an optimizer or a checkpoint does
        for parameter in model.parameters():
            parameter.mul_(torch.rand_like(parameter) + 0.5)
    before = copy.deepcopy(dict(model.state_dict()))
    seen = weights_of(model, ("0.weight", "2.weight"))
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert all(module.training for module in model.modules())
    torch.testing.assert_close(seen, forward_weights(model), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["identity", "weight_norm", "spectral_norm"])
def test_reading_the_attribute_would_be_one_step_late(name: str) -> None:
    model = net(WRAPS[name])
    model(torch.ones(2, 6))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(torch.rand_like(parameter) + 0.5)
    late = attribute_weights(model)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(late, forward_weights(model), rtol=1e-5, atol=1e-6)


def test_a_weight_that_something_unknown_computed_is_refused() -> None:
    layer = nn.Linear(3, 3)
    raw = layer.weight
    del layer._parameters["weight"]
    layer.weight_raw = nn.Parameter(raw.detach())
    layer.weight = layer.weight_raw * 2  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(MaskError, match="'weight' was computed from other tensors by something that is not known"):
        prune_magnitude(layer, 0.5, names=["weight"])


def test_weights_by_name_say_that_they_hold_the_parts() -> None:
    for wrap, part in ((WRAPS["identity"], "weight_orig"), (WRAPS["orthogonal"], "parametrizations.weight.original")):
        with pytest.raises(MaskError, match=rf"hold '0.{part}', from which '0.weight' is computed; give the model"):
            prune_magnitude(net(wrap).state_dict(), 0.5, names=["0.weight"])


class Foreign(nn.Module):
    """A linear layer of another library, a table and a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.ones(5, 7))
        self.scale = nn.Parameter(torch.ones(1, 1, 7))
        self.bias = nn.Parameter(torch.ones(7))


@pytest.mark.parametrize(
    ("other", "matrices"),
    [
        (nn.MultiheadAttention(8, 2), 4 * 64),
        (nn.MultiheadAttention(8, 2, kdim=4, vdim=6), 2 * 64 + 8 * 4 + 8 * 6),
        (nn.LSTM(4, 3, num_layers=2, bidirectional=True), 2 * (12 * 4 + 12 * 3) + 2 * (12 * 6 + 12 * 3)),
        (nn.GRUCell(4, 3), 9 * 4 + 9 * 3),
        (nn.Bilinear(2, 3, 4), 24),
        (Foreign(), 35),
        (nn.Embedding(9, 4), 0),
        (nn.LayerNorm([3, 4]), 0),
    ],
)
def test_matrices_that_no_mask_names_count_as_kept(other: nn.Module, matrices: int) -> None:
    model = nn.ModuleDict({"other": other, "fc": nn.Linear(10, 10)})
    mask = prune_magnitude(model, 0.1, names=["fc.weight"])
    assert true_density(mask, model) == pytest.approx((10 + matrices) / (100 + matrices))
    pruned = copy.deepcopy(model)
    prune.identity(pruned["fc"], "weight")
    assert true_density(mask, pruned) == pytest.approx((10 + matrices) / (100 + matrices))


def test_a_parametrized_matrix_counts_in_its_own_size() -> None:
    attention = parametrizations.weight_norm(nn.MultiheadAttention(8, 2), "in_proj_weight")
    model = nn.ModuleDict({"attention": attention, "fc": nn.Linear(10, 10)})
    mask = prune_magnitude(model, 0.1, names=["fc.weight"])
    assert true_density(mask, model) == pytest.approx((10 + 256) / (100 + 256))


class Tied(nn.Module):
    """A table whose transpose gives the words again, and a layer between."""

    def __init__(self, *, between: bool = True) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 4)
        self.fc = nn.Linear(4, 4) if between else nn.Identity()
        self.head = nn.Linear(4, 9, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.fc(self.words(ids)))


@pytest.mark.parametrize("name", ["words.weight", "head.weight"])
def test_a_tied_weight_is_masked_under_all_its_names_and_counts_once(name: str) -> None:
    model = Tied()
    mask = prune_magnitude(model, 0.25, names=[name])
    state = mask.apply_to(model.state_dict())
    for each in ("words.weight", "head.weight"):
        assert torch.equal(state[each] != 0, mask[name])
    assert state["words.weight"] is state["head.weight"]
    assert state["fc.weight"].data_ptr() == model.fc.weight.data_ptr()  # pyright: ignore
    model.load_state_dict(state)
    assert torch.equal(model.words.weight != 0, mask[name])
    assert true_density(mask, model) == pytest.approx((9 + 16) / (36 + 16))
    naive = dict(model.state_dict(), **{name: torch.zeros(9, 4)})
    assert not torch.equal(naive["words.weight"], naive["head.weight"])  # what masking one name leaves behind


def test_a_table_that_is_the_output_layer_too_is_pruned_where_it_is_asked_for_and_under_one_name() -> None:
    model = Tied(between=False)
    with pytest.raises(MaskError, match=r"nothing to prune; it has 'words.weight' \(embedding\)"):
        prunable(model)
    assert prunable(model, include="embedding") == prunable(model, include="head") == ("words.weight",)
    for given in (model, model.state_dict()):
        with pytest.raises(MaskError, match=r"'head\.weight' and 'words.weight' are one tensor, which is pruned once"):
            prune_magnitude(given, 0.5, names=["words.weight", "head.weight"])


def test_rounds_of_pruning_keep_a_tied_weight_whole() -> None:
    model = Tied()

    def retrain(weights: object, mask: Mask, step: object) -> dict[str, Tensor]:
        model.load_state_dict(weights)  # pyright: ignore[reportArgumentType]
        assert torch.equal(model.words.weight != 0, mask["head.weight"])
        return dict(model.state_dict())

    found = iterative_magnitude_pruning(model.state_dict(), [0.5, 0.25], retrain, names=["head.weight"])
    assert [start.mask.kept for start in found.values()] == [18, 9]


def test_two_masks_of_one_tensor_are_both_applied() -> None:
    model = Tied()
    rows, columns = torch.ones(9, 4, dtype=torch.bool), torch.ones(9, 4, dtype=torch.bool)
    rows[0], columns[:, 0] = False, False
    state = Mask({"words.weight": rows, "head.weight": columns}).apply_to(model.state_dict())
    assert torch.equal(state["head.weight"] != 0, rows & columns)
