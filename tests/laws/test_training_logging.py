"""What a logger is given is what the run did, and no result depends on whether somebody looks."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.data import TensorDataset

from reticket.data import collected
from reticket.experiment import ExecutionConfig
from reticket.models import build_model
from reticket.rng import generator_for
from reticket.tasks.presets import load_config
from reticket.tasks.running import run_experiment
from reticket.training import (
    LogMetrics,
    Recipe,
    Resume,
    Span,
    TrainingRun,
    TrainState,
    evaluate,
    learning_rate,
    train,
)
from tests.ranks import data, mask_of

ORDER = ("logging", 0)
RECIPE = Recipe(epochs=3, batch_size=16, lr=0.05, warmup_epochs=1)  # of 4 steps each


class Logger:
    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []

    def on_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        self.seen.append((step, dict(metrics)))


def trained(*loggers: LogMetrics, **options: Any) -> TrainState:
    model = build_model("conv-small", in_channels=3, widths=(4, 6, 6, 8), classes=4)
    return train(model, data(), RECIPE, rng_label=ORDER, mask=mask_of(model), callbacks=loggers, **options).state


@pytest.fixture(scope="module")
def logged() -> tuple[TrainState, Logger, Logger]:
    """A sparse run, logged by epochs with the accuracy, and every other step."""
    epochs, steps = Logger(), Logger()
    return trained(LogMetrics(epochs, accuracy=True), LogMetrics(steps, every=2)), epochs, steps


def test_no_bit_depends_on_who_looks(logged: tuple[TrainState, Logger, Logger]) -> None:
    assert_close(logged[0].tensors(), trained().tensors(), rtol=0, atol=0)


def test_an_epoch_is_logged_as_the_history_has_it(logged: tuple[TrainState, Logger, Logger]) -> None:
    state, epochs, _ = logged
    assert [step for step, _ in epochs.seen] == [4, 8, 12]
    model = build_model("conv-small", in_channels=3, widths=(4, 6, 6, 8), classes=4)
    for (step, metrics), record in zip(epochs.seen, state.history, strict=True):
        cut = trained(span=Span(stop=step))
        accuracy = evaluate(model, data(), weights=cut.weights).accuracy
        assert metrics == {"loss": record.loss, "lr": record.lr, "accuracy": accuracy}


def test_a_step_is_logged_with_its_own_loss_and_rate(logged: tuple[TrainState, Logger, Logger]) -> None:
    """That of an epoch's last step too, whose losses have been read by then."""
    steps = logged[2].seen
    assert [step for step, _ in steps] == [2, 4, 6, 8, 10, 12]
    losses = trained(span=Span(stop=3)).epoch_losses
    assert steps[0][1] == {"loss": float(losses[1]), "lr": learning_rate(RECIPE, 1, 0, 4)}
    assert steps[1][1]["lr"] == learning_rate(RECIPE, 3, 0, 4) == 0.05
    last = 4 * logged[0].history[0].loss - float(losses.double().sum())
    assert steps[1][1]["loss"] == pytest.approx(last, rel=1e-6)
    assert steps[3][1] != steps[1][1]


def test_where_numbers_are_predicted_the_metric_of_the_objective_is_logged() -> None:
    x = torch.randn(60, 3, generator=generator_for("numbers"))
    part = TensorDataset(x, x.sum(1))
    numbers, model, logger = collected("numbers", (part, part)), nn.Linear(3, 1), Logger()
    recipe = Recipe(epochs=2, batch_size=20, lr=0.1, weight_decay=0.0, objective="regression")
    result = train(model, numbers, recipe, callbacks=[LogMetrics(logger, accuracy=True)])
    model.load_state_dict(dict(result.weights))
    error = (model(x)[:, 0] - x.sum(1)).square().mean().sqrt()
    assert_close(logger.seen[-1][1]["root-mean-squared-error"], float(error.detach()), rtol=1e-5, atol=0)
    assert sorted(logger.seen[0][1]) == ["loss", "lr", "root-mean-squared-error"]


def test_a_run_that_goes_on_logs_the_rest() -> None:
    logger, part = Logger(), trained(span=Span(stop=5))
    trained(LogMetrics(logger), resume=Resume(state=part))
    assert [step for step, _ in logger.seen] == [8, 12]


def test_recorded_steps_are_logged_alike() -> None:
    loggers = []
    for record in (None, lambda work, undo: work):
        model, logger = build_model("mlp", in_features=192, hidden=(8,), classes=4), Logger()
        run = TrainingRun(
            model, data(), RECIPE, rng_label=ORDER, record=record, callbacks=[LogMetrics(logger, every=1)]
        )
        run.go(run.total)
        loggers.append(logger)
    assert [step for step, _ in loggers[1].seen] == list(range(1, 13))
    for (_, one), (_, other) in zip(loggers[0].seen, loggers[1].seen, strict=True):
        assert one == pytest.approx(other, rel=1e-5)


CONFIG = """
title = "Digits"
[data]
name = "digits"
train_size = 200
[model]
name = "mlp"
params = { in_features = 64, hidden = [8], classes = 10 }
[dense]
epochs = 2
batch_size = 64
lr = 0.1
[sparse]
lr = 0.1
[prune]
rate = 0.6
epochs = 1
lr = 0.02
[grid]
seeds = 1
sparsities = [0.6]
rewinds = ["1ep"]
methods = ["imp", "naive"]
[checks]
alphas = 3
"""


@pytest.mark.slow
def test_the_metrics_of_an_experiment_are_in_its_log(tmp_path: Path) -> None:
    """By task, dense and sparse: once an epoch the loss and the rate, at the end the accuracy that the result has."""
    (tmp_path / "experiment.toml").write_text(CONFIG)
    config, heard = load_config(tmp_path / "experiment.toml")[1], []
    execution = ExecutionConfig(loggers="csv")
    summary = run_experiment(config, tmp_path / "out", execution=execution, on_event=heard.append)
    assert summary.complete
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    seen = [line for line in lines if line["kind"] == "metrics"]
    assert len(seen) == sum(event.kind == "metrics" for event in heard)
    with (tmp_path / "out" / "logs" / "metrics.csv").open() as file:
        table = [(row["key"], int(row["step"]), row["metric"], float(row["value"])) for row in csv.DictReader(file)]
    assert table == [(line["key"], line["step"], *one) for line in seen for one in line["metrics"].items()]
    assert {line["task"] for line in seen} == {"dense", "prune-round", "sparse"}
    for key in {line["key"] for line in seen if line["task"] == "sparse"}:
        own = [(line["step"], line["metrics"]) for line in seen if line["key"] == key]
        assert [(step, sorted(metrics)) for step, metrics in own] == [
            (8, ["loss", "lr"]),
            (8, ["accuracy", "test_loss"]),
        ]
        values = next((tmp_path / "out" / "store" / "results").rglob(f"{key}/values.json"))
        assert json.loads(values.read_text())["accuracy"] == own[-1][1]["accuracy"]
