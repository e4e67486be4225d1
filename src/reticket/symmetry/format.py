"""Terms as JSON: an atom or a fixed parent is its name, the other terms are one-key objects."""

from collections.abc import Mapping
from typing import Any

from reticket.symmetry.terms import Atom, Fixed, Layout, Product, Sum, Term, Uniform, concat, product
from reticket.untrusted import is_size, shown

Groups = Mapping[str, Atom | Fixed]
DEEPEST = 50  # of terms in terms; those of a model are three or four deep


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


def term_from_json(data: Any, groups: Groups, depth: int = 0) -> Term:
    """Read what `term_to_json` wrote; `groups` gives every atom and every fixed parent by its name.

    Args:
        data: what JSON holds.
        groups: atoms and fixed parents by name.
        depth: of how many terms this is a part.

    Raises:
        ValueError: when the data is no term.
        KeyError: when it names a group that `groups` lacks.
    """
    if is_size(data):
        return Fixed(data)
    if isinstance(data, str):
        return groups[data]
    if isinstance(data, dict) and len(data) == 1 and depth < DEEPEST:
        ((kind, terms),) = data.items()
        if kind in ("product", "sum") and isinstance(terms, list):
            build = product if kind == "product" else concat
            return build(*(term_from_json(term, groups, depth + 1) for term in terms))
    raise ValueError(f"{shown(data)} is no term")


def layout_to_json(layout: Layout) -> list[Any]:
    """Return one JSON term for each axis."""
    return [term_to_json(term) for term in layout]


def layout_from_json(data: Any, groups: Groups) -> Layout:
    """Read what `layout_to_json` wrote."""
    return tuple(term_from_json(term, groups) for term in data)
