"""What a check declares for others to build upon: its settings and the sections of `results.json` that it writes.

Checks are found by their place: each module of `reticket.tasks.checks` registers one when it is imported, and all of
them are imported when the first is asked for, with those that installed packages announce under `reticket.checks`. So
nothing but its own module names a check, and nothing here imports one, although configuration and results are made of
what they declare.
"""

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import Field, create_model

from reticket.errors import ConfigError
from reticket.records import Record
from reticket.registry import Registry, first_line
from reticket.tasks.section import Fraction, Section

MEMBERS = "reticket.tasks.checks"


class CheckSettings(Section):
    """Settings that all checks share; those of a check are a subclass. Together they are the table `[checks]`."""

    confidence: Fraction = Field(default=0.95, description="level of all intervals")

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Return a field that a check declares: type checkers cannot know which there are."""


class Declared:
    """What every check declares; `reticket.tasks.check.Check` says what it does.

    Attributes:
        name: of the check, and of its section in the report.
        place: where its section stands in the report; those of one place stand by name.
        settings: its fields of the table `[checks]`.
        rewinds: those of its settings that are rewind points, which a shorter experiment moves.
        sections: by key of `results.json` the record of its rows, or of its one record where `single` names it.
        single: keys under which one record stands, or null.
    """

    name: ClassVar[str]
    place: ClassVar[int] = 100
    settings: ClassVar[type[CheckSettings]] = CheckSettings
    rewinds: ClassVar[tuple[str, ...]] = ()
    sections: ClassVar[Mapping[str, type[Record]]] = {}
    single: ClassVar[tuple[str, ...]] = ()

    def fits(self, settings: Any, sparsities: Sequence[float], rewinds: Sequence[str]) -> None:
        """Refuse settings that name what the table of the experiment does not have.

        Args:
            settings: of this check.
            sparsities: of the table.
            rewinds: of the table.

        Raises:
            ValueError: naming the field and what the table has.
        """


CHECKS = Registry[Declared]("check", "reticket.checks", ConfigError, says=lambda check: first_line(type(check)))
C = TypeVar("C", bound=Declared)


def register(check: type[C]) -> type[C]:
    """Register a check; a decorator of its class.

    Raises:
        ConfigError: when another check has its name, or a setting or a section of one name.
    """
    for other in CHECKS.registered():
        where = f"{check.__module__} and {type(other).__module__}"
        fields = check.settings.model_fields.keys() & other.settings.model_fields.keys()
        for name in sorted(fields - CheckSettings.model_fields.keys()):
            raise ConfigError(f"checks.{name} is a setting of two checks, in {where}; name one after its check")
        for name in sorted(check.sections.keys() & other.sections.keys()):
            raise ConfigError(f"'{name}' of results.json is a section of two checks, in {where}; rename one")
    CHECKS.add(check.name, check())
    declared.cache_clear()
    return check


@cache
def declared() -> tuple[Declared, ...]:
    """Return every check in the order of the report, those that installed packages announce included."""
    for member in pkgutil.iter_modules(importlib.import_module(MEMBERS).__path__):
        importlib.import_module(f"{MEMBERS}.{member.name}")
    return tuple(sorted(CHECKS.values(), key=lambda check: (check.place, check.name)))


def settings_model() -> type[CheckSettings]:
    """Return the model of the table `[checks]`: the settings of all checks together."""
    return _settings_model(declared())


@cache
def _settings_model(members: tuple[Declared, ...]) -> type[CheckSettings]:
    models = dict.fromkeys(check.settings for check in members if check.settings is not CheckSettings)
    return create_model("ChecksConfig", __base__=tuple(reversed(models)) or (CheckSettings,))


def settings_of(values: object) -> CheckSettings:
    """Return the checked table `[checks]`.

    Raises:
        ValidationError: for an unknown key or a value out of range.
    """
    return values if isinstance(values, CheckSettings) else settings_model().model_validate(values)
