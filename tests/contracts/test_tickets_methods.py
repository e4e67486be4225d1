"""What every registered method must keep; a new method is found here by itself."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
import torch
from torch import Tensor, nn

from reticket.errors import InputError, ReticketError
from reticket.options import Within
from reticket.rng import generator_for
from reticket.tickets import (
    METHODS,
    Mask,
    Method,
    MethodInputs,
    SparseStart,
    Target,
    Ticket,
    get_method,
    method,
    prune_magnitude,
)
from reticket.types import Permutable, StateDict

NAMES = ("fc1.weight", "fc2.weight", "fc3.weight")


class Swap:
    """An alignment of the hidden layers of a three-layer MLP with BatchNorm statistics."""

    def __init__(self, first: Tensor, second: Tensor) -> None:
        self.first, self.second = first, second

    def apply(self, x: StateDict | Permutable, /) -> StateDict | Permutable:
        if isinstance(x, Permutable):
            return x.with_tensors(self._moved(x.tensors()))
        return self._moved(x)

    def inverse(self) -> "Swap":
        return Swap(self.first.argsort(), self.second.argsort())

    def _moved(self, tensors: StateDict) -> dict[str, Tensor]:
        p, q = self.first, self.second
        rules = {"fc1.weight": lambda t: t[p], "fc2.weight": lambda t: t[q][:, p], "fc3.weight": lambda t: t[:, q]}
        rules |= {"fc1.bias": lambda t: t[p], "fc2.bias": lambda t: t[q]}
        return {name: rules[name](tensor) if name in rules else tensor.clone() for name, tensor in tensors.items()}


def network(label: str) -> dict[str, Tensor]:
    g = generator_for("methods", label)
    shapes = {
        "fc1.weight": (12, 8),
        "fc1.bias": (12,),
        "fc2.weight": (10, 12),
        "fc2.bias": (10,),
        "fc3.weight": (4, 10),
    }
    return {name: torch.randn(shape, generator=g) for name, shape in shapes.items()}


class ThreeLayers(nn.Module):
    """What the weights of `network` belong to."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(8, 12), nn.Linear(12, 10), nn.Linear(10, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc3(self.fc2(self.fc1(x).relu()).relu())


def some_batches() -> list[tuple[Tensor, Tensor]]:
    g = generator_for("methods", "batches")
    return [(torch.randn(16, 8, generator=g), torch.randint(4, (16,), generator=g)) for _ in range(2)]


def make_inputs(frame: str = "init", seed: int = 0) -> MethodInputs:
    trained = network("A trained")
    mask = prune_magnitude(trained, 0.3, names=NAMES)
    pruned = mask.apply_to(trained)
    return MethodInputs(
        ticket=Ticket.of(pruned, mask),
        trained_a=trained,
        pruned_a=pruned,
        rewound_a=network("A"),
        rewound_b=network("B"),
        trained_b=network("B trained"),
        mask_b=prune_magnitude(network("B trained"), 0.3, names=NAMES),
        target=Target(0.3, NAMES),
        alignment=Swap(torch.arange(12).roll(1), torch.arange(10).flip(0)),
        random_alignment=Swap(
            torch.randperm(12, generator=generator_for("p")), torch.randperm(10, generator=generator_for("q"))
        ),
        correlations={name: torch.rand(trained[name].shape, generator=generator_for("c", name)) for name in NAMES},
        generator=generator_for("draw", seed),
        model=ThreeLayers().train(),
        batches=some_batches(),
        example_inputs=some_batches()[0][0][:1],
        frame=frame,  # pyright: ignore[reportArgumentType]
    )


def only(inputs: MethodInputs, needs: tuple[str, ...]) -> MethodInputs:
    kept = {field.name: getattr(inputs, field.name) for field in dataclasses.fields(inputs) if field.name in needs}
    return MethodInputs(**kept, frame=inputs.frame)


def content(inputs: MethodInputs) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for field in ("trained_a", "pruned_a", "rewound_a", "rewound_b", "trained_b", "mask_b", "correlations"):
        found |= {f"{field}.{name}": tensor.clone() for name, tensor in getattr(inputs, field).items()}
    assert inputs.ticket is not None
    assert inputs.model is not None
    found |= {f"model.{name}": tensor.clone() for name, tensor in inputs.model.state_dict().items()}
    return found | {f"ticket.{name}": tensor.clone() for name, tensor in inputs.ticket.tensors().items()}


