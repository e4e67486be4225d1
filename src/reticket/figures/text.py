"""Numbers and positions as words: one way to write each quantity, wherever it is shown."""

import math
import re
import statistics
from collections.abc import Iterable, Sequence

from reticket.records import Stat

DASH = "–"
PERCENT = "\u00a0%"
MOST_DIGITS = 6  # after the point


def number(value: float | None, digits: int = 1, sign: bool = False) -> str:
    """Return a number with a real minus sign, or a dash when there is none.

    >>> number(-0.04, 1), number(2.0, 1, sign=True), number(None)
    ('0.0', '+2.0', '–')
    """
    if value is None or not math.isfinite(value):
        return DASH
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    elif sign and value > 0:
        text = f"+{text}"
    return text.replace("-", "−")


def plus_minus(stat: Stat, digits: int = 1) -> str:
    """Return mean ± sd, or the mean alone when there is no spread.

    >>> plus_minus(Stat(n=2, mean=93.25, sd=0.41)), plus_minus(Stat(n=1, mean=93.0))
    ('93.2 ± 0.4', '93.0')
    """
    if stat.mean is None or stat.sd is None:
        return number(stat.mean, digits)
    return f"{number(stat.mean, digits)} ± {number(stat.sd, digits)}"


def spread_digits(stats: Iterable[Stat], usual: int) -> int:
    """Return with how many decimals measured numbers are written: so many that a typical spread has two digits.

    Args:
        stats: the numbers, in one unit; their median sd is the typical spread.
        usual: decimals where none has a spread.

    >>> [spread_digits([Stat(n=2, mean=93.0, sd=sd)], 3) for sd in (0.41, 0.095, 4.2, 31.0, None)]
    [2, 3, 1, 0, 3]
    """
    spreads = [stat.sd for stat in stats if stat.sd]
    if not spreads:
        return usual
    return min(max(1 - math.floor(math.log10(statistics.median(spreads))), 0), MOST_DIGITS)


def percent(fraction: float | None) -> str:
    """Return a fraction in percent with as many digits as it needs.

    >>> [percent(value).replace(chr(160), " ") for value in (0.95, 0.8926, 0.999)]
    ['95 %', '89.26 %', '99.9 %']
    """
    if fraction is None:
        return DASH
    return f"{100 * fraction:.2f}".rstrip("0").rstrip(".") + PERCENT


def position(rewind: str | None) -> str:
    """Return a rewind point in words.

    >>> [position(rewind).replace(chr(160), " ") for rewind in ("0it", "5ep", "300it", None)]
    ['initialisation', '5 epochs', '300 steps', 'no rewind']
    """
    if rewind is None:
        return "no rewind"
    found = re.fullmatch(r"(\d+)(it|ep)", rewind)
    if not found:
        return rewind
    count = int(found[1])
    if count == 0:
        return "initialisation"
    unit = {"it": "step", "ep": "epoch"}[found[2]]
    return f"{count}\u00a0{unit}{'' if count == 1 else 's'}"


def rewound(rewind: str | None) -> str:
    """Return "rewound to ..." for a sentence."""
    if rewind is None:
        return "without a rewind"
    words = position(rewind)
    return f"rewound to the {words}" if words == "initialisation" else f"rewound to {words}"


def rewind_order(rewinds: Iterable[str | None]) -> list[str]:
    """Return the distinct rewind points, earliest first; points in different units keep the order of their counts.

    >>> rewind_order(["20ep", None, "5ep", "0it", "5ep"])
    ['0it', '5ep', '20ep']
    """

    def place(rewind: str) -> tuple[int, int, str]:
        found = re.fullmatch(r"(\d+)(it|ep)", rewind)
        if not found:
            return (3, 0, rewind)
        count = int(found[1])
        return (0 if count == 0 else 1 if found[2] == "it" else 2, count, rewind)

    return sorted({rewind for rewind in rewinds if rewind is not None}, key=place)


def counts(numbers: Iterable[int]) -> str:
    """Return "n = 5" or "n = 3 to 5".

    >>> counts([5, 5]), counts([5, 3]), counts([])
    ('n = 5', 'n = 3 to 5', 'n = 0')
    """
    seen = sorted(set(numbers)) or [0]
    return f"n = {seen[0]}" if len(seen) == 1 else f"n = {seen[0]} to {seen[-1]}"


def spread_note(marks: str, numbers: Iterable[int]) -> str:
    """Return what bands or whiskers stand for, and over how many seeds; one seed has no spread.

    >>> spread_note("Bands", [5]), spread_note("Bands", [1, 1])
    ('Bands are ± 1 sd over seeds, n = 5.', 'One seed, so no spread is shown (n = 1).')
    """
    seen = list(numbers)
    if max(seen, default=0) < 2:
        return f"One seed, so no spread is shown ({counts(seen)})."
    return f"{marks} are ± 1 sd over seeds, {counts(seen)}."


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "seed"), plural(3, "seed"), plural(2, "class")
    ('1 seed', '3 seeds', '2 classes')
    """
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count} {noun}{ending}"


def listed(items: Iterable[str]) -> str:
    """Return "a, b and c"."""
    parts = list(items)
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else "none"


def duration(seconds: float | None) -> str:
    """Return seconds in the unit one would say.

    >>> [duration(seconds).replace(chr(160), " ") for seconds in (4.2, 75.0, 9000.0)]
    ['4.2 s', '1.2 min', '2.5 h']
    """
    if seconds is None:
        return DASH
    for limit, scale, unit in ((60, 1, "s"), (3600, 60, "min"), (math.inf, 3600, "h")):
        if seconds < limit:
            return f"{seconds / scale:.1f}\u00a0{unit}"
    return DASH


def shortened(name: str, length: int = 26) -> str:
    """Return a long name with its middle left out, both ends kept.

    >>> shortened("layer1.0.conv1.weight", 12)
    'layer…weight'
    """
    if len(name) <= length:
        return name
    tail = (length - 1 + 1) // 2
    return f"{name[: length - 1 - tail]}…{name[len(name) - tail :]}"


_PATH = re.compile(r"(?<![\w.:/~])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\'\"<>|:;,]+[/\\])+([^\s/\\'\"<>|:;,]*)")


def without_folders(text: str) -> str:
    """Return the text with the folders of absolute paths left out, so that a shared report tells no account names.

    >>> without_folders("cannot open '/srv/data/train.bin', see config.toml")
    "cannot open '…/train.bin', see config.toml"
    """
    return _PATH.sub(lambda found: f"…/{found[1]}", text)


def group_names(names: Sequence[str]) -> list[str]:
    """Return names of groups as a report shows them: without the last part that all share, ".weight" as a rule.

    >>> group_names(["conv1.weight", "fc1.weight"]), group_names(["fc1.weight", "norm.bias"])
    (['conv1', 'fc1'], ['fc1.weight', 'norm.bias'])
    """
    shared = len({name.rpartition(".")[2] for name in names}) == 1 and all("." in name for name in names)
    return [name.rpartition(".")[0] for name in names] if shared else list(names)
