"""The colours of a network map: one for each group, or for each role that groups play in blocks."""

import re
from collections.abc import Sequence

from reticket.symmetry.network_map import NetworkMap, groups_of

COLOURS = (  # on a light and on a dark ground
    ("#0b5cad", "#6cb2f5"),
    ("#c4430a", "#ff9259"),
    ("#04786a", "#3fc9b2"),
    ("#7d3c98", "#cf9be6"),
    ("#8a5a00", "#dcae4f"),
    ("#9c2a4f", "#f08fae"),
    ("#3f6212", "#a5cf63"),
    ("#5b4bb5", "#aba0f5"),
    ("#0e7490", "#67d0e8"),
    ("#7a4a2b", "#d6a581"),
)


def role(name: str) -> str:
    """Return the name of a group without its numbers: groups of one role are alike in every block."""
    return re.sub(r"(?<![:\d])\d+", "#", name)


def colour_classes(network: NetworkMap) -> dict[str, str]:
    """Give each group that is drawn a colour class.

    Groups of one role share a colour, unless two of them meet in a row; what meets in a row differs where the colours
    suffice.
    """
    rows = [list(dict.fromkeys(groups_of(network.symmetry, row.tensors))) for row in network.rows]
    far = [lane.group for lane in network.lanes if lane.last - lane.first > len(network.rows) / 4][:3]
    crowded = {role(a) for row in rows for a in row for b in row if a != b and role(a) == role(b)}
    key = {g: g if g in far or role(g) in crowded else role(g) for row in rows for g in row}
    meets: dict[str, set[str]] = {}
    for row in rows:
        for group in row:
            meets.setdefault(key[group], set()).update(key[other] for other in row if other != group)
    number = {group: k for k, group in enumerate(far)}
    free = range(len(far), len(COLOURS))
    for k, name in enumerate(name for name in dict.fromkeys(key.values()) if name not in number):
        order = [free[(k + step) % len(free)] for step in range(len(free))]
        near = {number.get(other) for other in meets[name]}
        number[name] = next((colour for colour in order if colour not in near), order[0])
    return {group: f"g{number[name]}" for group, name in key.items()}


def style() -> str:
    """Return the style sheet: `.gK.SHAPE` is a shape in the colour K of the palette."""

    def rules(ground: int) -> str:
        names = {"ground": "#ffffff #14181d", "ink": "#1c2430 #e6e9ed", "soft": "#5a6675 #a3adb9"}
        names |= {"zebra": "#f3f5f7 #1b2027", "rule": "#c9d0d8 #434c57"}
        lines = [f"--{name}:{value.split()[ground]}" for name, value in names.items()]
        return ";".join([*lines, *(f"--g{k}:{pair[ground]}" for k, pair in enumerate(COLOURS))])

    def painted(selector: str, paint: Sequence[str]) -> str:
        rule = f"{selector}{{{';'.join(paint)}}}"
        return "".join(f".g{k}.{rule}".replace("$", f"var(--g{k})") for k in range(len(COLOURS)))

    return (
        f":root{{{rules(0)}}}@media (prefers-color-scheme:dark){{:root{{{rules(1)}}}}}"
        ".ground{fill:var(--ground)}.zebra{fill:var(--zebra)}.ink{fill:var(--ink)}.soft{fill:var(--soft)}"
        ".rule{stroke:var(--rule)}.hole{fill:var(--ground)}.still.chip{fill:none;stroke:var(--rule)}"
        + painted("lane", ["stroke:$", "fill:none", "stroke-linecap:round", "opacity:.75"])
        + painted("disc", ["fill:$", "stroke:var(--ground)", "stroke-width:1"])
        + painted("ring", ["fill:var(--ground)", "stroke:$", "stroke-width:2"])
        + painted("chip", ["fill:$", "fill-opacity:.22", "stroke:$"])
        + painted("capsule", ["fill:$", "fill-opacity:.13", "stroke:$", "stroke-opacity:.5"])
        + painted("swatch", ["fill:$"])
    )
