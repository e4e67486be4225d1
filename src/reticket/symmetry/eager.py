"""Operators that take functions, as `torch.cond`, in a run that is watched: step by step, without compiling.

In an eager run torch compiles what such an operator is given, and a compiler does not look through the modes by which
this package watches a run.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch._ops import HigherOrderOperator


def _holds(pred: Any) -> bool:
    """Whether a condition holds; no mode sees that it is read, for a graph holds both ways."""
    with torch._C.DisableTorchFunction():
        return bool(pred)


def _cond(pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], operands: Sequence[Any] = ()) -> Any:
    return (true_fn if _holds(pred) else false_fn)(*operands)


def _while_loop(
    cond_fn: Callable[..., Any],
    body_fn: Callable[..., Any],
    carried: Sequence[Any],
    additional: Sequence[Any] = (),
    *_: Any,
    **__: Any,
) -> Any:
    while _holds(cond_fn(*carried, *additional)):
        carried = body_fn(*carried, *additional)
    return tuple(carried)


STEPS: dict[str, Callable[..., Any]] = {"cond": _cond, "while_loop": _while_loop}


def steps_of(func: Any) -> Callable[..., Any] | None:
    """Return what an operator that takes functions does, as plain Python; None for any other."""
    return STEPS.get(func.name()) if isinstance(func, HigherOrderOperator) else None


@contextmanager
def eager() -> Iterator[None]:
    """While active, nothing is compiled: neither what such operators are given nor compiled modules."""
    stance = getattr(torch.compiler, "set_stance", None)
    with nullcontext() if stance is None else stance("force_eager"):
        yield
