"""Random networks as programs: every choice is drawn from a short list, every line is tried before it is kept.

The sizes are few and small, so that axes which have nothing to do with each other have one length, one atom stands on
several axes of a tensor, and views merge axes in every order. A program is text that runs as it stands. Of many, one
axis of the input may have other lengths: every line of theirs runs at these too.
"""

import itertools
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tests.fuzz import stateful

LARGEST = 1300
Choose = Callable[[Sequence[Any]], Any]
Shape = tuple[int, ...]

TEMPLATE = """import torch
import torch.nn.functional as F
from torch import nn
from tests.fuzz import stateful


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
        init: lines that make its parameters and modules.
        lines: lines of its `forward` but the last.
        outputs: what it returns.
        shape: shape of its one input.
        free: whether all axes of inputs and outputs may move as well.
        others: further shapes of the input at which it runs.
    """

    init: tuple[str, ...]
    lines: tuple[str, ...]
    outputs: tuple[str, ...]
    shape: Shape
    free: bool = False
    others: tuple[Shape, ...] = ()

    @property
    def source(self) -> str:
        """Text of a module that defines `Net`."""
        last = f"return [{', '.join(self.outputs)}]"
        lines = _alive(self.lines, last)
        made = _alive(self.init, " ".join(lines), r"self\.\w+")[:-1]
        return TEMPLATE.format(init="\n        ".join(made or ["pass"]), forward="\n        ".join(lines))

    def build(self) -> nn.Module:
        """Run the text and build the network from a fixed seed."""
        torch.manual_seed(0)
        space: dict[str, Any] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the older weight norm is deprecated, and in use
            exec(self.source, space)
            return space["Net"]()

    def example(self, shape: Shape | None = None) -> Tensor:
        """An input of the network, of its own shape or of another one."""
        shape = self.shape if shape is None else shape
        return torch.linspace(-2, 2, math.prod(shape)).mul(7).sin().reshape(shape)

    def smaller(self) -> Iterator["Program"]:
        """Yield programs with one output, or with one line left out and one of its arguments in its place."""
        if len(self.outputs) > 1:
            yield from (replace(self, outputs=(output,)) for output in self.outputs)
        for i, line in enumerate(self.lines):
            target, _, expression = line.partition(" = ")
            for name in dict.fromkeys(re.findall(r"\bv\d+\b|\bx\b", expression)):
                if name not in target:
                    names = re.compile(rf"\b({'|'.join(re.findall(r'v[0-9]+', target))})\b")
                    lines, outputs = (
                        tuple(names.sub(name, text) for text in texts) for texts in (self.lines[i + 1 :], self.outputs)
                    )
                    yield replace(self, lines=self.lines[:i] + lines, outputs=outputs)

    def __str__(self) -> str:
        free = "[f'input0:{i}' for i in range(x.dim())]" if self.free else "[]"
        others = f"  # and of {', '.join(map(str, self.others))}" if self.others else ""
        return (
            f"{self.source}\n\nfrom reticket import discover, verify\n\ntorch.manual_seed(0)\nmodel = Net()\n"
            f"x = torch.linspace(-2, 2, {math.prod(self.shape)}).mul(7).sin().reshape({self.shape}){others}\n"
            f"sym = discover(model, x, verify=False, free={free})  # and free the outputs where 'free' is not empty\n"
            f"print(*map(sym.explain, sym.layouts), sep='\\n')\nverify(sym, model, x)\n"
        )


