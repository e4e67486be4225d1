"""Find the permutation symmetries of a model: trace it, solve the equations of its operators, prove the result."""

import fnmatch
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, fx, nn

from reticket.dense import described, is_dense
from reticket.errors import ModelError, SymmetryError
from reticket.lookup import as_names
from reticket.progress import Progress, shown
from reticket.symmetry.calls import Calls, calls_of, differs_in_training
from reticket.symmetry.cause import Cause
from reticket.symmetry.dependence import parents_of
from reticket.symmetry.filled import check_inputs, check_shaped
from reticket.symmetry.graph import DERIVES, Inputs, Trace, quiet, trace
from reticket.symmetry.lengths import branches, size_note
from reticket.symmetry.model_tensors import named_state
from reticket.symmetry.propagate import Propagation, propagate
from reticket.symmetry.reasons import ALSO
from reticket.symmetry.replay import ways
from reticket.symmetry.rules.operator import has_rule, is_layout
from reticket.symmetry.sites import Site, find_sites
from reticket.symmetry.symmetry import Symmetry
from reticket.symmetry.terms import (
    Atom,
    Fixed,
    Key,
    Layout,
    Sum,
    Term,
    Uniform,
    atoms,
    key_of,
    leaves,
    rewrite,
    shape_of,
)
from reticket.symmetry.traced import with_inner_sites
from reticket.symmetry.unify import Solver
from reticket.symmetry.untouched import kept, untouched
from reticket.symmetry.verify import CHANGES, guilty_groups
from reticket.weights import module_of


def discover(
    model: nn.Module,
    example_inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    *,
    fixed: Sequence[str] = (),
    free: Sequence[str] = (),
    verify: bool = True,
    progress: Progress = False,
) -> Symmetry:
    """Find which axes of which tensors of a model may be permuted together without changing its function.

    The model is traced by `torch.export` in eval mode, and in train mode where it acts otherwise there than dropout
    and BatchNorm make it; every operator's rule says which axes move together; an operator without a rule pins what it
    touches. The model is left as it was.

    Args:
        model: any module that `torch.export` can trace.
        example_inputs: a tensor, a tuple of positional inputs or a dict of keyword inputs.
        kwargs: keyword inputs beside positional ones.
        fixed: state_dict names or patterns, each with an optional `:axis`, that must not move, for instance
            `"features.*.weight:0"`; one may stand alone.
        free: inputs and outputs, as `"input0:1"` or `"output0:1"` (number of the tensor, axis), that may move too.
        verify: prove the result numerically; a group that changes the function is pinned, and listed in
            `Symmetry.pinned_by_verify` if it does so at the example's sizes.
        progress: True for a bar, or a function of the steps done and how many there are: tracing, solving, proving.

    Returns:
        The symmetry, with `log10_order`, `groups`, `sites`, `explain` and the `seconds` it took.

    Raises:
        ModelError: when the model does not run on the inputs or cannot be traced.
        SymmetryError: when a name in `fixed` or `free` does not exist.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> sym = discover(model, torch.zeros(2, 4))
    >>> [(g.name, g.size, len(g.members)) for g in sym.groups.values()]
    [('0.weight', 8, 3)]
    """
    check_shaped(module_of(model))
    inputs = Inputs.of(example_inputs, kwargs)
    check_inputs(inputs.leaves())
    with kept(model, still=True), shown(progress, "discovery", 3) as show:
        return _discovered(model, inputs, as_names(fixed), as_names(free), verify, show)


def _discovered(
    model: nn.Module,
    inputs: Inputs,
    fixed: Sequence[str],
    free: Sequence[str],
    verify: bool,
    show: Callable[[int], None],
) -> Symmetry:
    start = time.perf_counter()
    calls = _try(model, inputs)
    search = Search.start(model, fixed)
    traces, notes = _traces(model, inputs, calls)
    traced = time.perf_counter()
    show(1)
    # both modes give equations about the same atoms, so that one solution holds in both
    free_axes = _Free(search.solver, tuple(free))
    found = [propagate(t, search.solver, search.layouts, free_axes.input, free_axes.output) for t in traces]
    free_axes.check()
    search.pin_unread(found)
    assert not search.solver.broken(), f"the solver broke {search.solver.broken()[0]}"
    unknown = list(dict.fromkeys(name for propagation in found for name in propagation.unknown))
    if unknown:
        notes.append(f"pinned at operators without a rule: {', '.join(unknown)}")
    search.depend(found)
    names = search.group_names()
    ends = [tuple(search.final(layout, names) for layout in side) for side in free_axes.ends()]
    layouts = {name: search.final(layout, names) for name, layout in search.layouts.items()}
    symmetry = Symmetry(layouts, search.reasons(), (), ends[0], ends[1], notes=tuple(notes))
    steps = {node: search.final(value, names) for node, value in found[0].values.items() if is_layout(value)}
    symmetry = replace(symmetry, sites=_sites(symmetry, model, inputs, traces[0], steps))
    solved = time.perf_counter()
    show(2)
    symmetry = _proven(symmetry, model, inputs) if verify else symmetry
    seconds = {"tracing": traced - start, "solving": solved - traced, "proving": time.perf_counter() - solved}
    show(3)
    return replace(symmetry, seconds=seconds)


