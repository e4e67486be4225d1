"""Which of all that a checkpoint holds is the state_dict that is meant: what `FILE` and `FILE#KEY` stand for."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from reticket.errors import InputError
from reticket.lookup import nearest
from reticket.symmetry.model_tensors import is_extra
from reticket.untrusted import one_line, shown

USUAL = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights")
DEEPEST = 4  # mappings within mappings that are looked through
SHOWN = 8  # names in an error


def part_named(value: Any, key: str, source: str) -> Any:
    """Return the part of a checkpoint that a key names: an entry, an entry of an entry, or a module's weights.

    Args:
        value: what was read.
        key: names with dots between, "trainer.model_ema"; what stands before the dots of names, "encoder", is the
            module of that name, its weights without these dots. It leads from the whole, or else from the state_dict
            that is meant there. Nothing is all of it.
        source: what the user wrote, for the error.

    Raises:
        InputError: when there is no such part.

    >>> part_named({"model": {"net.fc.weight": 1, "loss.weight": 2}}, "model.net", "a.pt#model.net")
    {'fc.weight': 1}
    """
    found = _part(value, key)
    if found is None and isinstance(value, Mapping):
        state_dicts = dict(_state_dicts(value, (), set()))
        meant = _meant(state_dicts)
        found = None if meant is None else _part(state_dicts[meant], key)
    if found is None:
        names = [one_line(str(name)) for name in value] if isinstance(value, Mapping) else []
        heads = list(dict.fromkeys(name.partition(".")[0] for name in names))
        has = f"it has {', '.join(heads[:SHOWN])}" if heads else "nothing stands there"
        raise InputError(f"{source}: there is no '{one_line(key)}'{nearest(key, heads)}; {has}")
    return found


def _part(value: Any, key: str) -> Any:
    """Return what a key leads to, None where it leads nowhere."""
    if not key or not isinstance(value, Mapping):
        return None if key else value
    named = {str(name): inner for name, inner in value.items()}  # numbers may be keys too
    for cut in (at for at in range(len(key), 0, -1) if key[at:].startswith(".") or at == len(key)):
        if key[:cut] in named:
            return _part(named[key[:cut]], key[cut + 1 :])
    start = f"{key}."
    return {name.removeprefix(start): inner for name, inner in named.items() if name.startswith(start)} or None


def weights_in(loaded: Any, source: str) -> tuple[dict[str, Any], str]:
    """Return the one state_dict of a checkpoint, or that which is called as usual, and what to say of the choice.

    Args:
        loaded: a state_dict, or a checkpoint that holds one among other entries.
        source: what the user wrote, for errors.

    Returns:
        The state_dict: tensors by name, and what else stands under `_extra_state`; and a sentence where others stand
        beside it, else nothing.

    Raises:
        InputError: when there is none, or when several could be meant.

    >>> weights_in({"model": {"w": torch.ones(2)}, "ema": {"w": torch.zeros(2)}}, "a.pt")
    ({'w': tensor([1., 1.])}, "a.pt: 'model' is taken; it also holds 'ema', which is a.pt#ema")
    """
    if not isinstance(loaded, Mapping):
        raise InputError(f"{source}: expected a state_dict (names to tensors), got {type(loaded).__name__}")
    found = dict(_state_dicts(loaded, (), set()))
    if not found:
        return _checked(loaded, source), ""
    meant = _meant(found)
    others = [path for path in found if path != (meant or ())]
    if () in found and others:
        raise InputError(
            f"{source}: a checkpoint with weights of its own beside nested weights in {_listed(others)}, expected one "
            f"state_dict (names to tensors); save the one that is meant alone"
        )
    if meant is None:
        raise InputError(
            f"{source}: a checkpoint with nested weights in {_listed(found)}, expected one state_dict (names to "
            f"tensors); say which is meant, as {_place(source, others[0])}"
        )
    taken = f"{source}: '{'.'.join(meant)}' is taken"
    note = f"{taken}; it also holds {_listed(others)}, which is {_place(source, others[0])}" if others else ""
    return _checked(found[meant], source), note


def _meant(found: Collection[tuple[str, ...]]) -> tuple[str, ...] | None:
    """Return the way to the state_dict that is meant: the only one, or the only one that is called as usual."""
    usual = [path for path in found if path and all(part in USUAL for part in path)]
    candidates = list(found) if len(found) == 1 else usual
    return candidates[0] if len(candidates) == 1 else None


def _state_dicts(
    value: Mapping[Any, Any], path: tuple[str, ...], seen: set[int]
) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """Yield every mapping that holds weights with the names that lead to it; an optimizer's state holds none."""
    if id(value) in seen or "param_groups" in value:
        return
    seen.add(id(value))
    if _holds_weights(value):
        yield path, value
    for name, inner in value.items() if len(path) < DEEPEST else ():
        if isinstance(inner, Mapping) and not is_extra(str(name)):
            yield from _state_dicts(inner, (*path, str(name)), seen)


def _holds_weights(value: Mapping[Any, Any]) -> bool:
    """Whether a mapping holds what could be a weight: no single number, no state of a generator."""
    tensors = [item for item in value.values() if isinstance(item, Tensor)]
    return any(t.dim() > 1 or (t.dim() == 1 and t.dtype != torch.uint8) for t in tensors)


def _checked(weights: Mapping[Any, Any], source: str) -> dict[str, Any]:
    """Return a state_dict, in which all but `_extra_state` are tensors."""
    odd = next((name for name, one in weights.items() if not isinstance(one, Tensor) and not is_extra(str(name))), None)
    if odd is None and weights:
        return {str(name): value for name, value in weights.items()}
    what = "nothing" if not weights else f"a dict in which {shown(odd)} is {type(weights[odd]).__name__}"
    raise InputError(f"{source}: expected a state_dict (names to tensors), got {what}; save model.state_dict()")


def _listed(paths: Iterable[tuple[str, ...]]) -> str:
    names = [f"'{one_line('.'.join(path))}'" for path in paths]
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _place(source: str, path: tuple[str, ...]) -> str:
    """Return what to write for a part of what was written.

    >>> _place("a.pt", ("model", "ema")), _place("a.pt#model", ("ema",))
    ('a.pt#model.ema', 'a.pt#model.ema')
    """
    return f"{source}{'.' if '#' in source else '#'}{one_line('.'.join(path))}"
