"""Exact kept counts, whatever the weights."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from reticket.errors import MaskError
from reticket.tickets import (
    Mask,
    erk_counts,
    erk_mask,
    kept_count,
    layer_shuffle,
    prunable,
    prune_magnitude,
    random_mask,
    true_density,
)
from reticket.tickets.counts import share_out
from reticket.tickets.ranking import keep_largest
from tests.counted import operators

densities = st.floats(0.05, 1.0)
sizes = st.lists(st.integers(20, 80), min_size=1, max_size=4)


def weights(shape_sizes: list[int], seed: int, levels: int) -> dict[str, Tensor]:
    """Return random weights that take few values, so that ties are the rule."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"l{i}": torch.randint(-levels, levels + 1, (n,), generator=generator).float()
        for i, n in enumerate(shape_sizes)
    }


@given(sizes, densities, st.integers(0, 5), st.integers(1, 5), st.sampled_from(["global", "layer"]))
def test_kept_count_is_exact_and_nothing_larger_is_pruned(
    shape_sizes: list[int], density: float, seed: int, levels: int, scope: str
) -> None:
    state = weights(shape_sizes, seed, levels)
    mask = prune_magnitude(state, density, names=state, scope=scope)  # pyright: ignore[reportArgumentType]
    assert mask.kept == kept_count(density, sum(shape_sizes))
    groups = [list(state)] if scope == "global" else [[name] for name in state]
    for names in groups:
        kept = torch.cat([state[name][mask[name]] for name in names]).abs()
        pruned = torch.cat([state[name][~mask[name]] for name in names]).abs()
        assert len(pruned) == 0 or len(kept) == 0 or pruned.max() <= kept.min()


@given(sizes, st.floats(0.05, 0.5), st.integers(0, 5))
def test_pruning_within_a_mask_only_removes(shape_sizes: list[int], density: float, seed: int) -> None:
    state = weights(shape_sizes, seed, 2)
    earlier = prune_magnitude(state, 0.6, names=state)
    state = {name: tensor.flip(0) for name, tensor in state.items()}
    later = prune_magnitude(state, density, within=earlier)
    assert later & earlier == later
    assert later.kept == kept_count(density, sum(shape_sizes))


def test_ten_thousand_equal_weights_keep_the_exact_count_and_the_first_ones() -> None:
    state = {"w": torch.full((100, 100), 0.5)}
    mask = prune_magnitude(state, 0.1234, names=["w"])
    assert mask.kept == 1234
    assert mask["w"].flatten()[:1234].all()


def test_a_threshold_alone_fails_on_equal_weights() -> None:
    magnitudes = torch.full((10_000,), 0.5)
    assert int(keep_largest(magnitudes, 1234).sum()) == 1234
    threshold = magnitudes.kthvalue(10_000 - 1234 + 1).values
    assert int((magnitudes >= threshold).sum()) != 1234
    assert int((magnitudes > threshold).sum()) != 1234


def test_pruned_zeros_are_not_confused_with_kept_zeros() -> None:
    earlier = Mask({"w": torch.tensor([False, True, True, False])})
    assert prune_magnitude({"w": torch.zeros(4)}, 0.5, within=earlier) == earlier


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_half_and_double_weights_are_ranked(dtype: torch.dtype) -> None:
    mask = prune_magnitude({"w": torch.tensor([0.1, -3.0, 2.0], dtype=dtype)}, 1 / 3, names=["w"])
    assert mask["w"].tolist() == [False, True, False]


def test_sparsity_and_density_written_either_way_keep_the_same() -> None:
    for n in range(1, 400):
        for percent in (80, 90, 95, 97, 98):
            assert kept_count(1 - percent / 100, n) == kept_count((100 - percent) / 100, n)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.floats(0, 1))
def test_sharing_out_is_exact_and_rounds_each_quota_up_or_down(layer_sizes: list[int], density: float) -> None:
    by_name = {f"l{i}": n for i, n in enumerate(layer_sizes)}
    total = int(density * sum(layer_sizes))
    quotas = {name: total * n / sum(layer_sizes) for name, n in by_name.items()}
    counts = share_out(quotas, total, by_name)
    assert sum(counts.values()) == total
    assert all(abs(counts[name] - quota) < 1 + 1e-9 for name, quota in quotas.items())
    assert all(0 <= counts[name] <= n for name, n in by_name.items())