def _try(model: nn.Module, inputs: Inputs) -> Calls:
    """Run the model once, so that a model that cannot run says so itself, and return what it called."""
    try:
        return calls_of(model, inputs, train=False)
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), "")
        if _runs_unwatched(model, inputs):
            reason = DERIVES if "require grad" in first else f"{type(error).__name__}: {first}"
            raise ModelError(
                f"{type(model).__name__} runs, but not without gradients and with its calls watched: {reason}"
            ) from error
        raise ModelError(
            f"{type(model).__name__} does not run on the example inputs: {type(error).__name__}: {first}; pass what "
            f"model(...) takes, a tensor, a tuple of positional inputs or a dict of keyword inputs"
        ) from error


def _runs_unwatched(model: nn.Module, inputs: Inputs) -> bool:
    """Whether the model runs on the inputs as the user runs it."""
    with untouched(model), quiet():
        model.eval()
        try:
            inputs.call(model)
        except Exception:
            return False
    return True


def _traces(model: nn.Module, inputs: Inputs, calls: Calls) -> tuple[list[Trace], list[str]]:
    """Trace the model in eval mode, and in train mode where this can give other equations."""
    traces, notes = [trace(model, inputs, train=False, known=has_rule)], []
    if differs_in_training(model, inputs, calls):
        try:
            traces.append(trace(model, inputs, train=True, known=has_rule))
        except ModelError as error:
            notes.append(f"holds in eval mode only: {error}")
    seen = frozenset().union(*(t.lines() for t in traces)) if calls.reads else frozenset()
    unseen = tuple(read for read in calls.reads if read.forward not in seen)
    told = (ways(reads) for reads in (*(t.reads for t in traces), unseen) if reads)
    notes.extend(dict.fromkeys(f"holds for inputs that take the way of {way}" for way in told))
    notes.extend(filter(None, [size_note(branches(model, inputs))]))
    return traces, notes


