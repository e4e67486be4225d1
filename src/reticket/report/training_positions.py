"""Positions of training: as epochs, and the one at which the networks of the main figures were matched."""

import re
from typing import Any

from reticket.figures.text import rewind_order
from reticket.tasks.results import Results


def in_epochs(position: str | None, steps_per_epoch: int | None) -> float | None:
    """Return a position in epochs, or None where it cannot be told.

    >>> in_epochs("20ep", None), in_epochs("30it", 20), in_epochs("0it", None), in_epochs("30it", None)
    (20.0, 1.5, 0.0, None)
    """
    found = re.fullmatch(r"(\d+)(it|ep)", position or "")
    if not found:
        return None
    count = int(found[1])
    if found[2] == "ep" or count == 0:
        return float(count)
    return count / steps_per_epoch if steps_per_epoch else None


def match_order(results: Results) -> list[str]:
    """Return the positions of B at which units were matched, earliest first, the end of training last."""
    found = {row.match_at for row in results.rows} - {None}
    return [*rewind_order(found - {"end"}), *(["end"] if "end" in found else [])]


def at_main(results: Results) -> Results:
    """Return the results of the latest position of matching alone: what most figures and tables speak of."""
    order = match_order(results)
    if len(order) < 2:
        return results

    def kept(one: Any) -> bool:
        return one.match_at in (None, order[-1])

    sections = {name: getattr(results, name) for name in type(results).model_fields}
    with_positions = {name: rows for name, rows in sections.items() if isinstance(rows, tuple) and rows}
    return results.model_copy(
        update={
            name: tuple(filter(kept, rows)) for name, rows in with_positions.items() if hasattr(rows[0], "match_at")
        }
    )
