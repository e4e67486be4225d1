"""Sites: the activations in which the units of a group can be seen, and how to look at them while a model runs.

A site is the output of a built-in leaf module or of a functional call (module hooks do not see the addition of a
residual block). Functional calls are counted by operator and owning module, the same way in the traced graph and in an
eager run; where the two counts disagree there is no site. What neither shows is seen in a traced graph alone, see
`reticket.symmetry.traced`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import getitem
from typing import Any, TypeAlias

import torch
from jaxtyping import Shaped
from torch import Tensor, fx, nn

from reticket.errors import SymmetryError
from reticket.symmetry.format import Groups, layout_from_json, layout_to_json
from reticket.symmetry.graph import module_of
from reticket.symmetry.recurrence import is_layer
from reticket.symmetry.terms import (
    Layout,
    atoms,
    describe,
    shape_of,
)
from reticket.symmetry.units import fitted, plain_axis, rows, siblings
from reticket.symmetry.watching import COUNTED, Execution, canonical, is_leaf, watch

OnSite: TypeAlias = Callable[["Site", Tensor], None]
OnNext: TypeAlias = Callable[["Site", "Site", nn.Module], bool]
TRACED = "traced."  # begins the operator of a site that only a traced graph shows
# operators that only pass their input on, in eval mode
COPIES = (
    *("clone", "alias", "view", "detach", "unsqueeze", "permute", "flatten", "reshape", "unflatten", "contiguous"),
    *("dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout"),
)


@dataclass(frozen=True)
class Site:
    """An activation tensor in which units of one or more groups can be seen.

    Args:
        name: module path, with `:operator` for a functional call and `#k` for the k-th call, k > 1.
        module: path of the module that makes it.
        operator: empty for the module's own output (the first of several), else the functional call; "layer0" and so on
            inside a recurrent module; after "traced." an operator of the traced graph.
        call: number of the call, from 0, in one run of the model.
        layout: term of each axis; the batch axis may have any size.
    """

    name: str
    module: str
    operator: str
    call: int
    layout: Layout

    @property
    def execution(self) -> Execution:
        """Module path, operator and call number: what identifies the site in a run."""
        return self.module, self.operator, self.call

    @property
    def traced(self) -> bool:
        """Whether only a traced graph shows this site: `Inside` does, `capture` does not."""
        return self.operator.startswith(TRACED)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups seen here, in order of axes, each once."""
        return tuple(dict.fromkeys(str(atom.key) for term in self.layout for atom in atoms(term)))

    def companions(self, group: str) -> tuple[frozenset[str], ...]:
        """Return, for every occurrence of a group here, the other groups whose units it stands beside."""
        found = []
        for axis, term in enumerate(self.layout):
            others = [str(atom.key) for i, other in enumerate(self.layout) if i != axis for atom in atoms(other)]
            found += [frozenset([*others, *own]) for own in siblings(term, group)]
        return tuple(found)

    def units(
        self, tensor: Shaped[Tensor, "..."], group: str, along: Sequence[str] | None = None
    ) -> Shaped[Tensor, "*along n samples"]:
        """Bring the units of a group to the front: one row for each unit, one column for each sample.

        Every position of the other axes (batch, space, other factors) is a sample. A group that occurs several times in
        the tensor has the samples of all its occurrences one after the other. A dependent group has its parents' axes
        before that of its units. The result may share memory with `tensor`. Axes without units may have any size, and
        so may the fixed factor of an axis with units, as where heads are merged into the batch.

        Args:
            tensor: what `capture` gave for this site.
            group: name of a group in `self.groups`.
            along: groups and fixed parents whose positions are told apart, outermost first; None for its own parents.

        Raises:
            SymmetryError: when the tensor does not have this site's axes, or the group is not seen here.
        """
        plain = plain_axis(self.layout, tensor.shape, group)
        if plain is not None and not along:
            return tensor.movedim(plain, 0).reshape(tensor.shape[plain], -1)
        layout = fitted(self.layout, tensor.shape)
        if layout is None:
            raise SymmetryError(
                f"site '{self.name}' saw a tensor of shape {tuple(tensor.shape)}, expected {shape_of(self.layout)} "
                f"up to the sizes of axes without units; discover the symmetry on inputs of this size"
            )
        found = list(rows(tensor, list(enumerate(layout)), group, along))
        if not found:
            raise SymmetryError(f"site '{self.name}' does not show group '{group}', only {', '.join(self.groups)}")
        return found[0] if len(found) == 1 else torch.cat(found, dim=-1)

    def to_json(self) -> dict[str, Any]:
        """Return the site as JSON."""
        return {
            "module": self.module,
            "operator": self.operator,
            "call": self.call,
            "layout": layout_to_json(self.layout),
        }

    @classmethod
    def from_json(cls, name: str, data: Mapping[str, Any], groups: Groups) -> "Site":
        """Read what `to_json` wrote.

        Args:
            name: of the site.
            data: what was written.
            groups: atoms and fixed parents by name.
        """
        layout = layout_from_json(data["layout"], groups)
        return cls(name, str(data["module"]), str(data["operator"]), int(data["call"]), layout)

    def __str__(self) -> str:
        return f"{self.name}: " + " | ".join(describe(term) for term in self.layout)


