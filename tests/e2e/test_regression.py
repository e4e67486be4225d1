"""An experiment whose networks predict numbers, from its file to its report: the error that is to be lowered."""

import io
import re
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.data import TensorDataset

import reticket as rt
from reticket.cli.accuracies import show_accuracies
from reticket.errors import ConfigError
from reticket.report.grid import grid
from reticket.tasks.checks.barriers import Barrier
from reticket.tasks.planning import plan_experiment
from reticket.tasks.presets import load_config

HERE = __name__
RMSE = "root-mean-squared-error"
FILE = f"""
title = "Numbers"
[data]
name = "{HERE}:load_numbers"
[model]
name = "mlp"
params = {{ hidden = [24] }}
[dense]
epochs = 8
batch_size = 32
lr = 0.05
objective = "regression"
[sparse]
lr = 0.05
[prune]
rate = 0.5
epochs = 1
lr = 0.02
[grid]
seeds = 3
sparsities = [0.5, 0.85]
rewinds = ["0it", "1ep"]
[checks]
alphas = 3
"""


def load_numbers(folder: Path | None) -> tuple[TensorDataset, TensorDataset]:
    """Return features, and the size of their sums of three."""
    x = torch.randn(500, 6, generator=rt.generator_for("numbers"))
    y = x[:, :3].sum(1).abs() + 0.5 * x[:, 3:].sum(1).abs()
    return TensorDataset(x[:400], y[:400]), TensorDataset(x[400:], y[400:])


