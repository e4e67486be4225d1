"""An experiment from its configuration to its report: `rt.run`, which `reticket run` calls too."""

from collections.abc import Callable, Iterable
from pathlib import Path

from reticket.experiment import Event, ExecutionConfig, Store
from reticket.report import build_report
from reticket.tasks.config import Config
from reticket.tasks.ownership import default_store, own_folder, refuse_other
from reticket.tasks.planning import scale_experiment
from reticket.tasks.presets import DEFAULT, load_config
from reticket.tasks.results import Results
from reticket.tasks.running import run_experiment
from reticket.tasks.scale import scale_text
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
) -> Results:
    """Run an experiment, or what is missing of it, and write its report.

    Args:
        config: a preset's name, a TOML file, or a checked configuration.
        name: short name of a checked configuration; presets and files have their own.
        out: run directory, which belongs to one experiment; when None `runs/NAME`, or `runs/NAME-2` and so on where
            that is another's.
        settings: `key=value` texts as `--set` takes them (not with a checked configuration).
        store: results that runs may share: a directory, `NAME:TEXT` of `reticket list stores`, or a store; `out/store`
            when None (that of `runs/NAME` for `runs/NAME-2`).
        execution: processes, threads, device, data folder, and a time after which to stop.
        epochs: of dense training; everything measured in epochs is scaled with it, and the results say so.
        subset: training images to keep, class-balanced, and test images at most; the results say so.
        on_event: told of every event.

    Returns:
        The results, with the networks behind them; `folder` is the run directory, in which `report.html` stands. Those
        of a sweep hold the results of its experiments as `variants`. What failed is in `failures`.

    Raises:
        ConfigError, DataError: before anything is computed; also when `out` holds the results of another experiment.
    """
    name, whole = (name, config) if isinstance(config, Config) else load_config(config, settings)
    checked = scale_experiment(whole, epochs=epochs, subset=subset, folder=execution.folder if execution else None)
    if checked.scale and on_event is not None:
        on_event(Event("notice", label=name, text=scale_text(whole, checked)))
    folder, text = own_folder(checked, name) if out is None else (Path(out), "")
    refuse_other(checked, folder)
    if text and on_event is not None:
        on_event(Event("notice", label=name, text=text))
    store = default_store(folder) if store is None else store
    run_experiment(checked, folder, preset=name, store=store, execution=execution, on_event=on_event)
    _write_reports(checked, folder)
    return Results.load(folder, store=store)


def _write_reports(config: Config, folder: Path) -> None:
    """Write the report of every experiment of a run, and of a sweep the one that compares them."""
    for variant in variants(config) if config.sweep else ():
        build_report(folder / variant.folder)
    build_report(folder)
