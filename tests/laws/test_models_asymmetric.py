"""Laws of asymmetric networks: initialisations agree on the frame alone, and nothing that trains moves it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.testing import assert_close

from reticket import build_model, discover, generator_for, load_dataset, prune_magnitude, random_alignment, true_density
from reticket.errors import ConfigError, MaskError, ModelError
from reticket.fixed import fixed_entries
from reticket.models import Frame, asymmetric, example_input, model_params
from reticket.symmetry import load_into
from reticket.tickets import Ticket
from reticket.tickets.methods import MethodInputs, get_method
from reticket.training import Recipe, Resume, Span, TrainingRun, train

DATA = load_dataset("digits", train_size=70)
SMALL = {"in_features": 64, "hidden": (12, 9), "classes": 10}
FRAME = {"share": 0.3, "scale": 2.0}
RECIPE = Recipe(epochs=3, batch_size=16, lr=0.05, momentum=0.9, weight_decay=0.1)


def framed(seed: int, **options: Any) -> nn.Module:
    return build_model("mlp", generator=generator_for(seed, "init"), **SMALL, asymmetric={**FRAME, **options})


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def fixed(model: nn.Module) -> dict[str, Tensor]:
    return {name: ~values.isnan() for name, values in fixed_entries(model).items()}


@pytest.mark.parametrize(
    ("name", "params"), [("mlp", SMALL), ("conv-small", {"widths": (4, 6, 6, 8)}), ("resnet20", {"width": 0.25})]
)
def test_two_initialisations_agree_on_the_frame_and_nowhere_else(name: str, params: dict[str, Any]) -> None:
    a, b, plain = (
        build_model(name, generator=generator_for(seed, "init"), **params, **more)
        for seed, more in ((1, {"asymmetric": FRAME}), (2, {"asymmetric": FRAME}), (1, {}))
    )
    assert fixed_entries(a).keys() == {n for n, p in a.named_parameters() if p.dim() > 1}
    assert a.state_dict().keys() == plain.state_dict().keys()
    of_a, of_b, before = weights(a), weights(b), weights(plain)
    for key, entries in fixed(a).items():
        assert torch.equal(of_a[key] == of_b[key], entries)
        assert torch.equal(entries, fixed(b)[key])
        assert (entries.flatten(1).sum(1) == round(0.3 * entries[0].numel())).all()
        assert torch.equal(of_a[key][~entries], before[key][~entries])
        other = fixed_entries(build_model(name, **params, asymmetric={**FRAME, "seed": 1}))[key]
        assert not torch.equal(other.isnan(), ~entries)


def test_constants_are_those_of_one_ordinary_draw_times_the_scale() -> None:
    drawn = weights(build_model("mlp", generator=generator_for("frame", 0, "init"), **SMALL))
    for key, values in fixed_entries(framed(1)).items():
        entries = ~values.isnan()
        assert_close(values[entries], 2 * drawn[key][entries])
        bound = 2 * values.shape[1] ** -0.5
        assert 0.8 * bound < values[entries].abs().max() <= bound


OPTIMISERS = {
    "sgd": RECIPE,
    "adamw": Recipe(epochs=3, batch_size=16, lr=0.01, optimizer="adamw", weight_decay=0.1),
    "sign-in": Recipe(
        epochs=3,
        batch_size=16,
        lr=0.05,
        weight_decay=0.1,
        parametrization="sign-in",
        parametrization_options={"every": 1},
    ),
    "clipped and averaged": Recipe(epochs=3, batch_size=16, lr=0.05, weight_decay=0.1, clip_norm=0.1, ema=0.5),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_frame_does_not_move_in_training_and_all_else_does(name: str) -> None:
    model = framed(1)
    trained, before = train(model, DATA, OPTIMISERS[name]).weights, weights(model)
    for key, entries in fixed(model).items():
        assert torch.equal(trained[key][entries], before[key][entries])
        assert (trained[key] != before[key])[~entries].float().mean() > 0.9
    loose = train(framed(1, frozen=False), DATA, OPTIMISERS[name]).weights
    with pytest.raises(AssertionError):  # the same begin, its entries trained
        assert_close(
            loose["layers.0.weight"][entry := fixed(model)["layers.0.weight"]], before["layers.0.weight"][entry]
        )


def test_a_moving_average_is_one_of_weights_and_finite() -> None:
    model = framed(1)
    result = train(model, DATA, OPTIMISERS["clipped and averaged"])
    assert result.state.average.keys() == model.state_dict().keys()
    assert all(tensor.isfinite().all() for tensor in result.state.average.values())
    assert all(torch.equal(result.state.average[name], tensor) for name, tensor in result.weights.items())


def test_a_trained_frame_begins_alike_and_a_share_of_0_is_the_ordinary_network() -> None:
    begun, held = framed(1, frozen=False), framed(1)
    assert_close(weights(begun), weights(held), rtol=0, atol=0)
    assert not fixed_entries(begun)
    none, plain = framed(1, share=0.0), build_model("mlp", generator=generator_for(1, "init"), **SMALL)
    assert_close(train(none, DATA, RECIPE).weights, train(plain, DATA, RECIPE).weights, rtol=0, atol=0)


def test_gradients_of_fixed_entries_do_not_shorten_those_of_others() -> None:
    clipped = Recipe(epochs=1, batch_size=70, lr=0.1, schedule="constant", weight_decay=0.0, clip_norm=1e-3)
    model = framed(1)
    after = train(model, DATA, clipped).weights
    moved = torch.cat([(after[name] - p.detach()).flatten() for name, p in model.named_parameters()])
    assert_close(float(moved.norm()), 1e-4, rtol=1e-3, atol=0)


def test_fixed_entries_are_pruned_like_others_and_stay_at_0() -> None:
    model = framed(1)
    mask = prune_magnitude(train(model, DATA, RECIPE).weights, 0.2, names=tuple(fixed_entries(model)))
    load_into(model, mask.apply_to(model.state_dict()))
    trained = train(model, DATA, RECIPE, mask=mask).weights
    assert true_density(mask, model) == mask.density == pytest.approx(0.2, abs=1e-3)
    for key, values in fixed_entries(model).items():
        entries = ~values.isnan()
        assert not trained[key][~mask[key]].any()
        assert torch.equal(trained[key][entries & mask[key]], values[entries & mask[key]])
        assert (entries & ~mask[key]).any()


def test_a_mask_may_lose_fixed_entries_and_never_gets_them_back() -> None:
    model, loose = framed(1), framed(1, frozen=False)
    masks = [prune_magnitude(model, density) for density in (0.5, 0.2)]
    for one in (model, loose):
        load_into(one, masks[0].apply_to(one.state_dict()))
    run, other = (TrainingRun(one, DATA, RECIPE, rng_label=("t",), mask=masks[0]) for one in (model, loose))
    for one in (run, other):
        one.set_mask(masks[1])
    other.set_mask(masks[0])
    with pytest.raises(
        MaskError, match=r"the new mask keeps \d+ fixed entries of an asymmetric model that were pruned"
    ):
        run.set_mask(masks[0])
    free = {k: kept | ~fixed(model)[k] if k in fixed(model) else kept for k, kept in masks[1].items()}
    run.set_mask(free)
    assert all(torch.equal(run.mask[key], kept) for key, kept in free.items())


def test_the_mask_that_a_run_tells_of_is_the_mask_alone() -> None:
    model = framed(1)
    mask = prune_magnitude(model, 0.5)
    load_into(model, mask.apply_to(model.state_dict()))
    run = TrainingRun(model, DATA, RECIPE, rng_label=("t",), mask=mask)
    assert all(torch.equal(run.mask[key], kept) for key, kept in mask.items())


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_run_that_is_cut_gives_the_bits_of_a_whole_one(name: str) -> None:
    model, recipe = framed(1), OPTIMISERS[name]
    mask = prune_magnitude(model, 0.5)
    load_into(model, mask.apply_to(model.state_dict()))
    whole = train(model, DATA, recipe, mask=mask)
    half = train(model, DATA, recipe, mask=mask, span=Span(stop=6))
    rest = train(model, DATA, recipe, mask=mask, resume=Resume(state=half.state))
    assert_close(rest.weights, whole.weights, rtol=0, atol=0)


def test_weights_that_are_saved_are_at_home_in_a_model_of_the_same_parameters(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = framed(1)
    save_file(dict(train(model, DATA, RECIPE).weights), tmp_path / "w.safetensors")
    again = framed(2)
    load_into(again, load_file(tmp_path / "w.safetensors"))
    more = train(again, DATA, RECIPE).weights
    assert all(torch.equal(more[key][e], model.state_dict()[key][e]) for key, e in fixed(model).items())
    assert fixed(again).keys() == fixed(model).keys()


def moved_units(model: nn.Module) -> None:
    random_alignment(discover(model, example_input("mlp", **SMALL)), 0).apply(model)


def another_frame(model: nn.Module) -> None:
    load_into(model, build_model("mlp", **SMALL, asymmetric={**FRAME, "seed": 5}).state_dict())


@pytest.mark.parametrize("change", [moved_units, another_frame])
def test_weights_outside_the_frame_are_not_trained(change: Callable[[nn.Module], None]) -> None:
    model = framed(1)
    change(model)
    with pytest.raises(
        ModelError, match=r"fixed entries of 'layers.0.weight' are neither what the frame of this model"
    ):
        train(model, DATA, RECIPE)


def test_signs_of_the_same_units_are_those_of_the_frame_and_signs_of_moved_units_are_not() -> None:
    a, b = framed(1), framed(2)
    ticket = Ticket.of(weights(a), prune_magnitude(a, 0.5, names=tuple(fixed_entries(a))))
    own = get_method("naive-signed")(MethodInputs(ticket=ticket, rewound_b=weights(b)))
    load_into(b, own.weights)
    train(b, DATA, RECIPE, mask=own.mask)
    alignment = random_alignment(discover(a, example_input("mlp", **SMALL)), 0)
    moved = get_method("signed")(MethodInputs(ticket=ticket, rewound_b=weights(framed(2)), alignment=alignment))
    load_into(b, moved.weights)
    with pytest.raises(ModelError, match=r"fixed entries of 'layers.0.weight' are neither"):
        train(b, DATA, RECIPE, mask=moved.mask)


def test_the_function_keeps_the_symmetry_that_the_frame_breaks() -> None:
    model, plain = framed(1), build_model("mlp", **SMALL)
    x = example_input("mlp", **SMALL)
    found, expected = discover(model, x), discover(plain, x)
    assert found.to_json() == expected.to_json()
    state = random_alignment(found, 0).apply(model.state_dict())
    entries = fixed(model)["layers.1.weight"]
    agree = (state["layers.1.weight"] == model.state_dict()["layers.1.weight"])[entries]
    assert agree.float().mean() < 0.5
    other = framed(2)
    load_into(other, state)
    assert_close(other(x), model(x))


def test_a_model_of_ones_own_can_have_a_frame() -> None:
    def net() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Sequential(nn.Linear(6, 2)))

    one, other, drawn = net(), net(), net()
    for model in (one, other):
        asymmetric(model, drawn, Frame(share=0.5))
    assert fixed(one).keys() == {"0.weight", "2.0.weight"}
    assert all(torch.equal(one.state_dict()[k] == other.state_dict()[k], e) for k, e in fixed(one).items())
    with pytest.raises(ModelError, match=r"the model that constants are drawn from has no layer '0' of this shape"):
        asymmetric(net(), nn.Sequential(nn.Linear(3, 6)), Frame(share=0.5))
    with pytest.raises(ModelError, match="ReLU has neither linear layers nor convolutions, so there is nothing to fix"):
        asymmetric(nn.ReLU(), nn.ReLU(), Frame(share=0.5))


class Tied(nn.Module):
    """Two layers of one weight, and a head that is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 64)
        self.enc, self.dec, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.dec.weight, self.head.weight = self.enc.weight, self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.dec(torch.relu(self.enc(x.flatten(1))))))


