"""The loggers that come with the package; each imports what it writes with when the first training begins."""

import csv
import os
from collections.abc import Mapping
from typing import Any

from reticket.experiment.loggers import LoggedTraining, logger
from reticket.files import check_plain

HEAD = ("training", "kind", "key", "step", "metric", "value")


@logger("csv")
class CsvLogger:
    """One table of all trainings, logs/metrics.csv: a line for each figure of each step."""

    def __init__(self, training: LoggedTraining) -> None:
        self._path = training.folder / "metrics.csv"
        self._training = (training.label, training.kind, training.key)

    def on_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append a line for each figure."""
        check_plain(self._path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            if not file.tell():
                writer.writerow(HEAD)
            writer.writerows((*self._training, step, name, value) for name, value in metrics.items())

    def close(self) -> None:
        """Nothing is open between two steps."""


@logger("tensorboard", needs="tensorboard")
class TensorBoardLogger:
    """TensorBoard, a run for each training: tensorboard --logdir OUT/logs/tensorboard."""

    def __init__(self, training: LoggedTraining) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(training.folder / "tensorboard" / training.file_name)

    def on_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add a point to the curve of each figure."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # so that it is seen as it comes

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


@logger("wandb", needs="wandb")
class WandbLogger:
    """Weights & Biases, a run for each training, grouped by experiment; offline unless WANDB_MODE says otherwise."""

    def __init__(self, training: LoggedTraining) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        folder = training.folder
        folder.mkdir(parents=True, exist_ok=True)
        mode: Any = os.environ.get("WANDB_MODE", "offline")
        self._run: Any = wandb.init(
            project="reticket",
            group=training.experiment,
            job_type=training.kind,
            name=training.label,
            id=training.key[:32],
            resume="allow",
            dir=folder,
            mode=mode,
            config={"kind": training.kind, "key": training.key},
            reinit="create_new",  # trainings of other processes are under way
            settings=wandb.Settings(silent=True, console="off"),
        )

    def on_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the figures of a step together."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


@logger("mlflow", needs="mlflow")
class MlflowLogger:
    """MLflow, a run for each training: into the files of OUT/logs/mlruns, or where MLFLOW_TRACKING_URI says."""

    def __init__(self, training: LoggedTraining) -> None:
        from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]

        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow from 3.7 on refuses files without it
        files = (training.folder.resolve() / "mlruns").as_uri()
        self._client: Any = MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", files))
        self._run = self._opened(training)

    def _opened(self, training: LoggedTraining) -> str:
        """Return the id of the training's run: the one that an earlier attempt at it began, or a new one."""
        found = self._client.get_experiment_by_name(training.experiment)
        experiment = found.experiment_id if found else self._client.create_experiment(training.experiment)
        earlier = self._client.search_runs([experiment], f"tags.`reticket.key` = '{training.key}'")
        if earlier:
            return earlier[0].info.run_id
        tags = {"reticket.key": training.key, "reticket.kind": training.kind}
        return self._client.create_run(experiment, run_name=training.label, tags=tags).info.run_id

    def on_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log each figure."""
        for name, value in metrics.items():
            self._client.log_metric(self._run, name, value, step=step)

    def close(self) -> None:
        """Say that the run has finished."""
        self._client.set_terminated(self._run)
