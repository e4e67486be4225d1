"""Which tasks there are, and which of them a tier has."""

from collections.abc import Mapping, Sequence

from reticket.errors import ConfigError
from reticket.lookup import nearest
from reticket.tasks.presets import list_presets

PREFIX = "ticketbench-"
MORE = "-methods"  # ends the name of a task that compares more methods on the first pairs of another
MINUTES = ("digits", "digits-vit")
TIERS: Mapping[str, tuple[str, ...]] = {
    "minutes": MINUTES,
    "hour": (*MINUTES, "digits-methods", "fashion-mlp", "fashion-conv", "fashion-conv-methods", "resnet20"),
    "gpu": ("airbench", "cifar10"),
}


def bench_tasks() -> dict[str, str]:
    """Return every task's short name and title; the preset of a task is named `ticketbench-NAME`.

    >>> "digits" in bench_tasks()
    True
    """
    return {name.removeprefix(PREFIX): title for name, title in list_presets().items() if name.startswith(PREFIX)}


def of_whom(name: str) -> str | None:
    """Return the task whose pairs a task compares more methods on; None for one that has its own.

    >>> of_whom("digits-methods"), of_whom("digits")
    ('digits', None)
    """
    return name.removesuffix(MORE) if name.endswith(MORE) else None


def chosen_tasks(tier: str, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the tasks that are named, or those of a tier where none is.

    Args:
        tier: a name of `TIERS`.
        names: of tasks, with or without `ticketbench-`, of whatever tier.

    Raises:
        ConfigError: for an unknown tier or task, with the nearest right name.

    >>> chosen_tasks("minutes"), chosen_tasks("minutes", ["ticketbench-resnet20"])
    (('digits', 'digits-vit'), ('resnet20',))
    """
    if tier not in TIERS:
        raise ConfigError(f"--tier: unknown tier '{tier}'{_known(tier, TIERS)}")
    known, wanted = bench_tasks(), tuple(dict.fromkeys(name.removeprefix(PREFIX) for name in names))
    for name in wanted:
        if name not in known:
            raise ConfigError(f"--task: unknown task '{name}'{_known(name, known)}")
    return wanted or TIERS[tier]


def _known(name: str, known: Mapping[str, object]) -> str:
    return nearest(name, known) or f"; there are {', '.join(known)}"
