"""A symmetry as a person reads it in a terminal."""

from collections import Counter

from rich.console import Console
from rich.table import Table

from reticket.symmetry import Symmetry

SHOWN_REASONS = 12


def describe(symmetry: Symmetry, console: Console) -> None:
    """Print the groups, what is pinned and why.

    Args:
        symmetry: what was discovered.
        console: where to print.
    """
    table = Table("group", "units", "copies", "members", box=None, pad_edge=False, header_style="bold")
    for name, group in symmetry.groups.items():
        members = [f"{m.tensor}[{m.axis}]" for m in group.members]
        shown = ", ".join(members[:4]) + (f", … {len(members) - 4} more" if len(members) > 4 else "")
        table.add_row(name, f"{group.size}", f"{group.copies}", shown)
    console.print(table)
    console.print(f"{len(symmetry.groups)} groups, 10^{symmetry.log10_order:.1f} permutations")
    reasons = [reason for axes in symmetry.reasons.values() for reason in axes if reason]
    counts = Counter(reason.partition(" (")[0] for reason in reasons)
    if counts:
        console.print("pinned axes, by what pins them (--explain TENSOR tells where):")
    for reason, count in counts.most_common(SHOWN_REASONS):
        console.print(f"  {count:>4}  {reason}", style="dim", markup=False, highlight=False)
    if symmetry.pinned_by_verify:
        console.print(f"pinned by the proof (a bug in a rule): {', '.join(symmetry.pinned_by_verify)}", style="red")
