"""What `--dry-run` prints: the tasks by kind, what they share, and how long they would take on this machine."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reticket.cli.durations import time_text
from reticket.devices import check_device
from reticket.errors import InputError
from reticket.experiment import EXECUTORS, ExecutionConfig, Pace, Store, Task, store_there
from reticket.experiment.pace import network_of
from reticket.tasks.config import Config
from reticket.tasks.forecast import SYMMETRY_SECONDS, Forecast, Total, Work, forecast, way_of, work_of
from reticket.tasks.planning import Outline, outline_experiment
from reticket.tasks.scale import Sizes, scale_text
from reticket.tasks.timing import Speed, Workload, measure, step_of


def show(
    name: str,
    config: Config,
    execution: ExecutionConfig,
    store: str | Path,
    *,
    epochs: int | None = None,
    subset: int | None = None,
    price: float | None = None,
) -> None:
    """Print a plan with an estimate of time; nothing is trained for good or written.

    The estimate is that of results in the store that were computed in the same way; where it has none of one of the
    models, each model is timed.

    Args:
        name: of the preset or file.
        config: the experiment; its data need not be there.
        execution: what would carry it out; models are timed with as many processes, or with one where others compute.
        store: where results may be already.
        epochs, subset: as of `reticket run`.
        price: euro for one job for one hour.
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
    results = None if any(outline.missing for outline in planned) else store_there(store)
    found = _forecast(planned, results)
    pace = Pace() if results is None else Pace.learned(results, execution)
    seconds, rests_on = _seconds(planned, found, pace, execution)
    console.print(_table(found, found.by_kind(seconds) if seconds else {}))
    for text in _notes(found, seconds, execution, price):
        console.print(text, highlight=False)
    for text in rests_on if found.plan.tasks else ():
        console.print(text, highlight=False)


def _data_text(outline: Outline) -> str:
    name, sizes = outline.variant.config.data.name, outline.sizes
    text = f"data: {name}, {sizes.train:,} training and {sizes.test:,} test inputs"
    if outline.missing:
        text += (
            f" as published: they could not be opened here, so results in a store are not looked for\n{outline.missing}"
        )
    return text


def _forecast(planned: Sequence[Outline], store: Store | None) -> Forecast:
    sizes = {outline.blueprint.facts.fingerprint: outline.sizes for outline in planned}
    targets = [task for outline in planned for task in outline.blueprint.targets]

    def work(task: Task, resumed: Task | None) -> Work:
        return work_of(task, resumed, sizes[task.spec["data"]["fingerprint"]] if "data" in task.spec else Sizes(0, 0))

    return forecast(targets, work, store)


def _seconds(
    planned: Sequence[Outline], found: Forecast, pace: Pace, execution: ExecutionConfig
) -> tuple[Mapping[str, float] | None, list[str]]:
    """Return by key the seconds of each task, None where nobody can say, and in sentences what they rest on."""
    learned = found.learned(pace)
    if learned is not None:
        return learned, [
            f"Nothing was timed: such tasks took as long in {pace.tasks:,} results of the store, computed with "
            f"--threads {execution.threads} --device {execution.device}."
        ]
    try:
        check_device(execution.device)
    except InputError:  # it is elsewhere alone
        return None, [
            f"How long it takes cannot be said: there is no '{execution.device}' here to time its models on, and the "
            f"store has no results of them that were computed with it; run a part of it first, as --budget does."
        ]
    speeds = _speeds(planned, found, execution)
    return found.timed(speeds), _timing_notes(speeds, elsewhere=_elsewhere(execution))


def _speeds(planned: Sequence[Outline], found: Forecast, execution: ExecutionConfig) -> dict[tuple[str, str], Speed]:
    """Return the speed of every model that something is to be computed with, at each kind of step, by `way_of`."""
    needed = {way_of(task.spec) for task in found.plan.tasks}
    trained = {network for network, step in needed if step}
    speeds: dict[tuple[str, str], Speed] = {}
    for outline in planned:
        config, facts = outline.variant.config, outline.blueprint.facts
        network = network_of(outline.blueprint.networks.common)
        for recipe in (config.dense, config.sparse_recipe, config.finetuning_recipe):
            way = (network, step_of(recipe.decisive()))
            alone = (network, "") in needed and network not in trained  # only evaluated
            if way in speeds or not (way in needed or (alone and recipe is config.dense)):
                continue
            batch = min(recipe.batch_size, facts.train_size)
            work = Workload(
                config.model.name,
                outline.blueprint.networks.params,
                facts.input_shape,
                len(facts.classes),
                replace(recipe, batch_size=batch, accumulate=min(recipe.accumulate, batch)),
                bool(recipe.augment) and outline.augmented,
                facts.is_tokens,
            )
            jobs = 1 if _elsewhere(execution) else execution.jobs
            speeds[way] = measure(work, jobs=jobs, threads=execution.threads, device=execution.device)
    return speeds


