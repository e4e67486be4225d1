"""Breaks one thing that one rule says, and leaves every other rule as it is.

A rule speaks by what it asks to be equal, what it pins, the iteration space it names and the layouts it returns. A
mutant is one such call in one rule dropped, the space weakened, or the result forgotten.
"""

import linecache
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reticket.symmetry import rules
from reticket.symmetry.rules import RULES, Operator
from reticket.symmetry.rules.operator import RegisteredRule, is_layout
from reticket.symmetry.terms import Key, Layout, Term, co_occurring

RULES_FOLDER = Path(rules.__file__).parent


@dataclass(frozen=True, order=True)
class Mutant:
    """One thing that a rule says, broken.

    Args:
        rule: name of the rule's function.
        kind: what is broken, a call or what the rule says in the end.
        file: module in which the call stands.
        line: its line; 0 where no single call is broken.
    """

    rule: str
    kind: str
    file: str = ""
    line: int = 0

    @property
    def code(self) -> str:
        """The line of code before the call, which says what the call is about."""
        return linecache.getline(str(RULES_FOLDER / self.file), self.line - 1).strip() if self.line else ""

    def __str__(self) -> str:
        return f"{self.kind} in {self.rule}" + (f" ({self.file}:{self.line})" if self.line else "")


class Breaker:
    """Runs rules with one mutant in force and notes which mutants there could be."""

    def __init__(self) -> None:
        self.broken: Mutant | None = None
        self.seen: set[Mutant] = set()
        self._rules: list[str] = []

    def _here(self, kind: str) -> bool:
        """Note the call that is being made; return whether it is the broken one."""
        if not self._rules:
            return False
        frame = sys._getframe(2)
        return self._noted(Mutant(self._rules[-1], kind, Path(frame.f_code.co_filename).name, frame.f_lineno))

    def rule(self, entry: RegisteredRule) -> RegisteredRule:
        """Return a rule that notes whose calls are made, with the mutant in force."""

        function = entry.function

        def run(op: Operator) -> Any:
            self._rules.append(function.__name__)
            try:
                result = function(op)
            finally:
                self._rules.pop()
            for kind, spaces in _weaker(op, result, structural=entry.structural).items():
                if self._noted(Mutant(function.__name__, kind)):
                    op.spaces = spaces
            if result is not None and self._noted(Mutant(function.__name__, "result")):
                return _forgotten(op, result)
            return result

        return replace(entry, function=run)

    def _noted(self, mutant: Mutant) -> bool:
        self.seen.add(mutant)
        return mutant == self.broken

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Put watched rules and a watched `Operator` in force."""
        entries, equal, pin = dict(RULES), Operator.equal, Operator.pin

        def watched_equal(self: Operator, left: Term, right: Term, reason: str) -> Term:
            return self.solver.resolve(left) if breaker._here("equal") else equal(self, left, right, reason)

        def watched_pin(self: Operator, term: Term, reason: str) -> Term:
            return term if breaker._here("pin") else pin(self, term, reason)

        breaker = self
        try:
            RULES.update({name: self.rule(entry) for name, entry in entries.items()})
            Operator.equal, Operator.pin = watched_equal, watched_pin
            yield
        finally:
            RULES.update(entries)
            Operator.equal, Operator.pin = equal, pin


def _weaker(op: Operator, result: Any, *, structural: bool) -> dict[str, list[Layout]]:
    """What else a rule could say of its iteration space: nothing, or less than it must.

    Less is only counted where it says less than the tensors that the operator reads and makes.
    """
    if not op.spaces:
        return {}
    values = [*op.arguments.values(), result]
    tensors = [x for value in values for x in (value if isinstance(value, list) else [value]) if is_layout(x)]
    ways = {} if structural else {"no iteration space": []}
    ways |= {"empty iteration space": [()], "statistics not named": op.spaces[:1]}
    whole = _beside(op, [*tensors, *op.spaces])
    return {
        kind: spaces
        for kind, spaces in ways.items()
        if not spaces or any(_beside(op, [*tensors, *spaces]).get(key, keys) > keys for key, keys in whole.items())
    }


def _beside(op: Operator, layouts: list[Layout]) -> dict[Key, frozenset[Key]]:
    """What stands beside every atom of the tensors wherever it stands."""
    found: dict[Key, frozenset[Key]] = {}
    for layout in layouts:
        for atom, keys in co_occurring(op.solver.layout(layout)):
            found[atom.key] = found.get(atom.key, keys) & keys
    return found


def _forgotten(op: Operator, result: Any) -> Any:
    """A result of the same shape that has nothing to do with the operands."""
    if is_layout(result):
        return tuple(op.fresh(term.size) for term in result)
    return [_forgotten(op, layout) for layout in result] if isinstance(result, list) else result
