"""The terms of the axis algebra: what a choice of permutations does to one axis of one tensor.

| term | size | a choice of permutations |
|---|---|---|
| `Atom(key, n)` | n | moves it by one permutation of n, the same wherever the atom occurs |
| `Atom(key, n, parents=(p, ...))` | n | moves it by one permutation of n for each position of its parents p |
| `Fixed(n)` | n | leaves it alone |
| `Fixed(n, key)` | n | leaves it alone; a *fixed parent*: atoms may depend on its positions |
| `Product(e1, ..., ek)` | product | row-major mixed radix, each factor by its own |
| `Sum(e1, ..., ek)` | sum | concatenation, each part by its own |

`Uniform(n)` exists only while a graph is being solved: the tensor does not vary along this axis, so any permutation of
it will do, and each reader of the tensor may choose another one. Uniform parts side by side stay two, for each may have
another value.

Terms are built with `product` and `concat`, which keep them in normal form: no nesting of a kind in itself, no factor
of size 1, no part of size 0, neighbouring `Fixed` merged, and a sum always the last factor of its product, because
(a + b) x c = a x c + b x c.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

Key: TypeAlias = int | str


@dataclass(frozen=True, slots=True)
class Fixed:
    """An axis that no permutation moves.

    Args:
        size: number of positions.
        key: names the axis where atoms depend on its positions (a *fixed parent*); None where none does.
    """

    size: int
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class Uniform:
    """An axis along which the tensor is constant (only while solving)."""

    size: int


@dataclass(frozen=True, slots=True)
class Atom:
    """An axis moved by one permutation of `size` units, or by one for each position of the parents in `parents`.

    Args:
        key: a number while solving, the name of the group afterwards.
        size: number of units.
        parents: keys of atoms and fixed parents, outermost first; empty for an independent atom.
    """

    key: Key
    size: int
    parents: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class Product:
    """Row-major mixed radix of its factors; build it with `product`."""

    factors: "tuple[Term, ...]"

    @property
    def size(self) -> int:
        """Product of the sizes of the factors."""
        return math.prod(factor.size for factor in self.factors)


@dataclass(frozen=True, slots=True)
class Sum:
    """Concatenation of its parts; build it with `concat`."""

    parts: "tuple[Term, ...]"

    @property
    def size(self) -> int:
        """Sum of the sizes of the parts."""
        return sum(part.size for part in self.parts)


Term: TypeAlias = Fixed | Uniform | Atom | Product | Sum
Layout: TypeAlias = tuple[Term, ...]


def product(*terms: Term) -> Term:
    """Return the row-major product of the terms in normal form.

    >>> product(Fixed(2), Fixed(3), Atom("c", 4), Fixed(1))
    Product(factors=(Fixed(size=6, key=None), Atom(key='c', size=4, parents=())))
    """
    factors: list[Term] = []
    for term in terms:
        for factor in term.factors if isinstance(term, Product) else (term,):
            if factor.size == 0:
                return Fixed(0)
            if factor.size == 1:
                continue
            last = factors[-1] if factors else None
            if isinstance(last, Sum):
                factors[-1] = concat(*(product(part, factor) for part in last.parts))
            elif isinstance(factor, Fixed) and isinstance(last, Fixed) and factor.key is last.key is None:
                factors[-1] = Fixed(last.size * factor.size)
            elif isinstance(factor, Uniform) and isinstance(last, Uniform):
                factors[-1] = Uniform(last.size * factor.size)
            else:
                factors.append(factor)
    if not factors:
        return Fixed(1)
    return factors[0] if len(factors) == 1 else Product(tuple(factors))


def concat(*terms: Term) -> Term:
    """Return the concatenation of the terms in normal form.

    >>> concat(Fixed(2), Fixed(3), Atom("c", 4))
    Sum(parts=(Fixed(size=5, key=None), Atom(key='c', size=4, parents=())))
    """
    parts: list[Term] = []
    for term in terms:
        for part in term.parts if isinstance(term, Sum) else (term,):
            last = parts[-1] if parts else None
            if part.size == 0:
                continue
            if isinstance(part, Fixed) and isinstance(last, Fixed) and part.key is last.key is None:
                parts[-1] = Fixed(last.size + part.size)
            else:
                parts.append(part)
    if not parts:
        return Fixed(0)
    return parts[0] if len(parts) == 1 else Sum(tuple(parts))


def leaves(term: Term) -> Iterator[Fixed | Uniform | Atom]:
    """Yield the atoms, fixed and uniform pieces of a term from left to right."""
    if isinstance(term, Product):
        for factor in term.factors:
            yield from leaves(factor)
    elif isinstance(term, Sum):
        for part in term.parts:
            yield from leaves(part)
    else:
        yield term


def atoms(term: Term) -> Iterator[Atom]:
    """Yield the atoms of a term from left to right, each as often as it occurs."""
    return (leaf for leaf in leaves(term) if isinstance(leaf, Atom))


def key_of(leaf: "Term") -> Key | None:
    """Return the key of an atom or a fixed parent, None for any other term."""
    return leaf.key if isinstance(leaf, Atom | Fixed) else None


def is_keyed(term: Term) -> bool:
    """Whether atoms or fixed parents are on an axis, so that its size is theirs."""
    return any(key_of(leaf) is not None for leaf in leaves(term))


def indexing_keys(term: Term) -> Iterator[Key]:
    """Yield the keys of the atoms and fixed parents that index an axis by themselves: the term or its factors."""
    for factor in term.factors if isinstance(term, Product) else (term,):
        if (key := key_of(factor)) is not None:
            yield key


def co_occurring(layout: Layout) -> Iterator[tuple[Atom, frozenset[Key]]]:
    """Yield every occurrence of an atom with the keys of which exactly one stands beside it.

    A factor of the atom's own axis (of its own part, within a sum) goes before one on another axis; a key that stands
    there twice says nothing about which of its positions belongs to the atom, nor does one beside an atom that stands
    there twice: the other may belong to what was cut off, as in units times units cut into three axes.

    >>> [(a.key, sorted(keys)) for a, keys in co_occurring((product(Atom("g", 2), Atom("o", 3)), Atom("i", 4)))]
    [('g', ['i', 'o']), ('o', ['g', 'i']), ('i', ['g', 'o'])]
    """
    for axis, term in enumerate(layout):
        others = [key for i, other in enumerate(layout) if i != axis for key in indexing_keys(other)]
        for atom, own in _within(term, ()):
            keys = {key for key in own if own.count(key) == 1 and atom.key not in own}
            keys |= {key for key in others if others.count(key) == 1 and key not in own}
            yield atom, frozenset(keys - {atom.key})


def _within(term: Term, own: tuple[Key, ...]) -> Iterator[tuple[Atom, tuple[Key, ...]]]:
    match term:
        case Atom():
            yield term, own
        case Product(factors):
            for i, factor in enumerate(factors):
                siblings = tuple(key for j, other in enumerate(factors) if j != i for key in indexing_keys(other))
                yield from _within(factor, own + siblings)
        case Sum(parts):
            for part in parts:
                yield from _within(part, own)


def rewrite(term: Term, change: Callable[[Fixed | Uniform | Atom], Term]) -> Term:
    """Return the term with every leaf replaced by `change(leaf)`, in normal form."""
    if isinstance(term, Product):
        return product(*(rewrite(factor, change) for factor in term.factors))
    if isinstance(term, Sum):
        return concat(*(rewrite(part, change) for part in term.parts))
    return change(term)


def fixed_positions(term: Term) -> int:
    """Return how many positions of an axis no permutation moves.

    >>> fixed_positions(concat(product(Atom("c", 4), Fixed(9)), Fixed(3)))
    3
    """
    match term:
        case Product(factors):
            return math.prod(fixed_positions(factor) for factor in factors)
        case Sum(parts):
            return sum(fixed_positions(part) for part in parts)
        case Atom(_, size):
            return 0 if size > 1 else size
        case _:
            return term.size


def shape_of(layout: Layout) -> tuple[int, ...]:
    """Return the shape of a tensor with this layout."""
    return tuple(term.size for term in layout)


def describe(term: Term) -> str:
    """Return the term as a short text.

    >>> describe(product(Atom("conv2.weight", 16), Fixed(49)))
    'conv2.weight[16] x 49'
    """
    match term:
        case Product(factors):
            return " x ".join(f"({describe(f)})" if isinstance(f, Sum) else describe(f) for f in factors)
        case Sum(parts):
            return " + ".join(describe(part) for part in parts)
        case Atom(key, size, parents):
            return f"{key}[{size}" + (" over " + ", ".join(map(str, parents)) if parents else "") + "]"
        case Uniform(size):
            return f"any[{size}]"
        case Fixed(size, key) if key is not None:
            return f"{key}({size})"
        case _:
            return str(term.size)
