"""Branches on sizes: `if x.shape[1] > 8` leaves nothing in a graph; a run notes which lines decide by a size."""

import linecache
import re
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from reticket.symmetry.eager import eager
from reticket.symmetry.graph import Inputs, quiet, untouched
from reticket.symmetry.replay import NOT_THE_USERS

BRANCH = re.compile(r"^(if|elif|while)\b|\bif\b.*\belse\b")
REFUSES = re.compile(r"^(raise|warn|warnings|logger|log)\b")
COMPARED = ("lt", "le", "gt", "ge", "eq", "ne")
COMPUTED = ("add", "sub", "mul", "floordiv", "mod")
CHECKERS = ("/jaxtyping/", "/beartype/", "<")  # stand between, where the types of arguments are checked
SHOWN = 4


class Size(int):
    """A size of a tensor that notes where it is compared; what is computed from it does too."""

    lines: dict[str, None]
    __hash__ = int.__hash__  # pyright: ignore[reportAssignmentType]

    @classmethod
    def noted(cls, value: int, lines: dict[str, None]) -> "Size":
        """Return the number, noting lines in `lines`."""
        size = cls(value)
        size.lines = lines
        return size


def _compared(name: str) -> Callable[[Size, Any], Any]:
    plain = getattr(int, f"__{name}__")

    def compare(self: Size, other: Any) -> Any:
        frame = sys._getframe(1)
        while frame.f_back is not None and any(text in frame.f_code.co_filename for text in CHECKERS):
            frame = frame.f_back
        if line := _branch(frame.f_code.co_filename, frame.f_lineno):
            self.lines[line] = None
        return plain(self, other)

    return compare


def _computed(name: str) -> Callable[[Size, Any], Any]:
    plain = getattr(int, name)

    def compute(self: Size, other: Any) -> Any:
        result = plain(self, other)
        return Size.noted(result, self.lines) if type(result) is int else result

    return compute


for _name in COMPARED:
    setattr(Size, f"__{_name}__", _compared(_name))
for _name in COMPUTED:
    setattr(Size, f"__{_name}__", _computed(f"__{_name}__"))
    if _name in ("add", "sub", "mul"):
        setattr(Size, f"__r{_name}__", _computed(f"__r{_name}__"))


def _branch(file: str, number: int) -> str:
    """Return `file:line` of the user's line if it decides which way to go, empty where it only refuses a size."""
    if any(text in file for text in NOT_THE_USERS):
        return ""
    line, after = (linecache.getline(file, n).strip() for n in (number, number + 1))
    if not BRANCH.search(line) or REFUSES.match(after) or line.endswith("raise"):
        return ""
    return f"{file.rpartition('/')[2]}:{number}"


class _Sizes(TorchFunctionMode):
    """Gives out sizes that note where they are compared."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, None] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(args[0] if args else None, nn.Parameter):
            return result
        if func is Tensor.size and type(result) is int:
            return Size.noted(result, self.lines)
        if func is Tensor.size or func == Tensor.shape.__get__:  # pyright: ignore[reportAttributeAccessIssue]
            return torch.Size([Size.noted(n, self.lines) for n in result])
        return result


def branches(model: nn.Module, inputs: Inputs) -> tuple[str, ...]:
    """Return the lines at which the model decides by a size of a tensor which way to go; the model is left as it was.

    Args:
        model: the model; a run in which noted sizes get in its way shows nothing.
        inputs: example inputs.
    """
    with untouched(model), quiet(), eager(), torch.no_grad(), _Sizes() as sizes:
        model.eval()
        try:
            inputs.call(model)
        except Exception:
            return ()
    return tuple(sizes.lines)


def size_note(lines: tuple[str, ...]) -> str:
    """Return what a symmetry says about such lines, empty without any."""
    more = f" and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return f"holds for inputs whose sizes decide alike at {', '.join(lines[:SHOWN])}{more}" if lines else ""
