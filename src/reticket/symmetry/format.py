"""Terms as JSON: an atom or a place is its name, the other terms are one-key objects."""

from collections.abc import Mapping
from typing import Any

from reticket.symmetry.terms import Atom, Fixed, Layout, Product, Sum, Term, Uniform, concat, product

Groups = Mapping[str, Atom | Fixed]


def term_to_json(term: Term) -> Any:
    """Return a term as JSON: a number is `Fixed`, a text the group of an atom.

    >>> term_to_json(product(Atom("conv.weight", 8), Fixed(4)))
    {'product': ['conv.weight', 4]}
    """
    match term:
        case Atom(key) | Fixed(_, key) if key is not None:
            return str(key)
        case Fixed(size) | Uniform(size):
            return size
        case Product(factors):
            return {"product": [term_to_json(factor) for factor in factors]}
        case Sum(parts):
            return {"sum": [term_to_json(part) for part in parts]}


def term_from_json(data: Any, groups: Groups) -> Term:
    """Read what `term_to_json` wrote; `groups` gives every atom and every place by its name.

    Raises:
        ValueError: when the data is no term.
        KeyError: when it names a group that `groups` lacks.
    """
    if isinstance(data, int) and not isinstance(data, bool) and data >= 0:
        return Fixed(data)
    if isinstance(data, str):
        return groups[data]
    if isinstance(data, dict) and len(data) == 1:
        ((kind, terms),) = data.items()
        if kind == "product":
            return product(*(term_from_json(term, groups) for term in terms))
        if kind == "sum":
            return concat(*(term_from_json(term, groups) for term in terms))
    raise ValueError(f"{data!r} is no term")


def layout_to_json(layout: Layout) -> list[Any]:
    """Return one JSON term for each axis."""
    return [term_to_json(term) for term in layout]


def layout_from_json(data: Any, groups: Groups) -> Layout:
    """Read what `layout_to_json` wrote."""
    return tuple(term_from_json(term, groups) for term in data)
