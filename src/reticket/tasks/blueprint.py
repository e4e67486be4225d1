"""From a configuration to all its tasks, each under the role it plays in the results: the table's and every check's."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from reticket.errors import ConfigError
from reticket.experiment import Task
from reticket.experiment.memory import without_collecting
from reticket.experiment.task import closure
from reticket.tasks.cells import Runs
from reticket.tasks.check import checks
from reticket.tasks.config import Config
from reticket.tasks.networks import Facts


class Blueprint(Runs):
    """Every task of an experiment under the role it plays in the results.

    Args:
        config: the checked configuration.
        facts: what the data are.
        threads: the threads a task computes with; part of every key, because it changes bits.

    Raises:
        ConfigError: for a rewind point past the end or an unknown method.
    """

    def __init__(self, config: Config, facts: Facts, *, threads: int = 1) -> None:
        super().__init__(config, facts, threads=threads)
        self.of = cache(self._of)

    def _of(self, name: str) -> Mapping[Any, tuple[Task, ...]]:
        """Return the tasks of a check under the places they have in its section, one task a seed or member."""
        check = next(check for check in checks() if check.name == name)
        tasks = check.tasks(self)
        if tasks and check.of_classes and not self.facts.is_classified:
            raise ConfigError(
                f"checks: '{name}' compares which class networks choose, but numbers are to be predicted; leave its "
                f"settings out"
            )
        return tasks

    def planned(self, *, but: str) -> Iterable[Task]:
        """Return the tasks whose results are wanted for anything else than the check named `but`."""
        yield from super().planned(but=but)
        for check in checks():
            for tasks in self.of(check.name).values() if check.name != but else ():
                yield from tasks

    @property
    def targets(self) -> tuple[Task, ...]:
        """Return every task whose result the results file shows."""
        with without_collecting():
            return tuple(self.planned(but=""))

    @property
    def compared(self) -> tuple[Task, ...]:
        """Return the dense networks that the results hold others against, as far as a target needs them.

        They are no targets of their own: what does not need them trains none. But where they are there, the results
        read them, so a run has to see that they are whole.
        """
        planned = {task.key for task in closure(self.targets)}
        both = (self.networks.dense(side, seed) for side in ("A", "B") for seed in self.config.grid.seeds)
        return tuple(task for task in both if task.key in planned)
