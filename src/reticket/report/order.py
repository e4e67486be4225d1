"""Whether LTH > permuted > naive, the order that the method promises, holds beyond the noise of the seeds."""

from reticket.figures.finding import Finding
from reticket.figures.looks import label
from reticket.figures.text import PERCENT, listed, percent, rewound
from reticket.tasks.results import Results
from reticket.tasks.rows import Difference

STEPS = 2  # of the order


def difference_words(one: Difference) -> str:
    """Return the two methods with a minus sign between them."""
    return f"{label(one.higher)} \u2212 {label(one.lower)}"


def order(results: Results) -> Finding | None:
    """Return what the table of differences says, or None where no two seeds can be compared."""
    found = results.differences
    if not found:
        return None
    caption = (
        f"Paired differences over seeds with {percent(found[0].confidence)} intervals by Student's t. With as many "
        f"seeds as the last column says the interval would exclude 0 in 80{PERCENT} of experiments, if the mean and "
        "the spread seen here were the true ones; few seeds know both badly."
    )
    return Finding(None, _says(found), caption)


def _says(found: tuple[Difference, ...]) -> tuple[str, ...]:
    settings: dict[tuple[float, str | None, str | None], list[Difference]] = {}
    for one in found:
        settings.setdefault((one.sparsity, one.rewind, one.match_at), []).append(one)
    whole = [steps for steps in settings.values() if len(steps) == STEPS]
    held = sum(all(step.settled and step.low > 0 for step in steps) for steps in whole)
    said = [f"LTH > permuted > naive holds beyond the noise in {held} of {len(whole)} settings."] if whole else []
    below = [one for one in found if one.settled and one.high < 0]
    against = [f"{difference_words(one)} at {percent(one.sparsity)}, {rewound(one.rewind)}" for one in below]
    return (*said, *([f"Below 0, beyond the noise: {listed(against)}."] if against else []))
