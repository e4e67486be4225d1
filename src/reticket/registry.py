"""Registries: the members of one kind by name, the package's own and those that installed packages announce.

A member registers itself where it is defined, under a decorator. A package announces one by an entry point, so that it
is found by name without being imported at the start:

    [project.entry-points."reticket.matchers"]
    nearest = "their_package.matching"

Asked for (or listed), `their_package.matching` is imported, and the decorator in it, `@matcher("nearest")`, registers
the member.
"""

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from reticket.errors import OF_OTHERS, InputError
from reticket.lookup import nearest

T = TypeVar("T")


def first_line(member: object) -> str:
    """Return the first line of a docstring, which is what listings and reports say of a member.

    >>> first_line(first_line)
    'Return the first line of a docstring, which is what listings and reports say of a member.'
    """
    return (member.__doc__ or "").strip().partition("\n")[0]


class Registry(Mapping[str, T], Generic[T]):
    """The members of one kind, by name: a read-only mapping to which members are added.

    The package's own stand first, in the order in which they were registered; a name of theirs cannot be taken over.

    Args:
        kind: what a member is, for errors ("matcher", "data set").
        group: of the entry points by which installed packages announce members.
        error: the class raised.
        says: returns one line on a member.
        importable: whether users may also name a function of their own as `package.module:function`.

    >>> greetings = Registry[str]("greeting", "example.greetings", InputError, says=str.title)
    >>> greetings.add("hello", "good day")
    'good day'
    >>> greetings["hello"], greetings.descriptions()
    ('good day', {'hello': 'Good Day'})
    >>> greetings.named("helo")
    Traceback (most recent call last):
    reticket.errors.InputError: unknown greeting 'helo', did you mean 'hello'?; known are hello
    """

    def __init__(
        self,
        kind: str,
        group: str,
        error: type[InputError],
        *,
        says: Callable[[T], str] = first_line,
        importable: bool = False,
    ) -> None:
        self.kind, self.group, self.error = kind, group, error
        self._says, self._importable = says, importable
        self._members: dict[str, T] = {}

    def add(self, name: str, member: T) -> T:
        """Register a member and return it.

        Raises:
            InputError: of the registry's class, when the name is taken.
        """
        if name in self._members:
            raise self.error(f"{self.kind} '{name}' is registered already; choose another name")
        self._members[name] = member
        return member

    def register(self, name: str) -> Callable[[T], T]:
        """Register what is decorated.

        Args:
            name: what users write.
        """
        return lambda member: self.add(name, member)

    def registered(self) -> tuple[T, ...]:
        """Return the members that are registered by now; none that a package announces is imported for it."""
        return tuple(self._members.values())

    def named(self, name: str) -> T:
        """Return the member of this name.

        Raises:
            InputError: of the registry's class, when there is none, with the nearest name, or when the package that
                announces it is broken.
        """
        if name in self:
            return self[name]
        own = ", or name a function of your own as package.module:function" if self._importable else ""
        raise self.error(f"unknown {self.kind} '{name}'{nearest(name, self)}; known are {', '.join(self)}{own}")

    def descriptions(self) -> dict[str, str]:
        """Return every name with one line on its member; of one that a broken package announces, what is wrong."""
        return {name: self._described(name) for name in self}

    def __getitem__(self, name: str) -> T:
        if name not in self._members:
            self._load(self._announced()[name])
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._members, *sorted(self._announced()))))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name in self._members or name in self._announced()

    def _announced(self) -> dict[str, Any]:  # entry points of the standard library, or of `importlib_metadata`
        """Return the entry points of this kind by name; the first found of a name counts."""
        return {entry.name: entry for entry in reversed(entry_points(group=self.group))}

    def _load(self, entry: Any) -> None:
        """Import what an entry point names, whose decorator then registers the member."""
        try:
            entry.load()
            if entry.name not in self._members:
                raise InputError(f"it registers no {self.kind} of this name")
        except OF_OTHERS as problem:  # whatever their code raises
            package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "not known"
            raise self.error(
                f"{self.kind} '{entry.name}' of the installed package {package} cannot be used ('{entry.value}': "
                f"{type(problem).__name__}: {problem}); repair or remove that package"
            ) from problem

    def _described(self, name: str) -> str:
        try:
            return self._says(self[name])
        except self.error as problem:
            return str(problem)
