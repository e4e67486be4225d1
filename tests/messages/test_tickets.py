"""Errors of tickets: one sentence of what, where and what to do."""

import inspect
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune

from reticket.errors import MaskError
from reticket.tickets import (
    Mask,
    Pruning,
    Ticket,
    chain,
    erk_mask,
    iterative_magnitude_pruning,
    prunable,
    prune_magnitude,
    prune_round,
    random_mask,
    sign_in,
    sparse,
    true_density,
)
from reticket.tickets import prune as prune_weights

MASK = Mask({"fc.weight": torch.tensor([[True, False], [False, True]])})


def test_masks_must_be_bool_and_not_empty() -> None:
    with pytest.raises(MaskError, match=r"the mask of 'w' is torch.float32, expected torch.bool; use `tensor != 0`"):
        Mask({"w": torch.ones(2)})
    with pytest.raises(MaskError, match="at least one tensor"):
        Mask({})


def test_a_mask_of_another_model() -> None:
    with pytest.raises(
        MaskError, match=r"belongs to another model: it masks 'fc.weight', which is not among the 1 tensors"
    ):
        MASK.apply_to({"conv.weight": torch.ones(1)})
    with pytest.raises(MaskError, match=r"shape \(2, 2\), but the weight has shape \(3, 2\)"):
        MASK.apply_to({"fc.weight": torch.ones(3, 2)})
    with pytest.raises(MaskError, match=r"only one of them masks 'fc.weight'"):
        _ = MASK & Mask({"other": torch.tensor([True])})
    with pytest.raises(MaskError, match="belongs to another model"):
        _ = MASK & Mask({"fc.weight": torch.tensor([True])})
    model = nn.Linear(2, 2)
    with (
        pytest.raises(MaskError, match="belongs to another model"),
        sparse(model, MASK, torch.optim.SGD(model.parameters())),
    ):
        pass
    with pytest.raises(MaskError, match="belongs to another model"):
        true_density(MASK, model)


def test_an_optimizer_of_another_model() -> None:
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    mask = Mask({"weight": MASK["fc.weight"]})
    with pytest.raises(MaskError, match="holds none of the masked weights"):  # noqa: SIM117
        with sparse(model, mask, torch.optim.SGD(other.parameters())):
            pass


@pytest.mark.parametrize("load", [Mask.load, Ticket.load])
def test_files_that_are_no_masks(tmp_path: Path, load: object) -> None:
    assert callable(load)
    path = tmp_path / "x"
    cases: list[tuple[bytes, str]] = [
        (pickle.dumps({"a": 1}), "is a pickle, which is never loaded"),
        (pickle.dumps({"a": 1}, protocol=5), "is a pickle, which is never loaded"),
        (b"PK\x03\x04rest", "is a pickle, which is never loaded"),
        (b"", "truncated or not a safetensors file"),
        (b"just some text in a file", "truncated or not a safetensors file"),
        (b"\xff" * 64, "truncated or not a safetensors file"),
    ]
    for content, message in cases:
        path.write_bytes(content)
        with pytest.raises(MaskError, match=message):
            load(path)
    torch.save({"w": torch.ones(2)}, path)
    with pytest.raises(MaskError, match="is a pickle, which is never loaded"):
        load(path)
    save_file({"w": torch.ones(2)}, path)
    with pytest.raises(MaskError, match="neither a mask nor a ticket of reticket"):
        load(path)
    with pytest.raises(MaskError, match=r"cannot be read \(No such file"):
        load(tmp_path / "missing")
    with pytest.raises(MaskError, match=r"cannot be read \(it is a folder"):
        load(tmp_path)