def check_method(candidate: Method, frame: str, options: Mapping[str, Any] | None = None) -> None:
    """The contract."""
    options = options or {}
    inputs = make_inputs(frame)
    before = content(inputs)
    start = candidate(only(inputs, candidate.needs_for(options)), options)
    assert candidate.description
    assert candidate.network in ("A", "B")
    if candidate.sparse:
        assert inputs.ticket is not None
        if candidate.dynamics is None:
            assert start.mask.kept == inputs.ticket.mask.kept, "another kept count"
        assert {n: t.shape for n, t in start.mask.items()} == {n: t.shape for n, t in inputs.ticket.mask.items()}
        for name, kept in start.mask.items():
            assert (start.weights[name][~kept] == 0).all(), "masked weights are not 0"
            assert (start.weights[name][kept] != 0).all(), "kept weights are 0"
    else:
        assert start.mask.density == 1
    assert list(start.weights) == list(network("B"))
    again = candidate(only(make_inputs(frame), candidate.needs_for(options)), options)
    assert again.mask == start.mask, "another mask from an equal generator"
    for name, tensor in start.weights.items():
        torch.testing.assert_close(again.weights[name], tensor, rtol=0, atol=0)
    for name, tensor in content(inputs).items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0, msg="an input was changed")


EACH = [pytest.param(name, marks=pytest.mark.slow) if name == "synflow" else name for name in METHODS]


@pytest.mark.parametrize("frame", ["init", "mask"])
@pytest.mark.parametrize("name", EACH)
def test_every_method_keeps_the_contract(name: str, frame: str) -> None:
    check_method(METHODS[name], frame)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_the_contract_with_each_word_of_its_options(name: str) -> None:
    for option, parameter in METHODS[name].options.items():
        for value in get_args(parameter.annotation) if get_origin(parameter.annotation) is Literal else (0.25,):
            check_method(METHODS[name], "mask", {option: value})


def test_the_methods_of_the_design_are_there() -> None:
    expected = "dense imp imp-b lth permuted naive random-permutation layer-shuffle random erk signed naive-signed"
    assert {*expected.split(), "one-shot", "snip", "grasp", "synflow", "polished"} <= set(METHODS)
    assert {name for name, m in METHODS.items() if not m.trains} == {"dense", "imp"}
    assert {name for name, m in METHODS.items() if m.network == "A"} == {"dense", "imp", "lth"}


def masked(weights: StateDict, mask: Mask) -> SparseStart:
    return SparseStart(mask.apply_to(weights), mask)


def one_weight_more(ticket: Ticket, rewound_b: StateDict) -> SparseStart:
    tensors = {name: tensor.clone() for name, tensor in ticket.mask.items()}
    flat = tensors["fc1.weight"].view(-1)
    flat[flat.logical_not().nonzero()[0]] = True
    return masked(rewound_b, Mask(tensors))


def global_randomness(ticket: Ticket, rewound_b: StateDict) -> SparseStart:
    return masked(
        rewound_b,
        Mask(
            {
                name: tensor.flatten()[torch.randperm(tensor.numel())].view_as(tensor)
                for name, tensor in ticket.mask.items()
            }
        ),
    )


def writes_into_its_input(ticket: Ticket, rewound_b: StateDict) -> SparseStart:
    for name, kept in ticket.mask.items():
        rewound_b[name].masked_fill_(~kept, 0)
    return SparseStart(rewound_b, ticket.mask)


def forgets_to_mask(ticket: Ticket, rewound_b: StateDict) -> SparseStart:
    return SparseStart(rewound_b, ticket.mask)


@pytest.mark.parametrize("broken", [one_weight_more, global_randomness, writes_into_its_input, forgets_to_mask])
def test_the_contract_catches_broken_methods(broken: object) -> None:
    candidate = Method("broken", broken, ("ticket", "rewound_b"), "B", True, True, "broken")  # pyright: ignore[reportArgumentType]
    with pytest.raises((AssertionError, ReticketError)):
        check_method(candidate, "init")


def test_what_the_methods_start_from() -> None:
    inputs = make_inputs()
    ticket, alignment = inputs.ticket, inputs.alignment
    assert ticket is not None
    assert alignment is not None
    assert METHODS["lth"](inputs).mask == METHODS["imp"](inputs).mask == METHODS["naive"](inputs).mask == ticket.mask
    assert METHODS["imp-b"](inputs).mask == inputs.mask_b
    assert METHODS["permuted"](inputs).mask == alignment.apply(ticket).mask != ticket.mask
    assert METHODS["dense"](inputs).weights is inputs.trained_a
    for name in ("layer-shuffle", "random", "erk", "random-permutation"):
        assert METHODS[name](inputs).mask != ticket.mask


@pytest.mark.parametrize("name", ["signed", "naive-signed"])
def test_signed_methods_have_the_magnitudes_of_b_and_the_signs_of_a(name: str) -> None:
    inputs = make_inputs()
    ticket, alignment, b = inputs.ticket, inputs.alignment, inputs.rewound_b
    assert ticket is not None
    assert alignment is not None
    assert b is not None
    assert inputs.pruned_a is not None
    start = METHODS[name](inputs)
    a = alignment.apply(inputs.pruned_a) if name == "signed" else inputs.pruned_a
    for layer in NAMES:
        torch.testing.assert_close(start.weights[layer], a[layer].sign() * b[layer].abs(), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["permuted", "signed", "random-permutation", "polished"])
