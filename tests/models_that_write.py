"""Models that write while they run, each to another place, and what shows that they did."""

import functools
import random
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

TABLES: dict[int, Tensor] = {}
COUNT = 0


@dataclass(frozen=True)
class Writer:
    """A kind of model and the place that it writes to.

    Args:
        build: makes a fresh model, and empties what its kind shares.
        look: returns what stands in that place, as tensors, numbers and containers of them.
    """

    build: Callable[[], nn.Module]
    look: Callable[[nn.Module], Any]


class Net(nn.Module):
    """Two layers, between which `note` may write anything."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 4)
        with torch.no_grad():
            self.b.weight.add_(1)
        self.begin()

    def begin(self) -> None:
        """Make what `note` writes to."""

    def note(self, h: Tensor) -> None:
        """Write, and change nothing of the result."""

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        self.note(h)
        return self.b(h)


def writes(begin: Callable[[Any], None], note: Callable[[Any, Tensor], Any], look: Callable[[Any], Any]) -> Writer:
    """A `Net` of its own class with these two methods."""
    return Writer(lambda: type("Writing", (Net,), {"begin": begin, "note": note})(), look)


class Limited(Net):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.b.weight.clamp_(-0.5, 0.5)
        return super().forward(x)


class LimitedUncounted(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.b.weight.data.clamp_(-0.5, 0.5)
        return super().forward(x)


class Words(Net):
    def begin(self) -> None:
        self.words = nn.Embedding(5, 6, max_norm=0.5)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.words(torch.zeros(x.shape[0], dtype=torch.int64)))


class Normed(Net):
    def begin(self) -> None:
        self.n = nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.n(self.a(x))))


class First(Net):
    """Becomes an instance of another class at its first call, as lazy modules do."""

    def forward(self, x: Tensor) -> Tensor:
        self.__class__ = Net  # type: ignore[assignment]
        return Net.forward(self, x)


class Box:
    def __init__(self) -> None:
        self.content: dict[str, Any] = {"runs": 0}


class Narrow:
    __slots__ = ("runs",)

    def __init__(self) -> None:
        self.runs = 0


@functools.cache
def unbounded(length: int) -> Tensor:
    return torch.linspace(1, 2, length)


@functools.lru_cache(maxsize=4)
def bounded(length: int) -> tuple[Tensor, str]:
    return torch.linspace(1, 2, length), "table"


def fresh_globals() -> nn.Module:
    TABLES.clear()
    unbounded.cache_clear()
    bounded.cache_clear()
    globals()["COUNT"] = 0
    return Shared()


class Shared(Net):
    """Keeps tables where every model finds them."""

    known: dict[int, Tensor]
    last: Tensor | None

    def begin(self) -> None:
        type(self).known, type(self).last = {}, None

    def forward(self, x: Tensor) -> Tensor:
        global COUNT
        COUNT += 1
        length = x.shape[0]
        if length not in TABLES:
            TABLES[length] = torch.linspace(1, 2, length)
        if length not in self.known:
            self.known[length] = torch.linspace(1, 2, length)
        type(self).last = self.known[length]
        table = TABLES[length] + self.known[length] + unbounded(length) + bounded(length)[0]
        return super().forward(x) * table[:, None]


def shared_places(model: nn.Module) -> Any:
    assert isinstance(model, Shared)
    counts = [unbounded.cache_info().currsize, bounded.cache_info().currsize]
    return [TABLES, COUNT, model.known, model.last, counts]


def hooked(hook_of: Callable[[list[Any]], Callable[..., None]]) -> Writer:
    """A model with a hook that writes into a list, which nothing but the hook leads to."""
    seen = list[Any]()

    def build() -> nn.Module:
        model = Net()
        seen.clear()
        model.a.register_forward_hook(hook_of(seen))
        return model

    return Writer(build, lambda model: seen)


class Remembering:
    def __init__(self, seen: list[Any]) -> None:
        self.seen = seen

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.seen.append(output.detach())


def once(seen: list[Any]) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any, output: Tensor) -> None:
        seen.append(module.register_forward_hook(lambda *_: None))

    return hook


def counted() -> Writer:
    """A model whose hook counts in a variable of the function around it."""
    runs = 0

    def hook(*_: Any) -> None:
        nonlocal runs
        runs += 1

    def build() -> nn.Module:
        nonlocal runs
        model, runs = Net(), 0
        model.a.register_forward_hook(hook)
        return model

    return Writer(build, lambda model: runs)


def stateful(build: Callable[[], Any], draw: Callable[[Any], Any], state: Callable[[Any], Any]) -> Writer:
    return writes(
        lambda self: setattr(self, "source", build()),
        lambda self, h: draw(self.source),
        lambda self: state(self.source),
    )


def parameters(model: nn.Module) -> Any:
    return {name: (p, p.requires_grad, p.dtype) for name, p in model.named_parameters()}


def rebound(self: Any, h: Tensor) -> None:
    self.steps = self.steps + 1


class Defaults(Net):
    def remember(self, h: Tensor, runs: list[int] = []) -> list[int]:  # noqa: B006
        runs.append(len(runs))
        return runs

    def note(self, h: Tensor) -> None:
        self.remember(h)


WRITERS: dict[str, Writer] = {
    "parameter-clamped": Writer(Limited, parameters),
    "parameter-clamped-through-data": Writer(LimitedUncounted, parameters),
    "embedding-renormed": Writer(Words, parameters),
    "parameter-frozen": writes(lambda s: None, lambda s, h: s.a.weight.requires_grad_(False), parameters),
    "parameter-given-other-memory": writes(
        lambda s: None, lambda s, h: setattr(s.a.weight, "data", s.a.weight.data * 2), parameters
    ),
    "parameter-attribute": writes(
        lambda s: setattr(s.a.weight, "runs", 0),
        lambda s, h: setattr(s.a.weight, "runs", getattr(s.a.weight, "runs", 0) + 1),
        lambda s: s.a.weight.runs,
    ),
    "statistics": Writer(Normed, lambda model: dict(model.named_buffers())),
    "buffer-in-place": writes(
        lambda s: s.register_buffer("steps", torch.zeros(1)),
        lambda s, h: s.steps.add_(1),
        lambda s: s.steps,
    ),
    "buffer-rebound": writes(
        lambda s: s.register_buffer("steps", torch.zeros(1), persistent=False), rebound, lambda s: s.steps
    ),
    "number": writes(lambda s: setattr(s, "runs", 0), lambda s, h: setattr(s, "runs", s.runs + 1), lambda s: s.runs),
    "new-attribute": writes(lambda s: None, lambda s, h: setattr(s, "h", h.detach()), lambda s: "h" in vars(s)),
    "nested-containers": writes(
        lambda s: setattr(s, "tables", {"by length": [{}, deque([0])], "runs": defaultdict(int)}),
        lambda s, h: (
            s.tables["by length"][0].update({h.shape[0]: torch.ones(1)}),
            s.tables["by length"][1].append(1),
            s.tables["runs"].__setitem__(h.shape[0], 1),
        ),
        lambda s: s.tables,
    ),
    "tensor-in-a-list": writes(
        lambda s: setattr(s, "sums", [torch.zeros(1)]), lambda s, h: s.sums[0].add_(1), lambda s: s.sums
    ),
    "object": writes(
        lambda s: setattr(s, "box", Box()),
        lambda s, h: s.box.content.update(runs=s.box.content["runs"] + 1),
        lambda s: s.box.content,
    ),
    "object-with-slots": writes(
        lambda s: setattr(s, "box", (Narrow(),)),
        lambda s, h: setattr(s.box[0], "runs", s.box[0].runs + 1),
        lambda s: s.box[0].runs,
    ),
    "array": stateful(lambda: np.zeros(2), lambda array: array.__iadd__(1), lambda array: array.tolist()),
    "generator": stateful(
        torch.Generator, lambda g: torch.rand(1, generator=g, device="cpu"), lambda g: g.get_state().clone()
    ),
    "generator-of-python": stateful(lambda: random.Random(1), lambda g: g.random(), lambda g: g.getstate()),
    "generator-of-numpy": stateful(
        lambda: np.random.default_rng(1), lambda g: g.random(), lambda g: str(g.bit_generator.state)
    ),
    # not Python's own: the checks of shapes in tests draw from it
    "global-generator-of-numpy": writes(
        lambda s: None,
        lambda s, h: np.random.rand(),  # noqa: NPY002
        lambda s: np.random.get_state(legacy=False)["state"]["pos"],  # noqa: NPY002
    ),
    "hook-with-a-list": hooked(lambda seen: lambda module, args, output: seen.append(output.detach())),
    "hook-object": hooked(Remembering),
    "hook-that-hooks": Writer(hooked(once).build, lambda model: len(model.a._forward_hooks)),  # type: ignore[union-attr, arg-type]
    "hook-with-a-variable": counted(),
    "default-argument": Writer(Defaults, lambda model: list(Defaults.remember.__defaults__[0])),  # type: ignore[index]
    "shared-places": Writer(fresh_globals, shared_places),
    "class": Writer(First, lambda model: type(model).__name__),
    "default-dtype": writes(
        lambda s: torch.set_default_dtype(torch.float32),
        lambda s, h: torch.set_default_dtype(torch.bfloat16),
        lambda s: torch.get_default_dtype(),
    ),
}
