"""Laws of every optimiser by name: masked weights and their state stay 0; a cut run gives the bits of a whole one."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reticket import Mask, build_model, generator_for, load_dataset
from reticket.errors import ConfigError, TrainingError
from reticket.tasks.recipes import recipe_in, recipe_spec
from reticket.training import (
    OPTIMISERS,
    Callback,
    Moment,
    Placement,
    Recipe,
    Resume,
    Span,
    TrainingRun,
    TrainState,
    find_optimiser,
    train,
)
from reticket.training.state_tensors import flattened, rebuilt
from reticket.training.torch_optimisers import ELEMENTWISE, SHAPED, torch_kind
from tests.zoo.torchvision_operators import named_operators

HERE = __name__
DATA = load_dataset("digits", train_size=70)
NAMES = [name.lower() for name in (*ELEMENTWISE, *SHAPED) if name != "Muon"]  # which takes no vectors
RECIPE = Recipe(epochs=4, batch_size=16, lr=0.01, weight_decay=0.1, clip_norm=0.5)


class Lookahead(Optimizer):
    """Keeps slow weights that the fast ones come back to, and a count among the options of its group."""

    def __init__(self, params, lr: float, *, every: int = 3) -> None:
        super().__init__(params, {"lr": lr, "every": every, "count": 0})

    @torch.no_grad()
    def step(self, closure=None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move by the sign, of masked weights too, and every few steps half the way back."""
        for group in self.param_groups:
            group["count"] += 1
            for p in group["params"]:
                slow = self.state[p].setdefault("slow_buffer", [torch.ones_like(p), {"seen": 0}])
                p.sub_(torch.where(p.grad > 0, 1.0, -1.0), alpha=group["lr"])
                slow[1]["seen"] += 1
                if group["count"] % group["every"] == 0:
                    slow[0].lerp_(p, 0.5)
                    p.copy_(slow[0])


def in_two_groups(params, lr: float, weight_decay: float, *, slower: float = 0.5) -> Optimizer:
    """Return AdamW that decays matrices alone and moves vectors at a smaller rate."""
    matrices, vectors = [p for p in params if p.dim() > 1], [p for p in params if p.dim() < 2]
    return torch.optim.AdamW(
        [{"params": vectors, "weight_decay": 0.0, "lr": slower * lr}, {"params": matrices}],
        lr,
        weight_decay=weight_decay,
    )


OWN = (f"{HERE}:Lookahead", f"{HERE}:in_two_groups", "torch.optim:SGD")


def model_of() -> nn.Module:
    return build_model("mlp", hidden=(24, 24))  # one of its weights is square


def mask_of(model: nn.Module) -> Mask:
    return Mask(
        {n: torch.rand(p.shape, generator=generator_for(n)) < 0.3 for n, p in model.named_parameters() if p.dim() > 1}
    )


def trained(recipe: Recipe, **options) -> TrainState:
    model = model_of()
    return train(model, DATA, recipe, mask=mask_of(model), **options).state


def same(one: TrainState, two: TrainState) -> None:
    for part in ("weights", "optimizer", "mask"):
        a, b = getattr(one, part), getattr(two, part)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a), part
    assert one.history == two.history


@pytest.mark.parametrize("name", [*NAMES, *OWN])
def test_masked_weights_and_state_are_0_and_a_cut_run_gives_the_same_bits(name: str) -> None:
    recipe = replace(RECIPE, optimizer=name, lr=1.0 if name == "adadelta" else RECIPE.lr)
    whole, first = trained(recipe), trained(recipe, span=Span(stop=7))
    same(trained(recipe, resume=Resume(state=first)), whole)
    mask = mask_of(model_of())
    assert all(not whole.weights[key][~kept].any() for key, kept in mask.items())
    assert all(bool((whole.weights[key] != model_of().state_dict()[key])[kept].any()) for key, kept in mask.items())
    held = [t for t in whole.optimizer.values() if t.is_floating_point() and t.dim()]
    assert held or name in ("adafactor", "torch.optim:SGD") or name.startswith("torch")
    with pytest.raises(ConfigError, match=r"the state does not fit this optimiser|continue with the"):
        trained(recipe, resume=Resume(state=replace(first, optimizer={})))