def test_a_weight_that_layers_share_is_framed_once_and_held() -> None:
    model, other, drawn = Tied(), Tied(), Tied()
    for one in (model, other):
        asymmetric(one, drawn, Frame(share=0.3))
    assert fixed(model).keys() == {"enc.weight", "embedding.weight"}
    trained, before = train(model, DATA, RECIPE).weights, weights(model)
    for key, entries in fixed(model).items():
        assert torch.equal(before[key] == weights(other)[key], entries)
        assert (entries.sum(1) == round(0.3 * 64)).all()
        assert torch.equal(trained[key][entries], before[key][entries])
        assert (trained[key] != before[key])[~entries].float().mean() > 0.9


def test_weights_that_are_tied_or_parametrized_after_their_frame_are_named() -> None:
    def net() -> nn.Sequential:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10))

    tied, normalised = asymmetric(net(), net(), Frame(share=0.3)), asymmetric(net(), net(), Frame(share=0.3))
    tied.get_submodule("2").weight = tied.get_submodule("1").weight
    with pytest.raises(ModelError, match=r"'1.weight' is also the weight of '2', which has fixed entries of its own"):
        train(tied, DATA, RECIPE)
    weight_norm(normalised.get_submodule("2"))
    with pytest.raises(ModelError, match=r"the weight of '2' has fixed entries, but is computed from other parameters"):
        train(normalised, DATA, RECIPE)
    with pytest.raises(ModelError, match=r"the weight of '2' is computed from other parameters, so none of its entr"):
        asymmetric(normalised, net(), Frame(share=0.3))


