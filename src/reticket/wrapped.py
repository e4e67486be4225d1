"""Names and modules inside wrappers: parallel, averaged and compiled models, those of Lightning, adapters of peft."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from reticket.dense import is_dense, same_stored

WRAPPERS = (
    "module",  # DataParallel, DDP, averaged models
    "_orig_mod",  # torch.compile
    "_forward_module",  # Lightning Fabric
    "_original_module",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "base_layer",  # what a layer with adapters of peft was before
)
PEFT = "base_model.model."  # before every name of a model with adapters
TRAINED_WHOLE = re.compile(r"modules_to_save\.[^.]+\.")  # the copy of a layer that peft trains, by its adapter
HOLDERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
FRAMES = ("LightningModule",)  # classes of other libraries that hold the model in an attribute of the user's choice


def bare(name: str) -> str:
    """Return a tensor's name without the wrappers in it.

    >>> bare("module._orig_mod.fc.weight"), bare("fc._orig_mod.weight"), bare("module")
    ('fc.weight', 'fc.weight', 'module')
    >>> bare("base_model.model.fc.base_layer.weight"), bare("base_model.model.fc.lora_A.default.weight")
    ('fc.weight', 'fc.lora_A.default.weight')
    """
    begin, wrapped, rest = name.partition(PEFT)
    if wrapped and not begin.strip("."):
        name = TRAINED_WHOLE.sub("", rest)
    *path, last = name.split(".")
    return ".".join([*(part for part in path if part not in WRAPPERS), last])


def names_in(wanted: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Return, for each name wanted, what it is called among `known`: itself, or else what is equal without wrappers.

    Names that are not there are left out, and so are those that several of `known` could be. Where none is there, all
    may be: a module that holds nothing but the model, as a LightningModule does, puts one name before every other.
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
    return found or _held_by_one(wanted, inside)


def _held_by_one(wanted: tuple[str, ...], known: Mapping[str, list[str]]) -> dict[str, str]:
    """Return the names where all that is known stands behind one attribute that the names wanted do not have."""
    outer = _only_head(known)
    behind = {name: known.get(f"{outer}.{bare(name)}", []) for name in wanted}
    if outer is None or any(len(names) != 1 for names in behind.values()):
        return {}
    return {name: names[0] for name, names in behind.items()}


def _only_head(names: Iterable[str]) -> str | None:
    """Return the attribute behind which all names stand, None where there are several or none."""
    heads = {name.partition(".")[0] if "." in name else None for name in names}
    return heads.pop() if len(heads) == 1 else None


def named_like(own: Mapping[str, Tensor], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return `given` by the names of `own`.

    Wrappers are looked through, and a tensor that `own` has under several names may be given under one of them. What
    fits no name stays as it is called.

    Args:
        own: the tensors of a model, each the tensor itself.
        given: tensors from elsewhere, and what else a state_dict holds.
    """
    names = names_in(own, given) or {name: there for there, name in names_in(given, own).items()}
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


def renamed_like(own: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `given` by the names of `own` where they differ in wrappers alone; as it is where they do not.

    >>> renamed_like({"fc.weight": 1}, {"module.fc.weight": 2}), renamed_like({"fc.weight": 1}, {"fc.bias": 2})
    ({'fc.weight': 2}, {'fc.bias': 2})

    Args:
        own: a state_dict.
        given: another.
    """
    if own.keys() == given.keys() or len(own) != len(given):
        return given
    names = names_in(own, given)
    return {name: given[names[name]] for name in own} if names.keys() == own.keys() else given


def same_values(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same values, NaN being equal to NaN."""
    if a is b:
        return True
    b = b.to(a.device)
    if not is_dense(a):
        return same_stored(a, b)
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def inside(model: nn.Module) -> nn.Module:
    """Return the model in a wrapper: parallel, averaged, compiled, or of Lightning; any other model as it is."""
    while (held := _held(model)) is not None:
        model = held
    return model


def _held(model: nn.Module) -> nn.Module | None:
    """Return what a wrapper holds, None for what is no wrapper."""
    if isinstance(model, HOLDERS):
        return model.module
    parts = {name: part for name, part in model._modules.items() if part is not None}
    compiled = parts.get("_orig_mod")
    if compiled is not None and len(model._modules) == 1:
        return compiled
    if "_original_module" in parts:
        return parts["_original_module"]
    if any(kind.__name__ in FRAMES for kind in type(model).__mro__):
        holding = [part for part in parts.values() if len(part.state_dict())]
        return holding[0] if len(holding) == 1 and not model._parameters and not model._buffers else None
    return None
