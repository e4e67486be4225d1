"""What sites inside of modules show: recurrent layers by hand, merged axes of any size, models that are alike."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reticket.matching.moments import centre, centre_unmasked
from reticket.rng import generator_for
from reticket.symmetry import Site
from reticket.symmetry.alike import compute_alike
from reticket.symmetry.recurrence import computed_in
from reticket.symmetry.terms import Atom, Fixed, concat, product
from reticket.symmetry.units import fitted


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator_for("noise", *shape), dtype=torch.float64)


def weights(module: nn.Module, end: str) -> list[Tensor]:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [module.get_parameter(f"{name}_{end}") for name in names]


def along(module: nn.RNNBase, end: str, x: Tensor, h: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the output and the memory of one direction of one layer, step by step from the cells' equations."""
    outputs, memories = [], []
    w_ih, w_hh, b_ih, b_hh = weights(module, end)
    for step in x:
        inward, back = step @ w_ih.T + b_ih, h @ w_hh.T + b_hh
        if c is not None:
            i, f, g, o = (inward + back).chunk(4, dim=-1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            h = h @ module.get_parameter(f"weight_hr_{end}").T if module.proj_size else h
        elif isinstance(module, nn.GRU):
            (r, z, n), (r_back, z_back, n_back) = inward.chunk(3, dim=-1), back.chunk(3, dim=-1)
            r, z = (r + r_back).sigmoid(), (z + z_back).sigmoid()
            h = (1 - z) * (n + r * n_back).tanh() + z * h
        else:
            h = (inward + back).tanh()
        outputs.append(h)
        memories.append(h if c is None else c)
    return torch.stack(outputs), torch.stack(memories)


@torch.no_grad()
def by_hand(module: nn.RNNBase, x: Tensor, states: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Return the output and the memory of every layer, time first."""
    found = []
    for layer in range(module.num_layers):
        both = []
        for k in range(2 if module.bidirectional else 1):
            end = f"l{layer}" + "_reverse" * k
            first = [state[layer * (2 if module.bidirectional else 1) + k] for state in states]
            pair = along(module, end, x.flip(0) if k else x, *first)
            both.append([y.flip(0) if k else y for y in pair])
        found.append(tuple(torch.cat(ys, dim=-1) for ys in zip(*both, strict=True)))
        x = found[-1][0]
    return found


RECURRENT: dict[str, Callable[[], nn.RNNBase]] = {
    "lstm": lambda: nn.LSTM(3, 4, 3),
    "lstm, both ways, projected": lambda: nn.LSTM(3, 5, 2, bidirectional=True, proj_size=2),
    "gru, both ways": lambda: nn.GRU(3, 4, 2, bidirectional=True, dropout=0.5),
    "rnn": lambda: nn.RNN(3, 4, 2),
}


@pytest.mark.parametrize("given", ["states", "no states", "one example", "batch first, by keyword"])
@pytest.mark.parametrize("name", RECURRENT)
def test_layers_of_recurrent_modules(name: str, given: str) -> None:
    module = RECURRENT[name]().double().eval()
    module.batch_first = given.startswith("batch first")
    lstm, directions = isinstance(module, nn.LSTM), 2 if module.bidirectional else 1
    widths = [module.proj_size or module.hidden_size, module.hidden_size][: 2 if lstm else 1]
    batch = 1 if given == "one example" else 6
    states = [noise(module.num_layers * directions, batch, width) * (given != "no states") for width in widths]
    x = noise(7, batch, 3)
    expected = by_hand(module, x, states)
    memories = [f"memory{i}" for i in range(module.num_layers) if module.proj_size]
    names = [*(f"layer{i}" for i in range(module.num_layers)), *memories]
    hx: Any = [state[:, 0] if given == "one example" else state for state in states]
    hx = tuple(hx) if lstm else hx[0]
    with torch.no_grad():
        if given == "no states":
            found = computed_in(module, (x,), {}, names)
        elif given == "one example":
            found = computed_in(module, (x[:, 0], hx), {}, names)
        elif module.batch_first:
            found = computed_in(module, (), {"hx": hx, "input": x.transpose(0, 1)}, names)
        else:
            found = computed_in(module, (x, hx), {}, names)
        own = module(x.transpose(0, 1) if module.batch_first else x, tuple(states) if lstm else states[0])[0]
    first = {key: value.transpose(0, 1) if module.batch_first else value for key, value in found.items()}
    for layer, (output, memory) in enumerate(expected):
        torch.testing.assert_close(first[f"layer{layer}"], output)
        if module.proj_size:
            torch.testing.assert_close(first[f"memory{layer}"], memory)
    torch.testing.assert_close(found[f"layer{module.num_layers - 1}"], own)


def test_units_of_heads_merged_into_a_batch_of_any_size() -> None:
    site = Site("scores", "", "softmax", 0, (product(Fixed(4), Atom("heads", 3)), Fixed(5), Fixed(5)))
    scores = torch.arange(2.0 * 3 * 2 * 2).view(6, 2, 2)  # two examples of three heads
    assert site.units(scores, "heads").tolist() == [
        [0, 1, 2, 3, 12, 13, 14, 15],
        [4, 5, 6, 7, 16, 17, 18, 19],
        [8, 9, 10, 11, 20, 21, 22, 23],
    ]


@pytest.mark.parametrize(
    ("term", "size", "expected"),
    [
        (Fixed(4), 9, Fixed(9)),
        (Atom("u", 3), 3, Atom("u", 3)),
        (Atom("u", 3), 6, None),  # either factor could come first
        (product(Atom("u", 3), Fixed(4)), 6, product(Atom("u", 3), Fixed(2))),
        (product(Fixed(4), Atom("u", 3)), 3, Atom("u", 3)),
        (product(Fixed(4), Atom("u", 3)), 7, None),
        (product(Fixed(4), Atom("u", 3), Fixed(5)), 30, None),  # which of the two has changed?
        (product(Fixed(4, "p"), Atom("u", 3)), 6, None),
        (concat(Atom("u", 3), Fixed(2)), 6, None),
    ],
)
def test_terms_of_another_size(term: Any, size: int, expected: Any) -> None:
    assert fitted((term,), (size,)) == (None if expected is None else (expected,))


class Tabled(nn.Module):
    """What decides a graph beside weights: a table, a number, a helper object, a function."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale, self.activation = nn.Linear(2, 2), 2.0, F.relu
        self.register_buffer("table", torch.ones(3), persistent=False)
        self.lists = [{"width": 3}, (torch.zeros(1), None)]


def test_models_that_are_alike() -> None:
    model = Tabled()
    twin = copy.deepcopy(model)
    nn.init.zeros_(twin.layer.weight)
    assert compute_alike(model, twin)
    assert compute_alike(nn.LSTM(2, 3), copy.deepcopy(nn.LSTM(2, 3)))
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    assert not compute_alike(tied, nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    assert not compute_alike(nn.Linear(2, 2), nn.Linear(2, 2, dtype=torch.float64))
    assert not compute_alike(nn.Sequential(nn.ReLU()), nn.Sequential(nn.Tanh()))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.table.mul_(2),
        lambda m: setattr(m, "scale", 3.0),
        lambda m: setattr(m, "scale", 2),
        lambda m: setattr(m, "activation", F.gelu),
        lambda m: setattr(m, "more", None),
        lambda m: m.lists[0].update(width=4),
        lambda m: m.lists[1][0].add_(1),
        lambda m: m.layer.register_forward_hook(lambda module, args, output: output),
        lambda m: setattr(m, "generator", torch.Generator()),
    ],
)
def test_models_that_differ(change: Callable[[Any], Any]) -> None:
    twin = copy.deepcopy(model := Tabled())
    change(twin)
    assert not compute_alike(model, twin)
    assert not compute_alike(twin, model)


@pytest.mark.parametrize("mask", [-torch.inf, torch.nan, torch.finfo(torch.float32).min])
def test_masked_samples_are_left_out(mask: float) -> None:
    units = noise(3, 6).float()
    full = torch.cat([units[:, :2], torch.full((3, 2), mask), units[:, 2:]], dim=1)
    found, expected = centre_unmasked(full), centre(units)
    assert found.unmasked is not None
    assert found.unmasked.tolist() == [True, True, False, False, True, True, True, True]
    for name in ("values", "mean", "rest", "squares"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0)


@pytest.mark.parametrize("where", [(0, 1), (slice(None), slice(None))])
def test_what_is_no_mask_stays(where: tuple[Any, Any]) -> None:
    """Infinite in one unit alone, or in every sample: the activations have diverged."""
    units = noise(3, 6).float()
    units[where] = torch.inf
    found = centre_unmasked(units)
    assert found.unmasked is None
    assert not found.mean.isfinite().all()
    assert centre_unmasked(1e6 * noise(3, 6)).unmasked is None


def test_masks_in_float16_are_its_smallest_number() -> None:
    units = noise(2, 4).half()
    units[:, 1] = torch.finfo(torch.float16).min
    found = centre_unmasked(units)
    assert found.unmasked is not None
    assert found.unmasked.tolist() == [True, False, True, True]
