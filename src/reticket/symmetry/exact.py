"""Running a model exactly: a copy of it in float64, whatever dtype it asks for, with dropout as the identity."""

import copy
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from reticket.dense import is_dense
from reticket.rng import global_generators
from reticket.symmetry.caches import caches_apart
from reticket.symmetry.calls import DROPOUT, SWITCHES
from reticket.symmetry.eager import eager, steps_of
from reticket.symmetry.graph import quiet
from reticket.symmetry.model_tensors import named_state
from reticket.symmetry.reach import Reach
from reticket.symmetry.replay import how_read
from reticket.symmetry.untouched import host_generators

LOW = (torch.float32, torch.float16, torch.bfloat16)
LOW_COMPLEX = (torch.complex64, torch.complex32)
NAMES = ("torch.FloatTensor", "torch.HalfTensor", "torch.BFloat16Tensor", "torch.cuda.FloatTensor")
CASTS = (Tensor.float, Tensor.half, Tensor.bfloat16)
COMPLEX_CASTS = tuple(getattr(Tensor, name) for name in ("cfloat", "chalf"))
GROUPED = [f for f in (getattr(F, "grouped_mm", None), getattr(torch, "_grouped_mm", None)) if f is not None]


class Exact(TorchFunctionMode):
    """Computes in one dtype whatever dtype the model asks for, takes dropout for the identity and notes the way.

    Args:
        wide: the dtype.
    """

    def __init__(self, wide: torch.dtype) -> None:
        super().__init__()
        self.wide = wide
        self.way: list[Any] = []
        self.reads = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if (steps := steps_of(func)) is not None:
            with self:
                return steps(*args, **kwargs)
        self.way.append(func)
        self.reads |= bool(how_read(func, args, kwargs))
        if func in DROPOUT:
            return args[0] if args else kwargs["input"]
        if func in CASTS:
            return args[0].to(self.wide)
        if func in COMPLEX_CASTS:
            return args[0].to(widened(torch.complex64, self.wide))
        if func in GROUPED:
            return grouped_product(*args, **kwargs)
        if func in SWITCHES and SWITCHES[func].noise:
            args, kwargs = SWITCHES[func].set(args, kwargs, SWITCHES[func].off)
        args, kwargs = tuple(map(self._widen, args)), {name: self._widen(value) for name, value in kwargs.items()}
        try:
            return func(*args, **kwargs)
        except RuntimeError:  # a hook may hold a tensor that the copy of the model does not: it has the dtype it had
            name = getattr(func, "__name__", "")
            writes = name.endswith("_") and not name.endswith("__")  # what a copy took would be lost
            if writes or not any(self._is_low(value) for value in (*args, *kwargs.values())):
                raise
        return func(*map(self._raised, args), **{name: self._raised(value) for name, value in kwargs.items()})

    def _is_low(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value.dtype in (*LOW, *LOW_COMPLEX) and value.dtype != self.wide

    def _raised(self, value: Any) -> Any:
        return value.to(widened(value.dtype, self.wide)) if self._is_low(value) else value

    def _widen(self, value: Any) -> Any:
        if isinstance(value, torch.dtype):
            return widened(value, self.wide) if value in (*LOW, *LOW_COMPLEX) else value
        return self.wide if isinstance(value, str) and value in NAMES else value


def grouped_product(rows: Tensor, experts: Tensor, *, offs: Tensor | None = None, **others: Any) -> Tensor:
    """Return rows times stacked experts, each expert the rows up to its offset: torch's own has no float64."""
    if rows.dim() != 2 or experts.dim() != 3 or offs is None or any(x is not None for x in others.values()):
        return F.grouped_mm(rows, experts, offs=offs, **others)
    result = rows.new_zeros(rows.shape[0], experts.shape[2])
    start = 0
    for expert, end in zip(experts, offs.tolist(), strict=True):
        result[start:end] = rows[start:end] @ expert
        start = end
    return result


@contextmanager
def exact(seed: int, wide: torch.dtype, *, gradients: bool = False) -> Iterator[Exact]:
    """While active, models compute in `wide`; random numbers come from `seed` and leave the global state alone."""
    default = torch.get_default_dtype()
    with ExitStack() as exits:
        exits.enter_context(global_generators(range(torch.cuda.device_count())))
        exits.enter_context(caches_apart(lambda tensor: tensor.detach().to(widened(tensor.dtype, wide))))
        exits.enter_context(quiet())
        exits.enter_context(eager())
        exits.enter_context(torch.set_grad_enabled(gradients))
        torch.manual_seed(seed)
        exits.enter_context(host_generators())
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.set_default_dtype(wide)
        exits.callback(torch.set_default_dtype, default)
        yield exits.enter_context(Exact(wide))


def copy_in(model: nn.Module, wide: torch.dtype) -> nn.Module:
    """Return a copy of the model with every floating tensor in one dtype: attributes and what stands in dicts too."""
    memo: dict[int, Any] = {}
    for tensor in Reach([model]).tensors:
        if type(tensor) in (Tensor, nn.Parameter):
            value = tensor.detach().to(widened(tensor.dtype, wide), copy=True)
            memo[id(tensor)] = value if type(tensor) is Tensor else nn.Parameter(value, tensor.requires_grad)
            vars(memo[id(tensor)]).update(vars(tensor))
    return copy.deepcopy(model, memo)._apply(lambda tensor: tensor.to(widened(tensor.dtype, wide)))


def widened(dtype: torch.dtype, wide: torch.dtype) -> torch.dtype:
    """Return what a dtype becomes in a computation in `wide`: complex numbers have parts of that dtype.

    >>> widened(torch.float16, torch.float64), widened(torch.complex64, torch.float64)
    (torch.float64, torch.complex128)
    """
    if dtype.is_floating_point:
        return wide
    return wide.to_complex() if dtype.is_complex else dtype


def randomise(model: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """Make vectors, statistics and constant tensors differ from unit to unit, so that a forgotten one shows.

    A tensor of several names is changed once.

    Args:
        model: model to change.
        generator: source of randomness.

    Returns:
        What was changed, by name.
    """
    buffers = {id(buffer) for buffer in model.buffers()}
    changed: dict[int, Tensor] = {}
    state = named_state(model)
    with torch.no_grad():
        for tensor in {id(tensor): tensor for tensor in state.values()}.values():
            if is_number(tensor) and tensor.numel() and _add_noise(tensor, id(tensor) in buffers, generator):
                changed[id(tensor)] = tensor.detach().clone()
    return {name: changed[id(tensor)] for name, tensor in state.items() if id(tensor) in changed}


def _add_noise(tensor: Tensor, buffer: bool, generator: torch.Generator) -> bool:
    if not is_dense(tensor):
        return False
    constant = tensor.dim() == 1 or bool((tensor == tensor.flatten()[0]).all())
    if not constant or (buffer and tensor.dim() != 1):
        return False
    if buffer and tensor.is_floating_point():
        noise = torch.rand(tensor.shape, generator=generator, dtype=torch.float64, device="cpu").to(tensor.device)
        positive = bool((tensor > 0).all())
        tensor.copy_(tensor * (0.5 + noise) if positive else tensor + 0.3 * (noise - 0.5))
    else:
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64, device="cpu")
        tensor.add_(noise.to(tensor.device, tensor.dtype), alpha=0.3)
    return True


def is_number(tensor: Tensor) -> bool:
    """Whether a tensor holds floating or complex numbers."""
    return tensor.is_floating_point() or tensor.is_complex()


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that are free on a device, as far as this is known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        found = [os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found = [int(line.split()[1]) * 1024]
        limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
        if limit.exists() and limit.read_text().strip() != "max":
            found.append(int(limit.read_text()) - int(used.read_text()))
    except (OSError, ValueError, AttributeError):
        return None
    return min(found)
