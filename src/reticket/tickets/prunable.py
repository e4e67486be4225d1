"""Which weights of a model are pruned at all."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, get_args

from torch import Tensor, nn

from reticket.errors import MaskError
from reticket.lookup import as_names, closest
from reticket.tickets.by_name import select, weights_of
from reticket.tickets.mask import Mask
from reticket.tickets.parts import Part, Weight, parts_of
from reticket.types import StateDict
from reticket.weights import module_of, state_of
from reticket.wrapped import inside

EXCLUDED = ("shortcut", "first", "last")
INCLUDED = tuple(part for part in get_args(Part) if part not in ("matrix", "unknown"))
SHORTCUT_NAMES = ("shortcut", "skip", "skip_connection", "projection", "downsample")


def prunable(
    model: nn.Module,
    example_inputs: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    exclude: Iterable[str] = ("shortcut",),
    include: Iterable[str] = (),
) -> tuple[str, ...]:
    """Return the names of a model's weight matrices: parameters of two axes or more that multiply activations.

    With example inputs the model is traced, and what multiplies is known whatever module it stands in: bare parameters,
    stacked experts, fused projections. Without them the layers of torch are known (linear, convolution, bilinear,
    attention, recurrent ones) and the `Conv1D` of transformers; what stands elsewhere is left out with a warning that
    names it. Tables that rows are looked up in are left out, also where one is the output layer too (tied weights).

    Names are those of the unpruned, unparametrized model inside a parallel or compiled wrapper, in the order of its
    `named_modules()`, the first name of a tensor that has several.

    Args:
        model: any module; it is left as it was.
        example_inputs: a tensor, a tuple of positional inputs or a dict of keyword inputs, as for `discover`.
        kwargs: keyword inputs beside positional ones.
        exclude: glob patterns on the names of weights or of their modules ("features.*", "layer1.0.conv1"), or kinds:
            "shortcut" (projection shortcuts: a module named shortcut, skip, skip_connection or projection, or a
            downsample that stands beside convolutions in a block), "first" and "last" (the first and the last layer as
            defined).
        include: what is left out otherwise: "embedding" (tied output layers too), "norm" (scales of two axes or more),
            "elementwise" (what meets activations entry by entry or stands among them: positions, tokens), or patterns.

    Raises:
        MaskError: when a pattern matches nothing, or nothing is left.
        ModelError: when the model cannot be traced on the example inputs.

    >>> net = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> prunable(net), prunable(net, exclude="last"), prunable(net, exclude="last", include="embedding")
    (('1.weight', '3.weight'), ('1.weight',), ('0.weight', '1.weight'))
    """
    _refuse_texts(example_inputs)
    model, traced = inside(module_of(model)), example_inputs is not None or bool(kwargs)
    weights = parts_of(model, example_inputs, kwargs)
    names, unknown = _chosen(model, weights, as_names(exclude), as_names(include))
    if not names:
        nothing = f"{type(model).__name__} has no weight matrix, so there is nothing to prune{_others(weights)}"
        raise MaskError(unjudged(model, weights, unknown, traced) if unknown else nothing)
    if unknown:
        warnings.warn(unjudged(model, weights, unknown, traced), stacklevel=2)
    return names


def known_prunable(model: nn.Module, exclude: Iterable[str], include: Iterable[str]) -> tuple[str, ...]:
    """Return what `prunable` does without a trace, and no warning: whoever shows the results says what is left out.

    Args:
        model: any module.
        exclude: as for `prunable`.
        include: as for `prunable`.

    Raises:
        MaskError: as `prunable`.
    """
    weights = parts_of(model)
    names, _ = _chosen(model, weights, as_names(exclude), as_names(include))
    if not names:
        raise MaskError(
            f"{type(model).__name__} has no weight matrix in a module that is known, so there is nothing to prune"
            f"{_others(weights)}"
        )
    return names


def _chosen(
    model: nn.Module, weights: Sequence[Weight], exclude: Sequence[str], include: Sequence[str]
) -> tuple[tuple[str, ...], list[Weight]]:
    """Return the names of what is pruned, and what is neither excluded nor known to be a matrix or not."""
    wanted = _wanted(model, weights, include)
    names = [weight.name for weight in weights if weight.part == "matrix" or weight.name in wanted]
    unknown = [weight for weight in weights if weight.part == "unknown" and weight.name not in wanted]
    dropped = _dropped(model, names, [weight.name for weight in unknown], exclude) if names else frozenset()
    left = tuple(name for name in names if name not in dropped)
    if names and not left:
        raise MaskError(f"exclude {tuple(exclude)} leaves nothing to prune in {type(model).__name__}; exclude less")
    return left, [weight for weight in unknown if weight.name not in dropped]


def named_weights(model: nn.Module | StateDict, names: Iterable[str] | None, within: Mask | None) -> dict[str, Tensor]:
    """Return the weights of these names, by default those of an earlier mask, else those that are pruned.

    Raises:
        MaskError: when weights by name are given without names, or a name without its weight.
    """
    if names is None and within is not None:
        names = within
    if isinstance(model, nn.Module):
        return weights_of(model, prunable(model) if names is None else names)
    model = state_of(model, "model")
    if names is None:
        raise MaskError("weights by name do not say which of them to prune; give names=prunable(model)")
    return {name: weight.detach() for name, weight in select(model, names).items()}


def unjudged(model: nn.Module, weights: Sequence[Weight], unknown: Sequence[Weight], traced: bool) -> str:
    """Return a sentence that names the parameters of which it is not known whether they multiply activations."""
    total, own = (sum(w.source.numel() for w in some if w.source is not None) for some in (weights, unknown))
    names = ", ".join(f"'{weight.name}'" for weight in unknown[:4])
    more = f" and {len(unknown) - 4} more" if len(unknown) > 4 else ""
    why, what = (
        ("nothing was computed with them on these inputs, or by an operator without a rule", "")
        if traced
        else ("whether they multiply activations is seen by tracing alone", "give inputs, prunable(model, inputs), or ")
    )
    return (
        f"{type(model).__name__} has parameters in modules that are not known, {names}{more}, {100 * own / total:.3g} "
        f"% of its parameters of two axes or more: {why}, so they are not pruned; {what}name them in include= or "
        f"exclude="
    )


def _refuse_texts(example_inputs: Any) -> None:
    texts = example_inputs if isinstance(example_inputs, tuple | list) and example_inputs else (example_inputs,)
    if all(isinstance(text, str) for text in texts):
        raise MaskError(
            f"example_inputs is {example_inputs!r}, expected what the model takes; give exclude= by keyword"
        )


def _wanted(model: nn.Module, weights: Sequence[Weight], include: Sequence[str]) -> frozenset[str]:
    """Return the names of the weights that patterns or kinds ask for."""
    found: list[str] = []
    for pattern in include:
        matched = [w.name for w in weights if w.part == pattern or any(_fits(name, pattern) for name in w.names)]
        if not matched and pattern not in INCLUDED:
            raise _no_match(model, "include", pattern, INCLUDED, [name for weight in weights for name in weight.names])
        found += matched
    return frozenset(found)


def _dropped(model: nn.Module, names: Sequence[str], unknown: Sequence[str], exclude: Sequence[str]) -> frozenset[str]:
    """Return the names that patterns or kinds exclude, among the weights that are pruned and those of unknown part."""
    found: list[str] = []
    for pattern in exclude:
        matched = [*_excluded(model, names, pattern), *(name for name in unknown if _fits(name, pattern))]
        if not matched and pattern not in EXCLUDED:
            raise _no_match(model, "exclude", pattern, EXCLUDED, names)
        found += matched
    return frozenset(found)


def _no_match(model: nn.Module, argument: str, pattern: str, kinds: Sequence[str], names: Sequence[str]) -> MaskError:
    near = closest(pattern, [*kinds, *names, *(name.rpartition(".")[0] for name in names)], 0.5)
    hint = f"did you mean '{near}'" if near else f"give a kind {kinds} or a glob"
    return MaskError(f"{argument} '{pattern}' matches no weight of {type(model).__name__}; {hint}")


def _others(weights: Sequence[Weight]) -> str:
    """Return what a model without matrices has in their place."""
    named = ", ".join(f"'{weight.name}' ({weight.part})" for weight in weights[:4])
    return f"; it has {named}: ask for them with include=" if named else ""


def _fits(name: str, pattern: str) -> bool:
    """Whether a pattern means a weight or the module that it belongs to."""
    return fnmatchcase(name, pattern) or fnmatchcase(name.rpartition(".")[0], pattern)


def _excluded(model: nn.Module, names: Sequence[str], pattern: str) -> tuple[str, ...]:
    if pattern == "first":
        return tuple(names[:1])
    if pattern == "last":
        return tuple(names[-1:])
    if pattern == "shortcut":
        return tuple(name for name in names if _is_shortcut(model, name))
    return tuple(name for name in names if _fits(name, pattern))


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
