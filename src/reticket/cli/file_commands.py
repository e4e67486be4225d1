"""Commands that work on files of weights, tickets and alignments."""

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reticket.cli.parameters import (
    DATA_HELP,
    WEIGHTS_HELP,
    Debug,
    ModelName,
    Settings,
    Shape,
    Vocabulary,
    WeightsOutput,
)

A = Annotated[str, typer.Argument(metavar="A", help=f"Weights of A: {WEIGHTS_HELP}.")]
B = Annotated[str, typer.Argument(metavar="B", help="Weights of B, likewise.")]
Alignment = Annotated[Path | None, typer.Option("--alignment", help="What match wrote: A is moved through it first.")]
Method = Annotated[str, typer.Option("--method", help="A matcher (reticket list matchers).")]
Examples = Annotated[
    str, typer.Option("--data", help=f"{DATA_HELP} with inputs as x and labels as y, or named as the model's inputs.")
]
PIPED = 10_000  # columns where nobody looks at a terminal, so that no name is cut


def match(
    a: A,
    b: B,
    model: ModelName,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the alignment goes.")],
    data: Annotated[str | None, typer.Option("--data", help=f"{DATA_HELP} of inputs, if need be.")] = None,
    method: Method = "activation",
    settings: Settings = None,
    start: Annotated[
        Path | None, typer.Option("--start", help="The alignment to begin from, for a matcher that does.")
    ] = None,
    cost: Annotated[str | None, typer.Option("--cost", help="The same as --set cost=COST.")] = None,
    samples: Annotated[int, typer.Option("--samples", min=2, help="Training inputs to match on.")] = 2000,
    input_shape: Shape = None,
    debug: Debug = False,
) -> None:
    """Find the permutation that carries A's units onto B's.

    Example: reticket match a.safetensors b.pt#ema --model mymodels:build --data inputs.npy -o al.safetensors
    """
    from reticket.cli.aligning import MatchSettings, match_files

    given = (*(settings or ()), *(() if cost is None else (f"cost={cost}",)))
    alignment = match_files(a, b, MatchSettings(model, data, method, given, start, samples, input_shape))
    alignment.save(output)
    table = Table("group", "units", alignment.measure, "margin")
    for name, quality in alignment.quality.items():
        size = alignment.symmetry.groups[name].size
        table.add_row(escape(name), f"{size}", f"{quality.correlation:.3f}", f"{quality.margin:.3f}")
    if alignment.quality:  # a matcher need not say how well it matched
        _show(table)
    print(f"written: {output}")


def transfer(
    ticket: Annotated[Path, typer.Argument(metavar="TICKET", help="A mask or ticket of A, .safetensors or shards.")],
    alignment: Annotated[Path, typer.Argument(metavar="ALIGNMENT", help="What match wrote.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the moved ticket goes.")],
    weights: Annotated[
        str | None, typer.Option("--weights", help="B's, where the alignment leaves units out (leave_out).")
    ] = None,
    debug: Debug = False,
) -> None:
    """Move a ticket of A through an alignment, so that it fits B.

    One in shards goes tensor by tensor into a folder without weights.

    Example: reticket transfer ticket.safetensors al.safetensors -o moved.safetensors
    """
    from reticket.cli.aligning import transfer_file, transfer_to_shards
    from reticket.weight_files.shards import index_at

    index = index_at(ticket)
    if index is None:
        moved = transfer_file(ticket, alignment, output, weights).mask
    else:
        moved = transfer_to_shards(index, alignment, output)
    print(f"written: {output} (density {moved.density:.4g}, {moved.kept} of {moved.numel} weights)")


