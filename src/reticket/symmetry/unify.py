"""Solving: equalities between terms, settled one by one as in type inference.

`Solver.unify` makes two terms equal and gives up freedom only as far as it must: an atom is replaced by whatever it has
to equal, products and sums are cut to their common refinement, and where there is none both sides are pinned. Every
replacement keeps its cause, which is what `Symmetry.explain` prints.

A view that splits an axis is not taken as an equation at once: its factors are provisional (`Split`) until an operator
computes with them. A factor whose positions are then taken out one by one (the q, k and v of a fused projection) turns
the axis into a sum of independent parts instead, and a view that is undone by another one costs nothing.
"""

from collections.abc import Sequence

from reticket.symmetry.cause import Cause
from reticket.symmetry.provisional import ProvisionalCut, Splits
from reticket.symmetry.terms import (
    Atom,
    Fixed,
    Key,
    Layout,
    Product,
    Sum,
    Term,
    Uniform,
    atoms,
    concat,
    leaves,
    product,
    rewrite,
)

LINKED = "moves with a pinned axis"
UNCUT = "cannot be cut along its groups"


class Solver:
    """The atoms of one model and what they have been found to equal."""

    def __init__(self) -> None:
        self._count = 0
        self.splits = Splits()
        self._bound: dict[Key, Term] = {}
        self._origin: dict[Key, tuple[Term, Cause]] = {}
        self._equations: list[tuple[Term, Term]] = []

    def fresh(self, size: int) -> Term:
        """Return an atom of its own, or `Fixed(1)` where there is nothing to permute."""
        if size <= 1:
            return Fixed(size)
        self._count += 1
        return Atom(self._count, size)

    def instantiate(self, layout: Layout) -> Layout:
        """Return the layout with a fresh atom for every uniform piece: each reader may choose its own."""
        return tuple(rewrite(term, lambda x: self.fresh(x.size) if isinstance(x, Uniform) else x) for term in layout)

    def resolve(self, term: Term) -> Term:
        """Return the term with everything found so far put in."""
        return rewrite(term, self._replace)

    def _replace(self, leaf: Fixed | Uniform | Atom) -> Term:
        if isinstance(leaf, Atom | Fixed) and leaf.key in self._bound and self._bound[leaf.key] != leaf:
            settled = rewrite(self._bound[leaf.key], self._replace)
            self._bound[leaf.key] = settled  # chains are shortened as they are walked, as in union-find
            return settled
        return leaf

    def layout(self, layout: Layout) -> Layout:
        """Return the layout with everything found so far put in."""
        return tuple(self.resolve(term) for term in layout)

    def broken(self) -> list[tuple[Term, Term]]:
        """Return the equalities that do not hold as the terms stand now; empty unless the solver itself is wrong."""
        return [(s, t) for s, t in self._equations if not _same(self.resolve(s), self.resolve(t))]

    def causes(self, atom: Atom) -> list[Cause]:
        """Return why the atom or pieces of it may not move, each cause once; how it was cut if all are free."""
        if atom.key not in self._origin:
            return []
        term, cause = self._origin[atom.key]
        if isinstance(term, Fixed):
            return [cause]
        below = list(dict.fromkeys(found for piece in atoms(term) for found in self.causes(piece)))
        return below or ([] if isinstance(term, Atom) else [cause])

    def pin(self, term: Term, cause: Cause) -> None:
        """Allow no permutation of any atom of the term."""
        for atom in atoms(self.resolve(term)):
            # a pinned factor says something of the whole axis only once it is known to be its factor
            self.confirm_splits((atom,))
            for piece in atoms(self.resolve(atom)):
                self._put(piece, Fixed(piece.size, piece.key), cause)

    def _put(self, atom: Atom, term: Term, cause: Cause) -> None:
        if atom.key not in self._bound:
            self._bound[atom.key] = term
            self._origin[atom.key] = (term, cause)

    def unify(self, left: Term, right: Term, cause: Cause) -> None:
        """Make the two terms equal, giving up as little freedom as this takes; what is uniform chooses an order now."""
        left, right = self.instantiate((left, right))
        self._equations.append((left, right))
        self._unify(left, right, cause)

    def _unify(self, left: Term, right: Term, cause: Cause) -> None:
        left, right = self.resolve(left), self.resolve(right)
        assert left.size == right.size, f"terms of size {left.size} and {right.size} cannot be equal"
        if left == right:
            return
        if self.confirm_splits((left, right)):  # both sides may read otherwise now: look again
            self._unify(left, right, cause)
        elif isinstance(left, Fixed) or isinstance(right, Fixed):
            self._unify_fixed(left, right, cause)
        elif isinstance(left, Atom) or isinstance(right, Atom):
            self._bind(left, right, cause)
        elif isinstance(left, Sum) or isinstance(right, Sum):
            self._unify_sums(left, right, cause)
        else:
            self._unify_products(left, right, cause)

    def _unify_fixed(self, left: Term, right: Term, cause: Cause) -> None:
        """Pin the side that moves; an atom becomes the fixed parent on the other side, two of these become one."""
        cause = cause.prefixed(LINKED) if cause.operator else cause
        # an axis that may not move can still be a parent: with its key on, what depends on its positions keeps freedom
        if not isinstance(left, Fixed) or left.key is None:
            left, right = right, left
        if isinstance(left, Fixed) and left.key is not None and isinstance(right, Atom):
            self._put(right, left, cause)
        elif isinstance(left, Fixed) and isinstance(right, Fixed):
            if left.key is not None and right.key is not None:
                self._bound[right.key] = left
        else:
            self.pin(left, cause)
            self.pin(right, cause)

    def _bind(self, left: Term, right: Term, cause: Cause) -> None:
        """Put an atom in terms of the other side; of two atoms the older one stays.

        The oldest atom is that of the earliest tensor of the state_dict, after which the group is named, and bindings
        that lead from younger to older atoms cannot go in a circle.
        """
        if not isinstance(left, Atom) or (isinstance(right, Atom) and self._age(right) > self._age(left)):
            left, right = right, left
        assert isinstance(left, Atom)
        still = cause.operator and any(isinstance(leaf, Fixed) for leaf in leaves(right))
        self._put(left, right, cause.prefixed(LINKED) if still else cause)

    @staticmethod
    def _age(atom: Atom) -> int:
        assert isinstance(atom.key, int)
        return atom.key

    def _unify_sums(self, left: Term, right: Term, cause: Cause) -> None:
        lefts, rights = _parts(left), _parts(right)
        # the common refinement: wherever either side has a boundary, the other is cut there too
        while lefts and rights:
            first, second = self.resolve(lefts.pop(0)), self.resolve(rights.pop(0))
            if first.size > second.size:
                first, rest = self.cut(first, second.size, cause)
                lefts.insert(0, rest)
            elif second.size > first.size:
                second, rest = self.cut(second, first.size, cause)
                rights.insert(0, rest)
            self._unify(first, second, cause)

    def _unify_products(self, left: Term, right: Term, cause: Cause) -> None:
        # row-major factors agree from the outside in; 6 = 2 x 3 and 6 = 3 x 2 have no common refinement, 12 = 2 x 6 and
        # 12 = 4 x 3 have 2 x 2 x 3
        lefts, rights = _factors(left), _factors(right)
        lead = min(lefts[0].size, rights[0].size)
        if lefts[0].size % lead or rights[0].size % lead:
            self.pin(left, cause.prefixed(UNCUT))
            self.pin(right, cause.prefixed(UNCUT))
            return
        first, rest = self.split(left, (lead, left.size // lead), cause)
        second, other = self.split(right, (lead, right.size // lead), cause)
        self._unify(first, second, cause)
        self._unify(rest, other, cause)

    def cut(self, term: Term, at: int, cause: Cause) -> tuple[Term, Term]:
        """Cut an axis in two along its length: the first `at` positions and the rest."""
        term = self.resolve(term)
        if at <= 0 or at >= term.size:
            return (Fixed(0), term) if at <= 0 else (term, Fixed(0))
        if isinstance(term, Atom) and self.confirm_splits((term,)):
            return self.cut(term, at, cause)
        match term:
            case Fixed(size):
                return Fixed(at), Fixed(size - at)
            case Uniform(size):
                return Uniform(at), Uniform(size - at)
            case Atom(_, size):
                halves = self.fresh(at), self.fresh(size - at)
                self._put(term, concat(*halves), cause)
                return halves
            case Sum(parts):
                return self._cut_sum(parts, at, cause)
            case Product(factors):
                return self._cut_product(factors, at, cause)

    def _cut_sum(self, parts: Sequence[Term], at: int, cause: Cause) -> tuple[Term, Term]:
        before: list[Term] = []
        for i, part in enumerate(parts):
            if at < part.size:
                first, rest = self.cut(part, at, cause)
                return concat(*before, first), concat(rest, *parts[i + 1 :])
            before.append(part)
            at -= part.size
            if at == 0:
                return concat(*before), concat(*parts[i + 1 :])
        raise AssertionError("a cut inside a sum lies in one of its parts")

    def _cut_product(self, factors: Sequence[Term], at: int, cause: Cause) -> tuple[Term, Term]:
        lead, inner = factors[0], product(*factors[1:])
        whole, part = divmod(at, inner.size)
        if part == 0:
            first, rest = self.cut(lead, whole, cause)
            return self.resolve(product(first, inner)), self.resolve(product(rest, inner))
        # the cut falls inside one position of the leading factor, which makes that position unlike the others
        self.pin(lead, cause.prefixed(UNCUT))
        first, rest = self.cut(inner, part, cause)
        inner = self.resolve(inner)
        return (
            concat(product(Fixed(whole), inner), first),
            concat(rest, product(Fixed(lead.size - whole - 1), inner)),
        )

    def split(self, term: Term, sizes: Sequence[int], cause: Cause) -> tuple[Term, ...]:
        """Split an axis into factors of the given sizes, row-major, as a view does."""
        pieces: list[Term] = []
        rest = self.resolve(term)
        for size in sizes:
            lead, rest = self._split_once(rest, size, cause)
            pieces.append(lead)
        return tuple(self.resolve(piece) for piece in pieces)

    def _split_once(self, term: Term, size: int, cause: Cause) -> tuple[Term, Term]:
        taken: list[Term] = []
        need, factors = size, _factors(self.resolve(term))
        while need > 1:
            factor = self.resolve(factors.pop(0))
            if isinstance(factor, Product):
                factors[:0] = factor.factors
                continue
            if need % factor.size == 0:
                taken.append(factor)
                need //= factor.size
            elif factor.size % need == 0:
                lead, rest = self._split_leaf(factor, need, cause)
                taken.append(lead)
                factors.insert(0, rest)
                need = 1
            else:
                self.pin(term, cause.prefixed(UNCUT))
                return Fixed(size), Fixed(term.size // size)
        return product(*taken), self.resolve(product(*factors))

    def _split_leaf(self, term: Term, lead: int, cause: Cause) -> tuple[Term, Term]:
        inner = term.size // lead
        match term:
            case Fixed():
                return Fixed(lead), Fixed(inner)
            case Uniform():
                return Uniform(lead), Uniform(inner)
            case Atom():
                return self._provisional(term, lead, inner, cause)
            # equal parts, q, k and v side by side, that the view takes row by row: each row has terms of its own
            case Sum(parts) if len({part.size for part in parts}) == 1 and len(parts) % lead == 0:
                run = len(parts) // lead
                runs = [concat(*parts[i : i + run]) for i in range(0, len(parts), run)]
                return self._provisional(term, lead, inner, cause, runs)
            # every part is some rows of the view, and all rows have the same columns: these are made equal
            case Sum(parts) if all(part.size % inner == 0 for part in parts):
                splits = [self.split(part, (part.size // inner, inner), cause) for part in parts]
                rests = self.instantiate(tuple(rest for _, rest in splits if not isinstance(rest, Uniform)))
                for rest in rests[1:]:
                    self._unify(rests[0], rest, cause)
                joined = self.resolve(concat(*(first for first, _ in splits)))
                return joined, self.resolve(rests[0]) if rests else Uniform(inner)
        self.pin(term, cause.prefixed(UNCUT))
        return Fixed(lead), Fixed(inner)

    def _provisional(
        self, whole: Term, lead: int, inner: int, cause: Cause, parts: list[Term] | None = None
    ) -> tuple[Term, Term]:
        first, rest = self.fresh(lead), self.fresh(inner)
        assert isinstance(first, Atom)
        assert isinstance(rest, Atom)
        self.splits.record(ProvisionalCut(whole, first, rest, cause, parts))
        return first, rest

    def confirm_splits(self, terms: Sequence[Term]) -> bool:
        """Give the solver every provisional cut that one of these terms comes from; return whether there was one."""
        found = False
        for atom in [atom for term in terms for atom in atoms(self.resolve(term))]:
            for split in self.splits.of(atom):
                split.confirmed = found = True
                self.unify(split.whole, product(split.lead, split.inner), split.cause)
        return found

    def parts_cut(self, reason: str) -> list[Term]:
        """Return the parts of every atom that was cut along its length for this reason."""
        cuts = [term for term, cause in self._origin.values() if isinstance(term, Sum) and cause.reason == reason]
        return [part for term in cuts for part in term.parts]

    def rejoin(self, term: Term) -> Term:
        """Return the term with provisional factors that stand side by side again put together."""
        factors: list[Term] = []
        for factor in _factors(term):
            factors.append(factor)
            while len(factors) > 1 and (split := self.splits.between(factors[-2], factors[-1])) is not None:
                factors[-2:] = [self.resolve(split.whole)]
        return product(*factors)


def _parts(term: Term) -> list[Term]:
    return list(term.parts) if isinstance(term, Sum) else [term]


def _factors(term: Term) -> list[Term]:
    return list(term.factors) if isinstance(term, Product) else [term]


def _same(left: Term, right: Term) -> bool:
    """Whether two settled terms move their axis alike: equal, or equal once fixed leading factors are written out."""
    return left == right or _written_out(_nameless(left)) == _written_out(_nameless(right))


def _nameless(term: Term) -> Term:
    return rewrite(term, lambda leaf: Fixed(leaf.size) if isinstance(leaf, Fixed) else leaf)


def _written_out(term: Term) -> list[Term]:
    if isinstance(term, Sum):
        return [piece for part in term.parts for piece in _written_out(part)]
    if isinstance(term, Product) and isinstance(term.factors[0], Fixed):
        return _written_out(product(*term.factors[1:])) * term.factors[0].size
    if isinstance(term, Fixed):
        return [Fixed(1)] * term.size
    return [term]
