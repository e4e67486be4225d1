"""One experiment from configuration to `results.json`: load the data, plan, execute, collect."""

import errno
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w
import torch

from reticket.devices import hardware_of
from reticket.errors import ConfigError, InputError, StoreError
from reticket.experiment import (
    EXECUTORS,
    Event,
    ExecutionConfig,
    KeptStore,
    Plan,
    Store,
    Summary,
    Task,
    Until,
    folder_of,
    in_use,
    logged_by,
    named_store,
    run_plan,
    store_there,
)
from reticket.experiment.task import closure
from reticket.files import write_file
from reticket.tasks.check import checks, runners_of
from reticket.tasks.config import Config
from reticket.tasks.log import logged
from reticket.tasks.order import by_seed
from reticket.tasks.ownership import unlike
from reticket.tasks.planning import Planned, plan_experiment
from reticket.tasks.results_builder import ResultsBuilder
from reticket.tasks.runners import RUNNERS
from reticket.tasks.trial import try_model
from reticket.version import __version__


class OutputError(InputError):
    """The output folder takes no more."""


def run_experiment(
    config: Config,
    out: Path,
    *,
    preset: str = "experiment",
    store: str | Path | Store | None = None,
    execution: ExecutionConfig | None = None,
    on_event: Callable[[Event], None] | None = None,
    until: Until | None = None,
    stages: Callable[[Sequence[Planned]], Iterable[Iterable[Task]]] | None = None,
) -> Summary:
    """Run what is missing of an experiment and write `results.json` into `out`.

    The experiments of a sweep share one plan and one store; each has its results in a folder of its own below `out`,
    and `out/sweep.json` names them.

    Args:
        config: the experiment.
        out: the run directory; made if absent. Running again resumes, a finished run computes nothing.
        preset: short name for the results.
        store: results that runs may share: a directory, `NAME:TEXT` of `STORES`, or a store; `out/store` when None.
        execution: how to carry it out; one process of one thread when None.
        on_event: told of each event, after it was appended to `metrics.jsonl`.
        until: when to stop although something is missing still; the results then show what there is.
        stages: sorts the targets of the experiments by how much they matter (see `Plan.of`); `by_seed` when None.

    Returns:
        What was done, taken from the store, failed, skipped or left.

    Raises:
        ConfigError, DataError: before anything is computed.
        OutputError: when results cannot be written, after they were computed; the store has them.
    """
    execution = execution or ExecutionConfig()
    if isinstance(store, str):
        folder_of(store)  # a slip in its name is said before data are read
    planned = plan_experiment(config, folder=execution.folder, threads=execution.threads)
    noticed = _try_models(planned, store_there(out / "store" if store is None else store), execution)
    results = _opened(store, out)
    compared = [task for experiment in planned for task in experiment.blueprint.compared]
    environment = environment_of(execution)
    facts = {"environment.json": _json(environment), "config.toml": tomli_w.dumps(_without_none(config.model_dump()))}
    ordered = stages(planned) if stages else by_seed([experiment.blueprint for experiment in planned])
    plan = Plan.of(*ordered, compared)
    unnoted = _enter(results, out, plan)
    with suppress(OutputError):  # a full disk: it is said when there are results to write
        _write_all(out, facts)
    with (
        in_use(out),
        logged_by(execution.loggers, out / "logs", preset, on_event or (lambda event: None)) as tell,
        logged(out / "metrics.jsonl", tell) as record,
    ):
        if unnoted:
            record(Event("notice", label="store", text=unnoted))
        for text in noticed:
            record(Event("notice", label="model", text=text))
        summary = run_plan(
            plan,
            results,
            {**RUNNERS, **runners_of()},
            execution,
            on_event=record,
            until=until,
        )
    _still_ours(out, config)
    _write_all(out, facts)
    for experiment in planned:
        lost = _write_variant(experiment, out / experiment.variant.folder, preset, results, summary, environment)
        summary = replace(summary, failed={**summary.failed, **lost})
    if config.sweep:
        _write_json(out / "sweep.json", _sweep_of(config, preset, planned))
    return summary


def _still_ours(out: Path, config: Config) -> None:
    """See that no other run has begun in a run directory meanwhile, as two of one moment may: its results stand there.

    Raises:
        OutputError: when one has.
    """
    if (out / "config.toml").is_file() and (there := unlike(config, out)):
        raise OutputError(
            f"another run has begun in {out} meanwhile and has it now ({there}); all results of this one are in the "
            f"store: run it again with another --out, and --store as it was"
        )


