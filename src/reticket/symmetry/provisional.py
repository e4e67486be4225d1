"""Provisional cuts: what a view says about an axis before an operator computes with its factors."""

from dataclasses import dataclass

from reticket.symmetry.cause import Cause
from reticket.symmetry.terms import Atom, Key, Term


@dataclass(eq=False)
class ProvisionalCut:
    """A provisional cut of an axis: `whole = lead x inner`, or `parts[0] + parts[1] + ...` by positions of lead.

    Args:
        whole: the axis that was split.
        lead: its leading factor.
        inner: the rest, the same for every position of lead.
        cause: the view.
        parts: what each position of lead holds, where positions were taken out one by one; None before.
        confirmed: whether the equation was given to the solver.
    """

    whole: Term
    lead: Atom
    inner: Atom
    cause: Cause
    parts: list[Term] | None = None
    confirmed: bool = False


class Splits:
    """The provisional cuts that are not confirmed yet, by the atoms that they are about."""

    def __init__(self) -> None:
        self._of: dict[Key, list[ProvisionalCut]] = {}
        self._below: dict[Key, list[ProvisionalCut]] = {}

    def record(self, split: ProvisionalCut) -> None:
        """Take in a cut."""
        for atom in (split.lead, split.inner):
            self._of.setdefault(atom.key, []).append(split)
        if isinstance(split.whole, Atom):
            self._below.setdefault(split.whole.key, []).append(split)

    def of(self, atom: Atom) -> list[ProvisionalCut]:
        """Return the cuts that the atom is a factor of."""
        return [split for split in self._of.get(atom.key, []) if not split.confirmed]

    def led_by(self, term: Term) -> list[ProvisionalCut]:
        """Return the cuts of which the term is the leading factor."""
        return [split for split in self.of(term) if split.lead == term] if isinstance(term, Atom) else []

    def below(self, atom: Atom) -> list[ProvisionalCut]:
        """Return the cuts of the atom itself."""
        return [split for split in self._below.get(atom.key, []) if not split.confirmed]

    def between(self, lead: Term, inner: Term) -> ProvisionalCut | None:
        """Return the cut of which these are the two factors."""
        return next((split for split in self.led_by(lead) if split.inner == inner), None)