@contextmanager
def capture(model: nn.Module, sites: Sequence[Site], on_site: OnSite, on_next: OnNext | None = None) -> Iterator[None]:
    """While active, each forward of the model calls `on_site(site, tensor)` for each site, in order of execution.

    The tensor is given at once and is not copied: a later in-place operator may overwrite it, so reduce or clone it
    inside `on_site`. The batch may have any size. Sites that only a traced graph shows are left out, see `Inside`.

    Args:
        model: model to watch; it is left as it was.
        sites: sites of the model's symmetry, or some of them.
        on_site: called with the site and its tensor.
        on_next: asked first, with the site, the site before it and the module, where a module that nobody else watches
            made the site of the site before it alone, of the same layout; where it says yes, that was enough.
    """
    sites = [site for site in sites if not site.traced]
    wanted = {site.execution: site for site in sites}
    last: list[tuple[Site, Tensor, int]] = []  # the site shown last

    def on_execution(execution: Execution, tensor: Tensor) -> None:
        site = wanted.get(execution)
        if site is not None:
            last[:] = [(site, tensor, tensor._version)] if on_next and not tensor.is_inference() else []
            on_site(site, tensor)

    def skips(execution: Execution, module: nn.Module, source: object) -> bool:
        site, (before, tensor, version) = wanted.get(execution), last[0] if last else (None, None, 0)
        if site is None or before is None or tensor is None or tensor is not source or tensor._version != version:
            return False
        return on_next is not None and before.layout == site.layout and on_next(site, before, module)

    paths = frozenset(site.module for site in sites if not site.operator)
    within = [site for site in sites if is_layer(site.operator)]
    layers = {site.module: [one.operator for one in within if one.module == site.module] for site in within}
    functional = any(site.operator and site not in within for site in sites)
    asked = None if on_next is None else skips
    with watch(model, on_execution, leaves=paths, functional=functional, layers=layers, skips=asked):
        yield
    last.clear()


def find_sites(
    graph: fx.Graph, model: nn.Module, layouts: Mapping[fx.Node, Layout], run: Callable[[], object]
) -> tuple[Site, ...]:
    """Match the operators of a traced graph with what an eager run shows.

    Args:
        graph: graph of one forward.
        model: model that it was traced from.
        layouts: final layouts of the graph's tensors, groups by name.
        run: runs the model on the traced inputs.
    """
    seen: dict[tuple[str, str], list[tuple[int, ...]]] = {}
    with torch.no_grad(), watch(model, lambda p, t: seen.setdefault(p[:2], []).append(tuple(t.shape))):
        run()
    modules = dict(model.named_modules())
    traced: dict[tuple[str, str], list[fx.Node]] = {}
    last: dict[tuple[str, int], fx.Node] = {}
    for node in graph.nodes:
        path, call, _ = module_of(node)
        if node.op != "call_function" or path not in modules:
            continue
        if is_leaf(modules[path]):
            last[path, call] = node
        elif hasattr(node.target, "_schema") and canonical(node.target) in COUNTED:
            traced.setdefault((path, canonical(node.target)), []).append(node)
    for (path, _), node in last.items():
        traced.setdefault((path, ""), []).append(_first_result(node))
    sites: dict[fx.Node, Site] = {}
    for (path, operator), nodes in traced.items():
        shapes = [shape_of(layouts[node]) if node in layouts else None for node in nodes]
        if shapes != seen.get((path, operator)):
            continue
        for call, node in enumerate(nodes):
            if moves(layouts[node]) and not (operator == "" and _copies(node)):
                sites[node] = Site(site_name((path, operator, call)), path, operator, call, layouts[node])
    return tuple(sites[node] for node in graph.nodes if node in sites)


def _first_result(node: fx.Node) -> fx.Node:
    """Return the node of the first of several results, which is what a recurrent layer's output begins with."""
    if node.target is not getitem:
        return node
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return next((user for user in source.users if user.target is getitem and user.args[1] == 0), node)


def moves(layout: Layout) -> bool:
    """Whether a tensor of this layout shows units of a group."""
    return any(True for term in layout for _ in atoms(term))


def _copies(node: fx.Node) -> bool:
    """Whether a module only passes its input on, as Dropout in eval mode and Flatten do."""
    return str(node.target).split(".")[1:2] in [[name] for name in COPIES]


def site_name(execution: Execution) -> str:
    """Return the name of the site that shows an execution.

    >>> site_name(("layer1.0", "add", 1))
    'layer1.0:add#2'
    """
    path, operator, call = execution
    name = f"{path}:{operator}" if operator else path
    return name if call == 0 else f"{name}#{call + 1}"
