"""Pruning once: scores by a criterion, exact kept counts by a budget."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from reticket.errors import MaskError
from reticket.symmetry.caches import caches_apart
from reticket.symmetry.filled import check_filled
from reticket.tickets.by_name import refuse_twice
from reticket.tickets.criteria import criterion_of
from reticket.tickets.mask import Mask
from reticket.tickets.parts import inputs_first
from reticket.tickets.patterns import check_density
from reticket.tickets.prunable import named_weights
from reticket.tickets.ranking import Budget, Scope, check_scope
from reticket.types import StateDict


def prune(
    model: nn.Module | StateDict,
    density: float,
    criterion: str | Callable[..., Mapping[str, Tensor]] = "magnitude",
    *,
    names: Iterable[str] | None = None,
    scope: Scope = "global",
    within: Mask | None = None,
    max_sparsity: float | Mapping[str, float] | None = None,
    pattern: str | None = None,
    rounds: int | None = None,
    **options: Any,
) -> Mask:
    """Keep the weights of largest score, exactly as many as the density says.

    With N weights in all, round(density * N) are kept (half up). Of equal scores the first is kept: first by the order
    of `names`, then row-major within the tensor. With `scope="global"` the scores of all layers are compared; with
    `"layer"` each layer keeps its density * n, rounded up or down such that the total is the same; with `"erk"` what
    `erk_counts` says. The model is left as it was.

    Args:
        model: a module, or weights by name where the criterion looks at nothing else.
        density: fraction of the named weights to keep, in (0, 1]; also with `within`, it is a fraction of all of them.
        criterion: by name, as `reticket list criteria` shows, or a function of one's own, as under `@criterion`.
        names: weights to prune, or one of them; by default those of `within`, else `prunable(model)`.
        scope: compare scores over all layers or inside each.
        within: an earlier mask; only what it keeps can be kept, and scores are those of the network pruned so far.
        max_sparsity: fraction of a layer that may be pruned at most, in [0, 1), for all layers or by patterns of their
            names.
        pattern: which weights may be kept together: "2:4" for 2 of every 4 consecutive inputs, "4x8" for blocks of 4
            outputs and 8 inputs, "fan-in" for equally many inputs of every output; None for any.
        rounds: in how many steps it is pruned, to density^(k / rounds) after the k-th (of a dense network), with new
            scores in each; by default what the criterion's authors do, 100 for "synflow" and 1 for the others.
        **options: of the criterion: `loss` and `batches` for those that look at gradients, `generator`, and so on.

    Returns:
        A mask of the named weights.

    Raises:
        MaskError: when a criterion, an option, the scope or the pattern is unknown, a weight cannot have the pattern or
            the density is not the pattern's, a density is out of range or keeps nothing (of a
            layer, with scopes inside each), a weight or score is not finite, a weight is named twice, or `within` keeps
            fewer weights than wanted or masks others.
        ModelError: when the model holds no values (lazy, meta).

    >>> def loss(model, batch):
    ...     return model(batch[0]).sub(batch[1]).square().mean()
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> mask = prune(net, 0.25, "snip", loss=loss, batches=[(torch.ones(3, 4), torch.zeros(3, 2))])
    >>> mask.kept, prune(net, 0.25, max_sparsity={"2.*": 0.5})["2.weight"].sum() >= 8
    (12, tensor(True))
    """
    check_scope(scope)
    check_density(pattern, density)
    budget = Budget(density, scope, max_sparsity, pattern)
    return pruned_to(budget, model, criterion, names=names, within=within, rounds=rounds, options=options)


def pruned_to(
    budget: Budget,
    model: nn.Module | StateDict,
    criterion: str | Callable[..., Mapping[str, Tensor]] = "magnitude",
    *,
    names: Iterable[str] | None = None,
    within: Mask | None = None,
    rounds: int | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Mask:
    """Prune as `prune` does, to a budget, which may also be on the way to an N:M pattern.

    Args:
        budget: how many weights are kept, in which pattern.
        model, criterion, names, within, rounds, options: see `prune`.
    """
    chosen = criterion_of(criterion)
    weights = _checked_weights(model, names, within)
    transposed = inputs_first(model, weights) if budget.pattern and isinstance(model, nn.Module) else frozenset()
    steps = chosen.rounds if rounds is None else rounds
    if steps < 1:
        raise MaskError(f"rounds is {steps}, expected at least 1")
    begun, density = 1.0 if within is None else within.density, budget.density
    with caches_apart() if "model" in chosen.uses else nullcontext():  # looked for once, not in each round
        for step in range(1, steps + 1):
            reached = begun * (density / begun) ** (step / steps) if step < steps else density
            scores = chosen.scores(model, _masked(weights, within), options)
            within = replace(budget, density=reached).keep(scores, within, transposed)
    assert within is not None
    return within


def prune_magnitude(
    model: nn.Module | StateDict,
    density: float,
    *,
    names: Iterable[str] | None = None,
    scope: Scope = "global",
    within: Mask | None = None,
    pattern: str | None = None,
) -> Mask:
    """Keep the weights of largest magnitude, exactly as many as the density says: `prune` by "magnitude".

    Args:
        model: a module, or weights by name.
        density: fraction of the named weights to keep, in (0, 1]; also with `within`, it is a fraction of all of them.
        names: weights to prune, or one of them; by default those of `within`, else `prunable(model)`.
        scope: compare magnitudes over all layers or inside each ("global", "layer", "erk").
        within: an earlier mask; only what it keeps can be kept.
        pattern: which weights may be kept together, as of `prune`: "2:4", "4x8", "fan-in".

    Returns:
        A mask of the named weights.

    Raises:
        MaskError: as `prune`.
        ModelError: when the model holds no values (lazy, meta).

    >>> prune_magnitude({"w": torch.tensor([0.1, -3.0, 2.0, 2.0])}, 0.5, names=["w"])["w"]
    tensor([False,  True,  True, False])
    """
    return prune(model, density, names=names, scope=scope, within=within, pattern=pattern)


def _checked_weights(
    model: nn.Module | StateDict, names: Iterable[str] | None, within: Mask | None
) -> dict[str, Tensor]:
    """Return the weights that are pruned, which are finite, each once and those of `within`."""
    if isinstance(model, nn.Module):
        check_filled(model)
    weights = named_weights(model, names, within)
    refuse_twice(model, weights)
    if within is not None:
        if set(within) != set(weights):
            raise MaskError("`within` masks other weights than those named; prune the names of the earlier mask")
        within.check_fits(weights)
    for name, weight in weights.items():
        if bad := int((~torch.isfinite(weight)).sum()):
            raise MaskError(
                f"'{name}' holds {bad} NaN or infinite weights, which have no rank; prune a network that trained"
            )
    return weights


def _masked(weights: Mapping[str, Tensor], within: Mask | None) -> dict[str, Tensor]:
    if within is None:
        return dict(weights)
    return {name: weight.masked_fill(~within[name].to(weight.device), 0) for name, weight in weights.items()}
