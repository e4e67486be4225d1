"""One contract for every registered logger: what a run tells is what its files hold, in the words of their owners."""

import csv
import struct
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from reticket.cli.listing import listing
from reticket.errors import InputError
from reticket.experiment import LOGGERS, Event, ExecutionConfig, LoggedTraining, Logger, logged_by, logger

Figures = dict[tuple[str, int, str], float]  # by label, step and name
FIRST, SECOND = ("dense A0 to step 20 of 20", "a" * 64), ("lth 90%, 5ep, A0", "b" * 64)


def metrics(training: tuple[str, str], step: int, **figures: float) -> Event:
    return Event("metrics", training[1], training[0], "dense", step=step, metrics=figures)


BEFORE = (
    metrics(FIRST, 10, loss=1.5, lr=0.125),
    metrics(SECOND, 5, loss=2.25, lr=0.0625),
    metrics(FIRST, 20, loss=0.75, lr=0.0),
    metrics(FIRST, 20, accuracy=93.5, test_loss=0.875),
    Event("task-done", FIRST[1], FIRST[0], "dense"),
)
AFTER = (
    metrics(SECOND, 10, loss=1.25, lr=0.0),
    metrics(SECOND, 10, accuracy=91.25, test_loss=0.5),
    Event("task-failed", SECOND[1], SECOND[0], "dense"),
)
EXPECTED: Figures = {
    (event.label, event.step or 0, name): value for event in (*BEFORE, *AFTER) for name, value in event.metrics.items()
}


def in_csv(folder: Path) -> Figures:
    with (folder / "metrics.csv").open() as file:
        return {(row["training"], int(row["step"]), row["metric"]): float(row["value"]) for row in csv.DictReader(file)}


def in_tensorboard(folder: Path) -> Figures:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # pyright: ignore[reportMissingImports]

    found: Figures = {}
    for label, key in (FIRST, SECOND):
        place = LoggedTraining(folder, "", label, "", key).file_name
        read = EventAccumulator(str(folder / "tensorboard" / place)).Reload()
        for name in read.Tags()["scalars"]:
            found |= {(label, scalar.step, name): scalar.value for scalar in read.Scalars(name)}
    return found


def in_wandb(folder: Path) -> Figures:
    """Read what `wandb sync` would upload: after seven bytes, records of a checksum, a length, a kind and a message."""
    import wandb  # pyright: ignore[reportMissingImports]

    wandb.teardown()  # its own process writes the files, which are whole when it has ended
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore

    found: Figures = {}
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        content, at, label = path.read_bytes(), 7, ""
        while at < len(content):
            _, length, _ = struct.unpack("<IHB", content[at : at + 7])
            record = Record.FromString(content[at + 7 : at + 7 + length])
            at += 7 + length
            if record.WhichOneof("record_type") == "run":
                label = record.run.display_name
                assert (record.run.project, record.run.run_group) == ("reticket", "digits")
            items = {one.nested_key[0]: one.value_json for one in record.history.item}
            step = int(items.get("_step", 0))
            found |= {(label, step, name): float(x) for name, x in items.items() if not name.startswith("_")}
    return found


def in_mlflow(folder: Path) -> Figures:
    from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]

    client = MlflowClient(tracking_uri=(folder / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 2, "a training that is taken up again has one run"
    assert {run.info.status for run in runs} == {"FINISHED"}
    return {
        (str(run.info.run_name), one.step, name): one.value
        for run in runs
        for name in run.data.metrics
        for one in client.get_metric_history(run.info.run_id, name)
    }


READERS: Mapping[str, Callable[[Path], Figures]] = {
    "csv": in_csv,
    "tensorboard": in_tensorboard,
    "wandb": in_wandb,
    "mlflow": in_mlflow,
}


def test_every_logger_has_its_reader_here_and_is_listed() -> None:
    assert LOGGERS.keys() == READERS.keys() == listing("loggers").keys()


@pytest.mark.slow_cases("wandb", "mlflow")
@pytest.mark.parametrize("name", READERS)
def test_what_a_run_tells_is_what_the_files_hold(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two trainings side by side; the run is stopped in the second and taken up again."""
    needs = LOGGERS[name].needs
    if needs is not None and find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed")
    for variable in ("WANDB_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    heard: list[Event] = []
    for events in (BEFORE, AFTER):
        with logged_by([name], tmp_path, "digits", heard.append) as tell:
            for event in events:
                tell(event)
    assert tuple(heard) == (*BEFORE, *AFTER), "nothing is kept back and no logger failed"
    assert READERS[name](tmp_path) == EXPECTED


@pytest.mark.parametrize("name", READERS)
def test_a_package_that_is_missing_is_named_before_anything_is_computed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reticket.extras.find_spec", lambda module: None)
    if LOGGERS[name].needs is None:
        assert ExecutionConfig(loggers=name).loggers == (name,)
        return
    with pytest.raises(InputError, match=rf"^logger '{name}' needs {name}, which is not installed; pip inst"):
        ExecutionConfig(loggers=["csv", name])


def test_an_unknown_logger_is_named() -> None:
    with pytest.raises(InputError, match=r"^unknown logger 'tensorbord', did you mean 'tensorboard'\?; known are csv"):
        ExecutionConfig(loggers="tensorbord")


class Broken:
    """Fails at its second step, and counts how often it is closed."""

    def __init__(self, training: LoggedTraining) -> None:
        self.steps = self.closed = 0
        MADE.append(self)

    def on_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        self.steps += 1
        if self.steps == 2:
            raise OSError(28, "No space left on device")

    def close(self) -> None:
        self.closed += 1


MADE: list[Any] = []


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(LOGGERS, "_members", dict(LOGGERS._members))
    MADE.clear()
    assert isinstance(logger("broken")(Broken)(LoggedTraining(Path(), "", "", "", "")), Logger)
    MADE.clear()
    return "broken"


def test_a_logger_that_fails_is_named_once_and_the_others_go_on(broken: str, tmp_path: Path) -> None:
    heard: list[Event] = []
    with logged_by([broken, "csv"], tmp_path, "digits", heard.append) as tell:
        for event in (*BEFORE, *AFTER):
            tell(event)
    (notice,) = (event for event in heard if event.kind == "notice")
    assert notice.label == "logger 'broken'"
    assert notice.text.startswith("OSError: [Errno 28] No space left on device; the run goes on without it")
    assert [event for event in heard if event is not notice] == [*BEFORE, *AFTER]
    assert in_csv(tmp_path) == EXPECTED
    assert [(one.steps, one.closed) for one in MADE] == [(2, 1), (1, 1)]


def test_a_training_that_was_stopped_is_closed(broken: str, tmp_path: Path) -> None:
    def stopped() -> None:
        with logged_by([broken], tmp_path, "digits", lambda event: None) as tell:
            tell(BEFORE[0])
            tell(BEFORE[1])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert [one.closed for one in MADE] == [1, 1]
