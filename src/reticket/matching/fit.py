"""Whether models, batches and a symmetry fit each other, and where a group can be matched."""

from collections.abc import Collection, Sequence

from torch import nn

from reticket.errors import AlignmentError
from reticket.symmetry import Symmetry
from reticket.symmetry.model_tensors import named_state


def check_fits(model: nn.Module, sym: Symmetry, which: str) -> None:
    """Raise AlignmentError unless the model has the tensors, names and shapes, that `sym` was discovered on."""
    state = named_state(model)
    if alone := sorted(state.keys() ^ sym.layouts.keys()):
        where = f"in {which} only" if alone[0] in state else f"missing in {which}"
        raise AlignmentError(
            f"{which} is not of this symmetry: '{alone[0]}' is {where}; discover the symmetry of this model"
        )
    for name, tensor in state.items():
        if tuple(tensor.shape) != sym.shape(name):
            raise AlignmentError(
                f"{which} is not of this symmetry: '{name}' has shape {tuple(tensor.shape)}, expected "
                f"{sym.shape(name)}; both models must have the architecture that was discovered"
            )


def check_unmatched(sym: Symmetry, matched: Collection[str], unmatched: str) -> None:
    """Refuse a group that cannot be matched, unless the caller said what to do with it.

    Args:
        sym: the symmetry.
        matched: names of the groups that can be matched.
        unmatched: "weight", "error" or "identity", what to do with the others.

    Raises:
        AlignmentError: when a group cannot be matched and `unmatched` is "error", or where there are no sites at all
            and it is not "identity".
    """
    without = [name for name in sym.groups if name not in matched]
    if without and unmatched != "identity" and not sym.sites:
        raise AlignmentError(
            "this symmetry has no sites, so no activation shows its groups: give it those of a discovered one with "
            "sym.with_sites(discover(model, inputs)), or match by method='weight'"
        )
    if without and unmatched == "error":
        raise AlignmentError(
            f"group '{without[0]}' cannot be matched by activations, it is seen in none on its own or beside groups "
            f"that are{_others(without[1:])}; match it by its weights with unmatched='weight', leave it "
            "as it is with unmatched='identity', or pin it with "
            f"discover(..., fixed=['{without[0]}'])"
        )


def _others(names: Sequence[str]) -> str:
    """Return the further groups for a sentence, the first few of many."""
    if not names:
        return ""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f" (nor can {', '.join(repr(name) for name in names[:5])}{more})"
