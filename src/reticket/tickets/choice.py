"""The text that chooses a method: its name, its options, and how the mask changes while its network is trained.

    NAME | NAME(option=value, ...), and then maybe +DYNAMICS | +DYNAMICS(option=value, ...)

Values are TOML; a bare word is a text.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from reticket.errors import InputError
from reticket.options import Options
from reticket.tickets.dynamics import DYNAMICS, Dynamics, Updates
from reticket.tickets.methods import Method, get_method

PART = re.compile(r"\s*([^\s+()=,]+)\s*(?:\((.*)\)\s*)?", re.DOTALL)
BARE = re.compile(r"[A-Za-z_][\w-]*")
OPENING, CLOSING = "([{", ")]}"


@dataclass(frozen=True)
class Choice:
    """A method with its options, and the dynamics of its mask with theirs, if it has any.

    Two choices of one meaning are equal and have one text: options at their defaults are left out, others stand in the
    order of their names' spelling.

    Args:
        method: its name.
        options: of the method, by name.
        dynamics: name of what changes the mask; None for a mask that stays.
        dynamics_options: of these, by name.

    Raises:
        InputError: for a name or an option that there is not, with the nearest one, a value that is not allowed, or
            dynamics of a method that trains no network with its mask.

    >>> str(Choice.parse("erk + rigl(end=0.75, alpha=0.2)"))
    'erk+rigl(alpha=0.2)'
    >>> Choice.parse("erk+riggl")
    Traceback (most recent call last):
    reticket.errors.MaskError: unknown dynamics 'riggl', did you mean 'rigl'?; known are set, rigl, srigl, gradual
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    dynamics: str | None = None
    dynamics_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        method = get_method(self.method)
        if method.dynamics is not None:
            self._take_over(method, method.dynamics)
        object.__setattr__(self, "options", _decisive(method.options, self.options))
        if self.dynamics is None:
            if self.dynamics_options:
                raise InputError(f"'{self.method}' has options of dynamics and none; name them, as dynamics='rigl'")
            return
        chosen = DYNAMICS.named(self.dynamics)
        if not method.trains:
            raise InputError(
                f"'{self.method}+{self.dynamics}': '{self.method}' trains no network with its mask, so nothing can "
                f"change it; choose another method, as erk+{self.dynamics}"
            )
        object.__setattr__(self, "dynamics_options", _decisive(chosen.options, self.dynamics_options))
        Updates.of(chosen.options.settings(self.dynamics_options), 1)  # raises for numbers out of range

    def _take_over(self, method: Method, dynamics: str) -> None:
        """Have the dynamics that a method has by itself, with those of its options that are theirs."""
        if self.dynamics not in (None, dynamics):
            raise InputError(
                f"'{self.method}+{self.dynamics}': '{self.method}' changes its mask by itself, by '{dynamics}'; leave "
                f"'+{self.dynamics}' out"
            )
        theirs = {key: value for key, value in self.options.items() if key not in method.options}
        object.__setattr__(self, "dynamics", dynamics)
        object.__setattr__(self, "options", {key: self.options[key] for key in self.options if key not in theirs})
        object.__setattr__(self, "dynamics_options", {**self.dynamics_options, **theirs})

    @classmethod
    def parse(cls, text: str) -> "Choice":
        """Return what a text chooses.

        Raises:
            InputError: as the class; also for a text of another form.

        >>> Choice.parse("lth").method, Choice.parse("permuted+set(fraction=0.2)").dynamics_options
        ('lth', {'fraction': 0.2})
        """
        parts = list(_cut(text, "+", text))
        if len(parts) > 2:
            raise InputError(f"'{text}' names dynamics twice; write one, as erk+rigl")
        (method, options), *more = (_part(part, text) for part in parts)
        if not more:
            return cls(method, options)
        return cls(method, options, *more[0])

    @cached_property
    def chosen_method(self) -> Method:
        """The method itself."""
        return get_method(self.method)

    @cached_property
    def chosen_dynamics(self) -> Dynamics | None:
        """The dynamics themselves; None for a mask that stays."""
        return None if self.dynamics is None else DYNAMICS.named(self.dynamics)

    @cached_property
    def needs(self) -> tuple[str, ...]:
        """The fields of `MethodInputs` that must be given for it."""
        return self.chosen_method.needs_for(self.options)

    @property
    def description(self) -> str:
        """What a report says of it."""
        method, more = self.chosen_method, self.chosen_dynamics
        if more is None or method.dynamics is not None:
            return method.description
        return f"{method.description} While it trains: {more.description}"

    def __str__(self) -> str:
        if self.dynamics is None:
            return _written(self.method, self.options)
        if self.dynamics == self.chosen_method.dynamics:
            return _written(self.method, {**self.options, **self.dynamics_options})
        return f"{_written(self.method, self.options)}+{_written(self.dynamics, self.dynamics_options)}"

    def __hash__(self) -> int:
        return hash(str(self))


