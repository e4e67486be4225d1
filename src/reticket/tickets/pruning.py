"""How a network is pruned round by round, as one value that an experiment's configuration is made of."""

from dataclasses import dataclass, fields
from typing import Any

from reticket.lookup import as_names
from reticket.tickets.imp import StyleName, check_rate, check_style
from reticket.tickets.patterns import pattern_of
from reticket.tickets.ranking import Scope, check_scope

LATER = ("include", "pattern")  # fields that keys of results from before them do not name


@dataclass(frozen=True)
class Pruning:
    """Iterative magnitude pruning but for its training: where a round starts, how much goes, what competes.

    Args:
        style: what a round starts from, a key of `STYLES`.
        rate: fraction of the remaining weights pruned in a round, in (0, 1).
        scope: compare magnitudes over all layers or inside each.
        exclude: what is never pruned, kinds or patterns of names as of `prunable`.
        include: what is pruned besides the matrices of known layers, as of `prunable`.
        pattern: which weights may be kept together, as of `prune`: "2:4", "4x8", "fan-in"; None for any.

    Raises:
        MaskError: for an unknown style, scope or pattern, or a rate out of range.

    >>> Pruning(rate=0.5, exclude=("last",)).decisive()
    {'style': 'finetune', 'rate': 0.5, 'scope': 'global', 'exclude': ['last']}
    """

    style: StyleName = "finetune"
    rate: float = 0.2
    scope: Scope = "global"
    exclude: tuple[str, ...] = ("shortcut",)
    include: tuple[str, ...] = ()
    pattern: str | None = None

    def __post_init__(self) -> None:
        check_style(self.style)
        check_rate(self.rate)
        check_scope(self.scope)
        if self.pattern is not None:
            pattern_of(self.pattern)
        object.__setattr__(self, "exclude", as_names(self.exclude))
        object.__setattr__(self, "include", as_names(self.include))

    def decisive(self) -> dict[str, Any]:
        """Return what decides a round of pruning but for its training, as JSON; what is newer only where it is set."""
        values = {one.name: getattr(self, one.name) for one in fields(Pruning) if one.name not in LATER}
        later = {"include": list(self.include), "pattern": self.pattern}
        return values | {"exclude": list(self.exclude)} | {name: value for name, value in later.items() if value}
