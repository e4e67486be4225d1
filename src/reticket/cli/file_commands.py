"""Commands that work on files of weights, tickets and alignments."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reticket.cli.parameters import Debug, Shape


def match(
    a: Annotated[Path, typer.Argument(metavar="A", help="Weights of A: a state_dict as .safetensors or .pt.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Weights of B.")],
    model: Annotated[str, typer.Option("--model", help="As MODEL of inspect.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the alignment goes.")],
    data: Annotated[
        str | None,
        typer.Option("--data", help="A data set's name, its folder, or inputs as .safetensors or .npy, if need be."),
    ] = None,
    method: Annotated[str, typer.Option("--method", help="A matcher (reticket list matchers).")] = "activation",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of the matcher, as cost=cosine; again for more."),
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--start", help="The alignment to begin from, for a matcher that does.")
    ] = None,
    cost: Annotated[str | None, typer.Option("--cost", help="The same as --set cost=COST.")] = None,
    samples: Annotated[int, typer.Option("--samples", min=2, help="Training inputs to match on.")] = 2000,
    input_shape: Shape = None,
    debug: Debug = False,
) -> None:
    """Find the permutation that carries A's units onto B's."""
    from reticket.cli.aligning import match_files

    given = [*(settings or ()), *([] if cost is None else [f"cost={cost}"])]
    alignment = match_files(
        a, b, model, data, method=method, settings=given, start=start, samples=samples, input_shape=input_shape
    )
    alignment.save(output)
    table = Table("group", "units", "matched correlation", "margin")
    for name, quality in alignment.quality.items():
        size = alignment.symmetry.groups[name].size
        table.add_row(escape(name), f"{size}", f"{quality.correlation:.3f}", f"{quality.margin:.3f}")
    Console().print(table)
    print(f"written: {output}")


def transfer(
    ticket: Annotated[Path, typer.Argument(metavar="TICKET", help="A mask or ticket of A, .safetensors.")],
    alignment: Annotated[Path, typer.Argument(metavar="ALIGNMENT", help="What match wrote.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the moved ticket goes.")],
    debug: Debug = False,
) -> None:
    """Move a ticket of A through an alignment, so that it fits B."""
    from reticket.cli.aligning import transfer_file

    moved = transfer_file(ticket, alignment, output)
    print(f"written: {output} (density {moved.mask.density:.4g}, {moved.mask.kept} of {moved.mask.numel} weights)")


FILE_COMMANDS: tuple[Callable[..., None], ...] = (match, transfer)
