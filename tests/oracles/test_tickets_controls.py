"""What methods start from against formulas worked out on the side: controls without a ticket, polishing, the dial."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.nn import functional as F

from reticket.errors import MaskError
from reticket.matching.agreement import weight_correlations
from reticket.rng import generator_for
from reticket.symmetry import Alignment, discover, random_alignment
from reticket.tickets import METHODS, MethodInputs, SparseStart, Target, Ticket, polish, prune, prune_magnitude

NAMES = ("0.weight", "2.weight", "4.weight")
DENSITY = 0.3


def layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3)).double()


def weights_of(label: str) -> dict[str, Tensor]:
    g = generator_for("controls", label)
    return {n: torch.randn(t.shape, generator=g, dtype=torch.float64) for n, t in layers().state_dict().items()}


def batches() -> list[tuple[Tensor, Tensor]]:
    g = generator_for("controls", "batches")
    return [(torch.randn(8, 5, generator=g, dtype=torch.float64), torch.randint(3, (8,), generator=g)) for _ in "ab"]


@cache
def alignment() -> Alignment:
    return random_alignment(discover(layers().float(), torch.randn(2, 5)), generator_for("controls", "alignment"))


def inputs(**changed: Any) -> MethodInputs:
    trained = weights_of("A trained")
    mask = prune_magnitude(weights_of("A pruned"), DENSITY, names=NAMES)
    pruned = mask.apply_to(weights_of("A pruned"))
    given: dict[str, Any] = {
        "ticket": Ticket.of(pruned, mask),
        "trained_a": trained,
        "pruned_a": pruned,
        "rewound_b": weights_of("B"),
        "trained_b": weights_of("B trained"),
        "target": Target(DENSITY, NAMES),
        "alignment": alignment(),
        "model": layers(),
        "batches": batches(),
        "example_inputs": batches()[0][0][:1],
    }
    return MethodInputs(**given | changed)


def mean_loss(weights: dict[str, Tensor]) -> Tensor:
    return torch.stack([F.cross_entropy(functional_call(layers(), weights, (x,)), y) for x, y in batches()]).mean()


def slopes(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    return dict(zip(leaves, torch.autograd.grad(mean_loss(leaves), list(leaves.values())), strict=True))


def kept_by(scores: dict[str, Tensor]) -> dict[str, list[Any]]:
    flat = torch.cat([scores[name].flatten() for name in NAMES])
    least = flat.sort(descending=True).values[int(DENSITY * len(flat) + 0.5) - 1]
    return {name: (scores[name] >= least).tolist() for name in NAMES}


def sensitivity(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: (weights[name] * slope).abs() for name, slope in slopes(weights).items()}


def flow_kept(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """w H g with the Hessian by the pruned weights, written down whole."""
    rest = {n: w for n, w in weights.items() if n not in NAMES}

    def loss(*some: Tensor) -> Tensor:
        return mean_loss({**rest, **dict(zip(NAMES, some, strict=True))})

    blocks: Any = hessian(loss, tuple(weights[n] for n in NAMES))
    g = slopes(weights)
    return {
        n: weights[n]
        * torch.stack([torch.tensordot(block, g[m], dims=2) for m, block in zip(NAMES, row, strict=True)]).sum(0)
        for n, row in zip(NAMES, blocks, strict=True)
    }


def magnitude(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.abs() for name, weight in weights.items()}


CONTROLS = {"one-shot": ("B trained", magnitude), "snip": ("B", sensitivity), "grasp": ("B", flow_kept)}


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_starts_from_the_weights_that_its_formula_keeps(name: str) -> None:
    label, scores = CONTROLS[name]
    start = METHODS[name](inputs(ticket=None, trained_a=None, pruned_a=None, alignment=None))
    assert {layer: kept.tolist() for layer, kept in start.mask.items()} == kept_by(scores(weights_of(label)))
    for layer, weight in weights_of(label).items():
        kept = start.mask.get(layer)
        torch.testing.assert_close(start.weights[layer], weight if kept is None else weight * kept, rtol=0, atol=0)


@pytest.mark.parametrize("name", CONTROLS)
def test_the_formulas_tell_the_networks_apart(name: str) -> None:
    label, scores = CONTROLS[name]
    other = "B" if label == "B trained" else "B trained"
    assert kept_by(scores(weights_of(label))) != kept_by(scores(weights_of(other)))
    found = [kept_by(scores(weights_of("B"))) for _, scores in CONTROLS.values()]
    assert found[0] != found[1] != found[2] != found[0]


def test_synflow_prunes_b_at_k_in_a_hundred_rounds_without_data() -> None:
    network = layers()
    network.load_state_dict(weights_of("B"))
    options: dict[str, Any] = {"names": NAMES, "example_inputs": torch.ones(1, 5)}
    start = METHODS["synflow"](inputs(batches=None, loss="regression"))
    assert start.mask == prune(network, DENSITY, "synflow", rounds=100, **options)
    assert start.mask != prune(network, DENSITY, "synflow", rounds=1, **options)


def test_controls_prune_where_the_experiment_does() -> None:
    bound = Target(DENSITY, NAMES[1:], scope="layer")
    for name in ("one-shot", "snip", "grasp"):
        mask = METHODS[name](inputs(target=bound)).mask
        assert {layer: int(kept.sum()) for layer, kept in mask.items()} == {"2.weight": 7, "4.weight": 4}
        fan_in = METHODS[name](inputs(target=Target(0.5, NAMES, pattern="fan-in"))).mask
        assert all(len(set(kept.sum(1).tolist())) == 1 for kept in fan_in.values())


def test_a_target_that_is_none_is_refused() -> None:
    with pytest.raises(MaskError, match=r"density 0\.3 "):
        Target(0.3, NAMES, pattern="2:4")
    with pytest.raises(MaskError, match=r"density 1\.5 is not in \(0, 1\]"):
        Target(1.5, NAMES)


# ---------------------------------------------------------------- polished


@pytest.mark.parametrize(("by", "scores"), [("magnitude", magnitude), ("gradient", sensitivity)])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_polished_ranks_a_in_the_order_of_b_and_b_by_its_scores(
    by: str, scores: Callable[[dict[str, Tensor]], dict[str, Tensor]], scope: Any
) -> None:
    given, carry = inputs(), alignment().apply
    assert given.ticket is not None
    moved = carry(given.ticket.mask)
    of_a = carry(weights_of("A pruned")), carry(weights_of("A trained"))
    wanted = polish(moved, *of_a, scores(weights_of("B")), 0.4, scope)
    start = METHODS["polished"](given, {"share": 0.4, "by": by, "scope": scope})
    assert start.mask == wanted != moved
    torch.testing.assert_close(start.weights, wanted.apply_to(weights_of("B")), rtol=0, atol=0)
    not_carried = polish(moved, weights_of("A pruned"), weights_of("A trained"), scores(weights_of("B")), 0.4, scope)
    assert start.mask != not_carried, "this case tells apart in whose order A's weights are"


@pytest.mark.parametrize("by", ["magnitude", "gradient"])
@pytest.mark.parametrize("frame", ["init", "mask"])
def test_polished_by_nothing_is_permuted(by: str, frame: Any) -> None:
    check_equal(
        METHODS["polished"](inputs(frame=frame), {"share": 0.0, "by": by}), METHODS["permuted"](inputs(frame=frame))
    )


# ---------------------------------------------------------------- the dial on signs


def check_equal(one: SparseStart, other: SparseStart) -> None:
    assert one.mask == other.mask
    torch.testing.assert_close(dict(one.weights), dict(other.weights), rtol=0, atol=0)


def some_correlations() -> dict[str, Tensor]:
    g = generator_for("controls", "correlations")
    return {name: torch.rand(weights_of("B")[name].shape, generator=g) for name in NAMES}


@pytest.mark.parametrize("by", ["magnitude", "correlation"])
@pytest.mark.parametrize("frame", ["init", "mask"])
def test_the_ends_of_the_dial_are_permuted_and_signed(by: str, frame: Any) -> None:
    given = inputs(frame=frame, correlations=some_correlations())
    check_equal(METHODS["signed"](given, {"share": 0.0, "by": by}), METHODS["permuted"](given))
    check_equal(METHODS["signed"](given, {"share": 1.0, "by": by}), METHODS["signed"](given))
    check_equal(METHODS["naive-signed"](given, {"share": 0.0}), METHODS["naive"](given))


@pytest.mark.parametrize("name", ["signed", "naive-signed"])
def test_without_options_every_kept_weight_has_the_sign_of_a(name: str) -> None:
    start = METHODS[name](inputs())
    pruned = inputs().pruned_a
    a = alignment().apply(pruned) if name == "signed" else pruned
    assert a is not None
    for layer in NAMES:
        torch.testing.assert_close(start.weights[layer], a[layer].sign() * weights_of("B")[layer].abs(), rtol=0, atol=0)


@pytest.mark.parametrize(("by", "highest"), [("magnitude", False), ("correlation", True)])
def test_half_of_the_signs_go_where_the_dial_says(by: str, highest: bool) -> None:
    given = inputs(correlations=some_correlations())
    permuted, half, whole = (
        METHODS[name](given, options)
        for name, options in (("permuted", {}), ("signed", {"share": 0.5, "by": by}), ("signed", {}))
    )
    order = some_correlations() if highest else {n: -w.abs() for n, w in weights_of("B").items()}
    for layer in NAMES:
        kept = permuted.mask[layer]
        middle = order[layer][kept].sort(descending=True).values[int(int(kept.sum()) * 0.5 + 0.5) - 1]
        wanted = torch.where(order[layer] >= middle, whole.weights[layer], permuted.weights[layer])
        torch.testing.assert_close(half.weights[layer], wanted, rtol=0, atol=0)
    assert any((half.weights[n] != permuted.weights[n]).any() for n in NAMES)
    assert any((half.weights[n] != whole.weights[n]).any() for n in NAMES)


def matched_by_hand(a: nn.Sequential, b: nn.Sequential, x: Tensor, end: int, name: str) -> Tensor:
    """The mean of the correlations of what matched units show, which is before tanh and behind it."""
    index = alignment().permutations[name].index
    n, shown = len(index), []
    with torch.no_grad():
        for layer in (end - 1, end):
            pair = np.corrcoef(a[:layer](x)[:, index].T, b[:layer](x).T)
            shown.append(np.diag(pair[:n, n:]))
    return torch.tensor(np.mean(shown, axis=0)).clamp(0, 1)


def test_correlations_of_weights_are_products_of_those_of_their_units() -> None:
    a, b = layers(), layers()
    a.load_state_dict(weights_of("A trained"))
    b.load_state_dict(weights_of("B trained"))
    found = weight_correlations([a], [b], alignment(), batches(), NAMES)
    x = torch.cat([one for one, _ in batches()])
    first, second = (matched_by_hand(a, b, x, end, f"{end - 2}.weight") for end in (2, 4))
    wanted = {
        "0.weight": first[:, None].expand(6, 5),
        "2.weight": second[:, None] * first[None, :],
        "4.weight": second[None, :].expand(3, 4),
    }
    for name in NAMES:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-6, atol=1e-9)
    other = weight_correlations([a], [b], alignment().inverse(), batches(), NAMES)
    with pytest.raises(AssertionError, match="not close"):
        torch.testing.assert_close(other["2.weight"], wanted["2.weight"], rtol=1e-6, atol=1e-9)


def test_a_mask_of_a_network_is_that_of_the_target() -> None:
    assert Target(DENSITY, NAMES).mask_of(weights_of("B")) == prune_magnitude(weights_of("B"), DENSITY, names=NAMES)