@given(
    st.lists(st.tuples(st.integers(4, 9), st.integers(4, 9)), min_size=1, max_size=4),
    st.floats(0.2, 1.0),
    st.integers(0, 9),
)
def test_random_and_erk_masks_keep_the_exact_total(shapes: list[tuple[int, int]], density: float, seed: int) -> None:
    like = {f"l{i}": torch.zeros(shape) for i, shape in enumerate(shapes)}
    total = kept_count(density, sum(t.numel() for t in like.values()))
    for draw in (random_mask, erk_mask):
        mask = draw(like, density, torch.Generator().manual_seed(seed))
        assert mask.kept == total
        assert mask == draw(dict(reversed(like.items())), density, torch.Generator().manual_seed(seed))


def test_erk_caps_small_layers_at_dense() -> None:
    counts = erk_counts({"small": (4, 4), "wide": (64, 64), "conv": (32, 32, 3, 3)}, 0.3)
    assert counts["small"] == 16
    assert sum(counts.values()) == kept_count(0.3, 16 + 64 * 64 + 32 * 32 * 9)


def test_erk_densities_are_proportional_to_the_sum_of_sizes_over_their_product() -> None:
    shapes = {"a": (100, 300), "b": (50, 100, 3, 3)}
    counts = erk_counts(shapes, 0.05)
    ratio = counts["a"] / counts["b"]
    assert ratio == pytest.approx((100 + 300) / (50 + 100 + 3 + 3), rel=2e-3)


def test_layer_shuffle_keeps_counts_and_moves_weights() -> None:
    mask = prune_magnitude({"a": torch.arange(100.0), "b": torch.arange(60.0)}, 0.3, names=["a", "b"])
    shuffled = layer_shuffle(mask, torch.Generator().manual_seed(0))
    assert shuffled.per_layer() == mask.per_layer()
    assert shuffled != mask


class Block(nn.Module):
    def __init__(self, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.add_module(shortcut, nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))
        self.fc = nn.Linear(3, 2)


@pytest.mark.parametrize("name", ["shortcut", "downsample"])
def test_projection_shortcuts_are_left_out_by_default_and_counted_in_the_true_density(name: str) -> None:
    model = Block(name)
    assert prunable(model) == ("conv1.weight", "fc.weight")
    assert prunable(model, exclude=()) == ("conv1.weight", f"{name}.0.weight", "fc.weight")
    mask = prune_magnitude(model, 0.5)
    assert (mask.numel, mask.kept) == (87, 44)
    assert true_density(mask, model) == (44 + 9) / (87 + 9)
    assert true_density(mask, model.state_dict(), prunable(model, exclude=())) == (44 + 9) / (87 + 9)


def test_a_stage_entry_called_downsample_is_no_shortcut() -> None:
    stage = nn.ModuleDict({"downsample": nn.Sequential(nn.Conv2d(3, 3, 2)), "blocks": nn.Linear(3, 3)})
    assert prunable(stage) == ("downsample.0.weight", "blocks.weight")


def test_first_last_and_patterns() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 8), nn.Linear(8, 2))
    assert prunable(model, exclude=("first", "last")) == ("2.weight",)
    assert prunable(model, exclude=("2", "3.*")) == ("0.weight",)


def test_weights_shared_with_an_embedding_are_left_out() -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(9, 4), "head": nn.Linear(4, 9, bias=False), "fc": nn.Linear(4, 4)})
    model["head"].weight = model["embedding"].weight
    assert prunable(model) == ("fc.weight",)


def test_pruned_and_parametrized_models_keep_their_plain_names() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    parametrizations.weight_norm(model[1], "weight")
    assert prunable(model) == ("0.weight", "1.weight")
    mask = prune_magnitude(model, 0.25)
    assert (mask & Mask({"0.weight": Mask.from_module(model)["0.weight"], "1.weight": mask["1.weight"]})) == mask


def test_pruning_takes_as_many_operators_however_many_weights_there_are() -> None:
    few, many = ({f"l{i}": torch.randn(n, 100) for i in range(5)} for n in (10, 5000))
    assert prune_magnitude(many, 0.02, names=many).kept == 50_000
    counted = [operators(lambda state=state: prune_magnitude(state, 0.02, names=state)) for state in (few, many)]
    assert counted[0] == counted[1] > 0


def test_errors_do_not_change_the_input() -> None:
    state = {"w": torch.tensor([1.0, float("nan")])}
    with pytest.raises(MaskError):
        prune_magnitude(state, 0.5, names=["w"])
    assert state["w"][0] == 1