@pytest.mark.parametrize("name", ["adamw", "rprop", "nadam", f"{HERE}:Lookahead", f"{HERE}:in_two_groups"])
def test_what_is_held_for_masked_weights_is_0_after_every_step(name: str) -> None:
    """Lookahead begins its slow weights at 1 and Rprop its step sizes at the rate: only the mask makes them 0."""
    mask, seen = mask_of(model_of()), 0

    class Watching(Callback):
        def after_step(self, run: TrainingRun) -> None:
            nonlocal seen
            for tensor, pruned in held_entries(run):
                assert not tensor[pruned].any()
                seen += 1

    train(model_of(), DATA, replace(RECIPE, optimizer=name), mask=mask, callbacks=[Watching()])
    assert seen >= 20


def held_entries(run: TrainingRun) -> list[tuple[Tensor, Tensor]]:
    """Return what the optimiser keeps in the shape of masked weights, each with where it is masked."""
    assert run.parameters.keep is not None
    views: Mapping[str, Tensor] = run.parameters.views(run.parameters.keep == 0)
    shaped = {"": run.parameters.keep == 0, **{name: view for name, view in views.items() if view.any()}}
    tensors = [t for t in run.optimiser.state.values() if t.is_floating_point()]
    return [(t, pruned) for t in tensors for pruned in shaped.values() if t.shape == pruned.shape]


def test_a_mask_that_is_set_later_clears_what_is_held() -> None:
    class Later(Callback):
        def after_step(self, run: TrainingRun) -> None:
            if run.step == 5:
                assert any(t.any() for t in run.optimiser.state.values() if t.dim() == 1 and t.is_floating_point())
                run.set_mask(mask_of(model_of()))
                assert all(not tensor[pruned].any() for tensor, pruned in held_entries(run))

    train(model_of(), DATA, replace(RECIPE, optimizer="adamw"), callbacks=[Later()])


KEPT: list[object] = []


def test_timms_optimisers_are_there_by_name() -> None:
    KEPT.append(named_operators())  # timm imports torchvision
    pytest.importorskip("timm")
    recipe = replace(RECIPE, optimizer="timm:lion", optimizer_options={"betas": [0.9, 0.98]})
    whole, first = trained(recipe), trained(recipe, span=Span(stop=7))
    same(trained(recipe, resume=Resume(state=first)), whole)
    with pytest.raises(ConfigError, match=r"^timm has no optimiser 'lyon', did you mean 'lion'\?$"):
        replace(RECIPE, optimizer="timm:lyon")


