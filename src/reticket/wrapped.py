"""Names and modules inside wrappers: parallel, averaged and compiled models call `w` `module.w` or `_orig_mod.w`."""

from collections.abc import Iterable

from torch import nn

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


def inside(model: nn.Module) -> nn.Module:
    """Return the model in a parallel or compiled wrapper; any other model as it is."""
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif isinstance(compiled := model._modules.get("_orig_mod"), nn.Module) and len(model._modules) == 1:
            model = compiled
        else:
            return model
