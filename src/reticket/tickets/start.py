"""What sparse training starts from: weights that are 0 where their mask prunes."""

from dataclasses import dataclass

from reticket.errors import MaskError
from reticket.tickets.mask import Mask
from reticket.types import StateDict


@dataclass(frozen=True)
class SparseStart:
    """A sparse network before training: valid when it exists.

    Args:
        weights: weights and buffers by name, exactly 0 where pruned.
        mask: which weights are kept.

    Raises:
        MaskError: when the mask belongs to another model, or a pruned weight is not 0.
    """

    weights: StateDict
    mask: Mask

    def __post_init__(self) -> None:
        refuse_revived(self.weights, self.mask)


def refuse_revived(weights: StateDict, mask: Mask) -> None:
    """Raise unless every pruned weight is exactly 0.

    Raises:
        MaskError: naming the first tensor with a pruned weight that is not.
    """
    names = mask.names_among(weights)
    for name, kept in mask.items():
        weight = weights[names[name]]
        alive = (weight != 0) & ~kept.to(weight.device)
        if alive.any():
            raise MaskError(
                f"{int(alive.sum())} pruned weights of '{name}' are not 0; train with the mask (reticket.sparse), or "
                f"apply it first (mask.apply_to)"
            )