class Writer:
    """Writes a program line by line, running each line on real tensors to learn its shape and whether it works.

    Args:
        choose: draws one of several.
        sizes: lengths of axes.
        shape: shape of the input.
        others: further shapes of the input at which every line has to run.
    """

    def __init__(self, choose: Choose, sizes: Sequence[int], shape: Shape, others: Sequence[Shape] = ()) -> None:
        self.choose, self.sizes = choose, sizes
        self.init: list[str] = []
        self.forward: list[str] = []
        self.module = nn.Module()
        self.numbers = torch.Generator().manual_seed(0)
        self.count = itertools.count()
        self.values = {"x": torch.randn(shape, generator=self.numbers)}
        self.others = [{"x": torch.randn(other, generator=self.numbers)} for other in others]

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
        """A parameter of this shape, sometimes one that is there already, sometimes that under a further name."""
        named = [name for name, p in self.module.named_parameters() if tuple(p.shape) == shape]
        old = [name for name in named if all(map(str.isidentifier, name.split(".")))]
        if old and self.choose((True, False, False)):
            name = self.choose(old)
            return self._again(name) if self.choose((True, False)) else f"self.{name}"
        name = f"p{next(self.count)}"
        self.module.register_parameter(name, nn.Parameter(torch.randn(shape, generator=self.numbers)))
        self.init.append(f"self.{name} = nn.Parameter(torch.randn({shape}))")
        return f"self.{name}"

    def _again(self, old: str) -> str:
        """A further name of a parameter: of the same object, or of another one that shares its memory."""
        name, kept = f"q{next(self.count)}", self.module.get_parameter(old)
        kind = self.choose(("object", "memory", "buffer"))
        if kind == "buffer":
            self.module.register_buffer(name, kept.data)
            self.init.append(f"self.{name} = nn.Buffer(self.{old}.data)")
        else:
            self.module.register_parameter(name, kept if kind == "object" else nn.Parameter(kept.data))
            made = f"self.{old}" if kind == "object" else f"nn.Parameter(self.{old}.data)"
            self.init.append(f"self.{name} = {made}")
        return f"self.{name}"

    def submodule(self, text: str) -> str:
        """A module, given as the text that makes it."""
        name = f"m{next(self.count)}"
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            torch.manual_seed(0)
            self.module.add_module(name, eval(text, {"nn": nn, "stateful": stateful}))
        self.init.append(f"self.{name} = {text}")
        return f"self.{name}"

    def results(self, expression: str) -> list[Any]:
        """What an expression gives at every shape, nothing if it does not run or its size is of no use."""
        found: list[Any] = []
        for values in (self.values, *self.others):
            space = {"torch": torch, "F": torch.nn.functional, "self": self.module, **values}
            try:
                found.append(eval(expression, space))
            except (RuntimeError, IndexError, ValueError, TypeError):
                return []
            results = _several(found[-1])
            if not all(0 < r.numel() <= LARGEST and r.dim() <= 5 and bool(r.isfinite().all()) for r in results):
                return []
            if [r.dim() for r in results] != [r.dim() for r in _several(found[0])]:
                return []
        return found

    def keep(self, expression: str) -> bool:
        """Add a line if it runs and its result is of a usable size; shrink what has grown too large."""
        found = self.results(expression)
        if not found:
            return False
        names = [f"v{next(self.count)}" for _ in _several(found[0])]
        comma = "," if isinstance(found[0], tuple | list) else ""
        self.forward.append(f"{', '.join(names)}{comma} = {expression}")
        for i, name in enumerate(names):
            scale = float(_several(found[0])[i].detach().abs().max())
            factor = f"{2 / scale:.2g}" if scale > 4 else ""
            if factor:
                self.forward.append(f"{name} = {name} * {factor}")
            for values, result in zip((self.values, *self.others), found, strict=True):
                values[name] = _several(result)[i].detach() * float(factor or 1)
        return True


def _several(result: Any) -> list[Tensor]:
    return list(result) if isinstance(result, tuple | list) else [result]


def write_program(
    choose: Choose,
    steps: Sequence[Step],
    *,
    first: Sequence[Step] = (),
    longest: int = 14,
    sizes: Sequence[int] = (2, 3, 4, 6),
    dims: Sequence[int] = (2, 3, 3, 4),
    lengths: bool = False,
) -> Program:
    """Draw a program of some of the `first` steps and up to `longest` of the others, with `lengths` some of several."""
    shape = tuple(choose(sizes) for _ in range(choose(dims)))
    others = tuple(_longer_and_shorter(choose, shape)) if lengths and choose((True, True, True, False)) else ()
    free = not others and choose((False, False, True))
    writer = Writer(choose, sizes, shape, others)
    with torch.no_grad():
        for step in first[: choose(range(len(first) + 1))]:
            writer.keep(step(writer))
        for _ in range(choose(range(3, longest + 1))):
            writer.keep(choose(steps)(writer))
        outputs = [_output(writer, name) for name in list(writer.values)[-choose((1, 2, 3)) :]]
    return Program(tuple(writer.init), tuple(writer.forward), tuple(outputs), shape, free, others)


def _longer_and_shorter(choose: Choose, shape: Shape) -> Iterator[Shape]:
    """Two other lengths of one axis: the next longer one, and a shorter one or one that is longer still."""
    axis = choose(range(len(shape)))
    for size in (shape[axis] + 1, max(1, shape[axis] + choose((-1, -1, 2)))):
        yield tuple(size if i == axis else n for i, n in enumerate(shape))


def _alive(lines: Sequence[str], last: str, names: str = r"\bv\d+\b") -> list[str]:
    """The lines that the last one needs, and it."""
    used, kept = set(re.findall(names, last)), [last]
    for line in reversed(lines):
        target, _, _ = line.partition(" = ")
        if used & set(re.findall(names, target)):
            used |= set(re.findall(names, line))
            kept.append(line)
    return kept[::-1]


def _output(writer: Writer, name: str) -> str:
    """Read a value out; away from zero, so that rounding stays small beside it."""
    value = writer.values[name]
    kind = writer.choose(("sum", "sum", "linear", "linear", "weighted", "plain"))
    plain = f"{name} + 3.0"
    if kind == "plain" or value.dim() == 0:
        return plain
    if kind == "sum":
        axes = [axis for axis in range(value.dim()) if writer.choose((True, True, False))]
        return f"{name}.tanh().sum({axes}) + 9.0" if axes else f"{name} * {name} + 3.0"
    if kind == "linear":
        axis = writer.choose(range(value.dim()))
        written = f"{name}.movedim({axis}, -1) @ {writer.parameter(value.shape[axis], 2)} + 9.0"
    else:
        written = f"{name}.reshape({len(value)}, -1) @ torch.arange(1.0, {value[0].numel() + 1}) + 9.0"
    return written if writer.results(written) else plain
