"""Sites inside what an eager run shows only as a whole: the attention of torch's modules, the layers of recurrent ones.

No hook sees inside these, and in evaluation mode one fused kernel may stand for a whole layer. The graph that discovery
solved has every step, so it is run beside the model, as far as the sites that are wanted. Shapes are numbers in it: the
model is traced anew for every shape of its inputs.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import getitem
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.utils._pytree import tree_flatten

from reticket.symmetry.alike import compute_alike
from reticket.symmetry.graph import Inputs, Trace, module_of, trace
from reticket.symmetry.model_tensors import named_state
from reticket.symmetry.recurrence import Recurrence, computed, recurrences
from reticket.symmetry.rules.operator import has_rule
from reticket.symmetry.sites import COPIES, TRACED, Site, moves, site_name
from reticket.symmetry.symmetry import Symmetry
from reticket.symmetry.terms import Layout
from reticket.symmetry.views import conditional_views, direct_views, reached_by, showing, stands_alone
from reticket.symmetry.watching import Execution, is_leaf

ENOUGH = 4  # traced sites for each group: what goes beyond costs memory and tells little more
# operators that move values and make none
MOVING = frozenset(
    [
        *(*COPIES, "transpose", "squeeze", "t", "movedim", "expand", "_unsafe_view", "to", "_to_copy"),
        *("lift_fresh_copy", "select", "slice", "split", "split_with_sizes", "chunk", "unbind", "narrow"),
        *("unfold", "repeat", "diagonal"),
    ]
)


def with_inner_sites(
    symmetry: Symmetry, model: nn.Module, traced: Trace, layouts: Mapping[fx.Node, Layout]
) -> Symmetry:
    """Return the symmetry with sites inside of modules for the groups that its own sites do not tell apart.

    Args:
        symmetry: with the sites that an eager run shows.
        model: the model.
        traced: graph of one forward in evaluation mode.
        layouts: layouts of the graph's tensors.
    """
    hidden = _hidden(symmetry)
    if not hidden:
        return symmetry
    candidates = list(_candidates(traced, layouts, dict(model.named_modules())))
    shown, chosen = showing(candidates), list[Site]()
    for name in hidden:
        fitting = [site for site in shown.get(name, ()) if stands_alone(symmetry, symmetry.groups[name], site)]
        chosen += ([site for site in fitting if not site.traced] or fitting)[:ENOUGH]
    symmetry = _joined(symmetry, candidates, chosen)
    for name in _hidden(symmetry):
        matched = reached_by(symmetry, direct_views(symmetry))
        views = conditional_views(replace(symmetry, sites=tuple(shown.get(name, ()))), matched)
        symmetry = _joined(symmetry, candidates, views[name].sites if name in views else ())
    return symmetry


def _hidden(symmetry: Symmetry) -> list[str]:
    """Return the groups that no site tells apart."""
    reached = reached_by(symmetry, direct_views(symmetry))
    conditional = conditional_views(symmetry, reached)
    return [name for name in symmetry.groups if name not in reached and name not in conditional]


def _joined(symmetry: Symmetry, candidates: Sequence[Site], chosen: Sequence[Site]) -> Symmetry:
    new = {site.execution for site in chosen} - {site.execution for site in symmetry.sites}
    added = [site for site in candidates if site.execution in new]
    return replace(symmetry, sites=(*symmetry.sites, *added))


def _candidates(traced: Trace, layouts: Mapping[fx.Node, Layout], modules: Mapping[str, nn.Module]) -> Iterator[Site]:
    """Yield what the graph computes from its inputs, values that are only moved left out."""
    varying = {node for node in traced.graph.nodes if node.op == "placeholder" and node.name in traced.inputs}
    for node in traced.graph.nodes:
        if not varying.isdisjoint(node.all_input_nodes):
            varying.add(node)
    for execution, node, inner in _executions(traced.graph, modules):
        layout = layouts.get(node) if inner is None else inner.layout(layouts)
        source = node.args[0] if node.target is getitem else node
        moving = isinstance(source, fx.Node) and _operator(source) in MOVING
        if layout is not None and node in varying and moves(layout) and not moving:
            yield Site(site_name(execution), *execution, layout)


def _executions(
    graph: fx.Graph, modules: Mapping[str, nn.Module]
) -> Iterator[tuple[Execution, fx.Node, Recurrence | None]]:
    """Yield every result of an operator, and the layers within a recurrent one, counted by module and operator.

    The layers within one of torch's recurrent modules are seen in an eager run.
    """
    counts: Counter[tuple[str, str]] = Counter()

    def counted(path: str, operator: str) -> Execution:
        counts[path, operator] += 1
        return path, operator, counts[path, operator] - 1

    for node in graph.nodes:
        path, source = module_of(node)[0], node.args[0] if node.args else None
        if node.op != "call_function":
            continue
        if node.target is getitem and isinstance(source, fx.Node):
            yield counted(path, f"{TRACED}{_operator(source)}.{node.args[1]}"), node, None
        elif isinstance(node.target, OpOverload):
            module = modules.get(path)
            eager = isinstance(module, nn.RNNBase) and is_leaf(module)
            for inner in recurrences(node):
                yield counted(path, inner.name if eager else f"{TRACED}{_operator(node)}.{inner.name}"), node, inner
            yield counted(path, TRACED + _operator(node)), node, None


def _operator(node: fx.Node) -> str:
    """Return the name of an operator as the graph has it, without its overload."""
    if not isinstance(node.target, OpOverload):
        return str(node.target)
    return node.target._schema.name.removeprefix("aten::").replace("::", ".")


class Inside:
    """Shows the sites of models that only their traced graphs show.

    A model is traced once for every shape of its inputs; models that differ in their weights alone share this.

    Args:
        sites: sites of the models' symmetry; those that an eager run shows are left out.
    """

    def __init__(self, sites: Sequence[Site]) -> None:
        self.sites = {site.execution: site for site in sites if site.traced}
        self._traced: dict[Hashable, list[tuple[nn.Module, _Program]]] = {}

    def show(self, model: nn.Module, inputs: Inputs, on_site: Callable[[Site, Tensor], None]) -> None:
        """Compute the sites of a model in evaluation mode and call `on_site(site, tensor)` for each, in graph order.

        The model's own forward is run while tracing alone; the model is left as it was.

        Args:
            model: model of the symmetry.
            inputs: its inputs, on its device.
            on_site: called with the site and its tensor.

        Raises:
            ModelError: when the model cannot be traced on these inputs.
        """
        if not self.sites:
            return
        program = self._program(model, inputs)
        with torch.no_grad():
            program.run(named_state(model), inputs, on_site)

    def _program(self, model: nn.Module, inputs: Inputs) -> "_Program":
        """Return what was traced of this model, or of one that computes alike, on inputs like these."""
        traced = self._traced.setdefault(_signature(inputs), [])
        for other, program in traced:
            if other is model:
                return program
        found = next((program for other, program in traced if compute_alike(other, model)), None)
        if found is None:
            steps = trace(model, inputs, train=False, known=has_rule)
            found = _Program(steps, dict(model.named_modules()), self.sites)
            if steps.reads:  # other values, of the inputs or of the weights, may take another way
                return found
        traced.append((model, found))
        return found


def _signature(inputs: Inputs) -> Hashable:
    """Return what a traced graph depends on: shapes, types and devices of tensors, and all other values."""
    values, spec = tree_flatten((inputs.args, dict(inputs.kwargs)))
    shown = [(tuple(v.shape), v.dtype, v.device) if isinstance(v, Tensor) else (type(v), repr(v)) for v in values]
    return tuple(shown), str(spec)


class _Program:
    """The part of a traced graph that some sites are computed from."""

    def __init__(self, traced: Trace, modules: Mapping[str, nn.Module], sites: Mapping[Execution, Site]) -> None:
        self.traced = traced
        self.shown: dict[fx.Node, list[tuple[Site, Recurrence | None]]] = {}
        for execution, node, inner in _executions(traced.graph, modules):
            if execution in sites:
                self.shown.setdefault(node, []).append((sites[execution], inner))
        self.needed = self._needed()
        self.last: dict[fx.Node, fx.Node] = {}  # the node after which a value is not needed any more
        for node in traced.graph.nodes:
            if node in self.needed or node in self.shown:
                self.last.update(dict.fromkeys((node, *node.all_input_nodes), node))

    def _needed(self) -> set[fx.Node]:
        """Return the nodes whose results are computed; of a recurrent one whose layers are shown, maybe not its own."""
        whole = {node for node, sites in self.shown.items() if any(inner is None for _, inner in sites)}
        waiting = [*whole, *(source for node in self.shown for source in node.all_input_nodes)]
        found = set[fx.Node]()
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                waiting.extend(node.all_input_nodes)
        return found

    def run(self, state: Mapping[str, Tensor], inputs: Inputs, on_site: Callable[[Site, Tensor], None]) -> None:
        """Compute the graph node by node and show the sites."""
        given = dict(zip(self.traced.inputs, tree_flatten((inputs.args, dict(inputs.kwargs)))[0], strict=True))
        values: dict[fx.Node, Any] = {}
        for node in self.traced.graph.nodes:
            if node not in self.needed and node not in self.shown:
                continue
            if node in self.needed:
                values[node] = self._value(node, values, state, given)
            inner = [(site, part) for site, part in self.shown.get(node, ()) if part is not None]
            if inner:
                args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), values.__getitem__)  # pyright: ignore
                found = computed(node, args, kwargs, [part.name for _, part in inner])
                for site, part in inner:
                    on_site(site, found[part.name])
            for site, part in self.shown.get(node, ()):
                if part is None:
                    on_site(site, values[node])
            for done in (node, *node.all_input_nodes):
                if self.last[done] is node:
                    values.pop(done, None)

    def _value(
        self, node: fx.Node, values: Mapping[fx.Node, Any], state: Mapping[str, Tensor], given: Mapping[str, Any]
    ) -> Any:
        traced = self.traced
        if node.op == "placeholder":
            name = node.name
            if name in traced.state:
                return state[traced.state[name]].detach()
            return given[name] if name in given else traced.held[name]
        if node.op == "get_attr":
            owner: Any = traced.graph.owning_module
            for part in str(node.target).split("."):
                owner = getattr(owner, part)
            return owner
        args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), values.__getitem__)  # pyright: ignore
        assert callable(node.target)
        return node.target(*args, **kwargs)
