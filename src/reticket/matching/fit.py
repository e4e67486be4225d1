"""Whether models, batches and a symmetry fit each other, and where a group can be matched."""

from collections.abc import Callable, Mapping
from itertools import islice

from torch import Tensor, nn

from reticket.errors import AlignmentError, InputError
from reticket.symmetry import Site, Symmetry
from reticket.symmetry.terms import atoms


def check_fits(model: nn.Module, sym: Symmetry, which: str) -> None:
    """Raise AlignmentError unless the model has the tensors, names and shapes, that `sym` was discovered on."""
    state = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
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


def sites_by_group(sym: Symmetry, unmatched: str) -> Mapping[str, tuple[Site, ...]]:
    """Return for every group that can be matched the sites where it can.

    A site serves a group that occurs there once and alone. Where two free groups meet in one activation, the samples of
    one are in an order that the other decides, and their joint matching is no linear assignment problem.

    Args:
        sym: the symmetry.
        unmatched: "error" or "identity", what to do with a group without such a site.

    Raises:
        AlignmentError: when a group cannot be matched and `unmatched` is "error".
    """
    if unmatched not in ("error", "identity"):
        raise InputError(f"unmatched must be 'error' or 'identity', got {unmatched!r}")
    if sym.groups and not sym.sites and unmatched == "error":
        raise AlignmentError(
            "this symmetry has no sites, so no activation shows its groups: give it those of a discovered one with "
            "sym.with_sites(discover(model, inputs))"
        )
    found: dict[str, list[Site]] = {name: [] for name in sym.groups}
    for site in sym.sites:
        present = [atom for term in site.layout for atom in atoms(term)]
        if len(present) == 1 and not present[0].over:
            found[str(present[0].key)].append(site)
    without = [name for name, sites in found.items() if not sites]
    if without and unmatched == "error":
        over = sym.groups[without[0]].over
        why = f"depends on {', '.join(over)}" if over else "is seen in no activation on its own"
        raise AlignmentError(
            f"group '{without[0]}' cannot be matched by activations, it {why}; leave it as it is with "
            f"unmatched='identity', or pin it with discover(..., fixed=['{without[0]}'])"
        )
    return {name: tuple(sites) for name, sites in found.items() if sites}


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
