"""Lengths of time in words."""


def time_text(seconds: int | float) -> str:
    """Return a length of time in its two largest units.

    >>> [time_text(s) for s in (0.2, 42, 3725, 200_000, 40_000_000)]
    ['0 s', '42 s', '1 h 02 min', '2 d 8 h', '463 d']
    """
    for unit, above in ((86400, 100 * 86400), (3600, 86400), (60, 3600), (1, 0)):
        if seconds >= above:  # what is left out is rounded, not cut off
            seconds = round(seconds / unit) * unit
            break
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days >= 100:
        return f"{days:,} d"
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
