"""Control flow that depends on values: what Python read from tensors in a concrete run, given again while tracing.

`bool()`, `int()`, `item()` and their like leave no trace in a graph, and `torch.export` refuses most of them. One
concrete run records what they returned; a second run under the tracer is told the same, so that its graph has the
operators of the first. The tensors that were read become results of the graph: what they are computed from is then
subject to the rules, so that a permuted model reads the same values and goes the same way.
"""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten

NOT_THE_USERS = ("/torch/", "/reticket/symmetry/", "/jaxtyping/", "/beartype/", "<")
ITEM, LIST = "item()", "tolist()"
READS: dict[Callable[..., Any], str] = {
    Tensor.__bool__: "bool()",
    Tensor.__int__: "int()",
    Tensor.__float__: "float()",
    Tensor.__index__: "an index",
    Tensor.__contains__: "in",
    Tensor.item: ITEM,
    Tensor.tolist: LIST,
    Tensor.is_nonzero: "is_nonzero()",
    torch.is_nonzero: "is_nonzero()",
    Tensor.equal: "equal()",
    torch.equal: "equal()",
    Tensor.allclose: "allclose()",
    torch.allclose: "allclose()",
}
DERIVATIVES = (torch.autograd.grad, torch.autograd.backward, Tensor.backward)
PLACES: dict[Callable[..., Any], str] = {
    Tensor.nonzero: "nonzero()",
    torch.nonzero: "nonzero()",
    torch.where: "where(condition)",
}


@dataclass(frozen=True)
class Read:
    """A value that Python took from a tensor.

    Args:
        how: the call, for instance `bool()`.
        value: what it returned, tensors of positions included.
        line: `file:line` of the call.
        forward: `file:line` of the call in the innermost `forward`, by which a graph knows where a node comes from.
    """

    how: str
    value: Any
    line: str
    forward: str = ""

    def __str__(self) -> str:
        shown = repr(self.value) if isinstance(self.value, bool | int | float) else "its values"
        return f"{self.how} at {self.line} giving {shown}"


def how_read(func: Any, args: Sequence[Any], kwargs: Any) -> str:
    """Return how a call reads values, empty when it does not."""
    if func is torch.where and (len(args) != 1 or kwargs):
        return ""
    return READS.get(func, "") or PLACES.get(func, "")


def line_of_caller(function: str = "") -> str:
    """Return `file:line` of the innermost frame outside torch and this package's modes.

    Args:
        function: the name of the function whose frame it is; empty for any.
    """
    frame = sys._getframe(1)
    while frame is not None and (
        any(text in frame.f_code.co_filename for text in NOT_THE_USERS)
        or (function and frame.f_code.co_name != function)
    ):
        frame = frame.f_back
    return f"{frame.f_code.co_filename.split('/')[-1]}:{frame.f_lineno}" if frame is not None else ""


class ReadRecorder(TorchFunctionMode):
    """Notes what Python reads from tensors, and whether derivatives are taken."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[Read] = []
        self.derives = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.record(func, args, kwargs, result)
        return result

    def record(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Note what a call read; `tolist()` counts as one `item()` for each value, as a tracer takes it apart."""
        self.derives |= func in DERIVATIVES
        how = how_read(func, args, kwargs)
        if how:
            values = tree_flatten(result)[0] if how == LIST else [result]
            where = line_of_caller(), line_of_caller("forward")
            self.reads.extend(Read(ITEM if how == LIST else how, value, *where) for value in values)


class _Replay(TorchFunctionMode):
    """Answers reads with what was recorded at the same line, and keeps the tensors that were read.

    Some lines run in one of the two runs only (`if not torch.compiler.is_exporting()`): what only the recorded run read
    is passed over, and what only this one reads is left to the tracer.
    """

    def __init__(self, reads: Sequence[Read]) -> None:
        super().__init__()
        self.reads, self.seen = reads, list[Tensor]()
        self.position = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        how = how_read(func, args, kwargs)
        answer = self._answer(how, args) if how else None
        if answer is None:
            return func(*args, **(kwargs or {}))
        self.seen.extend(x.clone() for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor))
        return answer[0]

    def _answer(self, how: str, args: Sequence[Any]) -> tuple[Any] | None:
        """Return what was recorded, in a tuple, or None where nothing was."""
        line = line_of_caller()
        if how != LIST:
            found = self._next(how, line, 1)
            return None if found is None else (found[0],)
        shape = tuple(args[0].shape)
        found = self._next(ITEM, line, math.prod(shape))
        return None if found is None else (_nested(iter(found), shape),)

    def _next(self, how: str, line: str, count: int) -> list[Any] | None:
        alike = [i for i, read in enumerate(self.reads) if i >= self.position and (read.how, read.line) == (how, line)]
        if len(alike) < count:
            return None
        if count:
            self.position = alike[count - 1] + 1
        return [self.reads[i].value for i in alike[:count]]


def _nested(values: Iterator[Any], shape: tuple[int, ...]) -> Any:
    return [_nested(values, shape[1:]) for _ in range(shape[0])] if shape else next(values)


@contextmanager
def replaying(model: nn.Module, reads: Sequence[Read]) -> Iterator[list[Tensor]]:
    """While active, the model's forward reads the recorded values and returns `(result, tensors that were read)`.

    The caller restores the model's attributes. What is yielded holds the tensors of the last run.
    """
    forward, last = model.forward, list[Tensor]()

    @wraps(forward)
    def replayed(*args: Any, **kwargs: Any) -> tuple[Any, list[Tensor]]:
        with _Replay(reads) as replay:
            result = forward(*args, **kwargs)
        last[:] = replay.seen
        return result, replay.seen

    model.forward = replayed
    yield last


def ways(reads: Sequence[Read], shown: int = 4) -> str:
    """Return the reads as a text, each line of the source once."""
    texts = list(dict.fromkeys(map(str, reads)))
    more = f" and {len(texts) - shown} more" if len(texts) > shown else ""
    return ", ".join(texts[:shown]) + more
