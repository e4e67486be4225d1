"""Looking after a store: what is damaged, how large it is, what no run needs, and copies of it."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from reticket.errors import InputError
from reticket.experiment.store import DamagedResult, KeptStore, MissingResult, Store
from reticket.experiment.task import Output

Progress = Callable[[int, int], None]  # told (done, of how many) after each result


@dataclass(frozen=True)
class Checked:
    """What a check of all checksums found.

    Args:
        whole: how many results are what was put.
        damaged: by key, what is wrong with those that are not; they were moved aside and count as missing now.
    """

    whole: int
    damaged: dict[str, str]


@dataclass
class Usage:
    """How much there is of a kind of results.

    Args:
        results: how many.
        bytes: their size.
    """

    results: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """Count one more result of so many bytes."""
        self.results += 1
        self.bytes += size


@dataclass(frozen=True)
class Removal:
    """What is removed from a store, or would be.

    Args:
        keys: of the results that no run needs.
        usage: by kind of task, how much that is.
        kept: how many results runs need.
    """

    keys: tuple[str, ...]
    kept: int
    usage: dict[str, Usage] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """The size of what is removed."""
        return sum(one.bytes for one in self.usage.values())


@dataclass(frozen=True)
class Copied:
    """What was copied from one store to another.

    Args:
        new: how many results the other one did not have.
        there: how many it had.
        missing: keys that the first store does not have, or holds damaged.
    """

    new: int
    there: int
    missing: tuple[str, ...] = ()


def check_store(store: KeptStore, progress: Progress = lambda done, total: None) -> Checked:
    """Compare every result with its checksums; what is damaged is moved aside, so that a run computes it anew.

    Args:
        store: the store.
        progress: told after each result.

    Returns:
        How many are whole, and what is wrong with the others.

    Raises:
        StoreError: when the store cannot be read.
    """
    keys = list(store.keys())
    damaged: dict[str, str] = {}
    for number, key in enumerate(keys, start=1):
        try:
            store.verify(key)
        except DamagedResult as problem:
            damaged[key] = str(problem)
        progress(number, len(keys))
    return Checked(len(keys) - len(damaged), damaged)


def usage_of(store: KeptStore, keys: Iterable[str] | None = None) -> dict[str, Usage]:
    """Return how many results there are and how large, by kind of task, the largest first.

    Args:
        store: the store.
        keys: of the results to count; all of them when None.
    """
    found: dict[str, Usage] = {}
    for key in store.keys() if keys is None else keys:
        found.setdefault(_kind(store, key), Usage()).add(store.size(key))
    return dict(sorted(found.items(), key=lambda item: -item[1].bytes))


def unneeded(store: KeptStore, *, without: Collection[str] = (), even_of_unknown_runs: bool = False) -> Removal:
    """Return what no run that was entered needs; nothing is removed.

    Args:
        store: the store.
        without: runs that count as not entered.
        even_of_unknown_runs: also where runs may have used the store that were never entered.

    Returns:
        The results that may go.

    Raises:
        InputError: when no run was entered, or some may not have been.
        StoreError: when what was noted of a run is damaged.
    """
    runs = store.runs()
    if not runs:
        raise InputError(
            "no run of this store is known, so that all of it would be taken for unneeded; run an experiment on it "
            "first (what it holds is not computed anew)"
        )
    if not store.knows_all_runs and not even_of_unknown_runs:
        raise InputError(
            "this store has results from before its runs were noted, which unknown runs may need; run their "
            "experiments on it again (nothing is computed anew), then give --all"
        )
    needed = {key for run, keys in runs.items() if run not in without for key in keys}
    keys = list(store.keys())
    left = tuple(key for key in keys if key not in needed)
    return Removal(left, len(keys) - len(left), usage_of(store, left))


def copy_results(
    source: Store, target: Store, keys: Collection[str], progress: Progress = lambda done, total: None
) -> Copied:
    """Copy results, each verified on its way, to another store; what is there already stays.

    Args:
        source: where they are.
        target: where they go.
        keys: of the results.
        progress: told after each result.

    Returns:
        How many were new, and which are not to be had.

    Raises:
        StoreError: when a store cannot be read or written.
    """
    new, there, missing = 0, 0, []
    for number, key in enumerate(keys, start=1):
        if target.has(key):
            there += 1
        else:
            try:
                result = source.get(key)
            except MissingResult:
                missing.append(key)
            else:
                new += target.put(key, Output(result.values, dict(result.tensors)), result.provenance)
        progress(number, len(keys))
    return Copied(new, there, tuple(missing))


def _kind(store: KeptStore, key: str) -> str:
    """Return the kind of task a result is of."""
    try:
        task = store.provenance(key).get("task")
    except MissingResult:  # its manifest is not what was put
        return "damaged"
    kind = task.get("kind") if isinstance(task, dict) else None
    return kind if isinstance(kind, str) else "unknown"
