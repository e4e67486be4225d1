"""What `reticket prune` does: a ticket from the weights in a file."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from reticket.cli.input_files import Examples, check_labels, read_examples
from reticket.cli.models import resolve
from reticket.cli.notes import note
from reticket.errors import MaskError
from reticket.nested import inputs_of
from reticket.tasks.key_values import read_options
from reticket.tickets import Coverage, Ticket, coverage, prunable, prune
from reticket.tickets.criteria import CRITERIA
from reticket.tickets.prunable import known_prunable
from reticket.tickets.ranking import Budget, Scope, check_scope
from reticket.version import __version__
from reticket.weight_files import load_file


@dataclass(frozen=True)
class PruneSettings:
    """What is pruned, how much and by what.

    Args:
        model: as MODEL of the command line.
        density: fraction of the pruned matrices' weights to keep, in (0, 1].
        criterion: by name.
        scope: "global", "layer" or "erk".
        exclude, include: as for `rt.prunable`.
        max_sparsity: fraction of a layer that is pruned at most; None for no bound.
        pattern: which weights may be kept together, as of `rt.prune`; None for any.
        rounds: in how many steps; None for what the criterion's authors do.
        settings: options of the criterion, as `key=value`.
        loss: what gradients are of; None for what the data are made for.
        seed: of a criterion that draws.

    Raises:
        MaskError: for a criterion, a scope or a pattern that there is not, or a number out of its range.
    """

    model: str
    density: float
    criterion: str = "magnitude"
    scope: str = "global"
    exclude: tuple[str, ...] = ("shortcut",)
    include: tuple[str, ...] = ()
    max_sparsity: float | None = None
    pattern: str | None = None
    rounds: int | None = None
    settings: tuple[str, ...] = ()
    loss: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        CRITERIA.named(self.criterion)
        check_scope(self.scope)
        Budget(self.density, cast("Scope", self.scope), self.max_sparsity, self.pattern)


@dataclass(frozen=True)
class LookedAt:
    """What a model is run on, for a criterion that looks at data and to see which parameters are matrices.

    Args:
        data: a data set or a file; None for none.
        samples: training examples at most.
        input_shape, vocabulary: of the example input, where the model has none of its own.
    """

    data: str | None = None
    samples: int = 2000
    input_shape: str | None = None
    vocabulary: int | None = None


def prune_file(weights: str | Path, how: PruneSettings, on: LookedAt) -> tuple[Ticket, Coverage]:
    """Return the ticket of the network in a file, with its signs, and what the mask covers of the model.

    Args:
        weights: as `read_weights` takes it.
        how: what is pruned, how much and by what.
        on: what the model is run on.

    Raises:
        InputError: for a file that holds no weights of the model, or a criterion that lacks what it looks at.
    """
    examples = None if on.data is None else read_examples(on.data, how.model, on.samples, "train")
    if examples is not None and on.data is not None and "batches" in CRITERIA.named(how.criterion).options:
        check_labels(examples, on.data, how.loss)
    network, example = resolve(how.model, on.input_shape, on.vocabulary, _first_inputs(examples), required=False)
    examples = examples and examples.like(example)
    load_file(network, weights, say=note)
    network.eval()
    names = _matrices(network, example, how)
    options = _options(how, examples, example)
    mask = prune(
        network,
        how.density,
        how.criterion,
        names=names,
        scope=cast("Scope", how.scope),
        max_sparsity=how.max_sparsity,
        pattern=how.pattern,
        rounds=how.rounds,
        **options,
    )
    ticket = Ticket.of(network, mask, _provenance(weights, how, on))
    return ticket, coverage(mask, network, example)


def _matrices(network: nn.Module, example: Any, how: PruneSettings) -> tuple[str, ...]:
    """Return the names of what is pruned; of parameters that cannot be judged the coverage tells."""
    if example is None:
        return known_prunable(network, how.exclude, how.include)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* has parameters in modules that are not known")
        return prunable(network, example, exclude=how.exclude, include=how.include)


def _first_inputs(examples: Examples | None) -> Any:
    """Return two inputs, for a model that has no example of its own."""
    if examples is None:
        return None
    inputs = inputs_of(next(iter(examples.batches)))
    if isinstance(inputs, dict):
        return {name: value[:2] for name, value in inputs.items() if name != "labels"}
    return inputs[:2] if isinstance(inputs, Tensor) else None


def _options(how: PruneSettings, examples: Examples | None, example: Any) -> dict[str, Any]:
    """Return the options of the criterion: those that were set, and of what it looks at what there is."""
    criterion = CRITERIA.named(how.criterion)
    found = {"generator": how.seed, "example_inputs": example, "batches": examples and examples.batches}
    ways = {"batches": "--data", "example_inputs": "--input-shape or --data"}
    options = {name: value for name, value in found.items() if name in criterion.options and value is not None}
    options |= read_options(how.settings) | ({} if how.loss is None else {"loss": how.loss})
    for name, one in criterion.options.items():
        if one.default is one.empty and name not in options:
            way = f"name it with {ways[name]}" if name in ways else "prune from Python with rt.prune"
            raise MaskError(f"criterion '{how.criterion}' looks at {name.replace('_', ' ')}, and there is none; {way}")
    return options


def _provenance(weights: str | Path, how: PruneSettings, on: LookedAt) -> dict[str, Any]:
    """Return what a ticket says of where it comes from."""
    said = {"weights": str(weights), "model": how.model, "criterion": how.criterion, "scope": how.scope}
    data = {} if on.data is None else {"data": on.data, "samples": on.samples}
    said |= {} if how.pattern is None else {"pattern": how.pattern}
    return {**said, "density": how.density, **data, "seed": how.seed, "reticket": __version__}
