"""Why an axis is pinned, in words: the reasons that discovery kept, sorted into kinds that say what would free it.

A reason is a text, because symmetry files hold it: `what the operator asks for (operator in module at file:line)`.
Several reasons of one axis are joined by `ALSO`. docs/pinned.md has a section for each kind.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

ALSO = "; also "
PLACE = re.compile(r"^(?P<text>.*?) \((?P<operator>[\w.<>: ]*?)(?: in (?P<module>\S+))?(?: at (?P<line>\S+:\d+))?\)$")


@dataclass(frozen=True)
class Kind:
    """A kind of reason.

    Args:
        name: short name; the heading in docs/pinned.md.
        begins: beginnings of the texts that are of this kind.
        remedy: what would free the axis, one sentence.
    """

    name: str
    begins: tuple[str, ...]
    remedy: str


KINDS = (
    Kind(
        "output",
        ("an axis of the model's output",),
        "if whoever reads this output does not care about the order of this axis, pass free=['{axis}'] to discover",
    ),
    Kind(
        "linked",
        ("moves with a pinned axis",),
        "the operator ties it to an axis that does not move: free that one; where it is the model's own input, pass "
        "free=['inputN:AXIS'] to discover",
    ),
    Kind(
        "no rule",
        ("no rule for",),
        "write a rule for the operator (docs/adding-a-rule.md)",
    ),
    Kind(
        "not covered",
        ("the rule does not cover this call",),
        "write the call in a form that the rule covers, or extend the rule (docs/adding-a-rule.md)",
    ),
    Kind(
        "not read",
        ("not read for these inputs", "a table of positions, of which these inputs read a part"),
        "give discover an example that reads all of it, for instance a longer sequence",
    ),
    Kind(
        "caller",
        ("fixed by the caller",),
        "leave it out of discover(..., fixed=[...])",
    ),
    Kind(
        "specification",
        ("fixed in the specification", "not listed in the specification"),
        "name its group in the specification that Symmetry.from_axes reads, or let discover find it",
    ),
    Kind(
        "hand",
        ("no reason given",),
        "the symmetry file says so; put a group's name back in its place",
    ),
    Kind(
        "memory",
        ("shares memory with",),
        "give the two tensors memory of their own",
    ),
    Kind(
        "dense",
        ("not dense: ",),
        "keep the tensor dense: only such ones are permuted",
    ),
    Kind(
        "written",
        ("the value is written to", "the buffer "),
        "keep the value in a registered buffer, which discovery can follow",
    ),
    Kind(
        "cut",
        ("cannot be cut along its groups",),
        "cut the axis where its groups end, or give its parts tensors of their own",
    ),
    Kind(
        "size",
        ("changes the function at other input sizes",),
        "nothing does at all sizes; discover(..., verify=False) claims it for inputs of the example's sizes",
    ),
    Kind(
        "proof",
        ("changes the function of the model",),
        "a rule claimed what is not so: this is a bug, please report the model",
    ),
    Kind(
        "nothing to permute",
        ("a single position", "empty"),
        "",
    ),
)
ORDER = Kind(
    "order",
    (),
    "nothing does: in another order the operator computes something else",
)


@dataclass(frozen=True)
class Reason:
    """One reason why an axis, or a part of it, may not move.

    Args:
        text: what the operator asks for.
        operator: the operator; empty when none is to blame.
        module: path of the module that called it; empty for the model itself.
        line: `file:line` of the source; empty when it is not known.
    """

    text: str
    operator: str = ""
    module: str = ""
    line: str = ""

    @property
    def kind(self) -> Kind:
        """What sort of reason this is."""
        return next((kind for kind in KINDS if self.text.startswith(kind.begins)), ORDER)

    @property
    def remedy(self) -> str:
        """What would free the axis, one sentence; empty where there is nothing to permute."""
        return self.kind.remedy.replace("{axis}", self.text.rpartition(" ")[2])

    @property
    def where(self) -> str:
        """Operator, module and source line as a phrase; empty when no operator is to blame."""
        parts = [self.operator, f"in {self.module}" if self.module else "", f"at {self.line}" if self.line else ""]
        return " ".join(part for part in parts if part)


def read_reasons(text: str) -> tuple[Reason, ...]:
    """Take apart what `Symmetry.reasons` holds for an axis.

    >>> read_reasons("a window slides along this axis (aten.conv2d.default in conv1 at net.py:7)")[0].module
    'conv1'
    >>> [reason.kind.name for reason in read_reasons("a single position; also not read for these inputs")]
    ['nothing to permute', 'not read']
    """
    found = []
    for piece in text.split(ALSO) if text else ():
        match = PLACE.match(piece)
        is_place = match is not None and (match["module"] or match["line"] or "." in match["operator"])
        found.append(
            Reason(**{k: v or "" for k, v in match.groupdict().items()}) if is_place and match else Reason(piece)
        )
    return tuple(found)


def count_reasons(texts: Iterable[str]) -> list[tuple[Reason, int]]:
    """Return the reasons without their places, each with the number of axes it pins, the most frequent first."""
    counts = Counter(
        Reason(reason.text, reason.operator) for text in texts for reason in read_reasons(text) if reason.remedy
    )
    return counts.most_common()
