"""Masks and tickets are values; what is applied, moved, saved and loaded is the same mask."""

import copy
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from reticket.errors import MaskError
from reticket.tickets import Mask, Ticket, prune_magnitude, signs_of
from reticket.types import Permutable


def a_mask(seed: int = 0, shapes: tuple[tuple[int, ...], ...] = ((3, 5), (2, 3, 1, 3), (7,))) -> Mask:
    generator = torch.Generator().manual_seed(seed)
    return Mask({f"l{i}.weight": torch.rand(shape, generator=generator) < 0.4 for i, shape in enumerate(shapes)})


def some_weights(mask: Mask, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(tensor.shape, generator=generator) for name, tensor in mask.items()}


def permute_rows(x: Permutable, index: Tensor) -> Permutable:
    return x.with_tensors({name: tensor[index[index < len(tensor)]] for name, tensor in x.tensors().items()})


def test_counts() -> None:
    mask = Mask({"a": torch.tensor([True, False]), "b": torch.tensor([[True, True]])})
    assert (mask.kept, mask.numel, mask.density, mask.sparsity) == (3, 4, 0.75, 0.25)
    assert mask.per_layer() == {"a": 0.5, "b": 1.0}
    assert Mask.full(mask).density == 1


def test_a_mask_does_not_follow_the_tensor_it_was_made_from() -> None:
    source = torch.tensor([True, False])
    mask = Mask({"a": source})
    source[:] = False
    assert mask.kept == 1


def test_masks_are_compared_by_value_and_cannot_be_reassigned() -> None:
    mask = a_mask()
    again = Mask({name: mask[name] for name in reversed(list(mask))})
    assert mask == again
    assert hash(mask) == hash(again)
    assert mask != a_mask(seed=3)
    assert mask != "a mask"
    assert pickle.loads(pickle.dumps(mask)) == mask == copy.deepcopy(mask)
    with pytest.raises(AttributeError, match="a Mask is a value"):
        mask.anything = 1  # pyright: ignore[reportAttributeAccessIssue]


def test_apply_fills_and_leaves_the_input_alone() -> None:
    mask = a_mask()
    weights = OrderedDict(some_weights(mask))
    weights["l0.bias"] = torch.ones(3)
    weights["l0.weight"][~mask["l0.weight"]] = float("nan")
    before = {name: tensor.clone() for name, tensor in weights.items()}
    masked = mask.apply_to(weights)
    assert type(masked) is OrderedDict
    assert list(masked) == list(weights)
    for name, kept in mask.items():
        assert (masked[name][~kept] == 0).all()
        torch.testing.assert_close(masked[name][kept], weights[name][kept], rtol=0, atol=0)
        torch.testing.assert_close(weights[name], before[name], rtol=0, atol=0, equal_nan=True)


def test_a_product_in_place_of_the_fill_would_keep_nan() -> None:
    mask, weights = Mask({"w": torch.tensor([False])}), {"w": torch.tensor([float("inf")])}
    assert mask.apply_to(weights)["w"].item() == 0
    assert torch.isnan(weights["w"] * mask["w"]).all()


def test_apply_keeps_the_metadata_of_a_state_dict() -> None:
    model = nn.Linear(2, 2)
    masked = Mask.full({"weight": model.weight}).apply_to(model.state_dict())
    assert masked._metadata == model.state_dict()._metadata  # pyright: ignore[reportAttributeAccessIssue]
    model.load_state_dict(masked)


def test_and_is_the_intersection() -> None:
    a, b = a_mask(0), a_mask(1)
    assert (a & b).kept == sum(int((a[name] & b[name]).sum()) for name in a)
    assert a & a == a
    assert a & Mask.full(a) == a


@given(st.integers(0, 20), st.permutations(range(7)))
def test_moving_a_mask_and_masking_commute(seed: int, order: list[int]) -> None:
    mask = a_mask(seed)
    weights, index = some_weights(mask, seed), torch.tensor(order)
    moved = permute_rows(mask, index)
    assert isinstance(moved, Mask)
    assert moved.kept == mask.kept
    moved_weights = {name: tensor[index[index < len(tensor)]] for name, tensor in weights.items()}
    masked = mask.apply_to(weights)
    for name, tensor in moved.apply_to(moved_weights).items():
        torch.testing.assert_close(tensor, masked[name][index[index < len(masked[name])]], rtol=0, atol=0)


