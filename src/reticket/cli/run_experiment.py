"""`reticket run` from Python: an experiment and its report."""

from collections.abc import Callable, Iterable
from pathlib import Path

from reticket.experiment import Event, ExecutionConfig, Store, Summary
from reticket.report import build_report
from reticket.tasks.config import Config
from reticket.tasks.planning import scale_experiment
from reticket.tasks.presets import DEFAULT, load_config
from reticket.tasks.running import run_experiment
from reticket.tasks.sweep import variants


def run(
    config: str | Path | Config = DEFAULT,
    *,
    name: str = "experiment",
    out: str | Path | None = None,
    settings: Iterable[str] = (),
    store: str | Path | Store | None = None,
    execution: ExecutionConfig | None = None,
    epochs: int | None = None,
    subset: int | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> tuple[Path, Summary]:
    """Run an experiment, or what is missing of it, and write its report.

    Args:
        config: a preset's name, a TOML file, or a checked configuration.
        name: short name of a checked configuration; presets and files have their own.
        out: run directory; `runs/NAME` when None.
        settings: `key=value` texts as `--set` takes them (not with a checked configuration).
        store: results that runs may share, or the directory of them; `out/store` when None.
        execution: processes, threads, device, data folder, and a time after which to stop.
        epochs: of dense training; everything measured in epochs is scaled with it, and the results say so.
        subset: training images to keep, class-balanced, and test images at most; the results say so.
        on_event: told of every event.

    Returns:
        The report's path, and what was done, failed or skipped.

    Raises:
        ConfigError, DataError: before anything is computed.
    """
    name, checked = (name, config) if isinstance(config, Config) else load_config(config, settings)
    checked = scale_experiment(checked, epochs=epochs, subset=subset, folder=execution.folder if execution else None)
    folder = Path(out) if out is not None else Path("runs") / name
    summary = run_experiment(
        checked,
        folder,
        preset=name,
        store=Path(store) if isinstance(store, str) else store,
        execution=execution,
        on_event=on_event,
    )
    return _report(checked, folder), summary


def _report(config: Config, folder: Path) -> Path:
    """Write the report of every experiment of a run, and of a sweep the one that compares them; return the last."""
    if not config.sweep:
        return build_report(folder)
    for variant in variants(config):
        build_report(folder / variant.folder)
    return build_report(folder)
