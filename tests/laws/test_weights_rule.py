"""One rule for arguments: a module or its state_dict, wrapped or not, a generator or a seed; the same comes out."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import reticket as rt
from reticket.errors import AlignmentError
from reticket.rng import as_generator, generator_for
from reticket.tickets.control import layer_shuffle
from reticket.tickets.imp import prune_round
from reticket.tickets.ticket import signs_of
from reticket.weights import Weights

X = torch.randn(40, 6, generator=generator_for("x"))
Y = torch.randint(4, (40,), generator=generator_for("y"))
BATCHES = [(X, Y)]


def net(seed: int) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    generator = generator_for("net", seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    return model


@cache
def symmetry() -> rt.Symmetry:
    return rt.discover(net(0), X[:2])


def mask() -> rt.Mask:
    return rt.prune_magnitude(net(0), 0.5)


A, B = net(1), net(2)
NAMES = rt.prunable(A)
CALLS: dict[str, Callable[[Weights], Any]] = {
    "interpolate": lambda a: rt.interpolate(a, B, 0.3),
    "interpolate several": lambda a: rt.interpolate([B, a], [0.3, 0.7]),
    "barrier": lambda a: rt.barrier(net(0), a, B, BATCHES, (0, 0.5, 1)).loss,
    "repair": lambda a: rt.repair(net(0), (a, B), 0.5, BATCHES),
    "match": lambda a: rt.match(a, B, symmetry(), BATCHES).permutations,
    "match to": lambda a: rt.match([B, B], [a, A], symmetry(), BATCHES).permutations,
    "prune_magnitude": lambda a: rt.prune_magnitude(a, 0.25, names=NAMES),
    "one name": lambda a: rt.prune_magnitude(a, 0.25, names="0.weight"),
    "random_mask of one name": lambda a: layer_shuffle(rt.prune_magnitude(a, 0.25, names=NAMES), 3),
    "prune_round": lambda a: prune_round(a, 0.5, names=NAMES, rewound=a).weights,
    "imp": lambda a: rt.iterative_magnitude_pruning(a, 0.5, lambda w, m, _: w, names=NAMES)[0.5].weights,
    "apply_to": lambda a: mask().apply_to(a),
    "signs": lambda a: signs_of(a, mask()),
    "ticket": lambda a: rt.Ticket.of(a, mask()).signs,
    "write_signs": lambda a: rt.Ticket.of(B, mask()).write_signs(a),
    "true_density": lambda a: rt.true_density(mask(), a, names=NAMES),
    "full": lambda a: rt.Mask.full(a),
}
FORMS: dict[str, Callable[[nn.Module], Weights]] = {
    "module": lambda model: model,
    "parallel": nn.DataParallel,
    "compiled": lambda model: nn.ModuleDict({"_orig_mod": model}),
}


def as_dict(value: Any) -> Any:
    return dict(value) if isinstance(value, dict | rt.Mask) else value


@pytest.mark.slow_cases("module-repair", "module-match", "parallel-repair", "compiled-repair")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("form", FORMS)
def test_a_module_is_worth_its_state_dict(form: str, call: str) -> None:
    before = {name: value.clone() for name, value in A.state_dict().items()}
    found, wanted = (as_dict(CALLS[call](weights)) for weights in (FORMS[form](A), A.state_dict()))
    if isinstance(found, dict) and all(isinstance(value, Tensor) for value in found.values()):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    else:
        assert found == wanted
    torch.testing.assert_close(dict(A.state_dict()), before, rtol=0, atol=0)


def test_an_alignment_moves_a_module_in_place() -> None:
    alignment, model = rt.random_alignment(symmetry(), 1), net(3)
    weight, moved = model[0].weight, alignment.apply(model.state_dict())
    assert alignment.apply(model) is model
    assert model[0].weight is weight
    torch.testing.assert_close(dict(model.state_dict()), dict(moved), rtol=0, atol=0)
    back = alignment.inverse().apply(nn.DataParallel(model))
    assert isinstance(back, nn.DataParallel)
    torch.testing.assert_close(dict(model.state_dict()), dict(net(3).state_dict()), rtol=0, atol=0)


def test_a_module_that_an_alignment_does_not_fit_stays_as_it_is() -> None:
    other = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 4))
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(AlignmentError, match="has shape"):
        rt.random_alignment(symmetry(), 1).apply(other)
    torch.testing.assert_close(dict(other.state_dict()), before, rtol=0, atol=0)


def test_load_into_takes_a_module() -> None:
    model = net(4)
    rt.load_into(model, nn.DataParallel(A))
    torch.testing.assert_close(dict(model.state_dict()), dict(A.state_dict()), rtol=0, atol=0)


def wrapped(model: nn.Module) -> nn.Module:
    return nn.DataParallel(nn.ModuleDict({"_orig_mod": model}))


@pytest.mark.parametrize("call", ["interpolate", "barrier", "repair"])
def test_names_in_wrappers_are_the_names_without(call: str) -> None:
    a, b = (wrapped(one).state_dict() for one in (A, B))
    assert list(a) != list(A.state_dict())
    found, wanted = (
        {
            "interpolate": lambda a, b, model: [rt.interpolate(a, end, 0.3) for end in (B.state_dict(), b)],
            "barrier": lambda a, b, model: [rt.barrier(model, a, end, BATCHES, (0, 0.5, 1)).loss for end in (B, b)],
            "repair": lambda a, b, model: [rt.repair(model, (a, end), 0.5, BATCHES) for end in (B, b)],
        }[call](*these)
        for these in ((a, b, nn.DataParallel(net(0))), (A.state_dict(), B.state_dict(), net(0)))
    )
    for one, other in zip(found, wanted, strict=True):
        values = (list(value.values()) if isinstance(value, dict) else value for value in (one, other))
        torch.testing.assert_close(*values, rtol=0, atol=0)


def test_one_name_is_one_name() -> None:
    linear = nn.Linear(3, 2)
    symmetry = rt.discover(linear, torch.zeros(2, 3), fixed="weight:1", free="output0:1")
    optimizer = torch.optim.SGD([linear.weight], lr=0.1, momentum=0.9)
    linear(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    state, alignment = optimizer.state_dict(), rt.random_alignment(symmetry, 0)
    named, listed = (alignment.apply(state, names=names)["state"][0] for names in ("weight", ["weight"]))
    assert torch.equal(named["momentum_buffer"], listed["momentum_buffer"])


def test_a_mask_is_read_off_a_wrapped_module() -> None:
    model = net(0)
    prune.l1_unstructured(model[0], "weight", 5)
    assert rt.Mask.from_module(nn.DataParallel(model)) == rt.Mask.from_module(model)


def test_a_seed_decides_a_model() -> None:
    first, same, other = (
        rt.build_model("mlp", generator=seed, in_features=4, hidden=(3,), classes=2).state_dict() for seed in (0, 0, 1)
    )
    torch.testing.assert_close(dict(first), dict(same), rtol=0, atol=0)
    assert any(not torch.equal(first[name], other[name]) for name in first)


SEEDED: dict[str, Callable[[Any], Any]] = {
    "random_alignment": lambda source: rt.random_alignment(symmetry(), source).permutations,
    "random_mask": lambda source: rt.random_mask(net(0), 0.5, source),
    "erk_mask": lambda source: rt.erk_mask(net(0), 0.5, source),
    "layer_shuffle": lambda source: layer_shuffle(rt.prune_magnitude(net(0), 0.5), source),
}


@pytest.mark.parametrize("call", SEEDED)
def test_a_seed_is_a_generator(call: str) -> None:
    label = "alignment" if call == "random_alignment" else "mask"
    assert SEEDED[call](7) == SEEDED[call](7) == SEEDED[call](as_generator(7, label))
    assert SEEDED[call](7) != SEEDED[call](8)
    drawn = generator_for(7, label)
    assert SEEDED[call](drawn) != SEEDED[call](drawn)  # it moves on


def test_a_random_mask_of_a_module_is_of_what_is_pruned() -> None:
    assert rt.random_mask(net(0), 0.5, 0) == rt.random_mask({n: net(0).state_dict()[n] for n in NAMES}, 0.5, 0)
    assert tuple(rt.prune_magnitude(nn.DataParallel(net(0)), 0.5)) == NAMES
