"""The Pareto front: what nothing else beats in cost and in quality at once."""

from collections.abc import Sequence

from reticket.errors import InputError


def pareto_front(costs: Sequence[float], values: Sequence[float]) -> tuple[int, ...]:
    """Return the places of the points that no other point beats, the cheapest first.

    Point j beats point i where cost_j <= cost_i and value_j >= value_i, one of both strictly; of equal points none
    beats the other.

    Args:
        costs: of each point; less is better.
        values: of each point; more is better.

    Raises:
        InputError: when there are not as many values as costs.

    >>> pareto_front([4.0, 9.0, 6.0, 6.0], [90.0, 95.0, 89.0, 93.0])
    (0, 3, 1)
    """
    if len(costs) != len(values):
        raise InputError(f"a front needs a cost and a value of each point, got {len(costs)} and {len(values)}")
    order = sorted(range(len(costs)), key=lambda place: (costs[place], -values[place]))
    front: list[int] = []
    for place in order:
        last = front[-1] if front else None
        if last is None or values[place] > values[last] or (costs[place], values[place]) == (costs[last], values[last]):
            front.append(place)
    return tuple(front)
