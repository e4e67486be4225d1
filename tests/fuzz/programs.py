"""Random networks as programs: every choice is drawn from a short list, every line is tried before it is kept.

The sizes are few and small, so that axes which have nothing to do with each other have one length, one atom stands on
several axes of a tensor, and views merge axes in every order. A program is text that runs as it stands.
"""

import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")
LARGEST = 1300
Choose = Callable[[Sequence[Any]], Any]

TEMPLATE = """import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        {init}

    def forward(self, x):
        {forward}
"""


Step = Callable[["Writer"], str]


@dataclass(frozen=True)
class Program:
    """A random network.

    Args:
        source: text of a module that defines `Net`.
        shape: shape of its one input.
        free: whether all axes of inputs and outputs may move as well.
    """

    source: str
    shape: tuple[int, ...]
    free: bool

    def build(self) -> nn.Module:
        """Run the text and build the network from a fixed seed."""
        torch.manual_seed(0)
        space: dict[str, Any] = {}
        exec(self.source, space)
        return space["Net"]()

    def example(self) -> Tensor:
        """An input of the network."""
        return torch.linspace(-2, 2, math.prod(self.shape)).mul(7).sin().reshape(self.shape)

    def __str__(self) -> str:
        free = "[f'input0:{i}' for i in range(x.dim())]" if self.free else "[]"
        return (
            f"{self.source}\n\nfrom reticket import discover, verify\n\ntorch.manual_seed(0)\nmodel = Net()\n"
            f"x = torch.linspace(-2, 2, {math.prod(self.shape)}).mul(7).sin().reshape({self.shape})\n"
            f"sym = discover(model, x, verify=False, free={free})  # and free the outputs where 'free' is not empty\n"
            f"print(*map(sym.explain, sym.layouts), sep='\\n')\nverify(sym, model, x)\n"
        )


class Writer:
    """Writes a program line by line, running each line on real tensors to learn its shape and whether it works."""

    def __init__(self, choose: Choose, sizes: Sequence[int]) -> None:
        self.choose, self.sizes = choose, sizes
        self.init: list[str] = []
        self.forward: list[str] = []
        self.values: dict[str, Tensor] = {}
        self.module = nn.Module()
        self.numbers = torch.Generator().manual_seed(0)
        self.count = itertools.count()

    def value(self, least: int = 1) -> str:
        """Name of a tensor with at least this many axes, mostly a recent one."""
        names = [name for name, value in self.values.items() if value.dim() >= least] or ["x"]
        return self.choose(names[-3:] if self.choose((True, True, False)) else names)

    def like(self, name: str, same: Callable[[Tensor, Tensor], bool]) -> str:
        """Name of a tensor that fits another one; itself if there is none."""
        own = self.values[name]
        return self.choose([other for other, value in self.values.items() if same(own, value)] or [name])

    def axis(self, name: str) -> int:
        """An axis of a tensor."""
        return self.choose(range(self.values[name].dim()))

    def parameter(self, *shape: int) -> str:
        """A parameter of this shape, sometimes one that is there already."""
        old = [name for name, p in self.module.named_parameters() if tuple(p.shape) == shape]
        if old and self.choose((True, False, False)):
            return f"self.{self.choose(old)}"
        name = f"p{next(self.count)}"
        self.module.register_parameter(name, nn.Parameter(torch.randn(shape, generator=self.numbers)))
        self.init.append(f"self.{name} = nn.Parameter(torch.randn{shape})")
        return f"self.{name}"

    def submodule(self, text: str) -> str:
        """A module, given as the text that makes it."""
        name = f"m{next(self.count)}"
        self.module.add_module(name, eval(text, {"nn": nn}))
        self.init.append(f"self.{name} = {text}")
        return f"self.{name}"

    def keep(self, expression: str) -> bool:
        """Add a line if it runs and its result is of a usable size; shrink what has grown too large."""
        space = {"torch": torch, "F": torch.nn.functional, "self": self.module, **self.values}
        try:
            result = eval(expression, space)
        except (RuntimeError, IndexError, ValueError, TypeError):
            return False
        results = list(result) if isinstance(result, tuple | list) else [result]
        if not all(0 < r.numel() <= LARGEST and r.dim() <= 5 and bool(r.isfinite().all()) for r in results):
            return False
        names = [f"v{next(self.count)}" for _ in results]
        line = f"{', '.join(names)}{',' if isinstance(result, tuple | list) else ''} = {expression}"
        self.forward.append(line)
        for name, value in zip(names, results, strict=True):
            scale = float(value.detach().abs().max())
            if scale > 4:
                self.forward.append(f"{name} = {name} * {2 / scale:.2g}")
                value = value * float(f"{2 / scale:.2g}")
            self.values[name] = value.detach()
        return True


def write_program(
    choose: Choose,
    steps: Sequence[Step],
    *,
    first: Sequence[Step] = (),
    longest: int = 14,
    sizes: Sequence[int] = (2, 3, 4, 6),
    dims: Sequence[int] = (2, 3, 3, 4),
) -> Program:
    """Draw a program of some of the `first` steps and up to `longest` of the others."""
    writer = Writer(choose, sizes)
    shape = tuple(choose(sizes) for _ in range(choose(dims)))
    writer.values["x"] = torch.randn(shape, generator=writer.numbers)
    with torch.no_grad():
        for step in first[: choose(range(len(first) + 1))]:
            writer.keep(step(writer))
        for _ in range(choose(range(3, longest + 1))):
            writer.keep(choose(steps)(writer))
        outputs = [_output(writer, name) for name in list(writer.values)[-choose((1, 2, 3)) :]]
    lines = _alive(writer.forward, f"return [{', '.join(outputs)}]")
    init = [line for line in writer.init if re.search(rf"\b{line.split(' =')[0]}\b", " ".join(lines))]
    source = TEMPLATE.format(init="\n        ".join(init or ["pass"]), forward="\n        ".join(lines))
    return Program(source, shape, choose((False, False, True)))


def _alive(lines: Sequence[str], last: str) -> list[str]:
    """The lines that the last one needs."""
    used, kept = set(re.findall(r"\bv\d+\b", last)), [last]
    for line in reversed(lines):
        target, _, _ = line.partition(" = ")
        if used & set(re.findall(r"\bv\d+\b", target)):
            used |= set(re.findall(r"\bv\d+\b", line))
            kept.append(line)
    return kept[::-1]


def _output(writer: Writer, name: str) -> str:
    """Read a value out; away from zero, so that rounding stays small beside it."""
    value = writer.values[name]
    kind = writer.choose(("sum", "sum", "linear", "linear", "weighted", "plain"))
    if kind == "plain" or value.dim() == 0:
        return f"{name} + 3.0"
    if kind == "sum":
        axes = [axis for axis in range(value.dim()) if writer.choose((True, True, False))]
        return f"{name}.tanh().sum({axes}) + 9.0" if axes else f"{name} * {name} + 3.0"
    if kind == "linear":
        axis = writer.choose(range(value.dim()))
        return f"{name}.movedim({axis}, -1) @ {writer.parameter(value.shape[axis], 2)} + 9.0"
    return f"{name}.reshape({len(value)}, -1) @ torch.arange(1.0, {value[0].numel() + 1}) + 9.0"
