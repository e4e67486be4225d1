"""Threads that share a GPU, each with a stream of its own: every one computes what it computes alone."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reticket.experiment import ExecutionConfig, Summary
from reticket.rng import shared_by_threads
from reticket.tasks.presets import load_config
from reticket.tasks.running import run_experiment
from reticket.training import TrainResult
from tests.cuda.cases import MODELS, RECIPE, own_stream, same_bits, trained
from tests.ranks import mask_of

pytestmark = pytest.mark.cuda

Work = Callable[[], list[TrainResult]]
DIGITS = """
title = "Digits"
[data]
name = "digits"
train_size = 300
[model]
name = "mlp"
params = { in_features = 64, hidden = [16], classes = 10 }
[dense]
epochs = 3
batch_size = 64
lr = 0.1
[sparse]
lr = 0.1
[prune]
rate = 0.6
epochs = 1
lr = 0.02
[grid]
seeds = 2
sparsities = [0.6]
rewinds = ["1ep"]
methods = ["dense", "imp", "lth", "permuted", "naive"]
[checks]
alphas = 3
"""
CONVOLUTIONS = """
title = "Convolutions"
[data]
name = "tests.cuda.cases:images"
params = { n = 120 }
[model]
name = "conv-small"
params = { in_channels = 3, widths = [4, 6, 6, 8], classes = 4 }
[dense]
epochs = 3
batch_size = 32
lr = 0.05
[sparse]
lr = 0.05
[prune]
rate = 0.6
epochs = 1
lr = 0.02
[matching]
batch_size = 50
[grid]
seeds = 2
sparsities = [0.6]
rewinds = ["1ep"]
methods = ["dense", "imp", "permuted", "naive"]
[checks]
alphas = 3
barriers = ["dense A to IMP A"]
"""


def carried_out(config: Path, executor: str, jobs: int, device: str) -> tuple[Summary, dict[str, bytes]]:
    folder = config.parent / executor
    execution = ExecutionConfig(jobs=jobs, executor=executor, device=device)
    summary = run_experiment(load_config(config)[1], folder, execution=execution)
    results = folder / "store" / "results"
    files = [path for path in sorted(results.rglob("*")) if path.name in ("values.json", "tensors.safetensors")]
    return summary, {str(path.relative_to(results)): path.read_bytes() for path in files}


@pytest.mark.parametrize("text", [DIGITS, CONVOLUTIONS], ids=["digits", "convolutions"])
def test_threads_give_the_bytes_of_processes(text: str, tmp_path: Path, device: str) -> None:
    config = tmp_path / "experiment.toml"
    config.write_text(text)
    summary, by_threads = carried_out(config, "threads", 4, device)
    assert summary.complete, summary
    assert len(summary.done) > 10
    summary, by_processes = carried_out(config, "processes", 2, device)
    assert summary.complete, summary
    assert by_threads.keys() == by_processes.keys()
    assert [name for name in by_threads if by_threads[name] != by_processes[name]] == []


def side_by_side(device: str, works: list[Work]) -> list[list[TrainResult]]:
    """Do each work in a thread with a stream of its own."""

    def on_a_stream(work: Work) -> list[TrainResult]:
        with own_stream(device):
            return work()

    with shared_by_threads(), ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(on_a_stream, works))


def trainings(device: str, name: str, number: int, graphs: bool, many: int = 3) -> Work:
    """Return what trains a model several times; it is made here, as making it draws from the global generator."""
    model = MODELS[name]()
    mask = mask_of(model)
    labels = [("threads", number, again) for again in range(many)]
    return lambda: [trained(model, device, RECIPE, graphs=graphs, rng_label=label, mask=mask) for label in labels]


@pytest.mark.parametrize("names", [("conv-small", "resnet20", "conv-small"), ("mlp", "mlp", "resnet20")])
def test_two_record_while_a_third_computes(names: tuple[str, str, str], device: str) -> None:
    """Each trains three times, so that recordings, replays and single operations meet in many ways."""
    works = [trainings(device, name, number, graphs=number < 2) for number, name in enumerate(names)]
    together = side_by_side(device, works)
    alone = [work() for work in works]
    for ours, theirs in zip(together, alone, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            same_bits(one, other)
    with pytest.raises(AssertionError, match="not equal"):
        same_bits(alone[0][0], alone[0][1])


@pytest.mark.parametrize("graphs", [True, False])
def test_dropout_side_by_side_draws_what_it_draws_alone(graphs: bool, device: str) -> None:
    """Two models with dropout and two without, which do not disturb each other."""
    names = ("dropout", "conv-small", "dropout", "mlp")
    works = [trainings(device, name, number, graphs=graphs, many=2) for number, name in enumerate(names)]
    together = side_by_side(device, works)
    for ours, work in zip(together, works, strict=True):
        for one, other in zip(ours, work(), strict=True):
            same_bits(one, other)
