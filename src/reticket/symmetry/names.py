"""Many names in few words: what differs in numbers only is written once, as `h.{0-11}.mlp.weight`."""

import math
import re
from collections.abc import Iterable, Sequence

FEWEST = 3  # names that are folded into one
MOST_NUMBERS = 6  # of a shared name, where room is scarce
NUMBER = re.compile(r"(\d+)")


def shared_name(names: Sequence[str], most: int | None = None) -> str:
    """Return one name for several that differ in numbers only.

    Args:
        names: the names, alike but for their numbers.
        most: how many numbers to write out in one place before the middle ones are left out; None for all.

    >>> shared_name(["h.0.fc.weight", "h.1.fc.weight", "h.2.fc.weight"])
    'h.{0-2}.fc.weight'
    >>> shared_name(["a.0.1", "a.2.3"])
    'a.{0,2}.{1,3}'
    >>> shared_name([f"{2 * i}.weight" for i in range(40)], most=6)
    '{0,2,…,78}.weight'
    """
    return "".join(_numbers(column, most) for column in _columns(names))


def folded(names: Iterable[tuple[str, str]]) -> list[str]:
    """Return names with those that fill a whole grid of numbers written as one; nothing is left out.

    Args:
        names: pairs of a name and what is put after it; only those with the same ending are written as one.

    >>> folded([("stem", ""), ("h.0.up", "[1]"), ("h.0.up", "[0]"), ("h.1.up", "[1]"), ("h.2.up", "[1]")])
    ['stem', 'h.{0-2}.up[1]', 'h.0.up[0]']
    >>> folded([("a.0.1", ""), ("a.1.0", ""), ("a.1.1", "")])
    ['a.0.1', 'a.1.0', 'a.1.1']
    """
    alike: dict[tuple[str, str], list[str]] = {}
    for name, ending in dict.fromkeys(names):
        alike.setdefault((NUMBER.sub("#", name), ending), []).append(name)
    result = []
    for (_, ending), same in alike.items():
        grid = math.prod(len(set(column)) for column in _columns(same))
        whole = [shared_name(same)] if len(same) >= FEWEST and grid == len(same) else same
        result += [f"{name}{ending}" for name in whole]
    return result


def _columns(names: Sequence[str]) -> list[tuple[str, ...]]:
    return list(zip(*(NUMBER.split(name) for name in names), strict=True))


def _numbers(column: Sequence[str], most: int | None) -> str:
    different = list(dict.fromkeys(column))
    if len(different) == 1:
        return different[0]
    numbers = sorted(map(int, different))
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{{{numbers[0]}-{numbers[-1]}}}"
    shown = numbers if most is None or len(numbers) <= most else [*numbers[:2], "…", numbers[-1]]
    return f"{{{','.join(map(str, shown))}}}"
