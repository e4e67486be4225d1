"""Laws of matching by weights, and of weights beside activations: what is planted is found, no step loses anything."""

import copy
import functools
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import reticket as rt
from reticket.errors import AlignmentError, InputError
from reticket.matching.descent import descended, total
from reticket.matching.slices import WeightSimilarity, comparable, places_of
from reticket.matching.weight import outside_in
from reticket.rng import generator_for
from reticket.symmetry.model_tensors import named_state
from reticket.symmetry.terms import Atom, Fixed, product
from tests.generic_models import SHAPES, generic
from tests.recurrent_models import Encoder, sequence


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True, dropout=0.0)
    return nn.Sequential(
        nn.Linear(5, 16), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(16, 3)
    )


def network(name: str, label: str) -> nn.Module:
    if name in SHAPES:
        return generic(name, label)
    with torch.random.fork_rng():
        torch.manual_seed(sum(map(ord, label)))
        return encoder() if name == "encoder" else Encoder(nn.LSTM(7, 6, 2, batch_first=True), 6)


def example(name: str, count: int = 2) -> Tensor:
    if name == "lstm":
        return sequence()
    return torch.randn(count, *SHAPES.get(name, (4, 5)), generator=generator_for("example"))


@functools.cache
def symmetry(name: str) -> rt.Symmetry:
    return rt.discover(network(name, "any"), example(name), verify=False)


def planted(name: str, *, noise: float = 0.0) -> tuple[nn.Module, nn.Module, rt.Alignment]:
    """Return A, B = pi(A) with a share of noise, and pi."""
    a, pi = network(name, "a"), rt.random_alignment(symmetry(name), 1)
    b = copy.deepcopy(a)
    rt.load_into(b, pi.apply(a.state_dict()))
    with torch.no_grad():
        for number, tensor in enumerate(b.parameters()):
            spread = float(tensor.std(unbiased=False))
            tensor += noise * spread * torch.randn(tensor.shape, generator=generator_for("noise", number))
    return a, b, pi


MODELS = (*SHAPES, "encoder", "lstm")


@pytest.mark.slow_cases("resnet20-0.0", "vgg11-0.0", "resnet20-0.01", "encoder-0.0")
@pytest.mark.parametrize("noise", [0.0, 0.01])
@pytest.mark.parametrize("name", MODELS)
def test_a_planted_permutation_is_found_by_weights_alone(name: str, noise: float) -> None:
    a, b, pi = planted(name, noise=noise)
    found = rt.match(a, b, symmetry(name), method="weight")
    assert found.permutations == pi.permutations
    assert all(0.99 < quality.correlation < 1.001 for quality in found.quality.values())
    assert list(found.quality) == list(symmetry(name).groups)


@pytest.mark.slow_cases("resnet20", "encoder")
@pytest.mark.parametrize("name", ["mlp", "resnet20", "encoder", "lstm"])
def test_the_scale_of_units_decides_nothing(name: str) -> None:
    """A matrix with rows and columns on any scale compares like the matrix itself."""
    for tensor, layout in zip(named_state(network(name, "a")).values(), symmetry(name).layouts.values(), strict=True):
        if tensor.dim() < 2:
            continue
        scaled, generator = tensor.double(), generator_for("scale", *tensor.shape)
        for axis in (0, 1):
            shape = [-1 if i == axis else 1 for i in range(tensor.dim())]
            if any(True for term in (layout[axis],) if not isinstance(term, Fixed)):
                scaled = scaled * (0.5 + torch.rand(tensor.shape[axis], generator=generator)).reshape(shape)
        torch.testing.assert_close(comparable(tensor, layout), comparable(scaled, layout), rtol=0.01, atol=0.002)


def test_slices_have_the_norms_that_are_said() -> None:
    matrix, vector = torch.randn(6, 5, generator=generator_for("m")), torch.arange(6.0)
    own = comparable(matrix, (Atom("g", 6), Fixed(5)))
    torch.testing.assert_close(own.square().sum(dim=1), torch.ones(6))
    flat = comparable(vector, (Atom("g", 6),))
    assert float(flat.square().sum()) == pytest.approx(6 * 0.1**2)
    assert float(flat.mean()) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("name", ["mlp", "resnet20", "encoder", "lstm"])
