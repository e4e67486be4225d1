"""`progress=` of long calls: nothing, a bar on a terminal and in a notebook, or a function of the caller's."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from itertools import chain, islice
from typing import Generic, TypeAlias, TypeVar

from reticket.errors import InputError

Progress: TypeAlias = (
    bool | Callable[[int, int | None], None]
)  # a function is told (done, total), total None if unknown
T = TypeVar("T")


@contextmanager
def shown(progress: Progress, what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show how far something is; what is yielded is to be told how much is done.

    Args:
        progress: False for nothing; True for a bar, by tqdm where it is installed and by rich elsewhere, if the output
            is read as it comes; or a function that is called with what is done and with the total.
        what: is being done, for the bar.
        total: how much there is to do, None where that is not known.

    Raises:
        InputError: when `progress` is none of these.
    """
    if callable(progress):
        yield lambda done: progress(done, total)
    elif checked(progress) and _is_watched():
        with _bar(what, total) as move:
            yield move
    else:
        yield lambda done: None


def checked(progress: Progress) -> Progress:
    """Return the value of a `progress=`.

    Raises:
        InputError: when it is neither True or False nor a function.
    """
    if not (isinstance(progress, bool) or callable(progress)):
        raise InputError(
            f"progress is a {type(progress).__name__}, but True, False or a function of (done, total) was expected"
        )
    return progress


class Tracked(Iterable[T], Generic[T]):
    """Items that show how many of them were taken, each time that they are gone through.

    Args:
        items: any iterable.
        progress: see `shown`.
        what: is being done with them, or a function of the first that says it, asked where a bar is shown.

    >>> told = []
    >>> list(Tracked("abc", lambda done, total: told.append((done, total)), "reading")), told
    (['a', 'b', 'c'], [(1, 3), (2, 3), (3, 3)])
    """

    def __init__(self, items: Iterable[T], progress: Progress, what: str | Callable[[T], str]) -> None:
        self._items, self._progress, self._what = items, checked(progress), what

    def __iter__(self) -> Iterator[T]:
        """Yield the items; one counts as done when the next is asked for."""
        total = len(self._items) if isinstance(self._items, Sized) else None
        items = iter(self._items)
        first = list(islice(items, 1))
        with shown(self._progress, self._said(first), total) as show:
            for done, item in enumerate(chain(first, items), 1):
                yield item
                show(done)

    def _said(self, first: Sequence[T]) -> str:
        """Return what is being done with the items, of which the first is given if there is one."""
        if isinstance(self._what, str):
            return self._what
        return self._what(first[0]) if first and self._progress is True and _is_watched() else ""


def _is_watched() -> bool:
    """Whether somebody sees a bar move: on a terminal, or in a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        from rich.console import Console
        from rich.progress import Progress as Bar

        with Bar(transient=True, console=Console(stderr=True)) as bar:
            line = bar.add_task(what, total=total)
            yield lambda done: bar.update(line, completed=done)
        return
    with tqdm(total=total, desc=what, leave=False) as bar:
        yield lambda done: (bar.update(done - bar.n), None)[1]
