"""The one look each method keeps through every figure and table."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Role = Literal["key", "variant", "reference", "control"]

ORACLES = frozenset({"dense", "imp", "imp-b", "lth"})
"""Methods that use what a new initialisation does not have: another network's weights, or B's own pruning."""

SHORT_NAMES: Mapping[str, str] = {
    "lth": "LTH",
    "imp": "IMP",
    "imp-b": "IMP B",
    "erk": "ERK",
    "snip": "SNIP",
    "grasp": "GraSP",
    "synflow": "SynFlow",
}
DYNAMICS_NAMES: Mapping[str, str] = {"set": "SET", "rigl": "RigL", "srigl": "SRigL"}
PART = re.compile(r"""([^+("']*(?:\([^)]*\))?)\+?""")

PALETTE: Mapping[str, tuple[str, str]] = {
    "ink": ("#1c2430", "#e6e9ed"),
    "soft": ("#5a6675", "#a3adb9"),
    "rule": ("#c9d0d8", "#434c57"),
    "grid": ("#e8ebef", "#2a313a"),
    "lth": ("#0b5cad", "#6cb2f5"),
    "permuted": ("#c4430a", "#ff9259"),
    "naive": ("#04786a", "#3fc9b2"),
    "signed": ("#7d3c98", "#cf9be6"),
    "naive-signed": ("#a0528a", "#e3a3d0"),
    "dense": ("#2d3641", "#d3d9df"),
    "imp": ("#3d4752", "#bcc5ce"),
    "imp-b": ("#45515e", "#b4bec8"),
    "control-1": ("#6f7a87", "#909ba7"),
    "control-2": ("#717c89", "#8e99a5"),
    "control-3": ("#737e8b", "#8c97a3"),
    "control-4": ("#75808d", "#8a95a1"),
    "control-5": ("#717884", "#8e99a0"),
    "control-6": ("#6f7987", "#9098a4"),
    "control-7": ("#737a85", "#8d96a2"),
    "polished": ("#8c4b12", "#e0a877"),
    "one-shot": ("#1f7034", "#74d18d"),
    "gradual": ("#746400", "#d8c95c"),
    "other-1": ("#8a5a00", "#dcae4f"),
    "other-2": ("#9c2a4f", "#f08fae"),
    "other-3": ("#3f6212", "#a5cf63"),
    "other-4": ("#0e7490", "#67d0e8"),
    "other-5": ("#5b4bb5", "#aba0f5"),
    "other-6": ("#7a4a2b", "#d6a581"),
}
"""Name: colour on a light and on a dark ground. Hexadecimal values are unique, so that a figure drawn for paper can
take the colours of the page it is shown on."""

INK, SOFT, RULE, GRID = (PALETTE[name][0] for name in ("ink", "soft", "rule", "grid"))


@dataclass(frozen=True)
class Look:
    """How one method is drawn."""

    name: str
    colour: str
    role: Role
    marker: str = "o"
    dash: tuple[float, ...] = ()

    @property
    def hex(self) -> str:
        """The colour on paper."""
        return PALETTE[self.colour][0]

    @property
    def label(self) -> str:
        """The name as the field writes it."""
        return label(self.name)

    @property
    def mark(self) -> str:
        """The marker where there is no line: a dash would be lost."""
        return "o" if self.marker == "_" else self.marker

    @property
    def width(self) -> float:
        """Line width in points."""
        return {"key": 1.9, "variant": 1.3, "reference": 1.0, "control": 0.9}[self.role]


_KNOWN: tuple[Look, ...] = (
    Look("dense", "dense", "reference", "_", (1.0, 2.0)),
    Look("imp-b", "imp-b", "reference", "P", (5.0, 2.0)),
    Look("imp", "imp", "reference", "X", (5.0, 1.5, 1.0, 1.5)),
    Look("lth", "lth", "key", "o"),
    Look("permuted", "permuted", "key", "D"),
    Look("naive", "naive", "key", "s"),
    Look("signed", "signed", "variant", "^"),
    Look("naive-signed", "naive-signed", "variant", "v", (4.0, 1.6)),
    Look("polished", "polished", "variant", "D", (1.2, 1.4)),
    Look("one-shot", "one-shot", "reference", "H"),
    Look("gradual", "gradual", "reference", "p", (4.0, 1.6)),
    Look("random-permutation", "control-1", "control", "p"),
    Look("layer-shuffle", "control-2", "control", "h", (4.0, 1.6)),
    Look("random", "control-3", "control", "d", (1.2, 1.4)),
    Look("erk", "control-4", "control", "*", (5.0, 1.5, 1.0, 1.5)),
    Look("snip", "control-6", "control", "<", (4.0, 1.6)),
    Look("grasp", "control-7", "control", ">", (1.2, 1.4)),
    Look("synflow", "control-5", "control", "8", (5.0, 2.0)),
)


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """Return the look of each method, in the order of the report; methods unknown here come last, as they came.

    >>> list(looks(["naive", "mine", "lth"]))
    ['lth', 'naive', 'mine']
    """
    names = list(dict.fromkeys(methods))
    known = {look.name: look for look in _KNOWN}
    result = {look.name: look for look in _KNOWN if look.name in names}
    markers, dashes = "o^sDvP", ((), (4.0, 1.6), (1.2, 1.4), (5.0, 1.5, 1.0, 1.5))
    for count, name in enumerate(name for name in names if name not in known):
        dash = dashes[(count // 6) % len(dashes)]
        result[name] = Look(name, f"other-{count % 6 + 1}", "variant", markers[count % 6], dash)
    return result


def label(method: str) -> str:
    """Return a method's name as the field writes it, with its options and what changes its mask.

    >>> label("erk+rigl(alpha=0.2)"), label("signed(share=0.5)"), label("lth")
    ('ERK + RigL (alpha=0.2)', 'signed (share=0.5)', 'LTH')
    """
    parts = [part for part in PART.findall(method) if part]
    return (
        " + ".join(_worded(part, names) for part, names in zip(parts, (SHORT_NAMES, DYNAMICS_NAMES), strict=False))
        or method
    )


def is_oracle(method: str) -> bool:
    """Return whether a method, whatever its options, uses what a new initialisation does not have.

    >>> is_oracle("lth+rigl"), is_oracle("permuted+rigl")
    (True, False)
    """
    return base(method) in ORACLES


def base(method: str) -> str:
    """Return the name of a method without its options and dynamics.

    >>> base("signed(share=0.5)+rigl")
    'signed'
    """
    return method.partition("+")[0].partition("(")[0]


def _worded(part: str, names: Mapping[str, str]) -> str:
    name, sign, options = part.partition("(")
    return names.get(name, name) + f" {sign}{options}" * bool(sign)