def _table(found: Forecast, seconds: Mapping[str, float]) -> Table:
    """Return a row for each kind of task to be computed, and their sum."""
    table = Table("to compute", box=None, pad_edge=False, show_footer=True)
    table.columns[0].footer = "together"
    whole = Total()
    for name in ("tasks", "used more than once", "model-epochs", "time of one process"):
        table.add_column(name, justify="right")
    for kind, total in found.kinds.items():
        whole.tasks, whole.shared = whole.tasks + total.tasks, whole.shared + total.shared
        time = time_text(seconds[kind]) if seconds else "?"
        table.add_row(kind, f"{total.tasks:,}", f"{total.shared:,}", _epochs(total.work.epochs), time)
    together = time_text(sum(seconds.values())) if seconds or not found.kinds else "?"
    last = (f"{whole.tasks:,}", f"{whole.shared:,}", _epochs(found.epochs), together)
    for column, text in zip(table.columns[1:], last, strict=True):
        column.footer = text
    return table


def _notes(
    found: Forecast, seconds: Mapping[str, float] | None, execution: ExecutionConfig, price: float | None
) -> list[str]:
    """Return in sentences what is stored, what sharing saves, how long it takes and what it costs."""
    notes = []
    if found.stored:
        notes.append(f"{found.stored:,} tasks are stored already and not in the table.")
    if found.apart:
        notes.append(
            f"Without sharing, every result trained on its own, it would be {_epochs(found.apart)} model-epochs."
        )
    if not found.plan.tasks:
        return [*notes, "Nothing is left to compute."]
    if seconds is None:
        return notes
    elapsed = found.elapsed(seconds, execution.jobs)
    notes.append(f"[bold]About {time_text(elapsed)}[/] {_where(execution)}.")
    return [*notes, expense(elapsed, sum(seconds.values()), execution.jobs, price)]


def expense(elapsed: float, busy: float, jobs: int, price: float | None = None) -> str:
    """Return in a sentence what a run takes in job-hours, and in euro where a price is known.

    Every job is counted for as long as the run takes, whether it computes or waits, as machines are paid for.

    Args:
        elapsed: seconds of the run.
        busy: seconds of computing, of all jobs together.
        jobs: tasks at a time.
        price: euro for one job for one hour.

    >>> expense(elapsed=5400.0, busy=36_000.0, jobs=8, price=0.05)
    '8 jobs for 1 h 30 min are 12 job-hours, 10 of them computing: 0.60 euro at 0.05 euro a job-hour.'
    >>> expense(elapsed=5400.0, busy=5400.0, jobs=1)
    '1 job for 1 h 30 min is 1.5 job-hours, 1.5 of them computing.'
    """
    hours, computing = jobs * elapsed / 3600, busy / 3600
    paid = "" if price is None else f": {hours * price:,.2f} euro at {price:g} euro a job-hour"
    who = f"{jobs} jobs for {time_text(elapsed)} are" if jobs > 1 else f"1 job for {time_text(elapsed)} is"
    return f"{who} {_hours(hours)} job-hours, {_hours(computing)} of them computing{paid}."


def _hours(count: float) -> str:
    return f"{count:,.0f}" if count >= 100 else f"{count:.2g}"


def _elsewhere(execution: ExecutionConfig) -> bool:
    return EXECUTORS.named(execution.executor).elsewhere


def _where(execution: ExecutionConfig) -> str:
    place = f"with --executor {execution.executor}" if _elsewhere(execution) else "on this machine"
    return f"{place} with --jobs {execution.jobs} --threads {execution.threads} --device {execution.device}"


def _timing_notes(speeds: Mapping[tuple[str, str], Speed], *, elsewhere: bool) -> list[str]:
    """Return in sentences how fast models were just now, and what a forecast by that assumes."""
    notes = []
    for (network, step), speed in speeds.items():
        values, how = json.loads(network.splitlines()[0]), json.loads(step)
        width = f" of width {values['params']['width']}" if "width" in values["params"] else ""
        ways = "".join(f", {how[name]}" for name in ("precision", "parametrization") if name in how)
        notes.append(
            f"Timed just now, {escape(values['name'])}{width}{ways}: {1000 * speed.training:.3g} ms an image in "
            f"training (batches of {speed.batch_size}), {1000 * speed.evaluation:.3g} ms in evaluation"
            + (f", {speed.jobs} processes side by side." if speed.jobs > 1 else ".")
        )
    alike = "the machines that compute are as fast as this one; " if elsewhere else ""
    notes.append(
        f"Assumed: {alike}every step takes as long as those few; images are at hand (reading and decoding are not "
        f"counted); matching sees all images that it may; finding a symmetry takes {SYMMETRY_SECONDS:.0f} s."
    )
    return notes


def _epochs(count: int | float) -> str:
    return f"{count:,.0f}" if count >= 10 or count == 0 else f"{count:.2g}"
