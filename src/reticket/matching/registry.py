"""Matching methods by name, all behind one call."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from torch import nn

from reticket.errors import InputError
from reticket.lookup import nearest
from reticket.registry import Registry
from reticket.symmetry import Alignment, Symmetry
from reticket.symmetry.filled import check_filled
from reticket.wrapped import inside

Matcher = Callable[..., Alignment]
Checkpoints: TypeAlias = nn.Module | Sequence[nn.Module]  # one model, or one network at several points of its training

MATCHERS = Registry[Matcher]("matcher", "reticket.matchers", InputError)


def matcher(name: str) -> Callable[[Matcher], Matcher]:
    """Register a matching method: `(models_a, models_b, sym, batches, **options) -> Alignment`.

    It gets two tuples of equal length, checkpoint by checkpoint; of one model each, mostly.

    Args:
        name: what users write as `method`.
    """
    return MATCHERS.register(name)


def list_matchers() -> dict[str, str]:
    """Return every matching method by name, with one line on what it does.

    >>> list_matchers()
    {'activation': 'Match units by what they respond to, in one pass over the data.'}
    """
    return dict(sorted(MATCHERS.descriptions().items()))


def match(
    model_a: Checkpoints,
    model_b: Checkpoints,
    sym: Symmetry,
    batches: Iterable[object],
    method: str = "activation",
    **options: Any,
) -> Alignment:
    """Return the alignment that carries A's units to B's order: `al.apply(a.state_dict())` is close to B's.

    Both models run in evaluation mode, each exactly once on every batch, on the device they are on; their weights and
    modes and torch's random state are left as they were. What only a traced graph shows, as the heads of
    `nn.MultiheadAttention`, is computed beside that; for this the models are traced once a shape of the batches.

    Several checkpoints of each, `match([a_50, a_100, a_end], [b_50, b_100, b_end], ...)`, are matched by consensus:
    units keep their identity along a network's training, so the similarities of the pairs (A^t, B^t) are averaged
    before the assignment is solved, once. One checkpoint, or the same one twice, gives what plain matching gives.

    Args:
        model_a: model whose units move, or its checkpoints; in `DataParallel`, DDP or `torch.compile` or not.
        model_b: model of the same architecture, whose order is taken, or as many checkpoints.
        sym: their symmetry, from `discover`.
        batches: any iterable, a generator too. Of a batch (a tensor, a tuple or a dict of keyword inputs) the model
            gets the first n elements, n being the number of inputs `sym` was discovered with.
        method: name of a matching method; "activation" is the one there is.
        options: for "activation": `cost`, "correlation" (default), "covariance" or "cosine"; `to_inputs`, a function
            from a batch to what the model takes (a tensor, a tuple or a dict); `stop`, "stable" (default: stop when no
            assignment has changed over 3 doublings of the examples seen, at 4096 at the earliest) or None (see every
            batch); `unmatched`, "error" (default) or "identity": what to do with a group that has no site where it can
            be matched on its own; `held_bytes`, how much of A's activations may be held at once (default: all of a
            batch): a larger batch is run in parts, cut along the first axis of its tensors, which must be that of the
            examples. The cut changes the result by rounding alone; A runs on the very first example once more, to see
            what one takes.

    Returns:
        The alignment. `quality` holds, per matched group, the mean correlation of matched units and their margin over
        the best other unit, always in terms of correlation, averaged over checkpoints; a group that was left as it is
        has no entry.
        That of "activation" also has `examples` and `batches`, the budget used.

    Raises:
        InputError: unknown method, cost or option, or unequal numbers of checkpoints.
        AlignmentError: no batches, models that are not of this symmetry, activations that are not finite, or a group
            that cannot be matched.
        ModelError: a batch that a model cannot take, or a model without values (lazy, meta).
    """
    match_by = MATCHERS.named(method)
    _check_options(method, options)
    models_a, models_b = _checkpoints(model_a, sym), _checkpoints(model_b, sym)
    if len(models_a) != len(models_b) or not models_a:
        raise InputError(
            f"matching got {len(models_a)} checkpoints of A and {len(models_b)} of B; "
            "give as many of each, at least one"
        )
    for which, models in (("model_a", models_a), ("model_b", models_b)):
        for model in models:
            check_filled(model, which)
    return match_by(models_a, models_b, sym, batches, **options)


def _check_options(method: str, options: Mapping[str, object]) -> None:
    """Refuse an option that the method does not take."""
    parameters = inspect.signature(MATCHERS[method]).parameters.values()
    known = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return
    for name in options:
        if name not in known:
            raise InputError(
                f"matching method '{method}' has no option '{name}'{nearest(name, known)}; it has {', '.join(known)}"
            )


def _checkpoints(models: Checkpoints, sym: Symmetry) -> tuple[nn.Module, ...]:
    """Return the models; of one in a parallel or compiled wrapper that the symmetry does not have, the one inside."""
    every = (models,) if isinstance(models, nn.Module) else tuple(models)
    return tuple(model if model.state_dict().keys() == sym.layouts.keys() else inside(model) for model in every)