@given(st.integers(0, 20), st.permutations(range(7)), st.booleans())
def test_moving_a_ticket_moves_mask_and_signs_together(seed: int, order: list[int], signed: bool) -> None:
    mask, index = a_mask(seed), torch.tensor(order)
    weights = some_weights(mask, seed)
    ticket = Ticket.of(weights, mask, {"seed": seed}) if signed else Ticket(mask, None, {"seed": seed})
    moved = permute_rows(ticket, index)
    assert isinstance(moved, Ticket)
    assert moved.mask == permute_rows(mask, index)
    assert moved.provenance == {"seed": seed}
    if signed:
        moved_weights = {name: tensor[index[index < len(tensor)]] for name, tensor in weights.items()}
        assert moved == Ticket.of(moved_weights, moved.mask, {"seed": seed})


@given(
    st.lists(st.lists(st.integers(1, 6), min_size=0, max_size=4).map(tuple), min_size=1, max_size=4), st.integers(0, 9)
)
def test_files_hold_the_same_mask_and_ticket(shapes: list[tuple[int, ...]], seed: int) -> None:
    import tempfile

    mask = a_mask(seed, tuple(shapes))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.safetensors"
        mask.save(path)
        assert Mask.load(path) == mask
        assert list(Mask.load(path)) == list(mask)
        assert Ticket.load(path) == Ticket(mask)
        for ticket in (Ticket(mask, None, {"a": [1, None]}), Ticket.of(some_weights(mask), mask)):
            ticket.save(path)
            assert Ticket.load(path) == ticket
        assert [file.name for file in Path(folder).iterdir()] == ["m.safetensors"]


def test_files_take_one_bit_a_weight_and_equal_masks_equal_bytes(tmp_path: Path) -> None:
    mask = prune_magnitude({"w": torch.randn(1000, 800)}, 0.1, names=["w"])
    mask.save(tmp_path / "a")
    Ticket.of({"w": torch.randn(1000, 800)}, mask).save(tmp_path / "b")
    Mask.load(tmp_path / "a").save(tmp_path / "c")
    assert (tmp_path / "a").stat().st_size < 100_000 + 500
    assert (tmp_path / "b").stat().st_size < 100_000 + 10_000 + 600
    assert (tmp_path / "a").read_bytes() == (tmp_path / "c").read_bytes()


def test_signs_are_written_on_kept_weights_and_magnitudes_stay() -> None:
    mask = a_mask()
    trained, fresh = some_weights(mask, 1), some_weights(mask, 2)
    written = Ticket.of(trained, mask).write_signs({**fresh, "bias": torch.ones(1)})
    for name, kept in mask.items():
        torch.testing.assert_close(written[name].abs(), fresh[name].abs(), rtol=0, atol=0)
        torch.testing.assert_close(written[name][kept].sign(), trained[name][kept].sign(), rtol=0, atol=0)
        torch.testing.assert_close(written[name][~kept], fresh[name][~kept], rtol=0, atol=0)
    assert written["bias"] == 1


def test_a_kept_weight_of_zero_counts_as_positive() -> None:
    signs = signs_of({"w": torch.tensor([0.0, -0.0, -2.0, 3.0])}, Mask({"w": torch.tensor([True, True, True, False])}))
    assert signs["w"].tolist() == [1, 1, -1, 0]


def test_masks_of_torch_prune_are_read() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    prune.l1_unstructured(model[0], "weight", amount=7)
    prune.ln_structured(model[2], "weight", amount=1, n=2, dim=0)
    prune.random_unstructured(model[2], "bias", amount=1)
    mask = Mask.from_module(model)
    assert mask.kept == (30 - 7) + 15 + 3
    assert set(mask) == {"0.weight", "2.weight", "2.bias"}
    torch.testing.assert_close(mask["0.weight"], model[0].weight != 0)


class Masked(nn.Module):
    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = nn.Buffer(mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def test_masks_of_parametrizations_are_read_and_combined() -> None:
    model = nn.Linear(2, 2)
    parametrize.register_parametrization(model, "weight", Masked(torch.tensor([[True, False], [True, True]])))
    parametrize.register_parametrization(model, "weight", Masked(torch.tensor([[1.0, 1.0], [0.0, 1.0]])))
    assert Mask.from_module(model)["weight"].tolist() == [[True, False], [False, True]]


def test_a_ticket_refuses_signs_that_disagree_with_its_mask() -> None:
    mask = Mask({"w": torch.tensor([True, False])})
    for wrong in ([1, 1], [0, 0], [2, 0]):
        with pytest.raises(MaskError, match="exactly where the mask keeps"):
            Ticket(mask, {"w": torch.tensor(wrong, dtype=torch.int8)})