def test_groups_keep_their_proportion_to_the_rate_of_the_schedule() -> None:
    run = TrainingRun(
        model_of(),
        DATA,
        replace(RECIPE, optimizer=f"{HERE}:in_two_groups", optimizer_options={"slower": 0.1}),
        rng_label=("x",),
    )
    run.go(3)
    vectors, matrices = (group["lr"] for group in run.optimiser.optimizer.param_groups)  # pyright: ignore
    assert (vectors, matrices) == (pytest.approx(0.1 * run.lr(2)), run.lr(2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adamww"}, r"unknown optimiser 'adamww', did you mean 'adamw'\?"),
        ({"optimizer": "adamw", "optimizer_options": {"beta": 1}}, r"optimiser 'adamw' has no option 'beta', did you"),
        (
            {"optimizer": "adamw", "optimizer_options": {"betas": [0.9]}},
            r"option 'betas' of optimiser 'adamw' is \[0\.9\]",
        ),
        ({"optimizer": "torch.optim:LBFGS", "optimizer_options": {"max_iter": 2.5}}, r"option 'max_iter' of optimiser"),
        ({"optimizer": "torch.optim:Adan"}, r"optimiser 'torch\.optim:Adan' cannot be imported"),
        ({"optimizer": "json:dumps"}, r"optimiser 'json:dumps' cannot be used: it takes no lr; write a function"),
        ({"schedule": "cosin"}, r"unknown schedule 'cosin', did you mean 'cosine'\?"),
        ({"schedule": "linear", "schedule_options": {"ende": 1}}, r"schedule 'linear' has no option 'ende', did you"),
        ({"schedule": "json:dumps"}, r"schedule 'json:dumps' has the parameters .*; it gets the moment first"),
        ({"objective": "classifcation"}, r"recipe: unknown objective 'classifcation', did you mean 'classification'\?"),
        (
            {"objective": "regression", "label_smoothing": 0.1},
            r"recipe: label_smoothing is of classification; leave it",
        ),
        (
            {"objective": "json:dumps", "precision": "bfloat16"},
            r"recipe: 'json:dumps' runs the model itself, so precis",
        ),
        ({"clip_norm": 0.0}, r"recipe: clip_norm is 0\.0, but it must be above 0"),
        ({"accumulate": 17}, r"recipe: accumulate is 17, but it must be from 1 to 16"),
        ({"label_smoothing": 1.0}, r"recipe: label_smoothing is 1\.0, but it must be from 0 to below 1"),
    ],
)
def test_a_slip_is_named(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(RECIPE, **changes)


def test_an_optimiser_that_cannot_move_this_model_says_so() -> None:
    def stranger(params: list[nn.Parameter], lr: float) -> Optimizer:
        return torch.optim.Adam([torch.zeros(2, requires_grad=True)], lr)

    run = TrainingRun(model_of(), DATA, RECIPE, rng_label=("x",))
    with pytest.raises(ConfigError, match="the optimiser moves other tensors than it was given"):
        torch_kind("stranger", stranger)(run.parameters, {"lr": 0.1}, {})
    if hasattr(torch.optim, "Muon"):
        with pytest.raises(ConfigError, match=r"the optimiser cannot be made for this model \(Muon only supports 2D"):
            trained(replace(RECIPE, optimizer="muon"))


def test_steps_of_torchs_optimisers_are_not_recorded() -> None:
    recipe = replace(RECIPE, optimizer="adamw")

    def recorder(work, undo):
        raise AssertionError("nothing is recorded")

    run = TrainingRun(model_of(), DATA, recipe, rng_label=("x",), record=recorder)
    run.go(2)
    with pytest.raises(ConfigError, match="steps of 'adamw' cannot be recorded; leave graphs off"):
        TrainingRun(model_of(), DATA, recipe, rng_label=("x",), record=recorder, where=Placement(graphs=True))


def test_settings_of_an_optimiser_are_in_the_key_and_what_is_not_set_is_in_none() -> None:
    decisive = replace(RECIPE, optimizer="adamw", clip_norm=None).decisive()
    assert decisive["optimizer_options"] == {
        "betas": [0.9, 0.999], "eps": 1e-8, "amsgrad": False,
    }  # fmt: skip
    assert not decisive.keys() & {"schedule_options", "label_smoothing", "clip_norm", "accumulate"}
    assert replace(RECIPE, schedule="linear").decisive()["schedule_options"] == {"end": 0.0}


def test_all_but_two_of_torchs_optimisers_are_there() -> None:
    """LBFGS evaluates the loss itself; SparseAdam takes sparse gradients alone."""
    theirs = {n.lower() for n, t in vars(torch.optim).items() if isinstance(t, type) and issubclass(t, Optimizer)}
    assert theirs - set(OPTIMISERS) == {"optimizer", "lbfgs", "sparseadam"}
    assert find_optimiser("adamw").origin is torch.optim.AdamW


def test_a_nested_state_comes_back_as_it_was() -> None:
    state = {"state": {0: {"a": torch.ones(2), "b": [torch.zeros(()), (1, None)]}}, "groups": [{"lr": 0.1, "on": True}]}
    found = rebuilt(flattened(state))
    assert repr(found) == repr(state)
    assert isinstance(found["state"][0]["b"][1], tuple)
    with pytest.raises(TrainingError, match=r"the optimiser keeps a set in 'state/x', which no checkpoint can hold"):
        flattened({"state": {"x": {1}}})


def half(at: Moment) -> float:
    """Half the rate all the time."""
    return 0.5


def test_code_of_ones_own_is_in_the_key_and_that_of_torch_is_not() -> None:
    """A change of any of these functions gives new keys; torch's release is provenance, as everywhere."""
    plain = recipe_spec(replace(RECIPE, optimizer="adamw"))
    assert not [name for name in plain if name.endswith("_code")]
    assert recipe_spec(replace(RECIPE, optimizer="torch.optim:SGD")).keys() == recipe_spec(RECIPE).keys() | {
        "optimizer",
        "optimizer_options",
    }
    own = replace(RECIPE, optimizer=f"{HERE}:in_two_groups", schedule=f"{HERE}:half", objective=f"{HERE}:half")
    codes = {name: code for name, code in recipe_spec(own).items() if name.endswith("_code")}
    assert codes.keys() == {"optimizer_code", "schedule_code", "objective_code"}
    assert {len(code) for code in codes.values()} == {64}
    assert recipe_in({"recipe": recipe_spec(own)}).decisive() == own.decisive()
