"""What `reticket list` shows."""

from collections.abc import Callable, Mapping

from reticket.data.registry import DATASETS
from reticket.errors import ConfigError
from reticket.experiment import EXECUTORS, LOGGERS, STORES
from reticket.lookup import nearest
from reticket.matching import list_matchers
from reticket.models.registry import MODELS
from reticket.packed import FORMATS
from reticket.registry import first_line
from reticket.tasks.check import checks
from reticket.tasks.presets import list_presets
from reticket.tickets.criteria import CRITERIA
from reticket.tickets.dynamics import DYNAMICS
from reticket.tickets.methods import METHODS
from reticket.training import AUGMENTATIONS, OPTIMISERS, SCHEDULES

KINDS: Mapping[str, Callable[[], Mapping[str, str]]] = {
    "presets": list_presets,
    "datasets": lambda: dict(sorted(DATASETS.descriptions().items())),
    "models": lambda: dict(sorted(MODELS.descriptions().items())),
    "matchers": list_matchers,
    "methods": METHODS.descriptions,
    "dynamics": DYNAMICS.descriptions,
    "criteria": CRITERIA.descriptions,
    "optimisers": OPTIMISERS.descriptions,
    "schedules": SCHEDULES.descriptions,
    "augmentations": AUGMENTATIONS.descriptions,
    "checks": lambda: {check.name: first_line(type(check)) for check in checks()},
    "executors": EXECUTORS.descriptions,
    "stores": STORES.descriptions,
    "loggers": LOGGERS.descriptions,
    "formats": FORMATS.descriptions,
}


def listing(what: str) -> Mapping[str, str]:
    """Return names and descriptions of one kind of thing.

    Raises:
        ConfigError: for an unknown kind.
    """
    if what not in KINDS:
        raise ConfigError(f"list {what}: unknown kind, expected one of {', '.join(KINDS)}{nearest(what, KINDS)}")
    return KINDS[what]()