def _try_models(planned: Sequence[Planned], store: Store | None, execution: ExecutionConfig) -> list[str]:
    """Try each model on its data once, where something of it is missing and is computed here, on the CPU.

    Args:
        planned: the experiments.
        store: that their results go into; None where nothing is made yet.
        execution: how they are carried out.

    Returns:
        What should be read of them.
    """
    if execution.device != "cpu" or EXECUTORS.named(execution.executor).elsewhere:
        return []
    noticed: list[str] = []
    tried: set[tuple[str | None, ...]] = set()
    for one in planned:
        config = one.variant.config
        what = (
            one.blueprint.facts.fingerprint,
            config.model.model_dump_json(),
            config.dense.objective,
            config.dense.train,
        )
        stored = store is not None and all(store.has(task.key) for task in one.blueprint.targets)
        if what not in tried and not stored:
            noticed += try_model(one)
            tried.add(what)
    return list(dict.fromkeys(noticed))


def _enter(store: Store, out: Path, plan: Plan) -> str:
    """Note in a store which results a run needs.

    Returns:
        What to say where it cannot be noted, as in a store that can only be read, and all results are there.

    Raises:
        StoreError: where it cannot be noted and something is missing.
    """
    if isinstance(store, KeptStore):
        try:
            store.enter(str(out.resolve()), [task.key for task in plan.tasks])
        except StoreError as error:
            if plan.missing(store).tasks:
                raise
            return f"{error}; every result is there, so the run goes on, but the store does not know that it needs them"
    return ""


def _write_variant(
    planned: Planned, folder: Path, preset: str, store: Store, summary: Summary, environment: Mapping[str, Any]
) -> dict[str, tuple[str, str]]:
    """Write what stands in the folder of one experiment, with what became of its own tasks alone.

    Returns:
        By key, label and error of the results that were in the store after the run and could not be read any more.
    """
    task_keys = {task.key for task in closure(planned.blueprint.targets, resumes=True)}
    part = Summary(
        done=tuple(key for key in summary.done if key in task_keys),
        cached=tuple(key for key in summary.cached if key in task_keys),
        failed={key: text for key, text in summary.failed.items() if key in task_keys},
        skipped={key: text for key, text in summary.skipped.items() if key in task_keys},
        unfinished=tuple(key for key in summary.unfinished if key in task_keys),
    )
    config = planned.variant.config
    if planned.variant.folder:
        _make_folder(folder)
        _write_json(folder / "environment.json", environment)
        _write(folder / "config.toml", tomli_w.dumps(_without_none(config.model_dump())))
    builder = ResultsBuilder(planned.blueprint, store, planned.dataset.labels("test").flatten())
    results = builder.results(config.title, preset, part, environment)
    for check in checks():
        check.write_files(results, planned.dataset, folder)
    _write_json(folder / "results.json", results.to_json())
    return builder.lost(part)


def _sweep_of(config: Config, preset: str, planned: Iterable[Planned]) -> dict[str, Any]:
    """Return the content of `sweep.json`: which folder has which value of the field that is swept."""
    folders = [{"value": experiment.variant.value, "folder": experiment.variant.folder} for experiment in planned]
    return {"title": config.title, "preset": preset, "key": next(iter(config.sweep)), "variants": folders}


def environment_of(execution: ExecutionConfig) -> dict[str, Any]:
    """Return where a run was made: versions, processor, devices, threads."""
    gpu = torch.cuda.get_device_name() if execution.device.startswith("cuda") and torch.cuda.is_available() else None
    return {
        "reticket": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.system(),
        "processor": hardware_of("cpu"),
        "cores": os.cpu_count(),
        "device": gpu or execution.device,
        "jobs": execution.jobs,
        "threads": execution.threads,
        "executor": execution.executor,
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):  # of a name that nobody can guess and lay a link there
            pass
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and out.is_dir():
            return  # the store may have room; what cannot be written is said at the end
        raise ConfigError(
            f"output folder '{out}' cannot be written ({error.strerror}); choose another with --out"
        ) from None


def _opened(store: str | Path | Store | None, out: Path) -> Store:
    """Make the run directory and open the store; one that lies elsewhere first, so that a failure leaves nothing."""
    if store is not None:
        store = named_store(store)
    _make_folder(out)
    return named_store(out / "store" if store is None else store)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    _write(path, _json(value))


def _write_all(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        _write(folder / name, text)


def _write(path: Path, text: str) -> None:
    advice = (
        "free space there or choose another folder with --out, and run again: what is computed is kept in the store"
    )
    write_file(path, text, error=OutputError, advice=advice)


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if value is not None and value != {}
    }
