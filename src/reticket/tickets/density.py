"""How much of a model a mask keeps: of all its weight matrices, not of the pruned ones alone."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from reticket.errors import MaskError
from reticket.lookup import as_names
from reticket.tickets.by_name import identity, select, source_named, weights_of
from reticket.tickets.mask import Mask
from reticket.tickets.parts import Part, parts_of
from reticket.types import StateDict
from reticket.weights import module_of
from reticket.wrapped import inside

SHOWN = 6  # names in a line: the largest


@dataclass(frozen=True)
class Coverage:
    """What a mask prunes of a model's weight matrices, and what it leaves as it is, by name and size.

    Args:
        kept: number of masked weights that are kept.
        masked: number of weights that the mask is about, kept or not.
        unpruned: weight matrices that the mask does not name -> their number of weights.
        unknown: those of `unpruned` of which it is not known whether they multiply activations; they count as matrices.
        others: parameters of two axes or more that are no matrices and not masked -> what they are, and their size.

    >>> net = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 8), nn.Linear(8, 2))
    >>> print(coverage(Mask({"1.weight": net[1].weight > 9}), net))
    prunes 66.7 % of the weights in matrices to density 0: true density 0.3333
    matrices left as they are: '2.weight' 33.3 %
    no matrices, which do not count: '0.weight' (embedding, 36 weights)
    """

    kept: int
    masked: int
    unpruned: Mapping[str, int]
    unknown: tuple[str, ...]
    others: Mapping[str, tuple[Part, int]]

    @property
    def matrices(self) -> int:
        """Number of weights in all weight matrices and all that is masked."""
        return self.masked + sum(self.unpruned.values())

    @property
    def share(self) -> float:
        """Fraction of these weights that the mask is about, in [0, 1]."""
        return self.masked / self.matrices

    @property
    def density(self) -> float:
        """Fraction kept of what is masked, in [0, 1]: the mask's own density, which is nominal."""
        return self.kept / self.masked

    @property
    def true_density(self) -> float:
        """Fraction kept of all weight matrices, in [0, 1]."""
        return (self.matrices - self.masked + self.kept) / self.matrices

    def __str__(self) -> str:
        lines = [
            f"prunes {100 * self.share:.3g} % of the weights in matrices to density {self.density:.4g}: "
            f"true density {self.true_density:.4g}"
        ]
        whole = {name: size for name, size in self.unpruned.items() if name not in self.unknown}
        unsure = {name: size for name, size in self.unpruned.items() if name in self.unknown}
        for what, sizes in (
            ("matrices left as they are", whole),
            ("not known to be matrices, counted as kept", unsure),
        ):
            if sizes:
                shares = {name: f"'{name}' {100 * size / self.matrices:.3g} %" for name, size in sizes.items()}
                lines.append(f"{what}: {_largest(sizes, shares)}")
        if self.others:
            sizes = {name: size for name, (_, size) in self.others.items()}
            kinds = {name: f"'{name}' ({part}, {size} weights)" for name, (part, size) in self.others.items()}
            lines.append(f"no matrices, which do not count: {_largest(sizes, kinds)}")
        return "\n".join(lines)


def coverage(
    mask: Mask, model: nn.Module, example_inputs: Any = None, kwargs: Mapping[str, Any] | None = None
) -> Coverage:
    """Return what a mask prunes of a model, and by name what it leaves as it is.

    Args:
        mask: the mask.
        model: the model.
        example_inputs: a tensor, a tuple of positional inputs or a dict of keyword inputs, as for `prunable`; without
            them a bare parameter whose part is not known counts as a matrix.
        kwargs: keyword inputs beside positional ones.

    Raises:
        MaskError: when the mask belongs to another model.
        ModelError: when the model cannot be traced on the example inputs.
    """
    model = inside(module_of(model))
    weights = parts_of(model, example_inputs, kwargs)
    counted = [weight for weight in weights if weight.part in ("matrix", "unknown")]
    also = (name for name in mask if source_named(model, name) is not None)
    tensors = weights_of(model, dict.fromkeys([*(weight.name for weight in counted), *also]))
    masked = {identity(model, name, tensors[name]) for name in mask.names_among(tensors).values()}
    unpruned = [weight for weight in counted if identity(model, weight.name, tensors[weight.name]) not in masked]
    others = [(weight, weight.source) for weight in weights if weight not in counted and weight.source is not None]
    return Coverage(
        kept=mask.kept,
        masked=mask.numel,
        unpruned={weight.name: tensors[weight.name].numel() for weight in unpruned},
        unknown=tuple(weight.name for weight in unpruned if weight.part == "unknown"),
        others={
            weight.name: (weight.part, source.numel())
            for weight, source in others
            if identity(model, weight.name, source) not in masked
        },
    )


def true_density(
    mask: Mask,
    model: nn.Module | StateDict,
    names: Iterable[str] | None = None,
    *,
    example_inputs: Any = None,
    kwargs: Mapping[str, Any] | None = None,
) -> float:
    """Return the fraction kept of *all* weight matrices, those that are never pruned included.

    A mask's own density is nominal: where projection shortcuts are not pruned, a nominal 10 % is more in truth.
    `coverage` says what is left out.

    Args:
        mask: the mask.
        model: a module, or weights by name.
        names: the weights that count; by default those of `prunable(model, example_inputs, exclude=())` and those that
            the mask names. A tensor under several names counts once. With weights by name they must be given.
        example_inputs: as for `prunable`; without them a bare parameter whose part is not known counts as a matrix.
        kwargs: keyword inputs beside positional ones.

    Returns:
        Fraction kept, in [0, 1].

    Raises:
        MaskError: when the mask belongs to another model, or masks a weight that is not among `names`.

    >>> from reticket.tickets import prune_magnitude
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    >>> mask = prune_magnitude(net, 0.25, names=["0.weight"])
    >>> mask.density, true_density(mask, net)
    (0.25, 0.5)
    """
    if isinstance(model, nn.Module) and names is None:
        return coverage(mask, model, example_inputs, kwargs).true_density
    weights = _counted(model, names)
    mask.names_among(weights)
    once: dict[Hashable, int] = {identity(model, name, weight): weight.numel() for name, weight in weights.items()}
    total = sum(once.values())
    return (total - mask.numel + mask.kept) / total


def _counted(model: nn.Module | StateDict, names: Iterable[str] | None) -> StateDict:
    if names is None:
        raise MaskError("weights by name do not say which of them are matrices; give names=prunable(model, exclude=())")
    once = tuple(dict.fromkeys(as_names(names)))
    return weights_of(model, once) if isinstance(model, nn.Module) else select(model, once)


def _largest(sizes: Mapping[str, int], texts: Mapping[str, str]) -> str:
    """Return the texts of the largest, and how many others there are."""
    first = sorted(sizes, key=lambda name: -sizes[name])[:SHOWN]
    more = f" and {len(sizes) - SHOWN} more" if len(sizes) > SHOWN else ""
    return ", ".join(texts[name] for name in first) + more
