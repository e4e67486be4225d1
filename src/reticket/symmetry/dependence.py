"""Dependence: which atoms may have a permutation of their own for every position of another axis.

Solving gives the independent skeleton, one permutation for each atom. Atom b may *depend on* a, `b over a`, when

- every tensor of the graph that shows b shows exactly one a beside it, which says whose position it is, and
- every operator that computes with b works on each position of a separately. A rule says so by naming the operator's
  iteration space, the layout of all its index variables (for y = x W^T: batch, out and in); that layout, and those of
  the statistics it takes on the way, count as tensors. Atoms of an operator without an iteration space stay alone.

Then the operators never mix what stands at different positions of a, and the wreath product of the two permutations is
a symmetry wherever each alone is. a may be a pinned axis (a *fixed parent*), as in experts that are routed to one by
one.
"""

from collections.abc import Iterable, Sequence

from reticket.symmetry.terms import Key, Layout, co_occurring


def parents_of(layouts: Iterable[Layout], alone: frozenset[Key], order: Sequence[Key]) -> dict[Key, tuple[Key, ...]]:
    """Return for every atom the atoms and fixed parents that it may depend on, outermost first.

    Of two atoms that always stand together, the earlier in `order` is the parent.

    Args:
        layouts: layouts of all tensors and all iteration spaces, settled.
        alone: atoms that may depend on nothing.
        order: keys of the atoms and fixed parents of the state_dict; an earlier one is rather the parent.

    >>> from reticket.symmetry.terms import Atom, product
    >>> head, inner = Atom("head", 2), Atom("inner", 3)
    >>> parents_of([(product(head, inner),), (head,)], frozenset(), ["head", "inner"])
    {'head': (), 'inner': ('head',)}
    >>> parents_of([(product(head, inner),), (inner,)], frozenset(), ["head", "inner"])
    {'head': ('inner',), 'inner': ()}
    """
    rank = {key: i for i, key in enumerate(order)}
    always: dict[Key, frozenset[Key]] = {}
    for layout in dict.fromkeys(layouts):
        for atom, keys in co_occurring(layout):
            always[atom.key] = always[atom.key] & keys if atom.key in always else keys
    above = {
        key: frozenset() if key in alone else frozenset(a for a in keys if a in rank)
        for key, keys in always.items()
        if key in rank
    }
    parents = {
        key: frozenset(a for a in keys if key not in above.get(a, ()) or rank[a] < rank[key])
        for key, keys in above.items()
    }
    while open_ended := {key: closed for key in parents if (closed := _closed(parents, key)) != parents[key]}:
        parents.update(open_ended)
    return {
        key: tuple(sorted(parents[key], key=lambda a: (len(parents.get(a, ())), rank[a])))
        for key in order
        if key in parents
    }


def _closed(parents: dict[Key, frozenset[Key]], key: Key) -> frozenset[Key]:
    """Keep the parents whose own parents are parents too."""
    return frozenset(a for a in parents[key] if parents.get(a, frozenset()) <= parents[key])