def test_truncated_masks(tmp_path: Path) -> None:
    MASK.save(tmp_path / "m")
    whole = (tmp_path / "m").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "m").write_bytes(whole[:length])
        with pytest.raises(MaskError, match="truncated or not a safetensors file"):
            Mask.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("tensors", "header", "message"),
    [
        ({}, "[1]", "not a JSON table"),
        ({}, "{", "not a JSON table"),
        ({}, '{"kind": "mask", "version": 9}', "format version 9, this reticket reads version 1"),
        ({}, '{"kind": "alignment", "version": 1}', "holds a alignment, expected a mask"),
        ({}, '{"kind": "mask", "version": 1}', "names no weights"),
        ({}, '{"kind": "mask", "version": 1, "shapes": {"w": "x"}}', "gives 'w' the shape 'x'"),
        ({}, '{"kind": "mask", "version": 1, "shapes": {"w": [true]}}', r"gives 'w' the shape \[True\]"),
        (
            {},
            '{"kind": "mask", "version": 1, "shapes": {"w": [4294967296, 4294967296]}}',
            r"the shape \[4294967296, 42",
        ),
        ({}, '{"kind": "mask", "version": 1, "shapes": {"w": ' + str([1] * 65) + "}}", r"the shape \[1, 1, .*\.\.\.;"),
        ({}, '{"kind": "mask", "version": true, "shapes": {"w": [3]}}', "has format version True"),
        pytest.param({}, "[" * 100_000 + "]" * 100_000, "a header that is not a JSON table", id="deep"),
        pytest.param({}, '{"version": ' + "9" * 5000 + "}", "a header that is not a JSON table", id="many digits"),
        ({}, '{"kind": "mask", "version": 1, "shapes": {"w": [3]}}', "names 'w' but holds no such tensor"),
        ({"mask:w": [1, 2]}, '{"kind": "mask", "version": 1, "shapes": {"w": [3]}}', "expected 1 bytes for a tensor"),
        ({"mask:w": [255]}, '{"kind": "mask", "version": 1, "shapes": {"w": [3]}}', "bits set past its 3 weights"),
    ],
)
def test_damaged_masks(tmp_path: Path, tensors: dict[str, list[int]], header: str, message: str) -> None:
    stored = {name: torch.tensor(value, dtype=torch.uint8) for name, value in tensors.items()}
    save_file(stored or {"x": torch.zeros(1)}, tmp_path / "m", metadata={"reticket": header})
    with pytest.raises(MaskError, match=message):
        Mask.load(tmp_path / "m")


def test_a_ticket_is_not_read_as_a_mask(tmp_path: Path) -> None:
    Ticket(MASK).save(tmp_path / "t")
    with pytest.raises(MaskError, match=r"holds a ticket, expected a mask; load it with Ticket.load"):
        Mask.load(tmp_path / "t")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match=r"the mask '.*' cannot be written .*choose a folder that exists"):
        MASK.save(tmp_path / "missing" / "m")


def test_modules_without_masks() -> None:
    with pytest.raises(MaskError, match="Linear holds no pruning mask; expected buffers 'weight_mask'"):
        Mask.from_module(nn.Linear(2, 2))
    model = nn.Linear(2, 2)
    prune.custom_from_mask(model, "weight", torch.full((2, 2), 0.5))
    with pytest.raises(MaskError, match="values other than 0 and 1"):
        Mask.from_module(model)


def test_densities() -> None:
    state = {"w": torch.ones(8), "small": torch.ones(4)}
    with pytest.raises(MaskError, match=r"density -0.19\d* is not in \(0, 1\]"):
        prune_magnitude(state, 1 - 1.2, names=state)
    with pytest.raises(
        MaskError, match=r"density 0.1 keeps 0 of 4 weights in 'small'; use density >= 0.25 or exclude it"
    ):
        prune_magnitude(state, 0.1, names=state, scope="layer")
    with pytest.raises(MaskError, match=r"density 0.01 keeps 0 of 12 weights in 'all layers'"):
        prune_magnitude(state, 0.01, names=state)
    with pytest.raises(MaskError, match="keeps 0 of 4 weights in 'small'"):
        random_mask(state, 0.1, torch.Generator())
    with pytest.raises(MaskError, match="keeps 0 of 3 weights in 'tiny'"):
        erk_mask({"tiny": torch.ones(3, 1), "w": torch.ones(40, 40)}, 0.002, torch.Generator())


