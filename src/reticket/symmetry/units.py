"""The units of a group inside one tensor: who stands beside them, and how to bring them to the front."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from reticket.symmetry.terms import Atom, Fixed, Key, Layout, Product, Sum, Term, atoms, is_keyed, key_of, product


def fitted(layout: Layout, shape: Sequence[int]) -> Layout | None:
    """Return the layout of a tensor that differs in the sizes of what has no units; None where this cannot be.

    An axis without units may have any size. So may the fixed factor of an axis with units, where there is one alone.

    >>> merged = (product(Fixed(4), Atom("heads", 3)), Fixed(5))
    >>> fitted(merged, (192, 7)) == (product(Fixed(64), Atom("heads", 3)), Fixed(7)), fitted(merged, (10, 7))
    (True, None)
    """
    if len(layout) != len(shape):
        return None
    terms = [_resized(term, size) for term, size in zip(layout, shape, strict=True)]
    return None if any(term is None for term in terms) else tuple(term for term in terms if term is not None)


def plain_axis(layout: Layout, shape: Sequence[int], group: str) -> int | None:
    """Return the axis that is a group's units alone, where no other axis shows any; None where it is not so simple.

    >>> plain_axis((Fixed(4), Atom("heads", 3), Fixed(5)), (8, 3, 7), "heads")
    1
    """
    keyed = [axis for axis, term in enumerate(layout) if not isinstance(term, Fixed)]
    term = layout[keyed[0]] if len(keyed) == 1 and len(layout) == len(shape) else None
    alone = isinstance(term, Atom) and term.key == group and not term.parents and shape[keyed[0]] == term.size
    return keyed[0] if alone else None


def _resized(term: Term, size: int) -> Term | None:
    """Return a term of another size that differs in its one factor without units, None where there is no such term."""
    if term.size == size or not is_keyed(term):
        return term if term.size == size else Fixed(size)
    factors = term.factors if isinstance(term, Product) else (term,)
    plain = [i for i, factor in enumerate(factors) if isinstance(factor, Fixed) and factor.key is None]
    if len(plain) != 1 or size * factors[plain[0]].size % term.size:
        return None
    resized = Fixed(size * factors[plain[0]].size // term.size)
    return product(*(resized if i == plain[0] else factor for i, factor in enumerate(factors)))


def siblings(term: Term, group: str) -> Iterator[tuple[str, ...]]:
    """Yield, for each occurrence of a group in a term, the other groups in the factors beside it."""
    match term:
        case Atom(key) if key == group:
            yield ()
        case Product(factors):
            for i, factor in enumerate(factors):
                beside = tuple(str(a.key) for j, other in enumerate(factors) if j != i for a in atoms(other))
                yield from (beside + inner for inner in siblings(factor, group))
        case Sum(parts):
            for part in parts:
                yield from siblings(part, group)


def rows(tensor: Tensor, axes: list[tuple[int, Term]], group: str, along: Sequence[str] | None) -> Iterator[Tensor]:
    """Yield one (*along, n, samples) tensor for each occurrence of the group.

    Args:
        tensor: one axis for each entry of `axes`.
        axes: for each axis of the tensor the axis of the site that it is a piece of, and its term.
        group: name of the group.
        along: groups and fixed parents whose positions are told apart; None for the group's parents.
    """
    for i, (axis, term) in enumerate(axes):
        before, after = axes[:i], axes[i + 1 :]
        match term:
            case Product(factors):
                spread = tensor.unflatten(i, [factor.size for factor in factors])
                yield from rows(spread, [*before, *((axis, factor) for factor in factors), *after], group, along)
                return
            case Sum(parts) if any(atom.key == group for atom in atoms(term)):
                for piece, part in zip(tensor.split([part.size for part in parts], dim=i), parts, strict=True):
                    yield from rows(piece, [*before, (axis, part), *after], group, along)
                others = [*before, (axis, Fixed(term.size)), *after]
                yield from rows(tensor, others, group, along)
                return
    for i, (axis, term) in enumerate(axes):
        if isinstance(term, Atom) and term.key == group:
            parents = [axis_of(name, axis, axes) for name in (term.parents if along is None else along)]
            front = tensor.movedim([*parents, i], list(range(len(parents) + 1)))
            yield front.reshape(*front.shape[: len(parents) + 1], -1)


def axis_of(parent: Key, axis: int, axes: list[tuple[int, Term]]) -> int:
    """Return the one axis that shows a parent: a piece of the same axis of the site before any other."""
    shown = [i for i, (_, term) in enumerate(axes) if key_of(term) == parent]
    return next((i for i in shown if axes[i][0] == axis), shown[0])
