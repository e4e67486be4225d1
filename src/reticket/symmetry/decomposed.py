"""Operators without a rule taken apart into operators that have one, by the decompositions of `torch.export`.

An operator with a rule is never taken apart: what it is made of may say less than its rule does (the order of the
tokens in an attention, the units of a recurrent layer), and its name is what `explain` shows.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import fx
from torch._ops import OpOverload
from torch.export import ExportedProgram, default_decompositions

DEPTH = 8  # operators made of operators made of operators: three levels were the most that was seen


def decomposed(program: ExportedProgram, known: Callable[[Any], bool]) -> ExportedProgram:
    """Return the program made functional, with operators taken apart until rules cover them or nothing is left to try.

    Args:
        program: what `torch.export.export` returned.
        known: whether a rule covers an operator.
    """
    tried: set[Any] = set()
    wanted = _decompositions(program.graph, known, tried)
    for _ in range(DEPTH):
        program = _apart(program, wanted)
        tried |= wanted.keys()
        wanted = _decompositions(program.graph, known, tried)
        if not wanted:
            break
    return program


def _apart(program: ExportedProgram, wanted: Mapping[Any, Any]) -> ExportedProgram:
    """Take operators apart; one whose parts cannot be traced (they ask for values) stays whole."""
    try:
        return program.run_decompositions(dict(wanted))
    except Exception:
        if not wanted:
            raise
    if len(wanted) == 1:
        return program.run_decompositions({})
    for target, parts in wanted.items():
        program = _apart(program, {target: parts})
    return program


def _decompositions(graph: fx.Graph, known: Callable[[Any], bool], tried: set[Any]) -> Mapping[Any, Any]:
    """Return how to take apart the operators of a graph that no rule covers, as far as torch knows how."""
    targets = dict.fromkeys(node.target for node in graph.nodes if node.op == "call_function")
    unknown = [
        target
        for target in targets
        if isinstance(target, OpOverload) and not (known(target) or target in tried or target._schema.is_mutable)
    ]
    if not unknown:
        return {}
    table = default_decompositions()
    return {target: table[target] for target in unknown if target in table}
