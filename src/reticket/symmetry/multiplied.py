"""Which parameters multiply activations, and which are tables that rows are looked up in: read from a traced graph.

The rules say which operators multiply, and by which of their arguments. A value that comes of parameters and constants
alone is still a parameter, whatever has turned, cut or scaled it; where it meets an activation in a product, what it
comes of is a weight matrix.
"""

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from reticket.symmetry.filled import check_inputs, check_shaped
from reticket.symmetry.graph import Inputs, Trace, trace
from reticket.symmetry.rules.operator import RegisteredRule, find_rule, has_rule
from reticket.symmetry.untouched import kept

INDEXED = {"aten.index": "indices", "aten._unsafe_index": "indices", "aten.index_select": "index"}


@dataclass(frozen=True)
class Multiplied:
    """The part that each parameter of a model plays, by names of the state_dict; one tensor has one name.

    Args:
        matrices: they multiply activations.
        tables: rows of them are looked up, whatever else they do: an embedding that is the output layer too.
        unclear: an operator without a rule takes them in together with activations.
        others: they are added to activations, scale them, or stand among them, as positions and norms do.
    """

    matrices: tuple[str, ...]
    tables: tuple[str, ...]
    unclear: tuple[str, ...]
    others: tuple[str, ...]


def multiplied(model: nn.Module, example_inputs: Any, kwargs: Mapping[str, Any] | None = None) -> Multiplied:
    """Trace a model in eval mode and return the part that each parameter plays; the model is left as it was.

    Parameters that the graph does not compute with are not in the result.

    Args:
        model: any module that `torch.export` can trace.
        example_inputs: a tensor, a tuple of positional inputs or a dict of keyword inputs.
        kwargs: keyword inputs beside positional ones.

    Raises:
        ModelError: when the model cannot be traced on these inputs.

    >>> net = nn.Sequential(nn.Embedding(9, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    >>> found = multiplied(net, torch.zeros(2, 5, dtype=torch.long))
    >>> found.matrices, found.tables, found.others
    (('2.weight',), ('0.weight',), ('1.weight', '1.bias', '2.bias'))
    """
    check_shaped(model)
    inputs = Inputs.of(example_inputs, kwargs)
    check_inputs(inputs.leaves())
    with kept(model, still=True):
        traced = trace(model, inputs, train=False, known=has_rule)
    own = frozenset(name for name, _ in model.named_parameters(remove_duplicate=False))
    return _Walk(traced, own).result()


@dataclass(frozen=True)
class _Origin:
    """What a value of the graph comes of.

    Args:
        parameters: of these alone, with constants.
        active: of the inputs, or of a product: it is an activation.
    """

    parameters: tuple[str, ...] = ()
    active: bool = False


@dataclass
class _Walk:
    """A walk through a graph in its order."""

    traced: Trace
    own: frozenset[str]
    origins: dict[fx.Node, _Origin] = field(default_factory=dict)
    matrices: dict[str, None] = field(default_factory=dict)
    tables: dict[str, None] = field(default_factory=dict)
    unclear: dict[str, None] = field(default_factory=dict)

    def result(self) -> Multiplied:
        """Return what was found, in the order of the graph's parameters."""
        for node in self.traced.graph.nodes:
            self.origins[node] = self._origin(node)
        used = {node.name for node in self.traced.graph.nodes if node.users}  # one name of a tied tensor has no users
        names = [name for node, name in self.traced.state.items() if name in self.own and node in used]
        parts: dict[str, list[str]] = {"tables": [], "matrices": [], "unclear": [], "others": []}
        for name in dict.fromkeys(names):
            found = (part for part in ("tables", "matrices", "unclear") if name in getattr(self, part))
            parts[next(found, "others")].append(name)
        return Multiplied(**{part: tuple(found) for part, found in parts.items()})

    def _origin(self, node: fx.Node) -> _Origin:
        if node.op == "placeholder":
            name = self.traced.state.get(node.name)
            return _Origin((name,) if name in self.own else (), node.name in self.traced.inputs)  # pyright: ignore
        if node.op != "call_function":
            return _Origin()
        if node.target is operator.getitem:
            return self.origins[node.args[0]]  # pyright: ignore[reportArgumentType]
        entry = find_rule(node.target)
        if entry is None or not isinstance(node.target, torch._ops.OpOverload):
            return self._without_rule(node)
        arguments = _arguments(node)
        if entry.weights or entry.factors or entry.tables:
            return self._product(entry, arguments)
        if (indexed := INDEXED.get(str(node.target).rpartition(".")[0])) or str(node.target) in INDEXED:
            return self._looked_up(arguments, indexed or INDEXED[str(node.target)])
        return self._passed_on(node, whole=entry.structural)

    def _product(self, entry: RegisteredRule, arguments: Mapping[str, Any]) -> _Origin:
        """Weights and tables are known by their place; of factors those that come of parameters, if one does not."""
        for names, found in ((entry.weights, self.matrices), (entry.tables, self.tables)):
            for node in _nodes([arguments.get(name) for name in names]):
                if len(_shape(node)) > 1:  # among the parameters of a recurrent layer stand its biases
                    found.update(dict.fromkeys(self.origins[node].parameters))
        factors = [self.origins[node] for node in _nodes([arguments.get(name) for name in entry.factors])]
        active = any(origin.active for origin in factors)
        found = dict.fromkeys(name for origin in factors for name in origin.parameters)
        if active:
            self.matrices.update(found)
        return _Origin(active=True) if active or not factors else _Origin(tuple(found))

    def _looked_up(self, arguments: Mapping[str, Any], indexed: str) -> _Origin:
        """Rows of a table are activations; whole matrices that are chosen, as of experts, and a new order are not."""
        data, indices = arguments["self"], list(_nodes(arguments[indexed]))
        origin = self.origins[data]
        table = len(_shape(data)) - len(indices) < 2 and (
            any(len(_shape(index)) > 1 for index in indices) or any(self.origins[index].active for index in indices)
        )
        if not table or origin.active:
            return origin
        self.tables.update(dict.fromkeys(origin.parameters))
        return _Origin(active=True)

    def _passed_on(self, node: fx.Node, *, whole: bool) -> _Origin:
        """What rearranges keeps all it is given; of what computes, smaller operands scale and are not the matrix."""
        sources = list(node.all_input_nodes)
        if any(self.origins[source].active for source in sources):
            return _Origin(active=True)
        size = _shape(node).numel()
        same = [source for source in sources if whole or _shape(source).numel() == size]
        return _Origin(tuple(dict.fromkeys(name for source in same for name in self.origins[source].parameters)))

    def _without_rule(self, node: fx.Node) -> _Origin:
        origins = [self.origins[source] for source in node.all_input_nodes]
        found = tuple(dict.fromkeys(name for origin in origins for name in origin.parameters))
        if any(origin.active for origin in origins):
            self.unclear.update(dict.fromkeys(found))
            return _Origin(active=True)
        return _Origin(found)


def _nodes(value: Any) -> Iterator[fx.Node]:
    """Yield the nodes in an argument: itself, or those of a list."""
    if isinstance(value, fx.Node):
        yield value
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for one in value:
            yield from _nodes(one)


def _arguments(node: fx.Node) -> dict[str, Any]:
    """Return what a call is given, by the names of the operator's schema."""
    names = [argument.name for argument in node.target._schema.arguments]  # pyright: ignore
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


def _shape(node: fx.Node) -> torch.Size:
    """Return the shape of a node's first result."""
    value = node.meta.get("val")
    first = value[0] if isinstance(value, tuple | list) and value else value
    return first.shape if isinstance(first, Tensor) else torch.Size()