@pytest.mark.parametrize("name", ["mlp", "timm:resnet18"])
def test_parameters_of_one_model_are_one_text_however_its_frame_is_written(name: str) -> None:
    whole = {"share": 1.0, "scale": 1.0, "frozen": True, "seed": 0}
    spellings = [{"share": 1}, {"seed": 0, "share": 1.0}, {"share": 1, "scale": 1}, whole]
    found = {json.dumps(model_params(name, (1, 8, 8), 7, asymmetric=one), sort_keys=True) for one in spellings}
    assert len(found) == 1
    assert json.loads(found.pop())["asymmetric"] == whole
    assert "asymmetric" not in model_params(name, (1, 8, 8), 7)


def own_training(model: nn.Module, step: int, stop: int) -> None:
    """Never called."""


def test_messages() -> None:
    for options, message in (
        ({"shar": 0.1}, r"asymmetric is \{'shar': 0.1\}, expected a table such as \{ share = 0.1 \}"),
        ({"share": 0.1, "scal": 2.0}, r"asymmetric has no 'scal', did you mean 'scale'\?; it has share, scale, frozen"),
        ({"share": 1.5}, r"share is 1.5 and scale 1.0; a share lies in \[0, 1\], a scale above 0"),
        ({"share": 0.1, "scale": 0}, r"a scale above 0"),
        ({"share": 0.1, "frozen": 1}, r"asymmetric: frozen is 1, expected a bool"),
        ({"share": True}, r"asymmetric: share is True, expected a float"),
        (0.1, r"asymmetric is 0.1, expected a table"),
    ):
        with pytest.raises(ModelError, match=message):
            build_model("mlp", **SMALL, asymmetric=options)
    with pytest.raises(ConfigError, match="does not hold the fixed entries of an asymmetric model"):
        train(framed(1), DATA, Recipe(epochs=1, batch_size=16, lr=0.1, train=f"{__name__}:own_training"))
