"""Symmetries in the form of git-re-basin: `{tensor: (group or None for each axis)}`, read and written.

The form holds plain atoms only: one permutation for a whole axis. It says nothing of activations, so matching needs the
sites of a discovered symmetry (`Symmetry.with_sites`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from torch import Tensor, nn

from reticket.errors import SymmetryError
from reticket.lookup import nearest
from reticket.symmetry.model_tensors import named_state
from reticket.symmetry.sites import Site
from reticket.symmetry.structure import Structure
from reticket.symmetry.terms import Atom, Fixed, Key, Layout, Term, Uniform, atoms, describe, rewrite

Axes: TypeAlias = Mapping[str, Any]  # a user's own data: checked below
HOW = "expected a group's name or None for each axis"


def layouts_from_axes(
    spec: Axes, weights: nn.Module | Mapping[str, Tensor]
) -> tuple[dict[str, Layout], dict[str, tuple[str, ...]]]:
    """Return layouts and reasons of a specification; tensors that it does not list are fixed.

    Args:
        spec: for each tensor a group's name or None for each axis.
        weights: the model or its state_dict, for the shapes.

    Raises:
        SymmetryError: when the specification does not fit the weights.
    """
    state = named_state(weights) if isinstance(weights, nn.Module) else weights
    shapes = {name: tuple(value.shape) for name, value in state.items() if isinstance(value, Tensor)}
    if odd := [name for name in spec if name not in shapes]:
        raise SymmetryError(
            f"the specification names '{odd[0]}', which the model does not have{nearest(str(odd[0]), shapes)}; "
            f"it has {', '.join(list(shapes)[:4])}, ..."
        )
    first: dict[str, tuple[str, int]] = {}
    layouts: dict[str, Layout] = {}
    reasons: dict[str, tuple[str, ...]] = {}
    for name, shape in shapes.items():
        groups = _row(name, spec[name], shape) if name in spec else (None,) * len(shape)
        for axis, group in enumerate(groups):
            _check_size(group, name, axis, shapes, first)
        layouts[name] = tuple(
            Fixed(n) if g is None or n <= 1 else Atom(g, n) for g, n in zip(groups, shape, strict=True)
        )
        why = "fixed in the specification" if name in spec else "not listed in the specification"
        reasons[name] = tuple("" if isinstance(term, Atom) else _reason(term, why) for term in layouts[name])
    return layouts, reasons


def _row(name: str, groups: object, shape: tuple[int, ...]) -> tuple[str | None, ...]:
    if isinstance(groups, str) or not isinstance(groups, Sequence):
        raise SymmetryError(f"the specification of '{name}' is {groups!r}, {HOW}, as ('g', None)")
    row: list[str | None] = []
    for axis, group in enumerate(groups):
        if group is not None and not (isinstance(group, str) and group):
            raise SymmetryError(f"the specification of '{name}' has {group!r} at axis {axis}, {HOW}")
        row.append(group)
    if len(row) != len(shape):
        raise SymmetryError(
            f"the specification of '{name}' has {len(row)} entries for {len(shape)} axes of shape {shape}; {HOW}"
        )
    return tuple(row)


def _check_size(
    group: str | None, name: str, axis: int, shapes: Mapping[str, tuple[int, ...]], first: dict[str, tuple[str, int]]
) -> None:
    if group is None:
        return
    other, other_axis = first.setdefault(group, (name, axis))
    if shapes[other][other_axis] != shapes[name][axis]:
        raise SymmetryError(
            f"group '{group}' of the specification has {shapes[other][other_axis]} units at '{other}' axis "
            f"{other_axis} and {shapes[name][axis]} at '{name}' axis {axis}; give one of the two another group, or None"
        )


def _reason(term: Term, why: str) -> str:
    return "a single position" if term.size == 1 else why


def axes_of(symmetry: Structure) -> dict[str, tuple[str | None, ...]]:
    """Return the specification of a symmetry of plain atoms.

    Raises:
        SymmetryError: names an axis that is a product, a sum or a dependent atom, which the form cannot hold.
    """
    return {
        name: tuple(_plain(name, axis, term) for axis, term in enumerate(layout))
        for name, layout in symmetry.layouts.items()
    }


def _plain(name: str, axis: int, term: Term) -> str | None:
    if isinstance(term, Atom) and not term.parents:
        return str(term.key)
    if not any(True for _ in atoms(term)):
        return None
    raise SymmetryError(
        f"'{name}' axis {axis} moves by {describe(term)}, which one group for the whole axis cannot say; "
        f"pin it with discover(..., fixed=['{name}:{axis}']), or keep the symmetry with Symmetry.save"
    )


def sites_of(found: Structure, wanted: Structure) -> tuple[tuple[Site, ...], tuple[Layout, ...], tuple[Layout, ...]]:
    """Return sites, inputs and outputs of `found` in terms of the groups of `wanted`, which must lie within `found`.

    Raises:
        SymmetryError: when `wanted` is of another model or claims what was not found.
    """
    names = _names(found, wanted)

    def change(leaf: Fixed | Uniform | Atom) -> Term:
        name = (
            names.get(leaf.key) if isinstance(leaf, Atom) else None
        )  # a fixed parent loses its name: nothing depends on it
        return Fixed(leaf.size) if name is None else Atom(name, leaf.size)

    def renamed(layout: Layout) -> Layout:
        return tuple(rewrite(term, change) for term in layout)

    sites = [replace(site, layout=renamed(site.layout)) for site in found.sites]
    inputs, outputs = (tuple(renamed(layout) for layout in side) for side in (found.inputs, found.outputs))
    return tuple(site for site in sites if site.groups), inputs, outputs


def _names(found: Structure, wanted: Structure) -> dict[Key, str | None]:
    """Return for every group found what `wanted` calls it wherever it stands, None where it is fixed there."""
    if odd := sorted(found.layouts.keys() ^ wanted.layouts.keys()):
        raise SymmetryError(f"the two symmetries are of different models: only one of them has '{odd[0]}'")
    said: dict[Key, tuple[str | None, str]] = {}
    for name, layout in found.layouts.items():
        for axis, term in enumerate(layout):
            group, where = _plain(name, axis, wanted.layouts[name][axis]), f"'{name}' axis {axis}"
            if group is not None and not (isinstance(term, Atom) and not term.parents):
                raise SymmetryError(
                    f"{where} is of group '{group}', but was found to be {describe(term)}: see explain('{name}') of "
                    f"the symmetry found, and correct the specification"
                )
            for atom in atoms(term):
                other, first = said.setdefault(atom.key, (group, where))
                if other != group:
                    raise SymmetryError(
                        f"{first} is {_called(other)} and {where} is {_called(group)}, but they were found to move "
                        f"together; give both the same group"
                    )
    return {key: group for key, (group, _) in said.items()}


def _called(group: str | None) -> str:
    return "fixed" if group is None else f"of group '{group}'"