@dataclass
class Search:
    """The unknowns of one model: an atom for every axis of every tensor in its state_dict."""

    solver: Solver
    layouts: dict[str, Layout]
    parents: dict[Key, tuple[Key, ...]] = field(default_factory=dict)

    @classmethod
    def start(cls, model: nn.Module, fixed: Sequence[str]) -> "Search":
        """Give every axis an atom, tied tensors the same, and pin what the caller fixed."""
        solver = Solver()
        state = named_state(model)
        layouts: dict[str, Layout] = {}
        first: dict[tuple[Any, ...], str] = {}
        for name, tensor in state.items():
            twin = first.setdefault(_identity(tensor, name), name)  # one memory, one layout, whatever its names
            layouts[name] = layouts[twin] if twin in layouts else tuple(solver.fresh(n) for n in tensor.shape)
        search = cls(solver, layouts)
        for name, tensor in state.items():
            if not is_dense(tensor):
                for term in layouts[name]:
                    solver.pin(term, Cause(f"not dense: {described(tensor)}"))
        for name, other in _overlaps(state):
            cause = Cause(f"shares memory with '{other}' in another shape")
            for term in layouts[name]:
                solver.pin(term, cause)
        search._fix(fixed)
        return search

    def _fix(self, patterns: Sequence[str]) -> None:
        for pattern in patterns:
            stem, _, axis = (
                pattern.rpartition(":") if pattern.rpartition(":")[2].lstrip("-").isdigit() else (pattern, "", "")
            )
            matches = [name for name in self.layouts if fnmatch.fnmatchcase(name, stem)]
            if not matches or (axis and any(int(axis) >= len(self.layouts[name]) for name in matches)):
                raise SymmetryError(
                    f"fixed='{pattern}' matches no tensor or axis of the model, which has "
                    f"{', '.join(list(self.layouts)[:5])}, ..."
                )
            for name in matches:
                for term in self.layouts[name] if not axis else (self.layouts[name][int(axis)],):
                    self.solver.pin(term, Cause(f"fixed by the caller with '{pattern}'"))

    def pin_unread(self, found: Sequence[Propagation]) -> None:
        """Pin what no traced graph computes with: another input might read it in its order.

        So might it an axis of which one part is not read and another one fixed: a table of positions. That some rows
        in between are free, since constant padding meets them, holds for inputs of this length alone.
        """
        read = frozenset(key for propagation in found for key in propagation.keys_read(self.solver))
        for term in [self.solver.resolve(term) for layout in self.layouts.values() for term in layout]:
            unread = [atom for atom in atoms(term) if atom.key not in read]
            for atom in unread:
                self.solver.pin(atom, Cause("not read for these inputs"))
            if unread and isinstance(term, Sum) and any(isinstance(p, Fixed) and p.size > 1 for p in term.parts):
                self.solver.pin(term, Cause("a table of positions, of which these inputs read a part"))

    def depend(self, found: Sequence[Propagation]) -> None:
        """Find which atoms may have a permutation of their own for every position of another axis."""
        settled = [self.solver.layout(layout) for layout in self.layouts.values()]
        tensors = [self.solver.layout(layout) for propagation in found for layout in propagation.tensors()]
        alone = [self.solver.layout(layout) for propagation in found for layout in propagation.alone]
        keys = dict.fromkeys(key_of(leaf) for layout in settled for term in layout for leaf in leaves(term))
        lonely = frozenset(atom.key for layout in alone for term in layout for atom in atoms(term))
        self.parents = parents_of([*settled, *tensors], lonely, [key for key in keys if key is not None])

    def group_names(self) -> dict[Key, str]:
        """Name every free atom after its first place in the state_dict, with `:k` for the k-th atom of that tensor.

        A fixed axis that atoms depend on is named alike.
        """
        above = {parent for parents in self.parents.values() for parent in parents}
        names: dict[Key, str] = {}
        for tensor, layout in self.layouts.items():
            own = [leaf for term in self.solver.layout(layout) for leaf in leaves(term)]
            keys = dict.fromkeys(key_of(leaf) for leaf in own if isinstance(leaf, Atom) or key_of(leaf) in above)
            for k, key in enumerate(key for key in keys if key is not None):
                names.setdefault(key, tensor if k == 0 else f"{tensor}:{k}")
        return names

    def final(self, layout: Layout, names: Mapping[Key, str]) -> Layout:
        """Return a settled layout with the names and parents of its groups."""
        return rename(self.solver.layout(layout), names, self.parents)

    def reasons(self) -> dict[str, tuple[str, ...]]:
        """Return for every axis why it, or a part of it, may not move."""
        return {name: tuple(map(self._reason, layout)) for name, layout in self.layouts.items()}

    def _reason(self, term: Term) -> str:
        settled = self.solver.resolve(term)
        if isinstance(term, Fixed):
            return "a single position" if term.size == 1 else "empty"
        causes = self.solver.causes(next(atoms(term)))
        return "" if isinstance(settled, Atom) else ALSO.join(map(str, causes[:3]))


def _identity(tensor: Tensor, name: str) -> tuple[Any, ...]:
    if not is_dense(tensor):
        return (id(tensor),)
    if tensor.numel() == 0:
        return (name,)
    return (tensor.untyped_storage()._cdata, tensor.storage_offset(), tuple(tensor.shape), tensor.stride())


def _overlaps(state: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """Return pairs of names whose tensors share memory without being the same tensor."""
    by_storage: dict[int, list[tuple[str, Tensor]]] = {}
    for name, tensor in state.items():
        if is_dense(tensor) and tensor.numel():
            by_storage.setdefault(tensor.untyped_storage()._cdata, []).append((name, tensor))
    pairs = []
    for entries in by_storage.values():
        for name, tensor in entries:
            for other, second in entries:
                if _identity(tensor, name) != _identity(second, other) and _meet(tensor, second):
                    pairs.append((name, other))
    return pairs


def _meet(first: Tensor, second: Tensor) -> bool:
    (a, b), (c, d) = _span(first), _span(second)
    return a < d and c < b


def _span(tensor: Tensor) -> tuple[int, int]:
    length = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True)) + 1
    return int(tensor.storage_offset()), int(tensor.storage_offset()) + int(length)


