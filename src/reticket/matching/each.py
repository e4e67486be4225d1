"""Matching one network to several, which costs it one run."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from reticket.errors import InputError
from reticket.matching.activation import MatchedAlignment, match_activations_of_each
from reticket.matching.constraints import released
from reticket.matching.partial import leaving_out
from reticket.matching.registry import MATCHERS, NetworkCheckpoints, limited, models_to_match
from reticket.progress import Tracked
from reticket.symmetry import Symmetry


def match_each(
    model_a: NetworkCheckpoints,
    models_b: Sequence[NetworkCheckpoints],
    sym: Symmetry,
    batches: Iterable[object],
    **options: Any,
) -> list[MatchedAlignment]:
    """Return `match(model_a, b, sym, batches)` by activations for every b, while A runs once on each batch.

    A's activations are held until every B has seen the same examples, and then let go, so memory does not grow with the
    number of batches. A B whose budget is reached (`stop`) is run no more.

    Args:
        model_a: model whose units move, or its checkpoints, as `match` takes it.
        models_b: the others, of which each one's order is taken.
        sym: their symmetry, from `discover`.
        batches: any iterable, a generator too; it is read once.
        options: `progress`, and those of the method "activation", see `match`.

    Returns:
        One alignment for each of `models_b`, in their order.

    Raises:
        InputError, AlignmentError, ModelError: as `match` does; also for no model B at all.

    >>> import torch
    >>> from reticket.models import build_model
    >>> from reticket.rng import generator_for
    >>> from reticket.symmetry import discover
    >>> a, *others = [build_model("mlp", generator=generator_for(k)) for k in range(3)]
    >>> batch = torch.randn(32, 64, generator=generator_for("data"))
    >>> each = match_each(a, others, discover(a, batch[:2], verify=False), [batch])
    >>> [found.examples for found in each]
    [32, 32]
    """
    if not isinstance(models_b, Sequence) or isinstance(models_b, str) or not models_b:
        raise InputError(
            f"models_b is {'empty' if isinstance(models_b, Sequence) else f'a {type(models_b).__name__}'}, but a list "
            "of at least one network was expected; to match one alone use match(model_a, model_b, ...)"
        )
    progress = options.pop("progress", False)
    if options.get("seen") is not None:
        raise InputError("match_each takes no seen=, which is of one pair; give it to match(model_a, model_b, ...)")
    chosen = MATCHERS.named("activation")
    chosen.check({"batches": batches}, options)
    narrow, leave_out, options = limited(sym, options)
    if leave_out is not None and isinstance(batches, Iterator):
        batches = list(batches)
    kept = batches
    pairs = [models_to_match(model_a, model_b, sym) for model_b in models_b]
    models_a, each_b = pairs[0][0], [models for _, models in pairs]
    if progress is not False:
        shape = {"others": len(pairs), "checkpoints": len(models_a)}
        batches = Tracked(batches, progress, partial(chosen.says, models_a[0], sym, **shape, **options))
    found = match_activations_of_each(models_a, each_b, narrow, batches, **options)
    to_inputs = options.get("to_inputs")
    return [
        leaving_out(released(one, sym, narrow, "activation"), models_a, models, kept, to_inputs, leave_out=leave_out)
        for one, models in zip(found, each_b, strict=True)
    ]
