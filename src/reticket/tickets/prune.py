"""Magnitude pruning with exact kept counts, and which weights of a model are pruned at all."""

from collections.abc import Hashable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reticket.errors import MaskError
from reticket.lookup import closest, nearest
from reticket.symmetry.filled import check_filled
from reticket.tickets.counts import kept_count, refuse_empty, share_out
from reticket.tickets.mask import Mask
from reticket.tickets.used import CONVOLUTIONS, matrices, place_of, source_of, weight_used
from reticket.types import StateDict

KINDS = ("shortcut", "first", "last")
Scope = Literal["global", "layer"]
"""Where magnitudes are compared: over all layers, or inside each."""
SCOPES = get_args(Scope)
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


def as_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names; a text is one name, not as many as it has letters.

    >>> as_names("fc.weight"), as_names(["a", "b"])
    (('fc.weight',), ('a', 'b'))
    """
    return (names,) if isinstance(names, str) else tuple(names)


def weights_of(model: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """Return the weights of these names as the model uses them: those that its next forward would compute.

    Pruned and parametrized weights are computed anew, after their masks; the model is left as it is.

    Args:
        model: the model.
        names: of weights as `prunable` gives them; one name may stand alone.

    Raises:
        MaskError: when the model has no such weight, or one whose computation is not known.
    """
    weights: dict[str, Tensor] = {}
    for name in as_names(names):
        path, _, attribute = name.rpartition(".")
        try:
            weight = weight_used(model.get_submodule(path), attribute, name)
        except AttributeError:
            weight = None
        if weight is None:
            raise MaskError(f"{type(model).__name__} has no weight '{name}'; the names belong to another model")
        weights[name] = weight.detach()
    return weights


def prune_magnitude(
    model: nn.Module | StateDict,
    density: float,
    *,
    names: Iterable[str] | None = None,
    scope: Scope = "global",
    within: Mask | None = None,
) -> Mask:
    """Keep the weights of largest magnitude, exactly as many as the density says.

    With N weights in all, round(density * N) are kept (half up). Of equal magnitudes the first is kept: first by the
    order of `names`, then row-major within the tensor. With `scope="global"` the magnitudes of all layers are compared;
    with `scope="layer"` each layer keeps its density * n, rounded up or down such that the total is the same.

    Args:
        model: a module, or weights by name.
        density: fraction of the named weights to keep, in (0, 1]; also with `within`, it is a fraction of all of them.
        names: weights to prune, or one of them; by default those of `within`, else `prunable(model)`.
        scope: compare magnitudes over all layers or inside each.
        within: an earlier mask; only what it keeps can be kept.

    Returns:
        A mask of the named weights.

    Raises:
        MaskError: when the scope is unknown, a density is out of range or keeps nothing (of a layer, with
            `scope="layer"`), a weight is not finite or named twice, or `within` keeps fewer weights than wanted or
            masks others.
        ModelError: when the model holds no values (lazy, meta).

    >>> prune_magnitude({"w": torch.tensor([0.1, -3.0, 2.0, 2.0])}, 0.5, names=["w"])["w"]
    tensor([False,  True,  True, False])
    """
    check_scope(scope)
    if isinstance(model, nn.Module):
        check_filled(model)
    weights = _named_weights(model, names, within)
    _refuse_twice(model, weights)
    if within is not None:
        if set(within) != set(weights):
            raise MaskError("`within` masks other weights than those named; prune the names of the earlier mask")
        within.check_fits(weights)
    magnitudes = {name: _magnitudes(name, weight, within) for name, weight in weights.items()}
    sizes = {name: magnitude.numel() for name, magnitude in magnitudes.items()}
    total = kept_count(density, sum(sizes.values()))
    if total == 0:
        refuse_empty({"all layers": 0}, {"all layers": sum(sizes.values())}, density)
    if within is not None and total > within.kept:
        raise MaskError(f"density {density} keeps {total} weights, but `within` only has {within.kept}; prune further")
    if scope == "global":
        flat = keep_largest(torch.cat(list(magnitudes.values())), total)
        flags = dict(zip(magnitudes, flat.split(list(sizes.values())), strict=True))
    else:
        counts = _layer_counts(density, total, sizes, within)
        flags = {name: keep_largest(magnitude, counts[name]) for name, magnitude in magnitudes.items()}
    return Mask({name: flags[name].reshape(weight.shape) for name, weight in weights.items()})


def check_scope(scope: object) -> None:
    """Refuse a scope that there is not.

    Raises:
        MaskError: with the nearest right one.
    """
    if scope not in SCOPES:
        raise MaskError(
            f"unknown scope {scope!r}{nearest(str(scope).lower(), SCOPES)}; choose from {', '.join(SCOPES)}"
        )


def keep_largest(magnitudes: Float[Tensor, " n"], kept: int) -> Bool[Tensor, " n"]:
    """Return True for exactly `kept` of the largest entries; of equal ones the first are kept.

    Args:
        magnitudes: finite numbers.
        kept: how many, in [0, n].
    """
    n = magnitudes.numel()
    if kept in (0, n):
        return torch.full((n,), kept == n, device="cpu")
    values = magnitudes.numpy()
    threshold = np.partition(values, n - kept)[n - kept]  # five times as fast as torch.kthvalue on 25 million
    keep = values > threshold
    ties = np.flatnonzero(values == threshold)
    keep[ties[: kept - int(keep.sum())]] = True
    return torch.from_numpy(keep)


def true_density(mask: Mask, model: nn.Module | StateDict, names: Iterable[str] | None = None) -> float:
    """Return the fraction kept of *all* weight matrices, those that are never pruned included.

    A mask's own density is nominal: where projection shortcuts are not pruned, a nominal 10 % is more in truth.

    Args:
        mask: the mask.
        model: a module, or weights by name.
        names: the weights that count; by default every matrix of the module that is no embedding: the weights of
            convolutions and linear layers, of attention and recurrent layers, of layers of other libraries. A tensor
            under several names counts once. With weights by name they must be given.

    Returns:
        Fraction kept, in [0, 1].

    Raises:
        MaskError: when the mask belongs to another model, or masks a weight that is not among `names`.

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    >>> mask = prune_magnitude(net, 0.25, names=["0.weight"])
    >>> mask.density, true_density(mask, net)
    (0.25, 0.5)
    """
    if names is None and isinstance(model, nn.Module):
        names = [*matrices(model), *(name for name in mask if _source(model, name) is not None)]
    names = dict.fromkeys(as_names(names or ()))
    weights = _named_weights(model, names or None, None)
    mask.names_among(weights)
    once = {_identity(model, name, weight): weight.numel() for name, weight in weights.items()}
    total = sum(once.values())
    return (total - mask.numel + mask.kept) / total


def _source(model: nn.Module, name: str) -> Tensor | None:
    path, _, attribute = name.rpartition(".")
    try:
        return source_of(model.get_submodule(path), attribute)
    except AttributeError:
        return None


def _identity(model: nn.Module | StateDict, name: str, weight: Tensor) -> Hashable:
    """Return what is equal for two names of one weight alone."""
    source = _source(model, name) if isinstance(model, nn.Module) else weight
    return name if source is None else place_of(source)


def _refuse_twice(model: nn.Module | StateDict, weights: Mapping[str, Tensor]) -> None:
    first: dict[Hashable, str] = {}
    for name, weight in weights.items():
        other = first.setdefault(_identity(model, name, weight), name)
        if other != name:
            raise MaskError(f"'{name}' and '{other}' are one tensor, which is pruned once; name one of the two")


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


def _named_weights(model: nn.Module | StateDict, names: Iterable[str] | None, within: Mask | None) -> dict[str, Tensor]:
    if names is None and within is not None:
        names = within
    if isinstance(model, nn.Module):
        return weights_of(model, prunable(model) if names is None else names)
    if names is None:
        raise MaskError("weights by name do not say which of them to prune; give names=prunable(model)")
    return {name: weight.detach() for name, weight in select(model, names).items()}


def select(weights: StateDict, names: Iterable[str]) -> dict[str, Tensor]:
    """Return the weights of these names.

    Raises:
        MaskError: when there is no such weight.
    """
    names = as_names(names)
    missing = [name for name in names if name not in weights]
    if missing:
        path, _, attribute = missing[0].rpartition(".")
        stem = f"{path}." if path else ""
        parts = [
            name for name in weights if name.startswith((f"{missing[0]}_", f"{stem}parametrizations.{attribute}."))
        ]
        if parts:
            raise MaskError(
                f"the weights given hold '{parts[0]}', from which '{missing[0]}' is computed; give the model itself, "
                f"or make its pruning or parametrization permanent first"
            )
        raise MaskError(
            f"there is no weight '{missing[0]}' among the {len(weights)} given; the names belong to another model"
        )
    return {name: weights[name] for name in names}


def _magnitudes(name: str, weight: Tensor, within: Mask | None) -> Float[Tensor, " n"]:
    if not torch.isfinite(weight).all():
        bad = int((~torch.isfinite(weight)).sum())
        raise MaskError(
            f"'{name}' holds {bad} NaN or infinite weights, which have no rank; prune a network that trained"
        )
    magnitude = weight.cpu().abs().reshape(-1)
    if magnitude.dtype != torch.float64:
        magnitude = magnitude.float()
    return magnitude if within is None else magnitude.masked_fill(~within[name].reshape(-1), -1)


def _layer_counts(density: float, total: int, sizes: Mapping[str, int], within: Mask | None) -> dict[str, int]:
    counts = share_out({name: density * size for name, size in sizes.items()}, total, sizes)
    refuse_empty(counts, sizes, density)
    for name, count in counts.items():
        if within is not None and count > int(within[name].sum()):
            raise MaskError(
                f"density {density} keeps {count} weights in '{name}', but `within` only has {int(within[name].sum())} "
                f"there; prune further, or with scope='global' as before"
            )
    return counts
