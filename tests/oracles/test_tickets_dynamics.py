"""Dynamics against plain computations: loops over single weights in numpy, and by hand."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from reticket.errors import MaskError
from reticket.tickets.dynamics import DYNAMICS, MaskMoment
from reticket.tickets.dynamics.fan_in import fan_ins
from reticket.tickets.mask import Mask

SHAPES = {"conv.weight": (6, 3, 2, 2), "fc.weight": (5, 12), "out.weight": (4, 5)}


def moment(
    seed: int, progress: float = 0.3, density: float = 0.4, *, even: bool = False, final: float = 0.1
) -> MaskMoment:
    """Return a moment of a made-up training; `even` with as many weights of every output."""
    rng = np.random.default_rng(seed)
    mask, weights, gradient = {}, {}, {}
    for name, shape in SHAPES.items():
        scores = rng.random((shape[0], math.prod(shape[1:])))
        kept = scores.argsort(1).argsort(1) < round(density * scores.shape[1]) if even else scores < density
        mask[name] = torch.from_numpy(kept.reshape(shape))
        weights[name] = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)).masked_fill(~mask[name], 0)
        gradient[name] = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
    made = Mask(mask)
    return MaskMoment(made, weights, progress, final, made.density, gradient, torch.Generator().manual_seed(seed))


def sorted_places(value: Tensor, among: Tensor, *, largest: bool) -> list[int]:
    """Return the flat places of `among` by the size of their value."""
    flat, places = value.flatten().abs().tolist(), among.flatten().nonzero().flatten().tolist()
    return sorted(places, key=lambda place: -flat[place] if largest else flat[place])


def exchanged_by_hand(now: MaskMoment, share: float, name: str) -> set[int]:
    """Return the places that RigL keeps in a layer."""
    kept = now.mask[name]
    assert now.gradient is not None
    many = int(share * int(kept.sum()) + 1e-9)
    stays = set(sorted_places(now.weights[name], kept, largest=False)[many:])
    others = torch.tensor([place not in stays for place in range(kept.numel())])
    return stays | set(sorted_places(now.gradient[name], others, largest=True)[:many])


def places(kept: Tensor) -> set[int]:
    return set(kept.flatten().nonzero().flatten().tolist())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("progress", [0.01, 0.3, 0.9])
def test_rigl_is_a_sort_of_single_weights(seed: int, progress: float) -> None:
    now = moment(seed, progress)
    found = DYNAMICS["rigl"](now, {"alpha": 0.5})
    share = 0.5 / 2 * (1 + math.cos(math.pi * progress))
    for name, kept in found.items():
        assert places(kept) == exchanged_by_hand(now, share, name)
        assert int(kept.sum()) == int(now.mask[name].sum())


def test_rigl_grows_by_the_gradient_and_not_by_its_sign() -> None:
    now = moment(0, 0.01)
    assert now.gradient is not None
    turned = MaskMoment(now.mask, now.weights, 0.01, 0.1, 0.4, {name: -g for name, g in now.gradient.items()})
    assert DYNAMICS["rigl"](turned) == DYNAMICS["rigl"](now)
    smaller = MaskMoment(now.mask, now.weights, 0.01, 0.1, 0.4, {name: 1 / g for name, g in now.gradient.items()})
    assert DYNAMICS["rigl"](smaller) != DYNAMICS["rigl"](now)


@pytest.mark.parametrize("seed", range(5))
def test_set_drops_the_smallest_and_grows_elsewhere(seed: int) -> None:
    now = moment(seed)
    found = DYNAMICS["set"](now, {"fraction": 0.4})
    for name, kept in found.items():
        before = now.mask[name]
        many = int(0.4 * int(before.sum()) + 1e-9)
        dropped = set(sorted_places(now.weights[name], before, largest=False)[:many])
        assert places(before & ~kept) == dropped
        assert int((kept & ~before).sum()) == len(dropped) == many > 0


def test_set_draws_every_pruned_place_alike() -> None:
    counts = torch.zeros(20)
    mask = Mask({"w": torch.arange(20).view(4, 5) < 8})
    weights = {"w": torch.arange(1.0, 21).view(4, 5) * mask["w"]}
    generator = torch.Generator().manual_seed(0)
    for _ in range(3000):
        now = MaskMoment(mask, weights, 0.5, 0.4, 0.4, generator=generator)
        counts += (DYNAMICS["set"](now, {"fraction": 0.5})["w"] & ~mask["w"]).flatten()
    assert counts[:8].sum() == 0
    torch.testing.assert_close(counts[8:] / 3000, torch.full((12,), 4 / 12), rtol=0, atol=0.05)


def test_set_in_a_layer_that_is_nearly_full_exchanges_what_room_there_is() -> None:
    kept = torch.ones(3, 4, dtype=torch.bool)
    kept[0, 0] = False
    now = MaskMoment(Mask({"w": kept}), {"w": torch.ones(3, 4) * kept}, 0.5, 0.1, 0.9, generator=torch.Generator())
    found = DYNAMICS["set"](now, {"fraction": 0.9})["w"]
    assert (int(found.sum()), bool(found[0, 0])) == (11, True)


@pytest.mark.parametrize("name", ["set", "rigl"])
def test_at_the_last_change_nothing_is_exchanged_any_more(name: str) -> None:
    now = moment(1, progress=1.0)
    assert DYNAMICS[name](now) == now.mask


def by_neurons(now: MaskMoment, share: float, gamma: float, name: str, fan_in: int) -> tuple[list[set[int]], int]:
    """Return the places of each neuron after a change of SRigL, and how many were ablated."""
    assert now.gradient is not None
    kept, weights, gradient = (
        t.flatten(1) for t in (now.mask[name], now.weights[name].abs(), now.gradient[name].abs())
    )
    many = int(share * int(kept.sum()) + 1e-9)
    stays = set(sorted_places(weights, kept, largest=False)[many:])
    others = torch.tensor([place not in stays for place in range(kept.numel())])
    salient = stays | set(sorted_places(gradient, others, largest=True)[:many])
    rows, width, ablated = [], kept.shape[1], 0
    for neuron in range(len(kept)):
        mine = range(neuron * width, (neuron + 1) * width)
        before = int(kept[neuron].sum())
        gone = name != list(SHAPES)[-1] and len(salient & set(mine)) < gamma * before
        ablated += gone
        ranked = sorted(
            mine,
            key=lambda p: (p not in stays, -float(weights.flatten()[p] if p in stays else gradient.flatten()[p])),
        )
        rows.append(set() if gone or not before else set(ranked[:fan_in]))
    return rows, ablated


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("gamma", [0.0, 0.9])
def test_srigl_is_a_loop_over_neurons(seed: int, gamma: float) -> None:
    now = moment(seed, 0.1, even=True)
    found = DYNAMICS["srigl"](now, {"alpha": 0.5, "gamma": gamma})
    share, ablated = 0.5 / 2 * (1 + math.cos(math.pi * 0.1)), 0
    for name, kept in found.items():
        fan_in = int(kept.flatten(1).sum(1).max())
        rows, gone = by_neurons(now, share, gamma, name, fan_in)
        ablated += gone
        assert [places(row) for row in kept.flatten(1)] == [
            {place - neuron * kept[0].numel() for place in row} for neuron, row in enumerate(rows)
        ]
    assert (ablated > 0) == (gamma > 0)
    assert found.kept <= now.mask.kept
    if not gamma:
        assert {n: int(k.sum()) for n, k in found.items()} == {n: int(k.sum()) for n, k in now.mask.items()}


def fan_in_of(kept: Tensor) -> set[int]:
    return set(kept.flatten(1).sum(1).tolist()) - {0}


@pytest.mark.parametrize("density", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("seed", range(4))
def test_srigl_gives_any_mask_a_constant_fan_in_at_the_first_change(seed: int, density: float) -> None:
    now = moment(seed, 0.1, density)
    assert any(len(fan_in_of(kept)) > 1 for kept in now.mask.values())
    found = DYNAMICS["srigl"](now)
    for name, kept in found.items():
        assert len(fan_in_of(kept)) == 1
        assert torch.equal(kept.flatten(1).any(1), now.mask[name].flatten(1).any(1)), "an idle neuron stays so"
    least = min(int(kept.flatten(1).any(1).sum()) for kept in found.values())
    assert now.mask.kept - least < found.kept <= now.mask.kept


def test_srigl_keeps_neurons_enough_for_the_weights_and_all_outputs() -> None:
    kept = torch.ones(4, 3, dtype=torch.bool)
    weights = torch.ones(4, 3)
    for names in (("hidden", "out"), ("out", "hidden")):
        mask = Mask({name: kept if name == "out" else torch.eye(4, 3, dtype=torch.bool)[:3] for name in names})
        now = MaskMoment(
            mask,
            {name: weights[: len(t)] * t for name, t in mask.items()},
            0.1,
            0.5,
            mask.density,
            {name: torch.zeros(t.shape) for name, t in mask.items()},
        )
        found = DYNAMICS["srigl"](now, {"alpha": 1.0, "gamma": 1.0})
        assert found["out"].all()
        assert int(found["hidden"].any(1).sum()) >= 1


def test_fan_ins_never_exceed_the_total_and_leave_no_room() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        neurons = {name: int(rng.integers(0, 9)) for name in "abc"}
        counts = {name: int(rng.integers(n, 5 * n + 1)) for name, n in neurons.items()}
        total = sum(counts.values())
        found = fan_ins(counts, neurons, dict.fromkeys("abc", 6), total)
        left = total - sum(found[name] * n for name, n in neurons.items())
        assert left >= 0
        assert all(left < n or found[name] == 6 for name, n in neurons.items() if n)
        assert all(found[name] == 0 for name, n in neurons.items() if not n)


@pytest.mark.parametrize("progress", [0.2, 0.7, 1.0])
def test_gradual_keeps_what_the_cubic_says_and_the_largest(progress: float) -> None:
    now = moment(2, progress, 0.8, final=0.1)
    found = DYNAMICS["gradual"](now)
    sparsity = (1 - 0.1) + ((1 - now.initial) - (1 - 0.1)) * (1 - progress) ** 3  # equation 1 of the paper
    assert found.kept == round((1 - sparsity) * now.mask.numel)
    every = sorted(float(w) for name in SHAPES for w in now.weights[name][now.mask[name]].abs())
    least = every[-found.kept]
    for name, kept in found.items():
        assert torch.equal(kept, now.mask[name] & (now.weights[name].abs() >= least))


def test_gradual_lets_nothing_come_back() -> None:
    now = moment(3, 0.9, 0.05, final=0.4)
    assert DYNAMICS["gradual"](now) == now.mask


def test_gradual_inside_layers_leaves_those_that_keep_less() -> None:
    now = moment(2, 0.5, 0.8, final=0.1)
    names = list(SHAPES)
    sparse = now.mask[names[0]].clone().flatten()
    sparse[1:] = False
    sparse[0] = True
    mask = Mask({**now.mask, names[0]: sparse.view(SHAPES[names[0]])})
    uneven = MaskMoment(mask, mask.apply_to(now.weights), 0.5, 0.1, mask.density)
    found = DYNAMICS["gradual"](uneven, {"scope": "layer"})
    wanted = 0.1 + (mask.density - 0.1) * 0.5**3
    assert torch.equal(found[names[0]], mask[names[0]])
    for name in names[1:]:
        assert int(found[name].sum()) == min(int(mask[name].sum()), round(wanted * mask[name].numel()))


def test_a_moment_that_lacks_something_is_named() -> None:
    now = moment(0)
    with pytest.raises(MaskError, match=r"dynamics 'rigl' need gradient; give MaskMoment\(gradient=...\)"):
        DYNAMICS["rigl"](MaskMoment(now.mask, now.weights, 0.5, 0.1, 0.4))
    with pytest.raises(MaskError, match=r"'w' has shape .3,., no fan-in"):
        DYNAMICS["srigl"](
            MaskMoment(Mask({"w": torch.ones(3) > 0}), {"w": torch.ones(3)}, 0.5, 0.1, 1.0, {"w": torch.ones(3)})
        )


BROKEN: dict[str, Callable[[MaskMoment], Mask]] = {
    "grows by |w|": lambda now: DYNAMICS["rigl"](
        MaskMoment(now.mask, now.weights, now.progress, now.density, now.initial, now.weights), {"alpha": 0.5}
    ),
    "exchanges less": lambda now: DYNAMICS["rigl"](now, {"alpha": 0.3}),
    "drops by gradient": lambda now: DYNAMICS["rigl"](
        MaskMoment(now.mask, now.gradient or {}, now.progress, now.density, now.initial, now.gradient), {"alpha": 0.5}
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_the_comparison_can_fail(kind: str) -> None:
    now, share = moment(0, 0.01), 0.5 / 2 * (1 + math.cos(math.pi * 0.01))
    found = BROKEN[kind](now)
    assert any(places(kept) != exchanged_by_hand(now, share, name) for name, kept in found.items())
