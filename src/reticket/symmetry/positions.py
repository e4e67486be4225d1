"""Positions taken out of an axis, and tensors stacked along a new one: each position may have terms of its own."""

from collections.abc import Sequence

from reticket.symmetry.cause import Cause
from reticket.symmetry.provisional import ProvisionalCut
from reticket.symmetry.terms import Atom, Fixed, Key, Layout, Term, concat, rewrite
from reticket.symmetry.unify import Solver

SLICED = "a slice cuts this axis"


def stacked(solver: Solver, layouts: Sequence[Layout], axis: int, cause: Cause) -> Layout:
    """Return the layout of tensors stacked along a new axis, each with its own terms until an operator mixes them."""
    if len(layouts) == 1:
        return (*layouts[0][:axis], Fixed(1), *layouts[0][axis:])
    # stacking undoes taking positions out: along the new axis stands a provisional factor, so that q, k and v stacked
    # and taken apart again keep their own terms, and only an operator that mixes them makes them equal
    lead, result, alike = solver.fresh(len(layouts)), list[Term](), True
    for column in zip(*layouts, strict=True):
        terms = [solver.resolve(term) for term in column]
        if all(term == terms[0] for term in terms) or terms[0].size <= 1:
            result.append(terms[0])
            continue
        inner, alike = solver.fresh(terms[0].size), False
        assert isinstance(lead, Atom)
        assert isinstance(inner, Atom)
        solver.splits.record(ProvisionalCut(concat(*terms), lead, inner, cause, terms))
        result.append(inner)
    return (*result[:axis], Fixed(len(layouts)) if alike else lead, *result[axis:])


def take(solver: Solver, layout: Layout, axis: int, start: int, length: int, cause: Cause) -> Layout:
    """Take a run of positions out of an axis; along a provisional factor each position has terms of its own."""
    layout = solver.layout(layout)
    splits = solver.splits.led_by(layout[axis]) if length < layout[axis].size else []
    if splits:
        return _take_parts(solver, splits, layout, start, length)
    before, _ = solver.cut(layout[axis], start + length, cause)
    return solver.layout((*layout[:axis], solver.cut(before, start, cause)[1], *layout[axis + 1 :]))


def _take_parts(solver: Solver, splits: list[ProvisionalCut], layout: Layout, start: int, length: int) -> Layout:
    # every axis that this factor leads becomes a sum of parts, one a position, of which the run keeps its own; one
    # position alone is that part itself, several are again a stack
    first = solver.fresh(length)
    new: dict[Key, Term] = {splits[0].lead.key: first}
    for split in splits:
        if split.parts is None:
            split.parts = [solver.fresh(split.inner.size) for _ in range(split.lead.size)]
            solver.unify(split.whole, concat(*split.parts), split.cause)
        parts = split.parts[start : start + length]
        inner = parts[0] if length == 1 else solver.fresh(split.inner.size)
        if isinstance(first, Atom):
            assert isinstance(inner, Atom)
            solver.splits.record(ProvisionalCut(concat(*parts), first, inner, split.cause, parts))
        _follow(solver, split.inner, inner, split.cause, new)
    return tuple(rewrite(term, lambda x: new.get(x.key, x) if isinstance(x, Atom) else x) for term in layout)


def _follow(solver: Solver, old: Atom, new: Term, cause: Cause, found: dict[Key, Term]) -> None:
    """Split `new` as `old` was provisionally split, all the way down; note what goes for what."""
    # heads inside q: what was said of a factor before its positions were taken apart holds for each position
    found[old.key] = new
    for split in solver.splits.below(old):
        lead, inner = solver.split(new, (split.lead.size, split.inner.size), cause)
        _follow(solver, split.lead, lead, cause, found)
        _follow(solver, split.inner, inner, cause, found)
