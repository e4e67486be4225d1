"""The options of a function that users choose by name: read from its signature, checked before it is called."""

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, get_args

from reticket.errors import InputError
from reticket.lookup import nearest


class Options(Mapping[str, inspect.Parameter]):
    """The options of one member of a registry: its parameters after the `*`, with their annotations and defaults.

    Args:
        owner: whose they are, for errors ("matcher 'activation'").
        parameters: by name.
        error: the class raised.
        shared: options that every member of the registry has.

    >>> def slow(*, factor: float = 0.5): ...
    >>> options = Options("optimiser 'slow'", inspect.signature(slow).parameters, InputError)
    >>> options.settings({}), options.settings({"factor": 0.1})
    ({'factor': 0.5}, {'factor': 0.1})
    >>> options.settings({"facto": 0.1})
    Traceback (most recent call last):
    reticket.errors.InputError: optimiser 'slow' has no option 'facto', did you mean 'factor'?; it has factor
    """

    def __init__(
        self,
        owner: str,
        parameters: Mapping[str, inspect.Parameter],
        error: type[InputError],
        shared: Mapping[str, inspect.Parameter] = MappingProxyType({}),
    ) -> None:
        self._owner, self._own, self._error = owner, tuple(parameters), error
        self._parameters = MappingProxyType({**parameters, **shared})

    def check(self, values: Mapping[str, Any]) -> None:
        """Refuse an option that there is not, or a text where others are listed.

        Args:
            values: by name; what is no text may be of any kind, as a function in a call from Python.

        Raises:
            InputError: of the class that was given.
        """
        for key, value in values.items():
            if key not in self:
                shared = [name for name in self if name not in self._own]
                known = f"it has {', '.join(self._own) or ('none of its own' if shared else 'none')}"
                known += f", and as all do {', '.join(shared)}" if shared else ""
                raise self._error(f"{self._owner} has no option '{key}'{nearest(key, self)}; {known}")
            self._check_word(key, value)

    def settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return every option that has a value, defaults included, for a configuration.

        Args:
            values: by name, as a configuration holds them: what JSON knows.

        Returns:
            Values as they come back from a file: a tuple, as of a default, is a list.

        Raises:
            InputError: of the class that was given, for an unknown option or a value that its annotation does not
                allow.
        """
        self.check(values)
        for key, value in values.items():
            self._check_value(key, value)
        found = {key: one.default for key, one in self.items()} | dict(values)
        return {key: _with_lists(value) for key, value in found.items() if value is not None}

    def _check_word(self, key: str, value: Any) -> None:
        words = _words(self[key].annotation)
        if isinstance(value, str) and words and value not in words:
            raise self._error(
                f"option '{key}' of {self._owner} is '{value}'{nearest(value, words)}; expected one of "
                f"{', '.join(words)}"
            )

    def _check_value(self, key: str, value: Any) -> None:
        from pydantic import ConfigDict, TypeAdapter

        allowed = self[key].annotation
        if allowed is inspect.Parameter.empty:
            return
        try:
            TypeAdapter(allowed, config=ConfigDict(arbitrary_types_allowed=True)).validate_json(
                json.dumps(value), strict=True
            )
        except (ValueError, TypeError) as problem:
            said = getattr(problem, "errors", lambda: [{"msg": str(problem)}])()[0]["msg"]
            if "isinstance" in said:  # a class that no JSON becomes
                said = "it can be given in Python alone"
            raise self._error(f"option '{key}' of {self._owner} is {value!r}: {said[0].lower()}{said[1:]}") from None

    def __getitem__(self, name: str) -> inspect.Parameter:
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)


@dataclass(frozen=True)
class Within:
    """Says of an option that is a number where it lies: `Annotated[float, Within(0, 1)]`.

    Args:
        least, most: both included.

    >>> from typing import Annotated
    >>> def dial(*, share: Annotated[float, Within(0, 1)] = 1.0): ...
    >>> options = Options("method 'dial'", inspect.signature(dial).parameters, InputError)
    >>> options.settings({"share": 2})
    Traceback (most recent call last):
    reticket.errors.InputError: option 'share' of method 'dial' is 2: input should be less than or equal to 1
    """

    least: float
    most: float

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Return how pydantic checks it."""
        return {**handler(source), "ge": self.least, "le": self.most}


def _with_lists(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_with_lists(one) for one in value]
    return {key: _with_lists(one) for key, one in value.items()} if isinstance(value, Mapping) else value


def _words(annotation: Any) -> list[str]:
    """Return the texts that an annotation lists, as `Literal["a", "b"] | None` does."""
    return [annotation] if isinstance(annotation, str) else [w for one in get_args(annotation) for w in _words(one)]
