"""A training of the user's own: given and returned as it is said, held to the mask, keyed by its source."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import reticket as rt
from reticket.errors import ConfigError, MaskError, TrainingError
from reticket.tasks.presets import load_config
from reticket.tasks.recipes import recipe_in, recipe_spec
from reticket.training import OwnTraining, ReportProgress, Span, TrainResult, TrainState

HERE = __name__
DATA = rt.load_dataset("digits", train_size=70)
TINY = Path(__file__).parents[1] / "e2e" / "tiny.toml"
MASK = {
    n: torch.rand(p.shape, generator=rt.generator_for(n)) < 0.4
    for n, p in rt.build_model("mlp").named_parameters()
    if p.dim() > 1
}


def adam(run: OwnTraining) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Train by AdamW, whose moments are handed on, with noise of torch's generator on the inputs."""
    named = dict(run.model.named_parameters())
    optimizer = torch.optim.AdamW(named.values(), lr=run.recipe.lr)
    for p, name in zip(named.values(), named, strict=True):
        if run.state:
            optimizer.state[p] = {key: run.state[f"{name}/{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
    with rt.sparse(run.model, rt.Mask(run.mask), optimizer) if run.mask else nullcontext():
        for x, y in run.batches():
            optimizer.param_groups[0]["lr"] = run.lr(run.step)
            loss = F.cross_entropy(run.model(x + 0.01 * torch.randn(x.shape)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.report(loss)
    kept = {f"{name}/{key}": value for name, p in named.items() for key, value in optimizer.state[p].items()}
    return run.model.state_dict(), kept


RECIPE = rt.Recipe(4, 16, 0.01, train=f"{HERE}:adam")


def same(one: TrainResult, two: TrainResult) -> bool:
    return all(torch.equal(one.weights[name], two.weights[name]) for name in two.weights)


def trained(recipe: rt.Recipe = RECIPE, mask: Mapping[str, Tensor] = MASK, **options) -> TrainResult:
    return rt.train(rt.build_model("mlp"), DATA, recipe, mask=mask, **options)


def test_the_function_trains_from_here_to_there_and_the_mask_is_held() -> None:
    whole, again = trained(), trained()
    assert same(whole, again)
    assert not same(whole, trained(rng_label=("other",)))
    assert (whole.steps, whole.epochs) == (20, 4.0)
    assert [r.step for r in whole.history] == [5, 10, 15, 20]
    assert whole.history[0].loss > whole.history[-1].loss
    assert all(not whole.weights[name][~kept].any() for name, kept in MASK.items())
    later = trained(span=Span(15))
    assert later.steps == 5
    assert [r.step for r in later.history] == [20]


def test_it_goes_on_from_the_weights_and_the_state_that_it_returned() -> None:
    """Without the noise, whose generator begins anew in each call, it is the run that never stopped, to the bit."""
    quiet = replace(RECIPE, train=f"{HERE}:quiet")
    first = trained(quiet, span=Span(stop=7))
    assert first.state.step == 7
    assert len(first.state.history) == 1
    on = trained(
        quiet,
        resume=rt.Resume(state=TrainState.from_tensors(first.state.tensors(), first.state.metadata())),
    )
    assert same(on, trained(quiet))
    assert [r.step for r in on.history] == [5, 10, 15, 20]
    forgetful = replace(first.state, optimizer={})
    assert not same(trained(quiet, resume=rt.Resume(state=forgetful)), on)


def quiet(run: OwnTraining) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Train as `adam` does, the noise left out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn", torch.zeros)
        return adam(run)


def test_loggers_hear_of_every_report() -> None:
    rows = []

    class Table:
        def on_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
            rows.append((step, *metrics))

    progress = []
    trained(
        callbacks=[
            rt.LogMetrics(Table(), accuracy=True),
            rt.LogMetrics(Table(), every=8),
            ReportProgress(progress.append),
        ]
    )
    assert rows == [
        (5, "loss", "lr", "accuracy"), (8, "loss", "lr"), (10, "loss", "lr", "accuracy"),
        (15, "loss", "lr", "accuracy"), (16, "loss", "lr"), (20, "loss", "lr", "accuracy"),
    ]  # fmt: skip
    assert (progress[-1].step, progress[-1].stop) == (20, 20)


def dense_all_the_same(run: OwnTraining) -> Mapping[str, Tensor]:
    return rt.build_model("mlp").state_dict()


def of_another(run: OwnTraining) -> Mapping[str, Tensor]:
    return rt.build_model("mlp", hidden=(3,)).state_dict()


def nothing(run: OwnTraining) -> None:
    return None


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (dense_all_the_same, r"returned weights of 'layers.0.weight' that the mask sets to 0; hold the mask with"),
        (
            of_another,
            r"returned \(3, 64\) for 'layers.0.weight', but the model has \(128, 64\); return",
        ),
        (nothing, r"the training '.*:nothing' returned a NoneType, but a state_dict was expected$"),
    ],
)
def test_what_it_returns_is_seen_to(function: Callable[[OwnTraining], object], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        trained(replace(RECIPE, train=f"{HERE}:{function.__name__}"))


def test_a_slip_is_named() -> None:
    with pytest.raises(ConfigError, match=r"training 'nowhere:fit' cannot be imported \(No module named 'nowhere'\)"):
        replace(RECIPE, train="nowhere:fit")
    with pytest.raises(ConfigError, match="is done by one process, step by step; start one"):
        trained(device=rt.Placement(graphs=True))
    with pytest.raises(ConfigError, match=r"the callback Callback may change the run, which .*; make it a reticket"):
        trained(callbacks=[rt.Callback()])
    with pytest.raises(MaskError, match=r"the mask of 'layers\.7\.weight' fits no parameter of this model"):
        trained(mask={"layers.7.weight": torch.ones(2, dtype=torch.bool)})


@pytest.mark.slow
def test_an_experiment_is_keyed_by_the_source_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Editing the function gives every task that trains another key; the mask is held in all of them."""
    code = "from tests.laws.test_training_own import adam\n\ndef fit(run):\n    return adam(run)\n"
    (tmp_path / "my_training.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    setting = [
        "dense.train=my_training:fit",
        "grid.seeds=1",
        "grid.sparsities=[0.7]",
        'grid.methods=["imp", "permuted"]',
    ]
    quick = [*setting, "checks.overlap=false", "checks.barriers=false", "checks.diversity_members=0"]
    config = load_config(TINY, quick)[1]
    spec = {"recipe": recipe_spec(config.dense)}
    assert len(spec["recipe"]["train_code"]) == 64
    assert recipe_in(spec) == config.dense
    results = rt.run(config, out=tmp_path / "out", name="own")
    assert results.complete, results.failures
    (row,) = [r for r in results.rows if r.method == "permuted" and r.metric == "accuracy" and r.rewind == "1ep"]
    assert all(value is not None and value > 30 for value in row.values)
    (tmp_path / "my_training.py").write_text(code + "# edited\n")
    assert recipe_spec(config.dense)["train_code"] != spec["recipe"]["train_code"]
