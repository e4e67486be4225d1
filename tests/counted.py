"""How much work something is, counted instead of timed: the same on every machine, however busy."""

import gc
import sys
from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


def calls(function: Callable[[], object], *, builtins: bool = False) -> int:
    """Return how many Python functions are called in this thread, and with `builtins` how many written in C."""
    seen = 0
    counted = ("call", "c_call") if builtins else ("call",)

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal seen
        seen += event in counted

    before = sys.getprofile()
    gc.disable()  # what it calls belongs to nobody
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
        gc.enable()
    return seen


def operators(function: Callable[[], object]) -> int:
    """Return how many operators of torch run."""
    with _Operators() as counted:
        function()
    return counted.seen


class _Operators(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen += 1
        return func(*args, **(kwargs or {}))
