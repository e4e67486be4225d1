"""Why the solver replaced an atom: what `Symmetry.explain` prints."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Cause:
    """Why an atom was replaced.

    Args:
        reason: what the operator asks for.
        operator: its name, for instance `aten.conv2d.default`; empty when no operator is to blame.
        module: path of the module that called it.
        line: `file:line` of the source, empty when it is not known.
    """

    reason: str
    operator: str = ""
    module: str = ""
    line: str = ""

    def prefixed(self, what: str) -> "Cause":
        """Return the cause with what it led to put before it."""
        return replace(self, reason=f"{what}: {self.reason}")

    def __str__(self) -> str:
        where = [self.operator, f"in {self.module}" if self.module else "", f"at {self.line}" if self.line else ""]
        text = " ".join(part for part in where if part)
        return f"{self.reason} ({text})" if text else self.reason
