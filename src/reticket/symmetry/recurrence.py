"""The layers within a recurrent operator, of which torch returns the last one's output alone.

Layer l reads the output of layer l - 1, so the operator is run layer by layer. Where an LSTM projects its hidden units
they stand in no output; its memory, with a cell for each hidden unit, shows them at every step of time.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload

from reticket.symmetry.rules.recurrent import GATES
from reticket.symmetry.terms import Layout, concat

NAMES = frozenset(f"aten::{kind}" for kind in GATES)


@dataclass(frozen=True)
class Recurrence:
    """One layer of a recurrent operator.

    Args:
        node: the operator.
        layer: number of the layer, from 0.
        memory: the cells of an LSTM with a projection instead of its output.
    """

    node: fx.Node
    layer: int
    memory: bool = False

    @property
    def name(self) -> str:
        """What the layer's output, or memory, is called."""
        return f"{'memory' if self.memory else 'layer'}{self.layer}"

    def layout(self, layouts: Mapping[fx.Node, Layout]) -> Layout | None:
        """Return the layout of the layer's output, or memory, from those of the operator's arguments."""
        call = _Call.of(self.node, self.node.args, self.node.kwargs)
        if not all(isinstance(x, fx.Node) and x in layouts for x in (call["input"], *call["params"])):
            return None
        terms = []
        for weights in call.directions(self.layer):
            back = layouts[weights[1]][1]
            terms.append(layouts[weights[-1]][1] if self.memory else back)
        return (*layouts[call["input"]][:2], concat(*terms))


def computed(node: fx.Node, args: Any, kwargs: Any, names: Sequence[str]) -> dict[str, Tensor]:
    """Return the outputs and memories of a recurrent operator's layers, by name, given the values of its arguments."""
    return _Call.of(node, args, kwargs).computed(names)


def computed_in(module: nn.RNNBase, args: Any, kwargs: Any, names: Sequence[str]) -> dict[str, Tensor]:
    """Return the outputs and memories of a recurrent module's layers, by name, for what its forward was given."""
    given = {**dict(zip(("input", "hx"), args, strict=False)), **kwargs}
    return _Call.of_module(module, given["input"], given.get("hx")).computed(names)


def is_layer(operator: str) -> bool:
    """Whether a site's operator is the name of a layer's output, or memory.

    >>> is_layer("layer0"), is_layer("memory12"), is_layer("layer_norm")
    (True, True, False)
    """
    return re.fullmatch(r"(layer|memory)\d+", operator) is not None


def recurrences(node: fx.Node) -> Iterator[Recurrence]:
    """Yield the layers of a recurrent operator, and the memories of those that project; of another operator nothing."""
    target = node.target
    if not isinstance(target, OpOverload) or target._schema.name not in NAMES or target._overloadname != "input":
        return
    call = _Call.of(node, node.args, node.kwargs)
    for layer in range(call["num_layers"]):
        yield Recurrence(node, layer)
        if call.projects:
            yield Recurrence(node, layer, memory=True)


@dataclass(frozen=True)
class _Call:
    """A call of a recurrent operator, its arguments by name: nodes or values."""

    target: Any
    arguments: Mapping[str, Any]

    @classmethod
    def of(cls, node: fx.Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> "_Call":
        names = [argument.name for argument in node.target._schema.arguments]  # pyright: ignore
        return cls(node.target, {**dict(zip(names, args, strict=False)), **kwargs})

    @classmethod
    def of_module(cls, module: nn.RNNBase, data: Tensor, states: Any) -> "_Call":
        """Read what a module's forward was given, as that does."""
        batch = 0 if module.batch_first else 1
        alone = data.dim() == 2
        data = data.unsqueeze(batch) if alone else data
        count = module.num_layers * (2 if module.bidirectional else 1)
        lstm = isinstance(module, nn.LSTM)
        if states is None:
            widths = [module.proj_size or module.hidden_size, module.hidden_size][: 2 if lstm else 1]
            zeros = [data.new_zeros(count, data.shape[batch], width) for width in widths]
            states = zeros if lstm else zeros[0]
        elif alone:
            states = [state.unsqueeze(1) for state in states] if lstm else states.unsqueeze(1)
        arguments = {
            "input": data,
            "hx": states,
            "params": module._flat_weights,
            "has_biases": module.bias,
            "num_layers": module.num_layers,
            "bidirectional": module.bidirectional,
            "batch_first": module.batch_first,
        }
        return cls(getattr(torch.ops.aten, module.mode.lower()).input, arguments)

    def computed(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Run layer by layer as far as the named outputs and memories."""
        data, found = self["input"], dict[str, Tensor]()
        for layer in range(self["num_layers"]):
            if f"memory{layer}" in names:
                found[f"memory{layer}"] = self.memory(layer, data)
            if all(name in found for name in names):
                break
            data = found[f"layer{layer}"] = self.output(layer, data)
        return {name: found[name] for name in names}

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    @property
    def projects(self) -> bool:
        """Whether there is a third matrix, after two weights and their biases, which makes the output smaller."""
        count = self["num_layers"] * (2 if self["bidirectional"] else 1)
        return len(self["params"]) // count == (5 if self["has_biases"] else 3)

    def directions(self, layer: int) -> list[Any]:
        """Return the parameters of a layer, those of each direction on their own."""
        count = 2 if self["bidirectional"] else 1
        each = len(self["params"]) // (self["num_layers"] * count)
        first = layer * count
        return [self["params"][(first + k) * each : (first + k + 1) * each] for k in range(count)]

    def _states(self, rows: slice) -> Any:
        """Return the initial states of some layers and directions, in the form that the operator takes."""
        states = self["hx"]
        return [state[rows] for state in states] if isinstance(states, list | tuple) else states[rows]

    def output(self, layer: int, data: Tensor) -> Tensor:
        """Return a layer's output for what the layer below gave."""
        weights = self.directions(layer)
        rows = slice(layer * len(weights), (layer + 1) * len(weights))
        flat = [tensor for direction in weights for tensor in direction]
        return self._run(data, self._states(rows), flat, bool(self["bidirectional"]))[0]

    def memory(self, layer: int, data: Tensor) -> Tensor:
        """Return the cells of a layer after every step of time, forwards and then backwards where it has both."""
        time, found = (1 if self["batch_first"] else 0), []
        for k, weights in enumerate(self.directions(layer)):
            row = layer * (2 if self["bidirectional"] else 1) + k
            states, cells = self._states(slice(row, row + 1)), dict[int, Tensor]()
            steps = range(data.shape[time])
            for step in steps if k == 0 else reversed(steps):
                _, *states = self._run(data.narrow(time, step, 1), list(states), weights, bidirectional=False)
                cells[step] = states[1][0]
            found.append(torch.stack([cells[step] for step in steps], dim=time))
        return torch.cat(found, dim=-1)

    def _run(self, data: Tensor, states: Any, weights: Sequence[Any], bidirectional: bool) -> Any:
        """Run the operator with one layer, without dropout."""
        biases, batch_first = self["has_biases"], self["batch_first"]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="RNN module weights")  # cuDNN's, on weights in several pieces
            return self.target(data, states, weights, biases, 1, 0.0, False, bidirectional, batch_first)