def test_no_step_lowers_the_objective(name: str) -> None:
    similarity = between(network(name, "a"), network(name, "b"), symmetry(name))
    for seed in range(3):
        start = rt.random_alignment(symmetry(name), seed).permutations
        found = descended(similarity, start)
        assert total(similarity, found) > total(similarity, start)
        assert descended(similarity, found) == found  # it stands still where no tree can be bettered


def test_the_objective_counts_every_tensor_once() -> None:
    a, b, sym = network("mlp", "a"), network("mlp", "b"), symmetry("mlp")
    found = rt.random_alignment(sym, 0)
    carried = found.apply({n: comparable(t, sym.layouts[n]) for n, t in a.state_dict().items() if n != "layers.2.bias"})
    expected = sum(float((t * comparable(b.state_dict()[n], sym.layouts[n])).sum()) for n, t in carried.items())
    assert total(between(a, b, sym), found.permutations) == pytest.approx(expected, abs=1e-4)


def between(a: nn.Module, b: nn.Module, sym: rt.Symmetry) -> WeightSimilarity:
    return WeightSimilarity.of_states(sym, [(named_state(a), named_state(b))])


def test_the_best_of_all_permutations_is_found() -> None:
    """Two layers of three units: 36 permutations, tried one by one."""
    a, b = (
        rt.build_model("mlp", in_features=4, hidden=(3, 3), classes=2, generator=rt.generator_for(label))
        for label in ("a", "b")
    )
    sym = rt.discover(a, torch.randn(2, 4, generator=generator_for("x")), verify=False)
    similarity = between(a, b, sym)
    every = [
        dict(zip(sym.groups, (rt.Permutation(torch.tensor(p)) for p in pair), strict=True))
        for pair in itertools.product(itertools.permutations(range(3)), repeat=2)
    ]

    def value(permutations: Any) -> float:
        carried = rt.Alignment(sym, permutations).apply(a.state_dict())
        return sum(
            float((comparable(carried[name], layout) * comparable(tensor, layout)).sum())
            for (name, tensor), layout in zip(b.state_dict().items(), sym.layouts.values(), strict=True)
            if any(isinstance(term, Atom) for term in layout)
        )

    best = max(every, key=value)
    assert rt.match(a, b, sym, method="weight", restarts=8).permutations == best
    assert outside_in(similarity).keys() == sym.groups.keys()


def test_heads_are_compared_with_their_channels() -> None:
    """Beside a head stand channels whose order the head decides, so heads have no places of their own there."""
    sym = symmetry("encoder")
    heads = next(group for group in sym.groups.values() if any(group.name in o.parents for o in sym.groups.values()))
    assert places_of(sym, heads) == ()
    channels = [group for group in sym.groups.values() if heads.name in group.parents]
    assert channels
    assert all(places_of(sym, group) for group in channels)


def test_a_tensor_with_flattened_units_is_compared() -> None:
    layout = (Fixed(3), product(Atom("c", 4), Fixed(2)))
    sym = rt.Symmetry({"w": layout}, {"w": ("a single reason", "")})
    (place,) = places_of(sym, sym.groups["c"])
    assert (place.entries, place.given) == (6, frozenset())
    weight = torch.randn(3, 8, generator=generator_for("w"))
    swap = rt.Alignment(sym, {"c": rt.Permutation(torch.tensor([2, 0, 3, 1]))})
    similarity = WeightSimilarity.of_states(sym, [({"w": weight}, swap.apply({"w": weight}))])
    assert descended(similarity, rt.identity_alignment(sym).permutations) == swap.permutations


def test_several_checkpoints_are_matched_by_consensus() -> None:
    a, b, pi = planted("mlp")
    noise = [network("mlp", label) for label in ("x", "y")]
    found = rt.match([noise[0], a, a], [noise[1], b, b], symmetry("mlp"), method="weight")
    assert found.permutations == pi.permutations


def test_models_are_left_as_they_were() -> None:
    a, b, _ = planted("conv-small")
    before = [copy.deepcopy(model.state_dict()) for model in (a, b)]
    rt.match(a, b, symmetry("conv-small"), [example("conv-small", 8)], "combined")
    for model, state in zip((a, b), before, strict=True):
        assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in state.items())
        assert model.training


# ---------------------------------------------------------------- activations, weights and signs


