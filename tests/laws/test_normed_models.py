"""Pruned, weight-normed, spectral-normed models and models with several outputs, in everything that runs a model."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from reticket.connectivity import barrier, interpolate, repair
from reticket.copied import private_copy
from reticket.data import Reading, load_dataset
from reticket.errors import InputError, MaskError, ModelError, TrainingError
from reticket.rng import generator_for
from reticket.tickets import Mask
from reticket.training import Recipe, evaluate, train

DATA = load_dataset("digits", train_size=60, test_size=40)
RECIPE = Recipe(epochs=1, batch_size=20, lr=0.1)
X = torch.randn(24, 64, generator=generator_for("x"))
Y = torch.randint(10, (24,), generator=generator_for("y"))


def older_weight_norm(layer: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        weight_norm(layer)


WRAPS: dict[str, Callable[[nn.Module], object]] = {
    "prune": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    "weight_norm": older_weight_norm,
    "spectral_norm": spectral_norm,
    "parametrized": parametrizations.weight_norm,
}


def net(name: str, *, which: int = 0, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    WRAPS[name](model[which])
    model(X)  # from here on `weight` is no leaf
    return model


@pytest.mark.parametrize("name", WRAPS)
def test_a_copy_computes_the_same_and_shares_nothing(name: str) -> None:
    model = net(name).eval()
    twin = private_copy(model)
    torch.testing.assert_close(twin(X), model(X), rtol=0, atol=0)
    own = {tensor.data_ptr() for tensor in model.state_dict().values()}
    assert own.isdisjoint({tensor.data_ptr() for tensor in twin.state_dict().values()})
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert twin[0].weight.abs().sum() > 0 or name == "parametrized"  # stale until a forward  # pyright: ignore
    assert not torch.equal(twin.state_dict()["2.weight"], model.state_dict()["2.weight"])


@pytest.mark.parametrize("name", ["prune", "weight_norm", "spectral_norm"])
def test_a_plain_deep_copy_fails(name: str) -> None:
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(net(name))


@pytest.mark.parametrize("name", WRAPS)
def test_evaluation_is_that_of_the_model_itself(name: str) -> None:
    model = net(name)
    found = evaluate(model, DATA)
    expected = torch.cat([model.eval()(x) for x, _ in Reading(DATA, "test", 40)])
    torch.testing.assert_close(found.logits, expected.detach())


@pytest.mark.parametrize("name", WRAPS)
def test_training_moves_a_copy_and_keeps_what_is_pruned(name: str) -> None:
    model = net(name)
    before = copy.deepcopy(dict(model.state_dict()))
    state = train(model, DATA, RECIPE, rng_label=("normed",)).state
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert state.weights.keys() == before.keys()
    assert not torch.equal(state.weights["2.weight"], before["2.weight"])
    changed = {key for key in before if not torch.equal(state.weights[key], before[key])}
    assert len(changed) >= len(before) - (name == "prune")  # the pruning mask alone stays


def test_training_holds_a_mask_on_pruned_and_tied_weights_and_says_where_it_cannot() -> None:
    kept = torch.rand(8, 64, generator=generator_for("mask")) > 0.5
    weights = train(net("prune"), DATA, RECIPE, rng_label=("m",), mask=Mask({"0.weight": kept})).state.weights
    assert not weights["0.weight_orig"][~kept].any()
    assert weights["0.weight_orig"][kept].any()
    with pytest.raises(MaskError, match=r"'0\.weight', which is no trainable parameter of this model"):
        train(net("parametrized"), DATA, RECIPE, rng_label=("m",), mask=Mask({"0.weight": kept}))
    torch.manual_seed(0)
    tied = nn.Sequential(nn.Linear(64, 10), nn.Linear(10, 10, bias=False), nn.ReLU(), nn.Linear(10, 10, bias=False))
    tied[3].weight = tied[1].weight
    square = torch.rand(10, 10, generator=generator_for("square")) > 0.5
    for mask, expected in (
        ({"3.weight": square}, square),
        ({"1.weight": square}, square),
        ({"1.weight": square, "3.weight": square.T}, square & square.T),
    ):
        weights = train(tied, DATA, RECIPE, rng_label=("t",), mask=mask).state.weights
        assert torch.equal(weights["1.weight"] != 0, expected)
        assert torch.equal(weights["3.weight"], weights["1.weight"])


@pytest.mark.parametrize("name", WRAPS)
def test_barriers_are_those_of_the_interpolated_networks(name: str) -> None:
    model, other = net(name), net(name, seed=1)
    a, b = (copy.deepcopy(dict(m.state_dict())) for m in (model, other))
    curve = barrier(model, a, b, [(X, Y)], (0, 0.5, 1))
    for alpha, loss in zip((0, 0.5, 1), curve.loss, strict=True):
        model.load_state_dict(interpolate(a, b, alpha))
        assert F.cross_entropy(model.eval()(X), Y).item() == pytest.approx(loss, rel=1e-5)


@pytest.mark.slow_cases(but=["parametrized"])
@pytest.mark.parametrize("name", WRAPS)
def test_repair_refuses_what_it_would_rescale_and_leaves_the_final_layer(name: str) -> None:
    model = net(name)
    ends = (dict(model.state_dict()), dict(net(name, seed=1).state_dict()))
    with pytest.raises(ModelError, match="cannot rescale layer '0': it has no plain parameter 'weight'"):
        repair(model, ends, 0.5, [X])
    model = net(name, which=2)
    ends = (dict(model.state_dict()), dict(net(name, which=2, seed=1).state_dict()))
    repaired = repair(model, ends, 0.5, [X])
    assert not torch.equal(repaired["0.weight"], interpolate(*ends, 0.5)["0.weight"])


@dataclass
class Output:
    """Two outputs by name."""

    logits: Tensor
    aux: Tensor


class Pair(NamedTuple):
    """Two outputs by name and place."""

    logits: Tensor
    aux: Tensor


SEVERAL: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "tuple": lambda x, y: (x, y),
    "list": lambda x, y: [x, y],
    "Pair": Pair,
    "dict": lambda x, y: {"logits": x, "aux": y},
    "Output": Output,
    "NoneType": lambda x, y: None,
}


class Several(nn.Module):
    """A classifier with an auxiliary head."""

    def __init__(self, of: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.body, self.aux, self.head = nn.Linear(64, 8), nn.Linear(8, 10), nn.Linear(8, 10)
        self.of = of

    def forward(self, x: Tensor) -> Any:
        x = torch.relu(self.body(x))
        aux = self.aux(x)
        return self.of(self.head(x), aux)


@pytest.mark.parametrize("kind", ["Pair", "dict", "Output"])
def test_of_several_outputs_those_called_logits_are_taken(kind: str) -> None:
    model, plain = Several(SEVERAL[kind]), Several(lambda x, y: x)
    plain.load_state_dict(model.state_dict())
    assert evaluate(model, DATA).loss == evaluate(plain, DATA).loss
    trained = [train(one, DATA, RECIPE, rng_label=("several",)).weights for one in (model, plain)]
    torch.testing.assert_close(*({n: w for n, w in one.items() if "aux" not in n} for one in trained), rtol=0, atol=0)
    state = dict(model.state_dict())
    assert barrier(model, state, state, [(X, Y)]).loss == barrier(plain, state, state, [(X, Y)]).loss


REFUSED = {"tuple": SEVERAL["tuple"], "list": SEVERAL["list"], "NoneType": SEVERAL["NoneType"]}
REFUSED["dict"] = lambda x, y: {"head": x, "aux": y}


@pytest.mark.parametrize("kind", REFUSED)
def test_models_with_several_outputs_are_refused_in_one_sentence(kind: str) -> None:
    model = Several(REFUSED[kind])
    said = rf"the model returns a {kind}( of .*)?, but one tensor of logits was expected; wrap it in a module"
    with pytest.raises(TrainingError, match=said):
        evaluate(model, DATA)
    with pytest.raises(TrainingError, match=said):
        train(model, DATA, RECIPE, rng_label=("several",))
    state = dict(model.state_dict())
    with pytest.raises(InputError, match=said):
        barrier(model, state, state, [(X, Y)])


@pytest.mark.parametrize("kind", ["tuple", "dict", "Output", "Pair"])
def test_repair_leaves_every_head_alone_however_outputs_are_wrapped(kind: str) -> None:
    torch.manual_seed(0)
    model, other = Several(SEVERAL[kind]), Several(SEVERAL[kind])
    ends = (dict(model.state_dict()), dict(other.state_dict()))
    repaired, plain = repair(model, ends, 0.5, [X]), interpolate(*ends, 0.5)
    changed = {name for name in plain if not torch.equal(repaired[name], plain[name])}
    assert changed == {"body.weight", "body.bias"}
