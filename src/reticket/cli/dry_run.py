"""What `--dry-run` prints: the tasks by kind, what they share, and how long they would take on this machine."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reticket.experiment import ExecutionConfig, Task, folder_of, named_store
from reticket.tasks.config import Config
from reticket.tasks.forecast import SYMMETRY_SECONDS, Forecast, Total, Work, forecast, model_of, work_of
from reticket.tasks.planning import Outline, outline_experiment
from reticket.tasks.scale import Sizes, scale_text
from reticket.tasks.timing import Speed, Workload, measure


def show(
    name: str,
    config: Config,
    execution: ExecutionConfig,
    store: str | Path,
    *,
    epochs: int | None = None,
    subset: int | None = None,
) -> None:
    """Print a plan with an estimate of time from timing each of its models; nothing is trained for good or written.

    Args:
        name: of the preset or file.
        config: the experiment; its data need not be there.
        execution: what would carry it out; its model is timed with as many processes.
        store: where results may be already.
        epochs, subset: as of `reticket run`.
    """
    whole = config
    config, planned = outline_experiment(
        config, epochs=epochs, subset=subset, folder=execution.folder, threads=execution.threads
    )
    console = Console()
    console.print(f"[bold]{escape(name)}[/]: {escape(config.title)}", highlight=False)
    if config.reference:
        console.print(f"reproduces {config.reference}", highlight=False, markup=False)
    if config.scale:
        console.print(scale_text(whole, config), highlight=False, markup=False)
    for text in dict.fromkeys(_data_text(outline) for outline in planned):
        console.print(text, highlight=False, markup=False)
    if config.sweep:
        folders = ", ".join(outline.variant.folder for outline in planned)
        console.print(f"{len(planned)} variants: {folders}", highlight=False, markup=False)
    found = _forecast(planned, store)
    speeds = _speeds(planned, found, execution)
    console.print(_table(found, found.seconds(speeds)))
    for text in _notes(found, speeds, execution):
        console.print(text, highlight=False)


def _data_text(outline: Outline) -> str:
    name, sizes = outline.variant.config.data.name, outline.sizes
    text = f"data: {name}, {sizes.train:,} training and {sizes.test:,} test inputs"
    if outline.missing:
        text += (
            f" as published: they could not be opened here, so results in a store are not looked for\n{outline.missing}"
        )
    return text


def _forecast(planned: Sequence[Outline], store: str | Path) -> Forecast:
    sizes = {outline.blueprint.facts.fingerprint: outline.sizes for outline in planned}
    targets = [task for outline in planned for task in outline.blueprint.targets]

    def work(task: Task, resumed: Task | None) -> Work:
        return work_of(task, resumed, sizes[task.spec["data"]["fingerprint"]] if "data" in task.spec else Sizes(0, 0))

    folder = folder_of(store)
    absent = any(outline.missing for outline in planned) or (folder is not None and not folder.is_dir())
    return forecast(targets, work, None if absent else named_store(store))


def _speeds(planned: Sequence[Outline], found: Forecast, execution: ExecutionConfig) -> dict[str, Speed]:
    """Return the speed of every model that something is to be computed with, by `model_of`."""
    needed = {model_of(task) for task in found.plan.tasks} - {""}
    speeds: dict[str, Speed] = {}
    for outline in planned:
        key = model_of(outline.blueprint.networks.symmetry)
        if key in needed and key not in speeds:
            config, facts = outline.variant.config, outline.blueprint.facts
            params = outline.blueprint.networks.params
            batch = min(config.dense.batch_size, facts.train_size)
            augment = bool(config.dense.augment) and outline.augmented
            shape, classes = facts.input_shape, len(facts.classes)
            work = Workload(config.model.name, params, shape, classes, batch, augment, facts.is_tokens)
            speeds[key] = measure(work, jobs=execution.jobs, threads=execution.threads, device=execution.device)
    return speeds


def _table(found: Forecast, seconds: Mapping[str, int | float]) -> Table:
    """Return a row for each kind of task to be computed, and their sum."""
    table = Table("to compute", box=None, pad_edge=False, show_footer=True)
    table.columns[0].footer = "together"
    whole = Total()
    for name in ("tasks", "used more than once", "model-epochs", "time of one process"):
        table.add_column(name, justify="right")
    for kind, total in found.kinds.items():
        whole.tasks, whole.shared = whole.tasks + total.tasks, whole.shared + total.shared
        table.add_row(
            kind, f"{total.tasks:,}", f"{total.shared:,}", _epochs(total.work.epochs), time_text(seconds[kind])
        )
    last = (f"{whole.tasks:,}", f"{whole.shared:,}", _epochs(found.epochs), time_text(sum(seconds.values())))
    for column, text in zip(table.columns[1:], last, strict=True):
        column.footer = text
    return table


def _notes(found: Forecast, speeds: Mapping[str, Speed], execution: ExecutionConfig) -> list[str]:
    """Return in sentences what is stored, what sharing saves, how long it takes and what that rests on."""
    notes = []
    if found.stored:
        notes.append(f"{found.stored:,} tasks are stored already and not in the table.")
    if found.apart:
        notes.append(
            f"Without sharing, every result trained on its own, it would be {_epochs(found.apart)} model-epochs."
        )
    if not found.plan.tasks:
        return [*notes, "Nothing is left to compute."]
    where = f"--jobs {execution.jobs} --threads {execution.threads} --device {execution.device}"
    notes.append(f"[bold]About {time_text(found.elapsed(speeds, execution.jobs))}[/] on this machine with {where}.")
    for model, speed in speeds.items():
        values = json.loads(model)
        width = f" of width {values['params']['width']}" if "width" in values["params"] else ""
        notes.append(
            f"Timed just now, {escape(values['name'])}{width}: {1000 * speed.training:.3g} ms an image in training "
            f"(batches of {speed.batch_size}), {1000 * speed.evaluation:.3g} ms in evaluation"
            + (f", {speed.jobs} processes side by side." if speed.jobs > 1 else ".")
        )
    notes.append(
        "Assumed: every step takes as long as those few; images are at hand (reading and decoding are not counted); "
        f"matching sees all images that it may; finding a symmetry takes {SYMMETRY_SECONDS:.0f} s."
    )
    return notes


def _epochs(count: int | float) -> str:
    return f"{count:,.0f}" if count >= 10 or count == 0 else f"{count:.2g}"


def time_text(seconds: int | float) -> str:
    """Return a length of time in its two largest units.

    >>> [time_text(s) for s in (0.2, 42, 3725, 200_000, 40_000_000)]
    ['0 s', '42 s', '1 h 02 min', '2 d 8 h', '463 d']
    """
    for unit, above in ((86400, 100 * 86400), (3600, 86400), (60, 3600), (1, 0)):
        if seconds >= above:  # what is left out is rounded, not cut off
            seconds = round(seconds / unit) * unit
            break
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days >= 100:
        return f"{days:,} d"
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
