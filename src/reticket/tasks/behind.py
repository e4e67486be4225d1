"""What stands behind a cell of the table: the stored result of one network, found by the seed that its task names."""

from collections.abc import Iterable, Sequence
from typing import NotRequired, TypedDict

from torch import Tensor

from reticket.errors import InputError
from reticket.experiment import Result, Store
from reticket.lookup import nearest
from reticket.symmetry import Alignment, Symmetry
from reticket.tasks.rows import Row
from reticket.tasks.tensors import WEIGHTS, alignment_in, mask_in, stripped
from reticket.tickets import Mask
from reticket.tickets.choice import canonical


class NetworkPlace(TypedDict):
    """Which network of the table.

    Args:
        method: name of the method, with the options and dynamics that the table has of it, in any spelling.
        sparsity: nominal fraction pruned, in [0, 1); 0, the default, is "dense".
        seed: which pair of networks; 0 by default.
        rewind: position from which it was trained, "5ep"; it may be left out where the table has one alone.
        match_at: position of matching; likewise.
    """

    method: str
    sparsity: NotRequired[float]
    seed: NotRequired[int]
    rewind: NotRequired[str]
    match_at: NotRequired[str]


def find_result(rows: Sequence[Row], place: NetworkPlace, store: Store) -> Result:
    """Return the stored result of one network.

    Args:
        rows: the table, one row a cell.
        place: which network.
        store: where its result is.

    Raises:
        InputError: when the table has no such cell or several, or the cell no such seed.
        MissingResult: when the store holds it no more.
    """
    row = _cell(rows, place)
    seed = place.get("seed", 0)
    found = [store.get(key) for key in row.keys]
    seeds = [seed_of(result) for result in found]
    if seed not in seeds:
        raise InputError(f"{_words(place)} has no seed {seed}; it has {', '.join(map(str, seeds))}")
    return found[seeds.index(seed)]


def _cell(rows: Sequence[Row], place: NetworkPlace) -> Row:
    """Return the one row that is meant; what is left out may be anything."""
    place = {**place, "method": canonical(place["method"])}
    wanted = {"method": place["method"], "sparsity": place.get("sparsity", 0.0)}
    wanted |= {name: value for name, value in place.items() if name in ("rewind", "match_at")}
    found = [row for row in rows if all(getattr(row, k) == v for k, v in wanted.items())]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(f"the table has no cell {_words(place)}{_known(rows, place)}")
    open_name = next(name for name in ("rewind", "match_at") if len({getattr(row, name) for row in found}) > 1)
    choices = _listed(getattr(row, open_name) for row in found)
    raise InputError(f"the table has {len(found)} cells {_words(place)}; give {open_name}, one of {choices}")


def _known(rows: Sequence[Row], place: NetworkPlace) -> str:
    """Return what the table has instead of a cell that it does not have."""
    methods = dict.fromkeys(row.method for row in rows)
    if place["method"] not in methods:
        return f"{nearest(place['method'], methods)}; its methods are {_listed(methods)}"
    mine = [row for row in rows if row.method == place["method"]]
    for name in ("sparsity", "rewind", "match_at"):
        has = dict.fromkeys(getattr(row, name) for row in mine)
        if place.get(name, 0.0 if name == "sparsity" else next(iter(has))) not in has:
            return f"; its {name} is one of {_listed(has)} for '{place['method']}'"
    return f"; no run of '{place['method']}' has all of these together"


def _listed(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))


def _words(place: NetworkPlace) -> str:
    return f"({', '.join(f'{name}={value!r}' for name, value in place.items() if name != 'seed')})"


def seed_of(result: Result) -> int:
    """Return the seed of a network: whose order of the data its training took.

    Args:
        result: of a task that trained it.
    """
    return int(result.provenance["task"]["spec"]["order"][1])


def weights_behind(result: Result) -> dict[str, Tensor]:
    """Return the weights of a stored network by name."""
    return stripped(result.tensors, WEIGHTS)


def mask_behind(result: Result) -> Mask:
    """Return the mask of a stored network.

    Raises:
        InputError: when it is dense.
    """
    found = mask_in(result)
    if found is None:
        raise InputError(f"{result.provenance['task']['label']}: a dense network has no mask; name a sparse method")
    return found


def alignment_behind(result: Result, store: Store) -> Alignment:
    """Return the alignment through which a stored network's ticket was moved.

    Raises:
        InputError: when its method uses none.
        MissingResult: when the store holds it no more.
    """
    inputs = result.provenance["task"]["inputs"]
    if "alignment" not in inputs:
        label = result.provenance["task"]["label"]
        raise InputError(f"{label}: the method uses no alignment; name one that does, such as 'permuted'")
    symmetry = Symmetry.from_json(store.get(inputs["symmetry"]).values["symmetry"])
    return alignment_in(store.get(inputs["alignment"]), symmetry)
