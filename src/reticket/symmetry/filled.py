"""Whether a model holds weights at all: lazy layers get theirs at the first call, the meta device keeps shapes only."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from reticket.dense import described
from reticket.errors import ModelError

QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")
COMPRESSED = (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)


def check_shaped(model: nn.Module, which: str = "the model") -> None:
    """Raise ModelError when a tensor of the model has no shape yet, or is of a kind that cannot be traced.

    Args:
        model: the model.
        which: what the error calls it.
    """
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if reason := _unfit(tensor):
            raise ModelError(f"'{name}' of {which} ({type(model).__name__}) {reason}")
    for name, module in model.named_modules():
        if type(module).__module__.startswith(QUANTISED):
            raise ModelError(
                f"'{name}' of {which} ({type(model).__name__}) is a quantised layer with packed weights, expected "
                f"floating-point ones: take the model as it was before it was quantised"
            )


def _unfit(tensor: Tensor) -> str:
    """Return what is wrong with a tensor and what to do about it, empty when nothing is."""
    if is_lazy(tensor):
        return (
            "has no shape yet, expected a weight: a lazy layer gets it at its first call, so call the model once on an "
            "input"
        )
    if isinstance(tensor, nn.Parameter) and tensor.layout in COMPRESSED:
        return (
            f"is a parameter of layout {tensor.layout}, in which torch can neither trace nor copy parameters: make it "
            f"dense or COO, or a buffer if it is not trained"
        )
    if tensor.is_nested:
        return (
            "is a nested tensor, whose rows have sizes of their own, expected one of a single shape: pad it, or keep "
            "its rows as tensors of their own"
        )
    if tensor.is_quantized:
        return "is quantised, which torch.export cannot trace: keep its values in floating point, dequantize()"
    return ""


def check_inputs(values: Iterable[Any]) -> None:
    """Raise ModelError when an example input is a tensor that cannot be traced.

    Args:
        values: the example inputs, all containers taken apart.
    """
    for number, value in enumerate(values):
        if isinstance(value, Tensor) and (value.is_nested or value.is_quantized):
            advice = "pad its rows to one length" if value.is_nested else "pass its values, dequantize()"
            raise ModelError(f"example input {number} is {described(value)}, expected a plain one: {advice}")


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
