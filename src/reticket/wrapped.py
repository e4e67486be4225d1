"""Names and modules inside wrappers: parallel, averaged and compiled models call `w` `module.w` or `_orig_mod.w`."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from reticket.dense import is_dense, same_stored

WRAPPERS = ("module", "_orig_mod")


def bare(name: str) -> str:
    """Return a tensor's name without the wrappers in it.

    >>> bare("module._orig_mod.fc.weight"), bare("fc._orig_mod.weight"), bare("module")
    ('fc.weight', 'fc.weight', 'module')
    """
    *path, last = name.split(".")
    return ".".join([*(part for part in path if part not in WRAPPERS), last])


def names_in(wanted: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Return, for each name wanted, what it is called among `known`: itself, or else what is equal without wrappers.

    Names that are not there are left out, and so are those that several of `known` could be.
    """
    known, wanted = tuple(known), tuple(wanted)
    exact = set(known)
    found = {name: name for name in wanted if name in exact}
    if len(found) == len(wanted):
        return found
    inside: dict[str, list[str]] = {}
    for name in known:
        inside.setdefault(bare(name), []).append(name)
    for name in wanted:
        candidates = inside.get(bare(name), [])
        if name not in found and len(candidates) == 1:
            found[name] = candidates[0]
    return found


def named_like(own: Mapping[str, Tensor], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return `given` by the names of `own`.

    Wrappers are looked through, and a tensor that `own` has under several names may be given under one of them. What
    fits no name stays as it is called.

    Args:
        own: the tensors of a model, each the tensor itself.
        given: tensors from elsewhere, and what else a state_dict holds.
    """
    names = names_in(own, given)
    found = {name: given[there] for name, there in names.items()}
    tied: dict[int, list[str]] = {}
    for name, tensor in own.items():
        tied.setdefault(id(tensor), []).append(name)
    for together in tied.values():
        there = next((name for name in together if name in found), None)
        if there is not None:
            found.update({name: found[there] for name in together if name not in found})
    used = set(names.values())
    return found | {name: tensor for name, tensor in given.items() if name not in used}


def same_values(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same values, NaN being equal to NaN."""
    if a is b:
        return True
    b = b.to(a.device)
    if not is_dense(a):
        return same_stored(a, b)
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def inside(model: nn.Module) -> nn.Module:
    """Return the model in a parallel or compiled wrapper; any other model as it is."""
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif isinstance(compiled := model._modules.get("_orig_mod"), nn.Module) and len(model._modules) == 1:
            model = compiled
        else:
            return model