def absolute(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the absolute error, as an objective of one's own."""
    return (model(batch[0])[:, 0] - batch[1]).abs()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("regression") / "numbers.toml"
    path.write_text(FILE)
    return path


@pytest.fixture(scope="module")
def results(source: Path) -> rt.Results:
    found = rt.run(load_config(source, [])[1], out=source.parent / "out", name="numbers")
    assert found.complete, found.failures
    return found


@pytest.mark.slow
def test_the_table_holds_the_error_and_it_is_that_of_the_stored_networks(results: rt.Results) -> None:
    metric = results.experiment.metric
    assert (metric.name, metric.unit, metric.higher_is_better, metric.loss_unit) == (RMSE, "", False, "")
    assert {row.metric for row in results.rows} == {RMSE, "loss"}
    x, y = load_numbers(None)[1].tensors
    for row in results.rows:
        if row.metric == RMSE:
            loss = next(one for one in results.rows if one.metric == "loss" and one.keys == row.keys)
            assert_close(row.values, tuple(value**0.5 for value in loss.values if value), rtol=1e-6, atol=0)
    model = rt.build_model("mlp", in_features=6, hidden=(24,), classes=1)
    model.load_state_dict(results.weights(method="lth", sparsity=0.85, rewind="1ep", seed=2))
    row = next(one for one in results.rows if (one.method, one.sparsity, one.rewind) == ("lth", 0.85, "1ep"))
    with torch.no_grad():
        assert_close(float((model(x)[:, 0] - y).square().mean().sqrt()), row.values[2], rtol=1e-5, atol=0)
    dense = next(one for one in results.rows if one.method == "dense")
    assert dense.mean is not None
    assert dense.mean < 0.5 * float(y.std())


def test_a_gap_is_how_much_lower_the_error_of_lth_is(results: rt.Results) -> None:
    errors = {(one.method, one.sparsity, one.rewind): one for one in results.rows if one.metric == RMSE}
    assert len(results.gap_closed) == 4
    for gap in results.gap_closed:
        lth, naive, permuted = (
            torch.tensor(errors[method, gap.sparsity, gap.rewind].values) for method in ("lth", "naive", "permuted")
        )
        assert_close(gap.gap, float((naive - lth).mean()), rtol=1e-6, atol=1e-8)
        assert_close(gap.left, float((permuted - lth).mean()), rtol=1e-6, atol=1e-8)
        if gap.share is not None:
            assert_close(gap.share, 100 * float((naive - permuted).mean() / (naive - lth).mean()), rtol=1e-6, atol=0)
        assert "points" not in gap.reason
    for one in results.differences:
        better, worse = (torch.tensor(errors[m, one.sparsity, one.rewind].values) for m in (one.higher, one.lower))
        assert_close(one.mean, float((worse - better).mean()), rtol=1e-6, atol=1e-8)


def test_the_table_marks_the_lowest_error(results: rt.Results) -> None:
    table = grid(results)
    assert table is not None
    cells = {look.name: row for look, row in table.rows}
    for place in range(4):
        shown = {name: float(cells[name][place].mean) for name in ("permuted", "naive")}
        assert all(re.fullmatch(r"\d\.\d{2,3}", cells[name][place].mean) for name in shown)  # three figures
        best = [name for name in shown if cells[name][place].best]
        assert len(best) == 1
        assert shown[best[0]] == min(shown.values())


def test_the_barrier_is_that_of_the_loss(results: rt.Results) -> None:
    loss = {one.method: one for one in results.rows if one.metric == "loss"}["dense"]
    plain, moved = (
        next(one for one in results.of(Barrier) if one.pair == pair and not one.repair)
        for pair in ("A to B", "permuted A to B")
    )
    assert_close([curve[0] for curve in plain.loss], list(loss.values), rtol=1e-5, atol=0)
    assert_close([curve[0] for curve in moved.loss], list(loss.values), rtol=1e-3, atol=0)
    assert plain.accuracy == ()
    assert plain.accuracy_barrier.mean is None
    assert plain.loss_barrier.mean is not None
    assert moved.loss_barrier.mean is not None
    assert moved.loss_barrier.mean < plain.loss_barrier.mean


def test_the_report_and_the_terminal_speak_of_the_error(results: rt.Results) -> None:
    page = (results.folder / "report.html").read_text("utf-8")
    words = re.sub(r"<(style|script)\b.*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL)
    assert f"test {RMSE}" in words
    assert "the lowest mean of the methods" in words
    assert "Root-mean-squared-error against sparsity" in words
    assert "of the loss" in words  # the barrier
    foreign = re.search(r"accuracy|accuracies|nats|[\d.] points|\(points|%. test", words, re.IGNORECASE)
    assert foreign is None, words[max(0, foreign.start() - 80) : foreign.end() + 80]
    told = io.StringIO()
    show_accuracies(results, Console(file=told, width=120))
    assert f"test {RMSE}, mean ± sd, n = 3" in told.getvalue()
    tables = results.folder / "tables"
    assert (tables / f"{RMSE}.md").read_text("utf-8").count("\n") > 8
    assert "gap (points)" not in (tables / "gap_closed.md").read_text("utf-8")


def test_figures_of_each_training_are_logged_by_name(results: rt.Results) -> None:
    assert f'"{RMSE}"' in (results.folder / "metrics.jsonl").read_text("utf-8")


@pytest.mark.slow
def test_an_objective_of_ones_own_judges_by_its_loss(source: Path) -> None:
    settings = [f"dense.objective={HERE}:absolute", "grid.seeds=1", "grid.sparsities=[0.5]", 'grid.rewinds=["0it"]']
    found = rt.run(load_config(source, [*settings, "checks.barriers=false"])[1], out=source.parent / "own", name="own")
    assert {row.metric for row in found.rows} == {"loss"}
    assert found.experiment.metric.higher_is_better is False
    assert "test loss" in (found.folder / "report.html").read_text("utf-8")


def test_what_has_no_use_for_numbers_is_refused(source: Path) -> None:
    for objective in ("classification", "language-model"):
        config = load_config(source, [f"dense.objective={objective}"])[1]
        with pytest.raises(
            ConfigError, match=f"to be predicted, which dense.objective '{objective}' has no use for; set i"
        ):
            plan_experiment(config)
    members = load_config(source, ["checks.diversity_members=3"])[1]
    with pytest.raises(
        ConfigError, match="checks: 'diversity' compares which class networks choose, but numbers are to"
    ):
        [task for planned in plan_experiment(members) for task in planned.blueprint.targets]


@pytest.mark.slow
def test_a_sweep_compares_errors(source: Path) -> None:
    settings = [
        "grid.seeds=2",
        "grid.sparsities=[0.5]",
        'grid.rewinds=["0it", "1ep"]',
        "dense.epochs=2",
        "checks.alphas=3",
    ]
    config = load_config(source, [*settings, 'sweep."dense.lr"=[0.02, 0.05]'])[1]
    found = rt.run(config, out=source.parent / "sweep", name="sweep")
    page = (found.folder / "report.html").read_text("utf-8")
    words = re.sub(r"<(style|script)\b.*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL)
    assert "Root-mean-squared-error against the rewind point" in words
    foreign = re.search(r"accuracy|accuracies|nats|[\d.] points|\(points|%. test", words, re.IGNORECASE)
    assert foreign is None, words[max(0, foreign.start() - 80) : foreign.end() + 80]
    assert (found.folder / "tables" / f"{RMSE}.md").is_file()
    assert re.search(r"LTH, lr 0.05: \d\.\d{2,3} ± ", words)
