"""What `reticket list` shows."""

import difflib
from collections.abc import Callable, Mapping

from reticket.data import list_datasets
from reticket.errors import ConfigError
from reticket.matching import list_matchers
from reticket.models import list_models
from reticket.tasks.presets import list_presets
from reticket.tickets.methods import METHODS

KINDS: Mapping[str, Callable[[], Mapping[str, str]]] = {
    "presets": list_presets,
    "datasets": list_datasets,
    "models": list_models,
    "matchers": list_matchers,
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
