"""How results hold weights, masks and alignments: tensors by name, with what they are in front of it."""

from collections.abc import Mapping

from torch import Tensor

from reticket.experiment import Result
from reticket.symmetry import Alignment, Symmetry
from reticket.tickets import Mask
from reticket.types import Permutation

WEIGHTS, MASK = "weights/", "mask/"  # TrainState names its weights like this too
ALIGNMENT, LEFT_OUT = "alignment/", "left-out/"


def stripped(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose name begins with `prefix`, without it."""
    return {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}


def named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with `prefix` in front of their names."""
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def mask_in(result: Result) -> Mask | None:
    """Return the mask of a result, or None where it holds a dense network."""
    found = stripped(result.tensors, MASK)
    return Mask(found) if found else None


def alignment_in(result: Result, symmetry: Symmetry) -> Alignment:
    """Return the alignment that a matching found."""
    indices = stripped(result.tensors, ALIGNMENT)
    permutations = {name: Permutation(index) for name, index in indices.items()}
    return Alignment(symmetry, permutations, left_out=stripped(result.tensors, LEFT_OUT))