def prune(
    weights: Annotated[str, typer.Argument(metavar="WEIGHTS", help=f"Weights to prune: {WEIGHTS_HELP}.")],
    model: ModelName,
    density: Annotated[float, typer.Option("--density", help="Fraction of the weights in matrices to keep.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the ticket goes, .safetensors.")],
    criterion: Annotated[str, typer.Option("--criterion", help="What is kept (reticket list criteria).")] = "magnitude",
    scope: Annotated[str, typer.Option("--scope", help="Where scores compete: global, layer or erk.")] = "global",
    data: Annotated[
        str | None, typer.Option("--data", help=f"{DATA_HELP}, for a criterion that looks at data.")
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude", help="Pattern of names, shortcut, first or last; again for more.  \\[default: shortcut]"
        ),
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option("--include", help="Pattern of names, embedding, norm or elementwise.")
    ] = None,
    max_sparsity: Annotated[
        float | None, typer.Option("--max-sparsity", help="Fraction of a layer that is pruned at most.")
    ] = None,
    pattern: Annotated[
        str | None, typer.Option("--pattern", help="What may be kept together: 2:4, 4x8 (outputs x inputs), fan-in.")
    ] = None,
    rounds: Annotated[int | None, typer.Option("--rounds", min=1, help="In how many steps, with new scores.")] = None,
    settings: Settings = None,
    loss: Annotated[str | None, typer.Option("--loss", help="What gradients are of; as --loss of barrier.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of a criterion that draws.")] = 0,
    samples: Annotated[int, typer.Option("--samples", min=2, help="Training examples to look at.")] = 2000,
    input_shape: Shape = None,
    vocabulary: Vocabulary = None,
    debug: Debug = False,
) -> None:
    """Make a ticket: which weights are kept, by a criterion, and their signs.

    Example: reticket prune a.safetensors --model resnet20 --density 0.1 -o ticket.safetensors
    """
    from reticket.cli.pruning import LookedAt, PruneSettings, prune_file

    chosen = PruneSettings(
        model=model,
        density=density,
        criterion=criterion,
        scope=scope,
        exclude=("shortcut",) if exclude is None else tuple(exclude),
        include=tuple(include or ()),
        max_sparsity=max_sparsity,
        pattern=pattern,
        rounds=rounds,
        settings=tuple(settings or ()),
        loss=loss,
        seed=seed,
    )
    ticket, covered = prune_file(weights, chosen, LookedAt(data, samples, input_shape, vocabulary))
    ticket.save(output)
    table = Table("matrix", "weights", "kept", "density")
    for name, kept in ticket.mask.items():
        count = int(kept.sum())
        table.add_row(escape(name), f"{kept.numel()}", f"{count}", f"{count / kept.numel():.4g}")
    _show(table)
    print(covered)
    print(f"written: {output} (density {ticket.mask.density:.4g}, {ticket.mask.kept} of {ticket.mask.numel} weights)")


def apply(
    alignment: Annotated[Path, typer.Argument(metavar="ALIGNMENT", help="What match wrote.")],
    weights: Annotated[str, typer.Argument(metavar="WEIGHTS", help=f"Weights of A: {WEIGHTS_HELP}.")],
    output: WeightsOutput,
    inverse: Annotated[bool, typer.Option("--inverse", help="Move them back, from B's order to A's.")] = False,
    debug: Debug = False,
) -> None:
    """Move weights of A through an alignment, into B's order; the network computes what it did.

    Shards of safetensors go tensor by tensor into the same shards of a folder without weights.

    Example: reticket apply al.safetensors a.safetensors -o moved.safetensors
    """
    from reticket.cli.aligning import apply_file, apply_to_shards
    from reticket.weight_files import weights_target
    from reticket.weight_files.shards import index_at

    index = index_at(weights)
    if index is not None and Path(output).suffix != ".safetensors":
        count = apply_to_shards(alignment, index, Path(output), inverse=inverse)
        print(f"written: {output} ({count} tensors in shards)")
        return
    target = weights_target(output)
    _write(target, apply_file(alignment, weights, inverse=inverse))


def barrier(
    a: A,
    b: B,
    model: ModelName,
    data: Examples,
    alignment: Alignment = None,
    points: Annotated[int, typer.Option("--points", min=3, help="On the line, both ends included.")] = 11,
    loss: Annotated[
        str | None,
        typer.Option(
            "--loss",
            help="classification, language-model, regression, segmentation, own (the model's), package.module:function."
            "  \\[default: what the data are made for]",
        ),
    ] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="Beside a loss, in place of its own.")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Renormalise activations at every point, on training examples.")
    ] = False,
    split: Annotated[str, typer.Option("--split", help="Part of a data set: test or train.")] = "test",
    samples: Annotated[int, typer.Option("--samples", min=1, help="Examples at most.")] = 2000,
    as_json: Annotated[bool, typer.Option("--json", help="The curve as JSON, and nothing else.")] = False,
    debug: Debug = False,
) -> None:
    """Walk the line from A to B: loss and metric at each point, and the barrier between the two.

    Example: reticket barrier a.pt b.pt --model resnet20 --data cifar10 --alignment al.safetensors
    """
    from reticket.cli.connecting import Ends, LineSettings, barrier_files

    how = LineSettings(data, points, loss, metric, repair, split, samples)
    curve, examples = barrier_files(Ends(a, b, model, alignment), how)
    metrics = curve.metric or (None,) * points
    if as_json:
        print(json.dumps(_curve_as_json(curve)))
        return
    table = Table("share of B", "loss", *([] if curve.metric is None else [escape(curve.metric_name)]))
    for alpha, lost, reached in zip(curve.alphas, curve.loss, metrics, strict=True):
        table.add_row(f"{alpha:.4g}", f"{lost:.4f}", *([] if reached is None else [f"{reached:.4g}"]))
    _show(table)
    said = "" if curve.metric is None else f", {curve.metric_name} barrier {curve.metric_barrier:.4g}"
    print(f"loss barrier {curve.loss_barrier:.4g}{said} (on {examples.count} {examples.part})")