def test_within() -> None:
    state = {"w": torch.ones(8)}
    earlier = prune_magnitude(state, 0.25, names=["w"])
    with pytest.raises(MaskError, match="keeps 4 weights, but `within` only has 2; prune further"):
        prune_magnitude(state, 0.5, within=earlier)
    with pytest.raises(MaskError, match="`within` masks other weights"):
        prune_magnitude({**state, "v": torch.ones(2)}, 0.5, names=["w", "v"], within=earlier)
    two = {"a": torch.tensor([9.0, 9, 9, 9]), "b": torch.tensor([1.0, 1, 1, 1])}
    with pytest.raises(MaskError, match="keeps 1 weights in 'b', but `within` only has 0"):
        prune_magnitude(two, 0.25, within=prune_magnitude(two, 0.5, names=two), scope="layer")


def test_nan_and_unknown_names() -> None:
    with pytest.raises(MaskError, match="'w' holds 1 NaN or infinite weights"):
        prune_magnitude({"w": torch.tensor([1.0, float("nan")])}, 0.5, names=["w"])
    with pytest.raises(MaskError, match=r"give names=prunable\(model\)"):
        prune_magnitude({"w": torch.ones(2)}, 0.5)
    with pytest.raises(MaskError, match="there is no weight 'v' among the 1 given"):
        prune_magnitude({"w": torch.ones(2)}, 0.5, names=["v"])
    with pytest.raises(MaskError, match=r"Linear has no weight 'fc.weight'"):
        prune_magnitude(nn.Linear(2, 2), 0.5, names=["fc.weight"])


def test_exclude() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(MaskError, match=r"exclude 'lsat' matches no weight of Sequential; did you mean 'last'"):
        prunable(model, exclude=("lsat",))
    with pytest.raises(MaskError, match="leaves nothing to prune"):
        prunable(model, exclude=("*",))
    with pytest.raises(MaskError, match=r"ReLU has no weight matrix, so there is nothing to prune$"):
        prunable(nn.ReLU())
    with pytest.raises(MaskError, match=r"nothing to prune; it has 'weight' \(embedding\): ask for them with include="):
        prunable(nn.Embedding(4, 3))
    with pytest.raises(
        MaskError, match=r"include 'embeding' matches no weight of Sequential; did you mean 'embedding'"
    ):
        prunable(model, include="embeding")
    with pytest.raises(MaskError, match=r"example_inputs is 'last', expected what the model takes; give exclude= by"):
        prunable(model, "last")


def test_iterative_pruning() -> None:
    with pytest.raises(MaskError, match=r"target density 1.5 is not in \(0, 1\)"):
        chain([1.5, 0.5])
    with pytest.raises(MaskError, match="at least one target"):
        chain([])
    with pytest.raises(MaskError, match=r"pruning rate 20.0 is not in"):
        chain([0.5], rate=20.0)
    with pytest.raises(MaskError, match=r"of 5e-324 takes inf rounds to a density of 0\.5, but at most 10,000 are"):
        chain([0.5], rate=5e-324)
    assert len(chain([0.5], rate=1e-4).densities) == 6932  # ln 2 / 1e-4 rounds less the last, and the dense network
    with pytest.raises(MaskError, match="needs the weights of the rewind point"):
        prune_round({"w": torch.ones(4)}, 0.5, names=["w"], style="weight-rewind")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "style",
            "rewind",
            "unknown style of iterative magnitude pruning 'rewind'; choose from finetune, weight-rewind",
        ),
        ("scope", "layers", r"unknown scope 'layers', did you mean 'layer'\?"),
        ("rate", 0.0, r"pruning rate 0.0 is not in \(0, 1\); give the fraction"),
        ("rate", 1.0, r"pruning rate 1.0 is not in \(0, 1\)"),
    ],
)
def test_a_pruning_that_cannot_be_is_refused_when_it_is_made(field: str, value: object, message: str) -> None:
    as_users_call_it = inspect.unwrap(Pruning.__init__)  # without the check of types that tests add
    with pytest.raises(MaskError, match=message):
        as_users_call_it(object.__new__(Pruning), **{field: value})


def test_tickets() -> None:
    with pytest.raises(MaskError, match="the ticket has no signs"):
        Ticket(MASK).write_signs({"fc.weight": torch.ones(2, 2)})
    with pytest.raises(MaskError, match="JSON can hold"):
        Ticket(MASK, None, {"x": torch.ones(1)})


