"""Commands, their options and their exit codes: 0 done, 1 a failure, 2 a call or input to fix, 130 Ctrl-C."""

import os
import sys
import time
import traceback
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reticket.cli.bench import bench
from reticket.cli.data import data_app
from reticket.cli.file_commands import FILE_COMMANDS
from reticket.cli.parameters import DataFolder, Debug, ModelOption, Shape, Vocabulary, WeightsOutput
from reticket.cli.store_commands import store_app
from reticket.errors import InputError, ReticketError
from reticket.files import write_file
from reticket.lookup import find_modules_in

app = typer.Typer(
    name="reticket",
    help="Reissue a lottery ticket for a new random initialisation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(data_app, name="data")
app.add_typer(store_app, name="store")
INTERRUPTED = 130


@app.command()
def run(
    experiment: Annotated[str, typer.Argument(metavar="[PRESET | FILE.toml]", help="What to run.")] = "digits",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a field; may be given again.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run directory.  \\[default: runs/NAME]")] = None,
    store: Annotated[
        str | None,
        typer.Option("--store", help="Results to share between runs: a folder, or NAME:TEXT.  \\[default: OUT/store]"),
    ] = None,
    data: DataFolder = None,
    executor: Annotated[
        str, typer.Option("--executor", help="What carries tasks out (reticket list executors).")
    ] = "local",
    executor_options: Annotated[
        list[str] | None,
        typer.Option("--executor-option", metavar="KEY=VALUE", help="An option of the executor; again for more."),
    ] = None,
    address: Annotated[
        str | None, typer.Option("--address", help="Of the cluster that computes: auto, HOST:PORT (for ray).")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Tasks at a time: processes, or threads of one.")] = 1,
    threads: Annotated[
        int, typer.Option("--threads", min=1, help="Threads per task; decides the last bits of results.")
    ] = 1,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
    log: Annotated[
        list[str] | None,
        typer.Option(
            "--log", help="Write losses, rates and accuracies with it (reticket list loggers); again for more."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Dense epochs; all that is measured in epochs is scaled with them.")
    ] = None,
    subset: Annotated[
        int | None, typer.Option("--subset", help="Training images to keep, class-balanced, and test images at most.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option("--budget", min=0, help="Seconds after which the run stops and reports what is done; resumable."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the tasks and how long they would take, compute nothing.")
    ] = False,
    price: Annotated[
        float | None,
        typer.Option("--price", min=0, help="Of one job for one hour, in euro; --dry-run says what a run costs."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the report of another experiment in the run directory.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Run an experiment and write its report; running the same command again resumes."""
    from reticket.cli.accuracies import show_accuracies
    from reticket.cli.dry_run import show
    from reticket.cli.progress import Display
    from reticket.experiment import ExecutionConfig, named_store
    from reticket.experiment.distributed import taking_part
    from reticket.tasks.key_values import read_options
    from reticket.tasks.ownership import RUNS, default_store, release
    from reticket.tasks.presets import load_config
    from reticket.workflow import run as run_and_report

    if price is not None and not dry_run:
        raise InputError("--price is for --dry-run, which says what a run would cost; add it, or leave the price out")
    with taking_part(device) as own_device:
        if own_device is None:
            return
        name, config = load_config(experiment, settings or ())
        folder = out or RUNS / name
        options = read_options(executor_options or (), "--executor-option", "address=auto")
        execution = ExecutionConfig(
            jobs=jobs,
            threads=threads,
            device=own_device,
            executor=executor,
            options=options if address is None else {**options, "address": address},
            data=data,
            loggers=log or (),
            budget=budget,
        )
        if dry_run:
            show(name, config, execution, store or default_store(folder), epochs=epochs, subset=subset, price=price)
            return
        if force:
            named_store(default_store(folder) if store is None else store)  # a slip in it is said before results go
            release(config, folder)
        with Display(debug=debug) as display:
            results = run_and_report(
                config,
                name=name,
                out=folder if force else out,
                store=store,
                execution=execution,
                epochs=epochs,
                subset=subset,
                on_event=display.show,
            )
        display.summarise(results)
        show_accuracies(results, Console())
        if results.failures:
            raise typer.Exit(1)


@app.command("list")
def list_(
    what: Annotated[
        str,
        typer.Argument(
            metavar="presets|datasets|models|matchers|methods|dynamics|criteria|optimisers|schedules|augmentations|checks|executors|stores|loggers|formats"
        ),
    ],
    debug: Debug = False,
) -> None:
    """List what can be named in a command or a configuration."""
    from reticket.cli.listing import listing

    table = Table(box=None, pad_edge=False, show_header=False)
    for name, description in listing(what).items():
        table.add_row(f"[bold]{escape(name)}[/]", escape(description))
    Console().print(table)


@app.command()
def report(run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR")], debug: Debug = False) -> None:
    """Write report.html, figures and tables of a run again."""
    from reticket.report import build_report

    print(build_report(run_dir))


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Run directories, two or more; the first is the reference.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE.html", help="Write a page of all differences.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Compare runs: the settings that they do not share, and the differences of their accuracies."""
    from reticket.cli.comparing import compare_runs

    compare_runs(runs, output, Console())


@app.command()
def export(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A finished run.")],
    form: Annotated[str, typer.Option("--format", metavar="latex|markdown|csv", help="What is written.")] = "latex",
    table: Annotated[
        str, typer.Option("--table", help="A table of RUN_DIR/tables, as accuracy or gap_closed.")
    ] = "accuracy_grid",
    bold: Annotated[bool, typer.Option("--bold", help="The best method of each column of the grid in bold.")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where it goes, instead of the terminal.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Write a table of a run for a paper: LaTeX (booktabs), Markdown or CSV."""
    from reticket.cli.exporting import export_run

    export_run(run_dir, table, form, output, bold=bold)


@app.command()
def weights(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A finished run, with its store.")],
    method: Annotated[str, typer.Option("--method", help="Row of the table, as permuted or dense.")],
    output: WeightsOutput,
    seed: Annotated[int | None, typer.Option("--seed", help="Which pair of networks.  \\[default: 0]")] = None,
    sparsity: Annotated[
        float | None, typer.Option("--sparsity", help="Share pruned; 0 is dense.  \\[default: 0]")
    ] = None,
    rewind: Annotated[
        str | None, typer.Option("--rewind", help="Rewind point, as 5ep, where there are several.")
    ] = None,
    match_at: Annotated[
        str | None, typer.Option("--match-at", help="Position of B's matching, where there are several.")
    ] = None,
    store: Annotated[
        str | None, typer.Option("--store", help="Results of the run.  \\[default: RUN_DIR/store]")
    ] = None,
    debug: Debug = False,
) -> None:
    """Write the trained weights of one network of a run's table."""
    from reticket.tasks.results import Results
    from reticket.weight_files import write_weights

    place = {"method": method, "seed": seed, "sparsity": sparsity, "rewind": rewind, "match_at": match_at}
    given: Any = {name: value for name, value in place.items() if value is not None}
    found = Results.load(run_dir, store=store).weights(**given)
    path = write_weights(output, found)
    print(f"written: {path} ({len(found)} tensors, {sum(tensor.numel() for tensor in found.values())} numbers)")


@app.command()
def inspect(
    model: ModelOption,
    input_shape: Shape = None,
    vocabulary: Vocabulary = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON, and nothing else.")] = False,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Draw the groups over the network into FILE.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Write the symmetry, for Symmetry.load.")
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option("--explain", metavar="TENSOR", help="Why one tensor's axes, or a group, are as they are."),
    ] = None,
    prove: Annotated[bool, typer.Option("--verify/--no-verify", help="Prove the result numerically.")] = True,
    debug: Debug = False,
) -> None:
    """Show which axes of which tensors may be permuted together, what is pinned, and why."""
    from reticket.cli.inspection import inspected
    from reticket.cli.symmetry import describe
    from reticket.symmetry.network_map import mapped
    from reticket.symmetry.network_svg import drawn

    found = inspected(model, input_shape, vocabulary, prove=prove)
    written = []
    if svg is not None:
        drawing = drawn(mapped(found.symmetry), title=model)
        write_file(svg, drawing, error=InputError, advice="name a file in a folder that exists")
        written.append(svg)
    if save is not None:
        found.symmetry.save(save)
        written.append(save)
    if as_json:
        print(found.to_json())
    elif explain is not None:
        print(found.symmetry.explain(explain))
    else:
        describe(found, Console())
    for path in written:
        print(f"written: {path}", file=sys.stderr if as_json else sys.stdout)


@app.command()
def verify(model: ModelOption, input_shape: Shape = None, vocabulary: Vocabulary = None, debug: Debug = False) -> None:
    """Prove in float64 that the symmetry found keeps the model's function."""
    from reticket.cli.models import resolve
    from reticket.symmetry import discover
    from reticket.symmetry import verify as prove

    network, example = resolve(model, input_shape, vocabulary)
    start = time.perf_counter()
    found = discover(network, example, verify=False)
    discovered = time.perf_counter()
    prove(found, network, example)
    took = f"found in {discovered - start:.1f} s, proven in {time.perf_counter() - discovered:.1f} s"
    print(
        f"{model}: {len(found.groups)} groups, 10^{found.log10_order:.1f} permutations, the function is kept ({took})"
    )


app.command()(bench)
for command in FILE_COMMANDS:
    app.command(rich_help_panel="On files of weights")(command)


def entry() -> None:
    """Run the command line and turn every expected error into one sentence and an exit code."""
    find_modules_in(os.getcwd())  # where package.module:function may be the user's own file
    for stream in (sys.stdout, sys.stderr):  # a path may hold bytes that are no UTF-8
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False)
    except typer.Exit as leave:
        code = leave.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except ReticketError as error:
        if _debug():
            traceback.print_exc()
        print(f"reticket: {error}", file=sys.stderr)
        code = error.exit_code
    except Exception as error:
        code = _unexpected(error, _debug())
    if code == INTERRUPTED:
        print("reticket: interrupted; run the same command again to resume", file=sys.stderr)
    sys.exit(code or 0)


def _debug() -> bool:
    return "--debug" in sys.argv


def _unexpected(error: BaseException, debug: bool) -> int:
    wrong_call = getattr(error, "format_message", None)  # as typer's parser sees it
    if wrong_call is not None:
        print(f"reticket: {wrong_call()} (see reticket --help)", file=sys.stderr)
        return 2
    if debug:
        traceback.print_exc()
    print(f"reticket: {type(error).__name__}: {error} (add --debug for a traceback)", file=sys.stderr)
    return 2 if isinstance(error, OSError) else 1
