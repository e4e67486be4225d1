"""One experiment from configuration to `results.json`: load the data, plan, execute, collect."""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
import torch

import reticket
from reticket.data import Dataset, load_dataset
from reticket.errors import ConfigError
from reticket.experiment import EXECUTORS, Event, Plan, Store, Summary, run_plan
from reticket.lookup import nearest
from reticket.models import code_of
from reticket.tasks.blueprint import Blueprint, Facts
from reticket.tasks.config import Config
from reticket.tasks.kinds import RUNNERS, fingerprint
from reticket.tasks.results import Findings


@dataclass(frozen=True)
class Machine:
    """How tasks are carried out; none of it but `threads` decides a result.

    Args:
        jobs: worker processes.
        threads: threads a task computes with.
        device: where tasks compute.
        executor: name of the executor.
        data: folder of the data; None searches RETICKET_DATA and the system's places.
    """

    jobs: int = 1
    threads: int = 1
    device: str = "cpu"
    executor: str = "local"
    data: str | Path | None = None

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            known = ", ".join(EXECUTORS)
            raise ConfigError(
                f"unknown executor '{self.executor}'{nearest(self.executor, EXECUTORS)}; known are {known}"
            )
        if self.device != "cpu" and not (self.device.startswith("cuda") and torch.cuda.is_available()):
            raise ConfigError(f"device '{self.device}' cannot be used here; use cpu, or cuda where torch sees a GPU")


def run_experiment(
    config: Config,
    out: Path,
    *,
    preset: str = "experiment",
    store: Path | None = None,
    machine: Machine | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Summary:
    """Run what is missing of an experiment and write `results.json` into `out`.

    Args:
        config: the experiment.
        out: the run directory; made if absent. Running again resumes, a finished run computes nothing.
        preset: short name for the results.
        store: directory of results that runs may share; `out/store` when None.
        machine: how to carry it out; one process of one thread when None.
        on_event: told of each event, after it was appended to `metrics.jsonl`.

    Returns:
        What was done, taken from the store, failed or skipped.

    Raises:
        ConfigError, DataError: before anything is computed.
    """
    machine = machine or Machine()
    dataset, blueprint = plan_experiment(config, machine)
    _make_folder(out)
    results = Store(store or out / "store")
    environment = environment_of(machine)
    _write(out / "config.toml", tomli_w.dumps(_without_none(config.model_dump())))
    _write_json(out / "environment.json", environment)
    with (out / "metrics.jsonl").open("a", encoding="utf-8") as log:

        def record(event: Event) -> None:
            if event.kind != "progress":  # for the display only: five a second would fill a disk
                log.write(json.dumps(event.to_json()) + "\n")
                log.flush()
            if on_event is not None:
                on_event(event)

        summary = run_plan(
            Plan.of(blueprint.targets),
            results,
            RUNNERS,
            jobs=machine.jobs,
            threads=machine.threads,
            device=machine.device,
            executor=machine.executor,
            settings={"data": str(machine.data)} if machine.data else {},
            on_event=record,
        )
    findings = Findings(blueprint, results, dataset.test_y)
    _write_json(out / "results.json", findings.to_json(config.title, preset, summary, environment))
    return summary


def plan_experiment(config: Config, machine: Machine) -> tuple[Dataset, Blueprint]:
    """Return the data of an experiment and its tasks; nothing is computed or written.

    Raises:
        ConfigError, DataError: when the experiment cannot be run as it is.
    """
    dataset = load_dataset(
        config.data.name,
        folder=Path(machine.data) if machine.data else None,
        train_size=config.data.train_size,
        subset_seed=config.data.subset_seed,
    )
    return dataset, Blueprint(config, facts_of(dataset, config.model.name), threads=machine.threads)


def facts_of(dataset: Dataset, model: str) -> Facts:
    """Return what planning must know of `dataset` and of the code of the model of this name."""
    return Facts(
        fingerprint=fingerprint(dataset),
        train_size=len(dataset.train_x),
        classes=dataset.classes,
        input_shape=dataset.input_shape,
        model_code=code_of(model),
    )


def environment_of(machine: Machine) -> dict[str, Any]:
    """Return where a run was made: versions, processor, devices, threads."""
    gpu = torch.cuda.get_device_name() if machine.device.startswith("cuda") and torch.cuda.is_available() else None
    return {
        "reticket": reticket.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.system(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": gpu or machine.device,
        "jobs": machine.jobs,
        "threads": machine.threads,
        "executor": machine.executor,
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".writable-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"output folder '{out}' cannot be written ({error.strerror}); choose another with --out"
        ) from None


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    _write(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def _write(path: Path, text: str) -> None:
    """Write `text` beside `path` and rename it, so that a reader never sees half a file."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if value is not None
    }
