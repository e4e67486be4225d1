"""Weights by name: those of a module or a state_dict, and which names stand for one tensor."""

from collections.abc import Hashable, Iterable, Mapping

from torch import Tensor, nn

from reticket.errors import MaskError
from reticket.lookup import as_names
from reticket.tickets.used import place_of, source_of, weight_used
from reticket.types import StateDict
from reticket.wrapped import inside


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
        weight = _weight(model, name)
        if weight is None:
            weight = _weight(inside(model), name)
        if weight is None:
            raise MaskError(f"{type(model).__name__} has no weight '{name}'; the names belong to another model")
        weights[name] = weight.detach()
    return weights


def _weight(model: nn.Module, name: str) -> Tensor | None:
    path, _, attribute = name.rpartition(".")
    try:
        return weight_used(model.get_submodule(path), attribute, name)
    except AttributeError:
        return None


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


def source_named(model: nn.Module, name: str) -> Tensor | None:
    """Return the parameter that the weight of this name is, or is computed from; None where there is none."""
    path, _, attribute = name.rpartition(".")
    try:
        return source_of(model.get_submodule(path), attribute)
    except AttributeError:
        return None


def identity(model: nn.Module | StateDict, name: str, weight: Tensor) -> Hashable:
    """Return what is equal for two names of one weight alone."""
    source = source_named(model, name) if isinstance(model, nn.Module) else weight
    return name if source is None else place_of(source)


def refuse_twice(model: nn.Module | StateDict, weights: Mapping[str, Tensor]) -> None:
    """Raise when one tensor is named twice.

    Raises:
        MaskError: naming both names.
    """
    first: dict[Hashable, str] = {}
    for name, weight in weights.items():
        other = first.setdefault(identity(model, name, weight), name)
        if other != name:
            raise MaskError(f"'{name}' and '{other}' are one tensor, which is pruned once; name one of the two")
