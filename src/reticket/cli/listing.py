"""What `reticket list` shows."""

import difflib
from collections.abc import Callable, Mapping

from reticket.data.registry import LOADERS
from reticket.errors import ConfigError
from reticket.matching import MATCHERS
from reticket.models.registry import MODELS
from reticket.tasks.presets import list_presets
from reticket.tickets.methods import METHODS

KINDS: Mapping[str, Callable[[], Mapping[str, str]]] = {
    "presets": list_presets,
    "datasets": lambda: {name: _first_line(LOADERS[name]) for name in sorted(LOADERS)},
    "models": lambda: {name: _first_line(MODELS[name].build) for name in sorted(MODELS)},
    "matchers": lambda: {name: _first_line(function) for name, function in MATCHERS.items()},
    "methods": lambda: {name: method.description for name, method in METHODS.items()},
}


def listing(what: str) -> Mapping[str, str]:
    """Return names and descriptions of one kind of thing.

    Raises:
        ConfigError: for an unknown kind.
    """
    if what not in KINDS:
        close = difflib.get_close_matches(what, KINDS, n=1)
        hint = f", did you mean '{close[0]}'?" if close else ""
        raise ConfigError(f"list {what}: unknown kind, expected one of {', '.join(KINDS)}{hint}")
    return KINDS[what]()


def _first_line(function: object) -> str:
    return (function.__doc__ or "").strip().partition("\n")[0]