def canonical(text: str) -> str:
    """Return the one text of what a text chooses, as it stands in results; any other text as it is.

    >>> canonical("erk + rigl(end=0.75)"), canonical("somebody's own")
    ('erk+rigl', "somebody's own")
    """
    try:
        return str(Choice.parse(text))
    except InputError:
        return text


def _part(text: str, whole: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of a method or of dynamics."""
    found = PART.fullmatch(text)
    if found is None:
        raise _unreadable(whole, text)
    options: dict[str, Any] = {}
    inner = (found[2] or "").strip()
    for one in _cut(inner, ",", whole) if inner else ():
        key, sign, value = (piece.strip() for piece in one.partition("="))
        if not (sign and value and re.fullmatch(r"\w+", key)):
            raise _unreadable(whole, one)
        if key in options:
            raise InputError(f"'{whole}' gives option '{key}' twice; write it once")
        options[key] = _value(value, whole)
    return found[1], options


def _cut(text: str, at: str, whole: str) -> Iterator[str]:
    """Yield what stands between the signs that are in no quotes or brackets."""
    depth, quote, begin, escaped = 0, "", 0, False
    for place, letter in enumerate(text):
        if quote:
            if letter == quote and not escaped:
                quote = ""
            escaped = letter == "\\" and quote == '"' and not escaped
        elif letter in "\"'":
            quote = letter
        elif letter in OPENING:
            depth += 1
        elif letter in CLOSING:
            depth -= 1
        elif letter == at and not depth:
            yield text[begin:place]
            begin = place + 1
        if depth < 0:
            raise _unreadable(whole, reason=f"'{letter}' closes nothing")
    if depth or quote:
        raise _unreadable(whole, reason="a quote is not closed" if quote else "a bracket is not closed")
    yield text[begin:]


def _value(text: str, whole: str) -> Any:
    try:
        found = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        if BARE.fullmatch(text):
            return text
        raise _unreadable(whole, text, advice="; a number begins with a digit, as 0.5" * text.startswith(".")) from None
    if set(found) != {"value"}:
        raise _unreadable(whole, text)
    return found["value"]


def _unreadable(text: str, part: str = "", *, reason: str = "", advice: str = "") -> InputError:
    """Return the error of a text, with the part of it that could not be read."""
    part = part.strip()
    if part and not reason:
        blank = part == text.strip() and re.search(r"\s", part)
        reason = "a name has no blank" if blank else f"'{part}' cannot be read{advice}" if part != text else ""
    return InputError(
        f"'{text}' is no choice of a method{': ' * bool(reason)}{reason}; expected NAME, NAME(option=value), "
        f"NAME+DYNAMICS or NAME+DYNAMICS(option=value), as 'erk+rigl(alpha=0.2)'"
    )


def _decisive(options: Options, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those values that are not defaults, by name in the order of spelling."""
    defaults = options.settings({})
    wanted = options.settings({key: _as_default(value, defaults.get(key)) for key, value in values.items()})
    return {key: wanted[key] for key in sorted(values) if wanted.get(key) != defaults.get(key)}


def _as_default(value: Any, default: Any) -> Any:
    """Return a whole number as the float that it stands for where the default is one."""
    return float(value) if isinstance(default, float) and type(value) is int else value


def _written(name: str, options: Mapping[str, Any]) -> str:
    inner = ", ".join(f"{key}={_toml(value)}" for key, value in options.items())
    return f"{name}({inner})" if inner else name


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
