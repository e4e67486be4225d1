"""Which weights of a model are pruned at all."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from torch import Tensor, nn

from reticket.errors import MaskError
from reticket.lookup import closest
from reticket.tickets.by_name import as_names, select, weights_of
from reticket.tickets.mask import Mask
from reticket.tickets.used import CONVOLUTIONS, matrices, source_of
from reticket.types import StateDict
from reticket.weights import state_of
from reticket.wrapped import inside

KINDS = ("shortcut", "first", "last")
LAYERS = (nn.Linear, *CONVOLUTIONS)
SHORTCUT_NAMES = ("shortcut", "skip", "skip_connection", "projection", "downsample")


def prunable(model: nn.Module, exclude: Iterable[str] = ("shortcut",)) -> tuple[str, ...]:
    """Return the names of the weights of all convolution and linear layers, less those excluded.

    Names are those of the unpruned, unparametrized model, in the order of `model.named_modules()`. A weight that
    another module shares (tied embeddings) is left out, unless there is no other. So are matrices that belong to no
    such layer (`in_proj_weight` of an attention layer, layers of other libraries): `true_density` counts them as kept,
    and `names=` prunes them.

    Args:
        model: any module.
        exclude: glob patterns on the names of weights or of their modules ("features.*", "layer1.0.conv1"), or kinds:
            "shortcut" (projection shortcuts: a module named shortcut, skip, skip_connection or projection, or a
            downsample that stands beside convolutions in a block), "first" and "last" (the first and the last layer as
            defined).

    Raises:
        MaskError: when a pattern matches nothing, or nothing is left.

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> prunable(net), prunable(net, exclude=("last",))
    (('0.weight', '2.weight'), ('0.weight',))
    """
    names = _weight_names(model)
    if not names:
        others = list(matrices(model))
        what = f"; its matrices are {', '.join(others[:4])}: name what is to be pruned with names=" if others else ""
        raise MaskError(
            f"{type(model).__name__} has no convolution or linear layer, so there is nothing to prune{what}"
        )
    left, exclude = list(names), as_names(exclude)
    for pattern in exclude:
        matched = _excluded(model, names, pattern)
        if not matched and pattern not in KINDS:
            near = closest(pattern, [*KINDS, *names, *(n.rpartition(".")[0] for n in names)], 0.5)
            hint = f"did you mean '{near}'" if near else f"give a kind {KINDS} or a glob"
            raise MaskError(f"exclude '{pattern}' matches no weight of {type(model).__name__}; {hint}")
        left = [name for name in left if name not in matched]
    if not left:
        raise MaskError(f"exclude {exclude} leaves nothing to prune in {type(model).__name__}; exclude less")
    return tuple(left)


def named_weights(model: nn.Module | StateDict, names: Iterable[str] | None, within: Mask | None) -> dict[str, Tensor]:
    """Return the weights of these names, by default those of an earlier mask, else those that are pruned.

    Raises:
        MaskError: when weights by name are given without names, or a name without its weight.
    """
    if names is None and within is not None:
        names = within
    if isinstance(model, nn.Module):
        model = inside(model) if names is None else model
        return weights_of(model, prunable(model) if names is None else names)
    model = state_of(model, "model")
    if names is None:
        raise MaskError("weights by name do not say which of them to prune; give names=prunable(model)")
    return {name: weight.detach() for name, weight in select(model, names).items()}


def _weight_names(model: nn.Module) -> tuple[str, ...]:
    layers = {prefix: module for prefix, module in model.named_modules() if isinstance(module, LAYERS)}
    sources = {f"{prefix}.weight".lstrip("."): source_of(module, "weight") for prefix, module in layers.items()}
    owners: dict[int, int] = {}
    for _, parameter in model.named_parameters(remove_duplicate=False):
        owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    alone = tuple(name for name, source in sources.items() if owners.get(id(source), 1) == 1)
    first = {id(source): name for name, source in reversed(sources.items())}
    return alone or tuple(reversed(first.values()))


def _excluded(model: nn.Module, names: tuple[str, ...], pattern: str) -> tuple[str, ...]:
    if pattern == "first":
        return names[:1]
    if pattern == "last":
        return names[-1:]
    if pattern == "shortcut":
        return tuple(name for name in names if _is_shortcut(model, name))
    return tuple(n for n in names if fnmatchcase(n, pattern) or fnmatchcase(n.rpartition(".")[0], pattern))


def _is_shortcut(model: nn.Module, name: str) -> bool:
    parts = name.split(".")[:-1]
    for depth, part in enumerate(parts):
        if part not in SHORTCUT_NAMES:
            continue
        block = model.get_submodule(".".join(parts[:depth]))
        # Swin and ConvNeXt call the entry of a stage "downsample": only beside convolutions is it a shortcut.
        if part != "downsample" or hasattr(block, "conv1"):
            return True
    return False
