"""Laws of weights that are trained as products: the same function, exact zeros, the same bits however a run is cut."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from reticket import Mask, build_model, generator_for, load_dataset
from reticket.errors import ConfigError
from reticket.tasks.config import parse_config
from reticket.tasks.presets import load_config
from reticket.tasks.recipes import recipe_in, recipe_spec
from reticket.tickets import sign_in
from reticket.training import Callback, Recipe, Resume, SignIn, Span, TrainingRun, TrainResult, TrainState, train
from tests.ranks import Convolutions, RigL, data, mask_of

RECIPE = Recipe(epochs=5, batch_size=16, lr=0.05, parametrization="sign-in")  # of 4 steps each
CUTS = (3, 4, 8, 10)  # at a change of the mask, at an epoch's end, between
OPTIMISERS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "adamw": {"optimizer": "adamw", "lr": 0.01},
    "ema": {"ema": 0.9, "clip_norm": 0.5},
}


def trained(recipe: Recipe, *callbacks: Callback, **options: Any) -> TrainResult:
    model = Convolutions(0.3)
    return train(model, data(), recipe, rng_label=("products", 0), mask=mask_of(model), callbacks=callbacks, **options)


def factors(run: TrainingRun) -> tuple[SignIn, Tensor, Tensor]:
    assert isinstance(run.optimiser, SignIn)
    first, second = run.optimiser.factors.weights.split(run.parameters.length)
    return run.optimiser, first, second


class Watching(Callback):
    """Holds the weights against their factors around every step."""

    def __init__(self) -> None:
        self.begun: dict[str, Tensor] = {}
        self.moved: dict[str, Tensor] = {}
        self.imbalance: list[float] = []

    def on_start(self, run: TrainingRun) -> None:
        self.begun = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
        self._check(run)

    def after_step(self, run: TrainingRun) -> None:
        self._check(run)
        _, first, second = factors(run)
        self.imbalance.append(float((first.square() - second.square())[self._kept(run)].min()))

    def _check(self, run: TrainingRun) -> None:
        optimiser, first, second = factors(run)
        is_product = self._is_product(run)
        assert_close((first * second)[is_product], run.parameters.weights[is_product], rtol=1e-6, atol=1e-12)
        assert torch.equal(first[~is_product], run.parameters.weights[~is_product])
        assert run.parameters.keep is not None
        pruned = run.parameters.keep == 0
        for tensor in (run.parameters.weights, first, second):
            assert not tensor[pruned].any()
            assert not torch.signbit(tensor[pruned]).any()
        assert not optimiser.factors.gradient.view(2, -1)[:, pruned].any()

    def _is_product(self, run: TrainingRun) -> Tensor:
        found = torch.zeros(run.parameters.length, dtype=torch.bool)
        for name in run.mask:
            run.parameters.views(found)[name].fill_(True)
        return found

    def _kept(self, run: TrainingRun) -> Tensor:
        assert run.parameters.keep is not None
        return self._is_product(run) & (run.parameters.keep != 0)


@pytest.mark.parametrize("name", ["sgd", "adamw"])  # an average of weights is not that of their factors
def test_weights_are_products_and_masked_ones_0_at_every_step(name: str) -> None:
    watching, model = Watching(), Convolutions(0.3)
    result = trained(replace(RECIPE, **OPTIMISERS[name]), RigL(), watching)
    assert_close(watching.begun, Mask(mask_of(model)).apply_to(dict(model.state_dict())), rtol=0, atol=0)
    for key, kept in result.mask.items():
        grown = kept & ~mask_of(model)[key]
        assert grown.any()
        assert result.weights[key][grown].all()  # what is let go moves, though both factors were 0
        assert not result.weights[key][~kept].any()


def test_a_reset_brings_the_imbalance_back_and_leaves_every_weight() -> None:
    class Resetting(Callback):
        def __init__(self) -> None:
            self.seen = 0

        def after_step(self, run: TrainingRun) -> None:
            optimiser, first, second = factors(run)
            before, turned = run.parameters.weights.clone(), first < 0
            product = (first * second).clone()
            optimiser.end_epoch(0)
            kept = Watching()._kept(run)
            assert torch.equal(run.parameters.weights, before)
            assert_close(first * second, product)
            assert_close((first.square() - second.square())[kept], torch.full((int(kept.sum()),), 0.7))
            assert torch.equal(first < 0, turned)
            self.seen += 1

    resetting = Resetting()
    trained(replace(RECIPE, parametrization_options={"beta": 0.7}), resetting)
    assert resetting.seen == 20
    strong = replace(RECIPE, weight_decay=0.5)
    reset, never = Watching(), Watching()
    trained(strong, reset)
    trained(replace(strong, parametrization_options={"every": 0}), never)
    assert never.imbalance[-1] < 0.8 * min(reset.imbalance)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_run_that_is_cut_anywhere_gives_the_bits_of_a_whole_one(name: str) -> None:
    recipe = replace(RECIPE, **OPTIMISERS[name])
    whole, state = trained(recipe, RigL()).state, None
    for cut in CUTS:
        part = trained(recipe, RigL(), span=Span(stop=cut), resume=Resume(state=state)).state
        state = TrainState.from_tensors(part.tensors(), part.metadata())
    assert state is not None
    ended = trained(recipe, RigL(), resume=Resume(state=state)).state
    assert_close(ended.tensors(), whole.tensors(), rtol=0, atol=0)
    twisted = {**state.optimizer, "factors": state.optimizer["factors"] * 1.001}
    other = trained(recipe, RigL(), resume=Resume(state=replace(state, optimizer=twisted))).state
    with pytest.raises(AssertionError):  # the factors decide, not the weights alone
        assert_close(ended.tensors(), other.tensors(), rtol=0, atol=0)
    without = {key: tensor for key, tensor in state.optimizer.items() if key != "factors"}
    with pytest.raises(ConfigError, match="the state does not fit these products"):
        trained(recipe, resume=Resume(state=replace(state, optimizer=without)))


def test_a_parametrization_is_in_keys_where_it_is_set() -> None:
    plain = replace(RECIPE, parametrization="plain")
    assert not any(name.startswith("parametrization") for name in plain.decisive())
    options = RECIPE.decisive()["parametrization_options"]
    assert options == {"beta": 1.0, "every": 1}
    assert recipe_in({"recipe": recipe_spec(RECIPE)}) == replace(RECIPE, parametrization_options=options)


def test_an_experiment_trains_every_sparse_run_so_and_nothing_else() -> None:
    _, plain = load_config("digits")
    _, found = load_config("digits", ["sparse.parametrization=sign-in", "sparse.parametrization_options.beta=0.5"])
    assert found.sparse_recipe == replace(
        plain.sparse_recipe, parametrization="sign-in", parametrization_options={"beta": 0.5}
    )
    assert (found.dense, found.finetuning_recipe) == (plain.dense, plain.finetuning_recipe)
    _, dense = load_config("digits", ["dense.parametrization=sign-in"])
    assert dense.sparse_recipe.parametrization == "sign-in"
    _, back = load_config("digits", ["dense.parametrization=sign-in", "sparse.parametrization=plain"])
    assert back.sparse_recipe.parametrization == "plain"
    assert parse_config(found.model_dump(), "again") == found


# ---------------------------------------------------------------- in a loop of one's own


def described(model: nn.Module) -> list[tuple[str, int, tuple[int, ...]]]:
    return [(name, id(p), tuple(p.shape)) for name, p in model.named_parameters()]


def test_a_loop_of_ones_own_leaves_the_model_with_the_weights_it_had() -> None:
    digits, model = load_dataset("digits", train_size=70), build_model("mlp", hidden=(24,))
    mask = Mask(
        {n: torch.rand(p.shape, generator=generator_for(n)) < 0.3 for n, p in model.named_parameters() if p.dim() > 1}
    )
    model.load_state_dict(mask.apply_to(dict(model.state_dict())))
    x, before, classes = digits.normalise(digits.train_x), described(model), [type(m) for m in model.modules()]
    plain = model(x)
    with sign_in(model, mask) as products:
        assert_close(model(x), plain, rtol=1e-5, atol=1e-6)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(5):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), digits.train_y).backward()
            optimizer.step()
            for first, second in products.factors.values():
                first.data += 0.01  # as an optimizer that moves what has no gradient
                second.data += 0.01
        last = model(x)
        products.rescale()
        assert_close(model(x), last, rtol=1e-5, atol=1e-6)
        imbalance = {name: (m**2 - w**2)[mask[name]] for name, (m, w) in products.factors.items()}
        assert_close(imbalance, {name: torch.ones_like(values) for name, values in imbalance.items()})
    assert_close(model(x), last, rtol=1e-5, atol=1e-6)
    assert described(model) == before
    assert [type(m) for m in model.modules()] == classes
    weights: Mapping[str, Tensor] = model.state_dict()
    assert not any(weights[name][~kept].any() for name, kept in mask.items())
