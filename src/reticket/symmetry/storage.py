"""Symmetries as JSON: versioned, one tensor a line, made to be compared and edited by hand.

Every table of the file is read with the place where one stands, so that an error names it. `shapes` says what the terms
in `layouts` must add up to: an edit that changes a size by mistake is found without the model. `log10_order` is written
for the reader and not read.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reticket.errors import SymmetryError
from reticket.lookup import nearest
from reticket.symmetry.format import Groups, layout_to_json, term_from_json
from reticket.symmetry.sites import Site
from reticket.symmetry.structure import Structure
from reticket.symmetry.terms import Atom, Fixed, Layout, Term, atoms, describe, rewrite
from reticket.untrusted import LARGEST, MOST_AXES, is_shape, is_size, one_line, parsed, shown

FORMAT = 1
NAME = "reticket-symmetry"


def written(symmetry: Structure) -> str:
    """Return the symmetry as JSON."""
    head = {
        "format": NAME,
        "version": FORMAT,
        "log10_order": round(symmetry.log10_order, 6),
        "pinned_by_verify": list(symmetry.pinned_by_verify),
        "notes": list(symmetry.notes),
    }
    body = {
        "inputs": {str(i): layout_to_json(layout) for i, layout in enumerate(symmetry.inputs)},
        "outputs": {str(i): layout_to_json(layout) for i, layout in enumerate(symmetry.outputs)},
        "places": {name: {"size": size} for name, size in symmetry.fixed_parents.items()},
        "groups": {g.name: {"size": g.size, "over": list(g.parents)} for g in symmetry.groups.values()},
        "shapes": {name: list(symmetry.shape(name)) for name in symmetry.layouts},
        "layouts": {name: layout_to_json(layout) for name, layout in symmetry.layouts.items()},
        "reasons": {name: list(reasons) for name, reasons in symmetry.reasons.items()},
        "sites": {site.name: site.to_json() for site in symmetry.sites},
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    for key, table in body.items():
        rows = ",\n".join(f"    {json.dumps(name)}: {json.dumps(value)}" for name, value in table.items())
        lines.append(f"  {json.dumps(key)}: {{\n{rows}\n  }}" if rows else f"  {json.dumps(key)}: {{}}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def fields_of(text: str, source: str) -> dict[str, Any]:
    """Read what `written` wrote, as the arguments of `Symmetry`.

    Args:
        text: the JSON.
        source: what an error calls it: the path of the file.

    Raises:
        SymmetryError: names the place in the file, what stands there, what was expected.
    """
    try:
        data = parsed(text, object_pairs_hook=_once_each)
    except ValueError as error:
        said = one_line(str(error))
        raise SymmetryError(f"{source}: is not JSON ({said}); repair that line or save the symmetry again") from error
    if not isinstance(data, dict) or data.get("format") != NAME:
        raise SymmetryError(f'{source}: is not a symmetry, expected a JSON object with "format": "{NAME}"')
    if not is_size(data.get("version")) or data["version"] != FORMAT:
        raise SymmetryError(
            f"{source}: has format version {shown(data.get('version'))}, expected {FORMAT}; discover and save it again"
        )
    return _Reader(data, source).fields()


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse what `json` passes over in silence: one name twice, as copying a line leaves it."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"'{name}' stands twice in one object")
        found[name] = value
    return found


class _Reader:
    """The tables of one file."""

    def __init__(self, data: Mapping[str, Any], source: str) -> None:
        self.data, self.source = data, source
        self.groups: Groups = self._groups()

    def fail(self, place: str, problem: str) -> SymmetryError:
        return SymmetryError(f"{self.source}: {one_line(f'{place}: {problem}')}")

    def table(self, key: str, *, optional: bool = False) -> Mapping[str, Any]:
        value = self.data.get(key, {} if optional else None)
        if not isinstance(value, dict):
            seen = "is missing" if key not in self.data else f"is a {type(value).__name__}"
            raise self.fail(f"'{key}'", f"{seen}, expected an object; save the symmetry again")
        return value

    def texts(self, value: Any, place: str) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise self.fail(place, f"{shown(value)} was found, expected a list of texts")
        return tuple(value)

    def _groups(self) -> Groups:
        found: dict[str, Atom | Fixed] = {
            name: Fixed(self.size(entry, f"'places', '{name}'"), name)
            for name, entry in self.table("places", optional=True).items()
        }
        for name, entry in self.table("groups").items():
            place = f"'groups', '{name}'"
            if name in found:
                raise self.fail(place, "is a place as well; list it in 'groups' or in 'places'")
            found[name] = Atom(name, self.size(entry, place), self.texts(entry.get("over", []), f"{place}, 'over'"))
        for name, leaf in found.items():
            for parent in map(str, leaf.parents) if isinstance(leaf, Atom) else ():
                if parent not in found:
                    raise self.fail(
                        f"'groups', '{name}'",
                        f"depends on '{parent}', which 'groups' does not list{nearest(parent, found)}; "
                        f"list it, or take it out of 'over'",
                    )
                own, above = getattr(leaf, "parents", ()), getattr(found[parent], "parents", ())
                if parent == name or name in above or not set(above) <= set(own) or own.count(parent) > 1:
                    raise self.fail(
                        f"'groups', '{name}', 'over'",
                        f"lists '{parent}', but what a group depends on stands there once, with all that it depends on "
                        f"in turn, and without the group itself",
                    )
        return found

    def size(self, entry: Any, place: str) -> int:
        size = entry.get("size") if isinstance(entry, dict) else None
        if not is_size(size) or size < 1:
            raise self.fail(place, f'{shown(entry)} was found, expected {{"size": a positive number, "over": [...]}}')
        return size

    def fields(self) -> dict[str, Any]:
        """Return the arguments of `Symmetry`."""
        layouts = {name: self.layout(terms, f"'layouts', '{name}'") for name, terms in self.table("layouts").items()}
        self.check_shapes(layouts)
        used = {str(atom.key) for layout in layouts.values() for term in layout for atom in atoms(term)}
        sites = [replace(site, layout=_only(site.layout, used)) for site in self.sites()]
        return {
            "layouts": layouts,
            "reasons": self.reasons(layouts),
            "sites": tuple(site for site in sites if site.groups),
            "inputs": tuple(_only(layout, used) for layout in self.ends("inputs")),
            "outputs": tuple(_only(layout, used) for layout in self.ends("outputs")),
            "pinned_by_verify": self.texts(self.data.get("pinned_by_verify", []), "'pinned_by_verify'"),
            "notes": self.texts(self.data.get("notes", []), "'notes'"),
        }

    def layout(self, terms: Any, place: str) -> Layout:
        if not isinstance(terms, list) or len(terms) > MOST_AXES:
            raise self.fail(
                place, f"{shown(terms)} was found, expected a list with one term for each axis, at most {MOST_AXES}"
            )
        layout = tuple(self.term(term, f"{place}, axis {axis}") for axis, term in enumerate(terms))
        if math.prod(term.size for term in layout) > LARGEST:
            raise self.fail(place, "is a tensor of more than 2^63 numbers; correct its terms")
        return layout

    def term(self, data: Any, place: str) -> Term:
        try:
            return term_from_json(data, self.groups)
        except KeyError as error:
            name = str(error.args[0])
            raise self.fail(
                place,
                f"names group '{name}', which 'groups' does not list{nearest(name, self.groups)}; list it there, or "
                f"write the size of the axis to pin it",
            ) from error
        except (TypeError, ValueError) as error:
            raise self.fail(
                place,
                f"{shown(data)} is no term, expected a size, a group's name, "
                f'{{"product": [...]}} or {{"sum": [...]}} of such',
            ) from error

    def check_shapes(self, layouts: Mapping[str, Layout]) -> None:
        shapes = self.table("shapes", optional=True)
        if odd := [name for name in shapes if name not in layouts]:
            raise self.fail(
                f"'shapes', '{odd[0]}'",
                f"'layouts' has no such tensor{nearest(odd[0], layouts)}; correct its name there",
            )
        for name, layout in layouts.items():
            if name not in shapes:
                if shapes:
                    raise self.fail(
                        f"'layouts', '{name}'", f"'shapes' has no such tensor{nearest(name, shapes)}; correct its name"
                    )
                continue
            self.check_shape(name, layout, shapes[name])

    def check_shape(self, name: str, layout: Layout, shape: Any) -> None:
        if not is_shape(shape):
            raise self.fail(f"'shapes', '{name}'", f"{shown(shape)} was found, expected a list of sizes")
        if len(shape) != len(layout):
            raise self.fail(
                f"'layouts', '{name}'", f"has {len(layout)} terms, expected one for each axis of shape {shape}"
            )
        for axis, (term, size) in enumerate(zip(layout, shape, strict=True)):
            if term.size != size:
                raise self.fail(
                    f"'layouts', '{name}', axis {axis}",
                    f"{describe(term)} has {term.size} positions, expected {size} as in 'shapes'; correct the term, or "
                    f"the size of its group in 'groups'",
                )

    def reasons(self, layouts: Mapping[str, Layout]) -> dict[str, tuple[str, ...]]:
        table = self.table("reasons", optional=True)
        found = {}
        for name, layout in layouts.items():
            found[name] = self.texts(table.get(name, [""] * len(layout)), f"'reasons', '{name}'")
            if len(found[name]) != len(layout):
                raise self.fail(
                    f"'reasons', '{name}'", f"has {len(found[name])} texts, expected one for each of {len(layout)} axes"
                )
        return found

    def ends(self, key: str) -> list[Layout]:
        return [self.layout(terms, f"'{key}', '{i}'") for i, terms in self.table(key, optional=True).items()]

    def sites(self) -> list[Site]:
        found = []
        for name, entry in self.table("sites", optional=True).items():
            place = f"'sites', '{name}'"
            known = entry if isinstance(entry, dict) else {}
            module, operator, call = (known.get(key) for key in ("module", "operator", "call"))
            if not (isinstance(module, str) and isinstance(operator, str) and is_size(call) and "layout" in known):
                raise self.fail(
                    place, f"{shown(entry)} was found, expected module, operator, call and layout; take the line out"
                )
            found.append(Site(name, module, operator, call, self.layout(known["layout"], place)))
        return found


def _only(layout: Layout, groups: set[str]) -> Layout:
    """Fix what no tensor carries: a group that was pinned by hand in `layouts` does not move in activations either."""

    def change(leaf: Any) -> Term:
        return Fixed(leaf.size) if isinstance(leaf, Atom) and leaf.key not in groups else leaf

    return tuple(rewrite(term, change) for term in layout)
