"""Fixed entries: what a model says of its weights that training leaves as they are."""

from jaxtyping import Float
from torch import Tensor, nn

from reticket.errors import ModelError

BUFFER = "weight_frame"  # beside each weight: the fixed entries, NaN where an entry is free; no part of a state_dict


def fixed_entries(model: nn.Module) -> dict[str, Float[Tensor, "..."]]:
    """Return by parameter what a frozen frame fixes: its value, NaN where an entry is free; empty without a frame.

    Args:
        model: any module, in a wrapper or not; names are those of its own parameters, of a shared one its first.

    Raises:
        ModelError: when a weight with a frame is no parameter any more, or two that have one were tied afterwards.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[str, Tensor] = {}
    for place, module in model.named_modules():
        buffer = module._buffers.get(BUFFER)
        if buffer is None:
            continue
        name = names.get(id(module._parameters.get("weight")))
        if name is None:
            raise ModelError(
                f"the weight of '{place}' has fixed entries, but is computed from other parameters now; leave its "
                f"parametrization out, or set frozen = false"
            )
        if name in found:
            raise ModelError(
                f"'{name}' is also the weight of '{place}', which has fixed entries of its own; tie weights before "
                f"their model becomes asymmetric"
            )
        found[name] = buffer
    return found


def refuse_outside(model: nn.Module) -> None:
    """Raise unless every fixed entry of a model is what its frame says, or 0 because it was pruned.

    Args:
        model: any module.

    Raises:
        ModelError: naming the first weight with an entry that is not.
    """
    parameters = dict(model.named_parameters())
    for name, values in fixed_entries(model).items():
        weight = parameters[name].detach()
        odd = int((~values.isnan() & (weight != values) & (weight != 0)).sum())
        if odd:
            raise ModelError(
                f"{odd} fixed entries of '{name}' are neither what the frame of this model says nor 0: its units were "
                f'moved (frame = "mask" moves them), or it was trained without its frame; give weights of the same '
                f"asymmetric, not permuted"
            )
