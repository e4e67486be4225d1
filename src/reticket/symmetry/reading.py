"""What is read: the atoms that reach, operator by operator, anything that the model returns or keeps.

A table of positions that is scaled, normalised or projected as a whole and cut to the input's length afterwards is read
only in the part that is kept: the rest would be read, in its order, for a longer input. So reading is followed from the
results back to the state: an operator passes on what is asked of its result, and reads in full what it sums over.

A sum alone does not read a part of an axis that a slice has cut. Where the mean of a table is taken from its rows and
then some of them are kept, the others are in the mean, yet a longer input would take them out by number.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import getitem
from typing import Any

from torch import fx

from reticket.symmetry.positions import SLICED
from reticket.symmetry.terms import Key, Layout, Term, atoms
from reticket.symmetry.unify import Solver


@dataclass(frozen=True)
class OperatorReading:
    """How one operator reads.

    Args:
        passes: it only rearranges: what its result lacks was cut away, not summed over.
        space: layout of its index variables; None where its rule does not name them.
        reads: further axes that it reads in full although its result shows them.
        opaque: nothing is known about it: it reads everything.
    """

    passes: bool = False
    space: Layout | None = None
    reads: Sequence[Term] = ()
    opaque: bool = False


@dataclass
class ReadingAnalysis:
    """Follows reading through one graph, from its results to its placeholders.

    Args:
        solver: knows what the atoms have been found to equal.
        values: layout of every tensor of the graph, by node; a list where an operator has several results.
        steps: how the operators read, by node.
    """

    solver: Solver
    values: Mapping[fx.Node, Any]
    steps: Mapping[fx.Node, OperatorReading]
    _above: dict[Key, frozenset[Key]] = field(default_factory=dict)

    def keys(self, graph: fx.Graph) -> frozenset[Key]:
        """Return the keys of all atoms of placeholders that something returned or kept depends on."""
        asked: dict[fx.Node, frozenset[Key]] = {}
        for node in reversed(graph.nodes):
            if node.op == "output":
                wanted = {source: self._all(source) for source in node.all_input_nodes}
            elif node in asked:
                wanted = self._sources(node, asked[node])
            else:
                continue
            for source, keys in wanted.items():
                asked[source] = asked.get(source, frozenset()) | keys
        read = frozenset().union(*(keys for node, keys in asked.items() if node.op == "placeholder"))
        return read - self._cut_off(asked)

    def _cut_off(self, asked: Mapping[fx.Node, frozenset[Key]]) -> frozenset[Key]:
        """Return the parts that slices made of an axis and that, taken out of some tensor, nothing keeps."""
        kept: frozenset[Key] = frozenset()
        lost: frozenset[Key] = frozenset()
        sliced = self._sliced()
        for node, keys in asked.items():
            if node in self.steps and self.steps[node].passes:
                for source in node.all_input_nodes:
                    for whole, left in self._axes_cut(source, node):
                        kept |= left & keys
                        dropped = whole - left - self._asked_beside(source, node, asked)
                        if dropped & sliced:  # the cut goes through a table: all before it is taken by number, too
                            lost |= dropped
        return lost - kept

    def _axes_cut(self, source: fx.Node, node: fx.Node) -> list[tuple[frozenset[Key], frozenset[Key]]]:
        """Return what is on every axis of which an operator takes a part, and what it leaves there.

        Axis by axis, since a product of a table with itself has the same rows on two of them.
        """
        before, after = (layouts_of(self.values.get(one)) for one in (source, node))
        pairs = [(self._all(source), self._all(node))]
        if len(before) == len(after) == 1 and len(before[0]) == len(after[0]):
            terms = [tuple(map(self.solver.resolve, pair)) for pair in zip(before[0], after[0], strict=True)]
            if all(s == t or s.size > t.size for s, t in terms):
                pairs = [(self._roots(s), self._roots(t)) for s, t in terms]
        return [(whole, left) for whole, left in pairs if whole - left]

    def _asked_beside(self, source: fx.Node, node: fx.Node, asked: Mapping[fx.Node, frozenset[Key]]) -> frozenset[Key]:
        """Return what the other readers of a source ask of it."""
        others = (user for user in source.users if user is not node)
        wanted = (
            self._all(source) if user.op == "output" else self._sources(user, asked[user]).get(source, frozenset())
            for user in others
            if user.op == "output" or user in asked
        )
        return frozenset().union(*wanted)

    def _sliced(self) -> frozenset[Key]:
        """Return the atoms that are a part of an axis because a slice has cut it."""
        return frozenset().union(*(self._roots(part) for part in self.solver.parts_cut(SLICED)))

    def _sources(self, node: fx.Node, asked: frozenset[Key]) -> dict[fx.Node, frozenset[Key]]:
        """Return what a node reads of each of its arguments when `asked` is read of its result."""
        sources = {source: self._all(source) for source in node.all_input_nodes}
        if node.target is getitem:
            return dict.fromkeys(sources, asked)
        step = self.steps.get(node, OperatorReading(opaque=True))
        unlinked = bool(asked) and not any(keys & self._all(node) for keys in sources.values())
        if step.opaque or unlinked:  # a rule that shows nothing of its arguments may read anything of them
            return sources
        full = frozenset() if step.passes else self._summed(node, step, sources)
        return {source: keys & (asked | full) for source, keys in sources.items()}

    def _summed(
        self, node: fx.Node, step: OperatorReading, sources: Mapping[fx.Node, frozenset[Key]]
    ) -> frozenset[Key]:
        """Return what stands more often in the iteration space than in a result: it is summed over."""
        result: Counter[Key] = Counter()
        for layout in layouts_of(self.values.get(node)):
            result |= self._count(layout)
        named = frozenset().union(*(self._roots(term) for term in step.reads))
        if step.space is None:
            return named | frozenset().union(*sources.values()).difference(result)
        return named | frozenset(key for key, times in self._count(step.space).items() if times > result[key])

    def _all(self, node: fx.Node) -> frozenset[Key]:
        layouts = layouts_of(self.values.get(node))
        return frozenset().union(*(self._roots(term) for layout in layouts for term in layout))

    def _count(self, layout: Layout) -> Counter[Key]:
        """Return how often each atom stands in a layout, provisional factors by what they are factors of."""
        found = [atom for term in self.solver.layout(layout) for atom in atoms(term)]
        return Counter(key for atom in found for key in self._roots(atom))

    def _roots(self, term: Term) -> frozenset[Key]:
        """Return the keys of the term's atoms; for a provisional factor those of the axis that it is a factor of."""
        found: frozenset[Key] = frozenset()
        for atom in atoms(self.solver.resolve(term)):
            if atom.key not in self._above:
                wholes = [self._roots(split.whole) for split in self.solver.splits.of(atom)]
                self._above[atom.key] = frozenset().union(*wholes) if wholes else frozenset([atom.key])
            found |= self._above[atom.key]
        return found


def layouts_of(value: Any) -> list[Layout]:
    """Return the layouts of a node's results: none, one or several."""
    if isinstance(value, list):
        return [layout for layout in value if isinstance(layout, tuple)]
    return [value] if isinstance(value, tuple) else []
