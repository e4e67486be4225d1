"""A small network around one operator: all axes of what the operator reads are made by weights, and read by weights.

Operand number i is x[b, t, c] = sum_jk tokens_i[t, j] input_i[b, j, k] units_i[c, k], so that its tokens and its units
may stand in any order; every axis of a result but the first, the batch, is contracted with a weight of its own.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH = 16  # so that comparisons of few tokens do not agree by accident


@dataclass(frozen=True)
class Case:
    """One use of an operator.

    Args:
        function: maps operands of shape (batch, tokens, units), then the further parameters, to one or more tensors.
        operands: how many operands, each with tokens and units of its own.
        sizes: tokens and units; primes, unless the operator asks for others, so that no half of them can be exchanged
            for the other half by accident.
        further: shapes of further parameters, all of whose axes may move.
        batch: whether the first axis of every result is the batch, which is given and does not move.
    """

    function: Callable[..., Any]
    operands: int = 1
    sizes: tuple[int, int] = (3, 5)
    further: Sequence[tuple[int, ...]] = ()
    batch: bool = True


@dataclass(frozen=True)
class Operator:
    """An operator and its uses, one for each role that an axis can have in it.

    Args:
        name: as the user writes it.
        cases: the uses.
    """

    name: str
    cases: tuple[Case, ...] = field(default=())


def table(cases: Mapping[str, Any], **given: Any) -> list[Operator]:
    """Return operators from functions or cases, one or a list for each; `given` are fields of all these cases."""
    found = []
    for name, value in cases.items():
        uses = value if isinstance(value, list) else [value]
        found.append(Operator(name, tuple(use if isinstance(use, Case) else Case(use, **given) for use in uses)))
    return found


def shaped(function: Callable[..., Any], *further: tuple[int, ...], **given: Any) -> Case:
    """Return a case whose function takes further parameters of these shapes."""
    return Case(function, further=further, **given)


class Net(nn.Module):
    """The network of a case; parameters and inputs are drawn in float64 from a seed."""

    def __init__(self, case: Case, seed: int = 0) -> None:
        super().__init__()
        self.case = case
        generator = torch.Generator().manual_seed(seed)

        def drawn(*shape: int) -> Tensor:
            return torch.randn(*shape, dtype=torch.float64, generator=generator)

        tokens, units = case.sizes
        for i in range(case.operands):
            self.register_parameter(f"tokens{i}", nn.Parameter(drawn(tokens, 2)))
            self.register_parameter(f"units{i}", nn.Parameter(drawn(units, 3)))
        for i, shape in enumerate(case.further):
            self.register_parameter(f"further{i}", nn.Parameter(drawn(*shape)))
        self.inputs = tuple(drawn(BATCH, 2, 3) for _ in range(case.operands))
        self.sources = {name: (0,) for name in self._parameters if not name.startswith("further")}
        self.sources |= {f"further{i}": tuple(range(len(shape))) for i, shape in enumerate(case.further)}
        with torch.no_grad():
            shapes = [result.shape for result in self.results(dict(self.named_parameters()))]
        self.readers = [{a: f"reader{i}_{a}" for a in self._read(shape)} for i, shape in enumerate(shapes)]
        for shape, names in zip(shapes, self.readers, strict=True):
            for axis, name in names.items():
                self.register_parameter(name, nn.Parameter(drawn(2, shape[axis])))

    def _read(self, shape: Sequence[int]) -> Iterator[int]:
        return (axis for axis, size in enumerate(shape) if size > 1 and (axis > 0 or not self.case.batch))

    def results(self, state: Mapping[str, Tensor], inputs: Sequence[Tensor] | None = None) -> list[Tensor]:
        """Return what the operator makes, before it is read."""
        operands = [
            F.linear(F.linear(x, state[f"units{i}"]).transpose(1, 2), state[f"tokens{i}"]).transpose(1, 2)
            for x, i in zip(self.inputs if inputs is None else inputs, count())
        ]
        found = self.case.function(*operands, *(state[f"further{i}"] for i in range(len(self.case.further))))
        return [y.to(torch.float64) for y in (found if isinstance(found, tuple | list) else [found])]

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        read = []
        for result, names in zip(self.results(self._parameters, inputs), self.readers, strict=True):  # pyright: ignore
            y = result
            for axis, name in names.items():
                y = F.linear(y.transpose(axis, -1), self._parameters[name]).transpose(axis, -1)  # pyright: ignore
            read.append(y)
        return read
