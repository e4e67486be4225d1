"""Fixed entries: what a model says of its weights that training leaves as they are."""

from jaxtyping import Float
from torch import Tensor, nn

from reticket.errors import ModelError

BUFFER = "weight_frame"  # beside each weight: the fixed entries, NaN where an entry is free; no part of a state_dict


def fixed_entries(model: nn.Module) -> dict[str, Float[Tensor, "..."]]:
    """Return by parameter what a frozen frame fixes: its value, NaN where an entry is free; empty without a frame.

    Args:
        model: any module, in a wrapper or not; names are those of its own parameters.
    """
    found = {}
    for name, module in model.named_modules():
        buffer = module._buffers.get(BUFFER)
        if buffer is not None:
            found[f"{name}.weight" if name else "weight"] = buffer
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