def test_without_weights_and_signs_it_is_matching_by_activations() -> None:
    a, b = network("mlp", "a"), network("mlp", "b")
    data = [torch.randn(64, 12, generator=generator_for("data", k)) for k in range(3)]
    alone = rt.match(a, b, symmetry("mlp"), data, stop="never")
    assert rt.match(a, b, symmetry("mlp"), data, "combined", weights=0.0).permutations == alone.permutations
    assert rt.match(a, b, symmetry("mlp"), data, "combined", weights=50.0).permutations != alone.permutations


def test_the_term_of_signs_raises_their_agreement() -> None:
    a, b = network("mlp", "a"), network("mlp", "b")
    data, sym = [torch.randn(64, 12, generator=generator_for("data"))], symmetry("mlp")
    mask = rt.prune_magnitude(a, density=0.3)

    def agreeing(alignment: rt.Alignment) -> float:
        moved, kept = alignment.apply(a.state_dict()), alignment.apply(mask)
        same = sum(int((moved[n].sign() == b.state_dict()[n].sign())[kept[n]].sum()) for n in kept)
        return same / sum(int(one.sum()) for one in kept.values())

    shares = [
        agreeing(rt.match(a, b, sym, data, "combined", masks_a=mask, rewound_b=b, weights=0.0, signs=signs))
        for signs in (0.0, 20.0)
    ]
    assert shares[1] > shares[0] + 0.05


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"restarts": -1}, InputError, r"^restarts must be 0 or a number of random starts, got -1$"),
        ({"method": "combined"}, InputError, r"^matcher 'combined' needs batches of inputs"),
        (
            {"method": "combined", "batches": [], "weights": -1.0},
            InputError,
            r"^weights and signs must be 0 or more, got -1.0 and 1.0$",
        ),
        ({"method": "combined", "batches": []}, AlignmentError, r"^matching got no batches"),
        (
            {"method": "combined", "batches": [], "rewound_b": {}},
            InputError,
            r"^the term of signs needs both masks_a and rewound_b; give both, or neither$",
        ),
        ({"masks_a": {}}, InputError, r"^matcher 'weight' does not take the mask of A"),
    ],
)
def test_wrong_calls(options: dict[str, Any], error: type[Exception], words: str) -> None:
    a, b = network("mlp", "a"), network("mlp", "b")
    with pytest.raises(error, match=words):
        rt.match(a, b, symmetry("mlp"), **{"method": "weight", **options})


@pytest.mark.parametrize("method", ["weight", "combined"])
def test_weights_that_are_not_finite_are_refused(method: str) -> None:
    a, b = network("mlp", "a"), network("mlp", "b")
    with torch.no_grad():
        b.get_parameter("layers.1.weight")[0, 0] = torch.nan
    words = r"^(weights in 'layers.1.weight'|activations at site '.*') are not finite"
    with pytest.raises(AlignmentError, match=words):
        rt.match(a, b, symmetry("mlp"), [torch.randn(8, 12)] if method == "combined" else None, method)


def test_dead_units_and_equal_units_are_matched_all_the_same() -> None:
    a, b, pi = planted("mlp")
    with torch.no_grad():
        for model in (a, b):
            order = pi if model is b else rt.identity_alignment(symmetry("mlp"))
            index = order.permutations["layers.0.weight"].index
            for name in ("layers.0.weight", "layers.0.bias"):
                tensor = model.get_parameter(name)
                tensor[index == 0] = 0.0  # a dead unit
                tensor[index == 2] = tensor[index == 1]  # two units that compute the same
            column = model.get_parameter("layers.1.weight")
            column[:, index == 0] = 0.0
            column[:, index == 2] = column[:, index == 1]
    found = rt.match(a, b, symmetry("mlp"), method="weight")
    carried = found.apply(a.state_dict())
    assert all(torch.allclose(carried[name], tensor, atol=1e-6) for name, tensor in b.state_dict().items())


@pytest.mark.slow_cases("encoder")
@pytest.mark.parametrize("name", ["mlp", "encoder"])
def test_networks_of_zeros_are_alike_in_nothing(name: str) -> None:
    a, b = (network(name, label) for label in "ab")
    with torch.no_grad():
        for tensor in itertools.chain(a.parameters(), b.parameters()):
            tensor.zero_()
    found = rt.match(a, b, symmetry(name), method="weight")
    assert {(quality.correlation, quality.margin) for quality in found.quality.values()} == {(0.0, 0.0)}
