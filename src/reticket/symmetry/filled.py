"""Whether a model holds weights at all: lazy layers get theirs at the first call, the meta device keeps shapes only."""

from torch import nn
from torch.nn.parameter import is_lazy

from reticket.errors import ModelError


def check_shaped(model: nn.Module, which: str = "the model") -> None:
    """Raise ModelError when a tensor of the model has no shape yet.

    Args:
        model: the model.
        which: what the error calls it.
    """
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise ModelError(
                f"'{name}' of {which} ({type(model).__name__}) has no shape yet, expected a weight: a lazy layer gets "
                f"it at its first call, so call the model once on an input"
            )


def check_filled(model: nn.Module, which: str = "the model") -> None:
    """Raise ModelError when a tensor of the model has no shape yet, or no values as on the meta device.

    Args:
        model: the model.
        which: what the error calls it.
    """
    check_shaped(model, which)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_meta:
            raise ModelError(
                f"'{name}' of {which} ({type(model).__name__}) is on the meta device and holds no values, which are "
                f"needed here: build the model on a real device, or load weights with "
                f"load_state_dict(weights, assign=True)"
            )
