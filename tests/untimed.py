"""Results without what tells of time, so that those of two runs can be compared."""

from typing import Any

TIMED = ("environment", "seconds", "own_seconds", "shared_seconds")


def untimed(results: Any) -> Any:
    """Return the content of `results.json` without its times, wherever they stand.

    >>> untimed({"rows": [{"mean": 97.0, "own_seconds": 1.5}], "environment": {"date": "today"}})
    {'rows': [{'mean': 97.0}]}
    """
    if isinstance(results, dict):
        return {name: untimed(value) for name, value in results.items() if name not in TIMED}
    return [untimed(value) for value in results] if isinstance(results, list) else results