def repair(
    a: A,
    b: B,
    model: ModelName,
    data: Examples,
    output: WeightsOutput,
    alignment: Alignment = None,
    alpha: Annotated[float, typer.Option("--alpha", help="Position on the line: 0 is A, 1 is B.")] = 0.5,
    samples: Annotated[int, typer.Option("--samples", min=2, help="Training inputs to take statistics on.")] = 2000,
    debug: Debug = False,
) -> None:
    """Mix A and B and renormalise the activations of the mixture to those of its ends (REPAIR).

    Example: reticket repair a.pt b.pt --model resnet20 --data cifar10 --alignment al.safetensors -o mid.safetensors
    """
    from reticket.cli.connecting import Ends, repair_files
    from reticket.weight_files import weights_target

    target = weights_target(output)
    _write(target, repair_files(Ends(a, b, model, alignment), alpha, data, samples))


def merge(
    networks: Annotated[
        list[str], typer.Argument(metavar="NETWORK", help=f"Weights of two networks or more: {WEIGHTS_HELP}.")
    ],
    model: ModelName,
    output: WeightsOutput,
    data: Annotated[
        str | None, typer.Option("--data", help=f"{DATA_HELP} of inputs, to match on and for REPAIR.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option("--weights", metavar="W,W[,W]", help="Of each in the average, with sum 1.  \\[default: equal]"),
    ] = None,
    repair: Annotated[bool, typer.Option("--repair/--no-repair", help="Renormalise activations (REPAIR).")] = True,
    how: Annotated[str, typer.Option("--how", help="The mean, or weights of least-squares on the data.")] = "mean",
    method: Method = "activation",
    settings: Settings = None,
    samples: Annotated[int, typer.Option("--samples", min=2, help="Training inputs to match and repair on.")] = 2000,
    input_shape: Shape = None,
    debug: Debug = False,
) -> None:
    """Match networks to one another, average their weights in the first one's order, and renormalise what comes out.

    Example: reticket merge a.pt b.pt c.pt --model resnet20 --data cifar10 -o merged.safetensors
    """
    from reticket.cli.aligning import MatchSettings
    from reticket.cli.connecting import merge_files
    from reticket.weight_files import weights_target

    target = weights_target(output)
    matching = MatchSettings(model, data, method, tuple(settings or ()), None, samples, input_shape)
    merged, alignments = merge_files(networks, matching, weights=weights, repaired=repair, by=how)
    table = Table("network", "how well it is matched with the others, mean")
    for source, alignment in zip(networks[1:], alignments, strict=True):
        table.add_row(escape(source), _mean(quality.correlation for quality in alignment.quality.values()))
    _show(table)
    _write(target, merged)


def _write(target: Path, weights: Any) -> None:
    from reticket.weight_files import write_weights

    write_weights(target, weights)
    print(f"written: {target} ({len(weights)} tensors, {sum(tensor.numel() for tensor in weights.values())} numbers)")


def _show(table: Table) -> None:
    console = Console()
    (console if console.is_terminal else Console(width=PIPED)).print(table)


def _mean(values: Iterable[float]) -> str:
    found = list(values)
    return f"{sum(found) / len(found):.3f}" if found else ""


def _curve_as_json(curve: Any) -> dict[str, Any]:
    """Return a curve as JSON holds it: what is no number as null."""
    found: dict[str, Any] = {"alphas": curve.alphas, "loss": _finite(curve.loss), "loss_barrier": curve.loss_barrier}
    if curve.metric is not None:
        found |= {"metric_name": curve.metric_name, "metric": _finite(curve.metric)}
        found["metric_barrier"] = curve.metric_barrier
    return {name: _finite([one])[0] if isinstance(one, float) else one for name, one in found.items()}


def _finite(values: Iterable[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]


FILE_COMMANDS: tuple[Callable[..., None], ...] = (match, transfer, apply, prune, barrier, repair, merge)
