"""Recurrent layers and cells: the hidden units of each layer and direction move together, time does not move."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx

from reticket.symmetry.graph import cause_of
from reticket.symmetry.positions import stacked
from reticket.symmetry.rules.operator import Operator, is_layout, rule
from reticket.symmetry.terms import Fixed, Layout, Term, concat

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
HIDDEN = "every gate of a recurrent layer has one position for each hidden unit"
READ = "the features a recurrent layer reads"
TIME = "a recurrent layer runs along this axis in order"
STATES = "the states of all layers and directions stand in one tensor"


@dataclass(frozen=True)
class Direction:
    """What one layer has in one direction: the term of its output (and of its hidden state), and of its memory."""

    output: Term
    memory: Term


@rule(*(f"aten.{kind}.input" for kind in GATES), weights=("params",))
def recurrent(op: Operator) -> list[Layout]:
    """h_t = cell(x_t, h_(t-1)) for every layer, forwards and, if asked for, backwards in time."""
    data = op.layout("input")
    time, batch = (1, 0) if op["batch_first"] else (0, 1)
    op.pin(data[time], TIME)
    features, cells = data[2], list[Direction]()
    directions = 2 if op["bidirectional"] else 1
    layers = iter(_layers(op))
    for _ in range(op["num_layers"]):
        pair = [_cell(op, features, next(layers)) for _ in range(directions)]
        cells += pair
        features = op.solver.resolve(concat(*(cell.output for cell in pair)))
    states = op["hx"] if isinstance(op["hx"], list) else [op["hx"]]
    units = [[cell.output for cell in cells], [cell.memory for cell in cells]]
    finals = [_state(op, states[i], units[i], data[batch]) for i in range(len(states))]
    rows, steps = op.solver.resolve(data[batch]), Fixed(data[time].size)
    outer = (rows, steps) if op["batch_first"] else (steps, rows)
    return [(*outer, op.solver.resolve(features)), *finals]


def _layers(op: Operator) -> list[list[Layout]]:
    """Cut the list of parameters into those of each layer and direction."""
    params = [op.solver.instantiate(layout) for layout in op["params"]]
    count = op["num_layers"] * (2 if op["bidirectional"] else 1)
    each = len(params) // count
    return [params[i * each : (i + 1) * each] for i in range(count)]


def _kind(node: fx.Node) -> str:
    return node.target._schema.name.removeprefix("aten::").removesuffix("_cell")  # pyright: ignore


def _cell(op: Operator, features: Term, params: Sequence[Layout]) -> Direction:
    """Unify what one layer reads, its gates and its recurrent weights.

    `weight_ih` is (gates * h, features), `weight_hh` (gates * h, output), a bias (gates * h); where a matrix
    (output, h) comes last the output is a projection of the hidden units, otherwise it is the hidden units themselves.
    """
    inward, back, *others = params
    gates = GATES[_kind(op.node)]
    op.equal(features, inward[1], READ)
    biases = [layout for layout in others if len(layout) == 1]
    hidden = _gate(op, inward[0], gates)
    for layout in (back, *biases):
        op.equal(hidden, _gate(op, layout[0], gates), HIDDEN)
    output = hidden
    for projection in (layout for layout in others if len(layout) == 2):
        op.equal(hidden, projection[1], "the hidden units that the projection reads")
        output = projection[0]
    op.equal(output, back[1], "the recurrent weights read the output of the step before")
    op.reads(features, hidden, output)
    return Direction(op.solver.resolve(output), op.solver.resolve(hidden))


def _gate(op: Operator, term: Term, gates: int) -> Term:
    """Return what all gates along an axis of gates * h have in common."""
    rest, first = term, None
    for left in range(gates, 0, -1):
        piece, rest = op.cut(rest, rest.size // left, HIDDEN)
        first = piece if first is None else op.equal(first, piece, HIDDEN)
    assert first is not None
    return first


def _state(op: Operator, given: Layout, units: Sequence[Term], batch: Term) -> Layout:
    """Unify the initial state with the units of every cell and return the final one.

    Both are (layers * directions, batch, units). Each cell reads its own row, so that a uniform state asks for nothing;
    of the final states each row has the units of its cell.
    """
    stack, rows, _ = op.solver.instantiate(given)
    op.pin(stack, STATES)
    op.equal(rows, batch, "one initial state for each sequence")
    for own in units:
        (entries,) = op.solver.instantiate((given[2],))
        op.equal(entries, own, "the initial state has one entry for each unit")
    finals = [op.solver.layout((batch, own)) for own in units]
    return stacked(op.solver, finals, 0, cause_of(op.node, STATES))


@rule(*(f"aten.{kind}_cell" for kind in GATES), weights=("w_ih", "w_hh"))
def cell(op: Operator) -> Layout | list[Layout]:
    """One step: h = cell(x, h)."""
    data = op.layout("input")
    params = [op.layout(name) for name in ("w_ih", "w_hh", "b_ih", "b_hh") if is_layout(op[name])]
    unit = _cell(op, data[1], params).output
    rows = data[0]
    for state in op["hx"] if isinstance(op["hx"], list) else [op["hx"]]:
        own, units = op.solver.instantiate(state)
        op.equal(rows, own, "one state for each sequence")
        op.equal(unit, units, "the state has one entry for each unit")
    result = (op.solver.resolve(rows), op.solver.resolve(unit))
    return [result, result] if len(op.shapes()) == 2 else result