def test_the_two_frames_are_one_network_relabelled(name: str) -> None:
    in_init, in_mask = METHODS[name](make_inputs("init")), METHODS[name](make_inputs("mask"))
    inputs = make_inputs()
    alignment = inputs.random_alignment if name == "random-permutation" else inputs.alignment
    assert alignment is not None
    assert inputs.ticket is not None
    assert name == "polished" or in_mask.mask == inputs.ticket.mask
    assert alignment.apply(in_mask.mask) == in_init.mask
    for layer, tensor in alignment.apply(in_mask.weights).items():
        torch.testing.assert_close(tensor, in_init.weights[layer], rtol=0, atol=0)


def test_randomness_comes_from_the_generator() -> None:
    for name in ("layer-shuffle", "random", "erk"):
        assert METHODS[name](make_inputs(seed=0)).mask != METHODS[name](make_inputs(seed=1)).mask


def test_a_missing_need_names_the_field() -> None:
    with pytest.raises(InputError, match="method 'permuted' needs rewound_b, alignment"):
        METHODS["permuted"](only(make_inputs(), ("ticket",)))


def test_registering_a_method() -> None:
    def own(ticket: Ticket, rewound_b: StateDict) -> SparseStart:
        """Whatever one likes."""
        return masked(rewound_b, ticket.mask)

    try:
        made = method("own")(own)
        assert made.needs == ("ticket", "rewound_b")
        assert get_method("own") is made
        check_method(made, "init")
        with pytest.raises(InputError, match="method 'own' is registered already"):
            method("own")(own)
    finally:
        METHODS._members.pop("own", None)


def test_a_method_must_ask_for_known_fields_and_say_what_it_is() -> None:
    def odd(tickets: Ticket) -> SparseStart:
        """Odd."""
        raise NotImplementedError

    def silent(ticket: Ticket) -> SparseStart:
        raise NotImplementedError

    with pytest.raises(InputError, match="asks for 'tickets', which is no field of MethodInputs"):
        method("odd")(odd)
    with pytest.raises(InputError, match="has no docstring"):
        method("silent")(silent)


def dialled(
    ticket: Ticket,
    rewound_b: StateDict,
    trained_a: StateDict | None,
    *,
    share: Annotated[float, Within(0, 1)] = 1.0,
    by: Literal["b", "a"] = "b",
) -> SparseStart:
    """Keeps a share of what a mask keeps, of one network's weights."""
    source = rewound_b if by == "b" else trained_a
    assert source is not None
    return masked(source, Mask({name: kept if share == 1 else kept & False for name, kept in ticket.mask.items()}))


def test_what_stands_after_a_star_are_the_options_of_a_method() -> None:
    try:
        made = method("own", only_where={"trained_a": ("by", "a")})(dialled)
        inputs = only(make_inputs(), ("ticket", "rewound_b"))
        assert made.uses == ("ticket", "rewound_b", "trained_a")
        assert dict(made.options.settings({})) == {"share": 1.0, "by": "b"}
        assert made.needs_for({}) == ("ticket", "rewound_b")
        assert made.needs_for({"by": "a"}) == made.needs == ("ticket", "rewound_b", "trained_a")
        assert made(inputs).mask == inputs.ticket.mask  # pyright: ignore[reportOptionalMemberAccess]
        assert made(inputs, {"share": 0.5}).mask.kept == 0
        assert (
            made.says == "Keeps a share of what a mask keeps, of one network's weights. Options: share = 1.0, by = 'b'."
        )
        with pytest.raises(InputError, match="method 'own' needs trained_a"):
            made(inputs, {"by": "a"})
        with pytest.raises(InputError, match="method 'own' has no option 'shar', did you mean 'share'"):
            made(inputs, {"shar": 0.5})
        with pytest.raises(
            InputError, match=r"option .share. of method .own. is 1\.5: input should be less than or equal"
        ):
            made(inputs, {"share": 1.5})
        with pytest.raises(InputError, match="option 'by' of method 'own' is 'c'; expected one of b, a"):
            made.needs_for({"by": "c"})
    finally:
        METHODS._members.pop("own", None)


@pytest.mark.parametrize("given", [{"trained_a": ("bi", "a")}, {"pruned_a": ("by", "a")}])
def test_a_condition_must_name_a_field_and_an_option(given: dict[str, tuple[str, str]]) -> None:
    with pytest.raises(InputError, match=f"'{next(iter(given))}' does not fit"):
        method("odd", only_where=given)(dialled)


def test_an_option_needs_a_default_and_a_name_of_its_own() -> None:
    def without(ticket: Ticket, *, share: float) -> SparseStart:
        """Odd."""
        raise NotImplementedError

    def field(ticket: Ticket, *, trained_a: float = 1.0) -> SparseStart:
        """Odd."""
        raise NotImplementedError

    with pytest.raises(InputError, match="where 'share' does not fit; an option stands after a"):
        method("odd")(without)
    with pytest.raises(InputError, match="where 'trained_a' does not fit"):
        method("odd")(field)


def test_an_unknown_method_has_the_nearest_name() -> None:
    with pytest.raises(InputError, match="unknown method 'permutd', did you mean 'permuted'"):
        get_method("permutd")
