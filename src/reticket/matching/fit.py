"""Whether models, batches and a symmetry fit each other, and where a group can be matched."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import islice

from torch import Tensor, nn

from reticket.errors import AlignmentError, InputError
from reticket.symmetry import Group, Site, Symmetry
from reticket.symmetry.state import named_state


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


@dataclass(frozen=True)
class Views:
    """Where one group is seen, and along which others.

    Args:
        along: names of the groups and places whose positions are told apart, outermost first.
        sites: where the group stands beside these and no other.
    """

    along: tuple[str, ...]
    sites: tuple[Site, ...]


def own_views(sym: Symmetry) -> dict[str, Views]:
    """Return for every group the sites where it stands beside its parents and no other group.

    Where two free groups meet in one activation, the samples of one are in an order that the other decides.
    """
    found = {}
    for group in sym.groups.values():
        parents = frozenset(group.over) & frozenset(sym.groups)
        fitting = [site for site in sym.sites if set(site.companions(group.name)) == {parents}]
        if fitting:
            found[group.name] = Views(group.over, tuple(fitting))
    return found


def later_views(sym: Symmetry, matched: Collection[str]) -> dict[str, Views]:
    """Return, for the groups that are not matched, sites where only matched groups stand beside them."""
    found = {}
    for group in sym.groups.values():
        for site in sym.sites if group.name not in matched else ():
            along = _along(sym, site, group, matched)
            if along is not None:
                found[group.name] = Views(along, (site,))
                break
    return found


def _along(sym: Symmetry, site: Site, group: Group, matched: Collection[str]) -> tuple[str, ...] | None:
    beside = site.companions(group.name)
    if len(beside) != 1 or not beside[0] <= set(matched):
        return None
    others = [name for name in site.groups if name in beside[0] and name not in group.over]
    along = (*group.over, *others)
    once = all(len(site.companions(name)) == 1 for name in others)
    return along if once and all(set(sym.groups[name].over) <= set(along) for name in others) else None


def check_unmatched(sym: Symmetry, matched: Collection[str], unmatched: str) -> None:
    """Refuse a group that cannot be matched, unless the caller said to leave it as it is.

    Args:
        sym: the symmetry.
        matched: names of the groups that can be matched.
        unmatched: "error" or "identity", what to do with the others.

    Raises:
        AlignmentError: when a group cannot be matched and `unmatched` is "error".
    """
    if unmatched not in ("error", "identity"):
        raise InputError(f"unmatched must be 'error' or 'identity', got {unmatched!r}")
    without = [name for name in sym.groups if name not in matched]
    if without and unmatched == "error" and not sym.sites:
        raise AlignmentError(
            "this symmetry has no sites, so no activation shows its groups: give it those of a discovered one with "
            "sym.with_sites(discover(model, inputs))"
        )
    if without and unmatched == "error":
        raise AlignmentError(
            f"group '{without[0]}' cannot be matched by activations, it is seen in none on its own or beside groups "
            f"that are; leave it as it is with unmatched='identity', or pin it with discover(..., "
            f"fixed=['{without[0]}'])"
        )


def inputs_for(sym: Symmetry, batch: object, to_inputs: Callable[[object], object] | None) -> object:
    """Return what the model takes of a batch: its first n elements, n being the number of example inputs."""
    if to_inputs is not None:
        return to_inputs(batch)
    count = len(sym.inputs)
    if isinstance(batch, Tensor):
        return batch
    if isinstance(batch, Mapping):
        return dict(islice(batch.items(), count))
    return tuple(batch[:count]) if isinstance(batch, tuple | list) else batch
