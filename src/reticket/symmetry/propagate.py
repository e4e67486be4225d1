"""Walk a traced graph, ask the rule of every operator, and collect what was found."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensor

from reticket.dense import is_dense
from reticket.symmetry.cause import Cause
from reticket.symmetry.graph import Trace, cause_of
from reticket.symmetry.reading import OperatorReading, ReadingAnalysis, layouts_of
from reticket.symmetry.rules.operator import Operator, Refusal, find_rule, fixed, is_layout
from reticket.symmetry.terms import Fixed, Key, Layout, Uniform, shape_of
from reticket.symmetry.unify import Solver


@dataclass
class Propagation:
    """What walking one graph found.

    Args:
        values: layout of every tensor in the graph, by node.
        graph: the graph.
        steps: how every operator reads its arguments, by node.
        spaces: iteration spaces of the operators that have one.
        alone: layouts of the tensors of operators without one.
        unknown: operators without a rule.
    """

    graph: fx.Graph
    values: dict[fx.Node, Any] = field(default_factory=dict)
    steps: dict[fx.Node, OperatorReading] = field(default_factory=dict)
    spaces: list[Layout] = field(default_factory=list)
    alone: list[Layout] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def keys_read(self, solver: Solver) -> frozenset[Key]:
        """Return the keys of all atoms that something returned or kept depends on."""
        return ReadingAnalysis(solver, self.values, self.steps).keys(self.graph)

    def tensors(self) -> list[Layout]:
        """Return the layouts of all tensors of the graph and of all iteration spaces."""
        return [layout for value in self.values.values() for layout in layouts_of(value)] + self.spaces


def propagate(
    trace: Trace,
    solver: Solver,
    state: Mapping[str, Layout],
    inputs: Callable[[int, tuple[int, ...]], Layout],
    output: Callable[[int, Layout], None],
) -> Propagation:
    """Give every tensor of the graph a layout and every equality of its operators to the solver.

    Args:
        trace: the graph.
        solver: where equalities go.
        state: layouts of the state_dict's tensors.
        inputs: layout of the user's input number i, of the given shape.
        output: called with the layout of the model's output number i.
    """
    found = Propagation(trace.graph)
    for node in trace.graph.nodes:
        if node.op == "placeholder":
            found.values[node] = _placeholder(node, trace, state, inputs)
        elif node.op == "output":
            _outputs(node, trace, found, solver, state, output)
        else:
            found.values[node] = _call(node, found, solver)
    return found


def _placeholder(
    node: fx.Node, trace: Trace, state: Mapping[str, Layout], inputs: Callable[[int, tuple[int, ...]], Layout]
) -> Any:
    if node.name in trace.state:
        return state[trace.state[node.name]]
    if node.name in trace.constants:
        written = {spec for spec, name in trace.mutated.items() if name is None}
        return constant_layout(trace.constants[node.name], _shape(node), known=not written)
    shape = _shape(node)
    return None if shape is None else inputs(trace.inputs.index(node.name), shape)


def _shape(node: fx.Node) -> tuple[int, ...] | None:
    value = node.meta.get("val")
    return tuple(map(int, value.shape)) if isinstance(value, Tensor) else None


def constant_layout(value: Tensor | None, shape: tuple[int, ...] | None, *, known: bool = True) -> Layout | None:
    """Return the layout of a constant: uniform along an axis where its values do not vary, otherwise fixed."""
    if shape is None:
        return None
    unknown = value is None or isinstance(value, FakeTensor) or value.is_meta or not is_dense(value)
    if value is None or unknown or not known or 0 in shape:
        return fixed(shape)
    same = [n > 1 and bool((value == value.narrow(axis, 0, 1)).all()) for axis, n in enumerate(shape)]
    return tuple(Uniform(n) if uniform else Fixed(n) for n, uniform in zip(shape, same, strict=True))


def _call(node: fx.Node, found: Propagation, solver: Solver) -> Any:
    if node.op == "call_function" and node.target is operator.getitem:
        source, index = node.args
        assert isinstance(source, fx.Node)
        assert isinstance(index, int)
        values = found.values[source]
        return values[index] if isinstance(values, list) else values
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return _unknown(node, found, solver, f"no rule for {node.target}") if node.op != "get_attr" else None
    entry = find_rule(node.target)
    if entry is None:
        return _unknown(node, found, solver, f"no rule for {node.target}: add one with reticket.symmetry.rule")
    call = Operator.read(node, found.values, solver)
    operands = _layouts(node, found)
    if not (entry.structural or (entry.pointwise and len(operands) == 1)):
        solver.confirm_splits([term for layout in operands for term in layout])
    try:
        result = entry.function(call)
    except Refusal as refusal:
        return _unknown(node, found, solver, f"the rule does not cover this call: {refusal}")
    found.spaces.extend(call.spaces)
    found.steps[node] = OperatorReading(entry.structural, next(iter(call.spaces), None), tuple(call.read_whole))
    if not entry.structural and not call.spaces:
        found.alone.extend([*operands, *layouts_of(result)])
    _check(node, call, result)
    return result


def _check(node: fx.Node, call: Operator, result: Any) -> None:
    results = [result] if is_layout(result) else result or []
    for layout, shape in zip(results, call.shapes(), strict=False):
        assert layout is None or shape is None or shape_of(layout) == shape, (
            f"rule of {node.target}: {layout} for {shape}"
        )


def _layouts(node: fx.Node, found: Propagation) -> list[Layout]:
    return [layout for source in node.all_input_nodes for layout in layouts_of(found.values.get(source))]


def _unknown(node: fx.Node, found: Propagation, solver: Solver, reason: str) -> Any:
    cause = cause_of(node, reason)
    layouts = _layouts(node, found)
    for term in (term for layout in layouts for term in layout):
        solver.pin(term, cause)
    found.steps[node] = OperatorReading(opaque=True)
    value = node.meta.get("val")
    if layouts or isinstance(value, Tensor | tuple | list):  # a calculation with plain numbers has no axes
        found.unknown.append(str(node.target))
    if isinstance(value, tuple | list):
        return [fixed(v.shape) if isinstance(v, Tensor) else None for v in value]
    return fixed(value.shape) if isinstance(value, Tensor) else None


def _outputs(
    node: fx.Node,
    trace: Trace,
    found: Propagation,
    solver: Solver,
    state: Mapping[str, Layout],
    output: Callable[[int, Layout], None],
) -> None:
    results = node.args[0]
    assert isinstance(results, tuple | list)
    for index, result in enumerate(results):
        layout = found.values.get(result) if isinstance(result, fx.Node) else None  # pyright: ignore
        if not is_layout(layout):
            continue
        if index in trace.results:
            output(trace.results.index(index), layout)
        elif (name := trace.mutated.get(index)) is not None:
            cause = Cause(f"the buffer {name} is overwritten by this value")
            for left, right in zip(state[name], solver.instantiate(layout), strict=True):
                solver.unify(left, right, cause)
        else:
            for term in layout:
                solver.pin(term, Cause("the value is written to an input or to a tensor that no state_dict holds"))