@pytest.mark.parametrize("scope", ["LAYER", "layers", "", "Global", None, 0])
def test_a_scope_that_is_none_is_refused(scope: object) -> None:
    state = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0])}
    as_users_call_it = inspect.unwrap(prune_weights)  # without the check of types that tests add
    with pytest.raises(MaskError, match=r"unknown scope .*; choose from global, layer"):
        as_users_call_it(state, 0.5, names=state, scope=scope)
    with pytest.raises(MaskError, match=r"unknown scope 'LAYER', did you mean 'layer'\?"):
        as_users_call_it(state, 0.5, names=state, scope="LAYER")
    assert prune_magnitude(state, 0.5, names=state) != prune_magnitude(state, 0.5, names=state, scope="layer")


def test_a_text_is_one_name() -> None:
    model = nn.ModuleDict({"c1": nn.Linear(2, 2), "c2": nn.Linear(2, 2)})
    for given in (model, model.state_dict()):
        assert list(prune_magnitude(given, 0.5, names="c1.weight")) == ["c1.weight"]
        assert true_density(prune_magnitude(given, 0.5, names="c1.weight"), given, "c1.weight") == 0.5
    assert list(prune_round(model.state_dict(), 0.5, names="c2.weight").mask) == ["c2.weight"]
    assert prunable(model, exclude="c1") == ("c2.weight",)
    found = iterative_magnitude_pruning(model.state_dict(), [0.5], lambda w, m, r: w, names="c1.weight")
    assert [list(start.mask) for start in found.values()] == [["c1.weight"]]
    with pytest.raises(MaskError, match=r"has no weight 'c3\.weight'; the names belong to another model"):
        prune_magnitude(model, 0.5, names="c3.weight")


def test_weights_that_cannot_be_products() -> None:
    kept = torch.ones(3, 3, dtype=torch.bool)
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    pruned = nn.Sequential(prune.identity(nn.Linear(3, 3), "weight"))
    normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    for model, why in (
        (tied, "0.weight and 1.weight at once"),
        (pruned, "computed from other tensors"),
        (normed, "0.weight"),
    ):
        with pytest.raises(MaskError, match=why), sign_in(model, Mask({"0.weight": kept})):
            pass
    with (
        pytest.raises(MaskError, match=r"beta is 0\.0, but an imbalance above 0"),
        sign_in(nn.Linear(3, 3), Mask({"weight": kept}), beta=0.0),
    ):
        pass


def test_an_optimizer_on_the_other_side_of_a_sign_in_block_is_refused_and_moves_nothing() -> None:
    net, mask = nn.Linear(4, 1), Mask({"weight": torch.tensor([[True, False, True, False]])})
    biases = torch.optim.SGD([net.bias], lr=0.1)
    made_before = torch.optim.AdamW(net.parameters(), lr=0.1)
    begun = mask.apply_to({"weight": net.weight.detach().clone()})["weight"]

    def step(optimizer: torch.optim.Optimizer) -> None:
        net(torch.ones(2, 4)).square().mean().backward()
        optimizer.step()

    bias = net.bias.detach().clone()
    with pytest.raises(MaskError, match=r"made outside `sign_in`.*make it inside the block"), sign_in(net, mask):
        step(made_before)
    assert torch.equal(net.bias, bias)
    torch.testing.assert_close(net.weight.detach(), begun)  # folded back, the error notwithstanding
    with sign_in(net, mask):
        inside = torch.optim.AdamW(net.parameters(), lr=0.1)
        step(biases)  # which holds no masked weight at all
        step(inside)
    assert not torch.equal(net.weight, begun)
    bias = net.bias.detach().clone()
    with pytest.raises(MaskError, match=r"made inside `sign_in`.*make one after the block"):
        step(inside)
    assert torch.equal(net.bias, bias)
    with pytest.raises(MaskError, match=r"made inside `sign_in`"), sign_in(net, mask):
        step(inside)
    inside.add_param_group({"params": [net.weight]})
    weight = net.weight.detach().clone()
    step(inside)
    step(made_before)
    assert not torch.equal(net.weight, weight)