class _Free:
    """The axes of inputs and outputs: fixed, unless the caller freed them."""

    def __init__(self, solver: Solver, names: tuple[str, ...]) -> None:
        self.solver, self.names = solver, names
        self.used: dict[str, bool] = dict.fromkeys(names, False)
        self.inputs: dict[int, Layout] = {}
        self.outputs: dict[int, Layout] = {}

    def input(self, index: int, shape: tuple[int, ...]) -> Layout:
        """Return the layout of input number `index`, the same in both modes."""
        if index not in self.inputs:
            self.inputs[index] = tuple(self._axis(f"input{index}:{axis}", size) for axis, size in enumerate(shape))
        return self.inputs[index]

    def output(self, index: int, layout: Layout) -> None:
        """Pin the axes of output number `index` that are not free; both modes must agree on the others.

        Where train mode returns another tensor in this place, as a second head, its axes are pinned.
        """
        layout = self.solver.instantiate(layout)
        if index not in self.outputs:
            self.outputs[index] = tuple(self._axis(f"output{index}:{a}", t.size) for a, t in enumerate(layout))
        if shape_of(self.outputs[index]) != shape_of(layout):
            for axis, term in enumerate(layout):
                self.solver.pin(term, Cause(f"an axis of the model's output, output{index}:{axis}"))
            return
        for axis, (own, term) in enumerate(zip(self.outputs[index], layout, strict=True)):
            self.solver.unify(own, term, Cause(f"an axis of the model's output, output{index}:{axis}"))

    def _axis(self, name: str, size: int) -> Term:
        if name not in self.used:
            return Fixed(size)
        self.used[name] = True
        return self.solver.fresh(size)

    def ends(self) -> tuple[tuple[Layout, ...], tuple[Layout, ...]]:
        """Return the layouts of inputs and outputs in order."""
        return tuple(self.inputs[i] for i in sorted(self.inputs)), tuple(self.outputs[i] for i in sorted(self.outputs))

    def check(self) -> None:
        """Refuse a name that stands for no axis."""
        wrong = [name for name, used in self.used.items() if not used]
        if wrong:
            raise SymmetryError(
                f"free='{wrong[0]}' is no axis of a tensor input or output; write 'input0:1' or 'output0:1'"
            )


def rename(layout: Layout, names: Mapping[Key, str], parents: Mapping[Key, tuple[Key, ...]]) -> Layout:
    """Give atoms the names of their groups; what no tensor of the state_dict carries does not move."""

    def change(leaf: Fixed | Uniform | Atom) -> Term:
        if isinstance(leaf, Atom) and leaf.key in names:
            return Atom(names[leaf.key], leaf.size, tuple(names[parent] for parent in parents.get(leaf.key, ())))
        return Fixed(leaf.size, names.get(key) if isinstance(leaf, Fixed) and (key := leaf.key) is not None else None)

    return tuple(rewrite(term, change) for term in layout)


def _sites(
    symmetry: Symmetry, model: nn.Module, inputs: Inputs, trace: Trace, layouts: Mapping[fx.Node, Layout]
) -> tuple[Site, ...]:
    with untouched(model), quiet():
        model.eval()
        eager = find_sites(trace.graph, model, layouts, lambda: inputs.call(model))
    return with_inner_sites(replace(symmetry, sites=eager), model, trace, layouts).sites


def _proven(symmetry: Symmetry, model: nn.Module, inputs: Inputs) -> Symmetry:
    """Pin every group that the numerical proof refuses, until it refuses none."""
    guilty, notes = guilty_groups(symmetry, model, inputs)
    while guilty:  # without a guilty group its parents' positions or its dependents may turn out wrong, too: prove anew
        symmetry = without(symmetry, guilty)
        guilty, notes = guilty_groups(symmetry, model, inputs)
    return replace(symmetry, notes=(*symmetry.notes, *notes)) if notes else symmetry


def without(symmetry: Symmetry, groups: Mapping[str, str]) -> Symmetry:
    """Return the symmetry with some groups pinned by the proof; what depended on their positions still does.

    Args:
        symmetry: what the rules claim.
        groups: why each is refused; those that change the function at the example's sizes are listed as a rule's fault.
    """
    parents = {parent for name, group in symmetry.groups.items() if name not in groups for parent in group.parents}

    def change(leaf: Fixed | Uniform | Atom) -> Term:
        if isinstance(leaf, Atom) and leaf.key not in groups:
            return leaf
        return Fixed(leaf.size, key if (key := key_of(leaf)) in parents else None)

    def pinned(layout: Layout) -> Layout:
        return tuple(rewrite(term, change) for term in layout)

    reasons = {
        name: tuple(
            next((groups[str(atom.key)] for atom in atoms(term) if atom.key in groups), old)
            for term, old in zip(layout, symmetry.reasons[name], strict=True)
        )
        for name, layout in symmetry.layouts.items()
    }
    sites = [replace(site, layout=pinned(site.layout)) for site in symmetry.sites]
    return replace(
        symmetry,
        layouts={name: pinned(layout) for name, layout in symmetry.layouts.items()},
        reasons=reasons,
        sites=tuple(site for site in sites if site.groups),
        inputs=tuple(map(pinned, symmetry.inputs)),
        outputs=tuple(map(pinned, symmetry.outputs)),
        pinned_by_verify=(*symmetry.pinned_by_verify, *(name for name, reason in groups.items() if reason == CHANGES)),
    )
