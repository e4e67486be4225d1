"""What a rule sees of one operator of the graph, and the registry of rules."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import fx

from reticket.symmetry.graph import cause_of
from reticket.symmetry.terms import Fixed, Layout, Term
from reticket.symmetry.unify import Solver

Rule = Callable[["Operator"], Any]


class Refusal(Exception):  # noqa: N818 (control flow between a rule and its caller, never shown as an error)
    """Raised by a rule for arguments that it does not cover; the operator is then pinned for this reason."""


@dataclass(frozen=True)
class RegisteredRule:
    """A rule, and what kind of operator it is for.

    Args:
        function: the rule.
        structural: the operator only rearranges its input; it reads nothing.
        pointwise: the operator computes each position by itself.
        weights: arguments that are the weights of a layer, which multiply whatever the others hold.
        factors: arguments that are multiplied with one another, each of which may be the weights.
        tables: arguments of which single rows are looked up.
    """

    function: Rule
    structural: bool
    pointwise: bool = False
    weights: tuple[str, ...] = ()
    factors: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()


RULES: dict[str, RegisteredRule] = {}


def rule(
    *operators: str,
    structural: bool = False,
    pointwise: bool = False,
    weights: tuple[str, ...] = (),
    factors: tuple[str, ...] = (),
    tables: tuple[str, ...] = (),
) -> Callable[[Rule], Rule]:
    """Register a function as the rule of the operators named, as `aten.relu` (all overloads) or `aten.mean.dim`.

    Args:
        operators: what it is the rule of.
        structural: they only rearrange: factors of a view are passed on as they are, what a result lacks was cut away.
        pointwise: they compute each position by itself, so that one of a single tensor passes such factors on, too.
        weights: names of arguments that are the weights of a layer, as of a convolution: what is pruned is found so.
        factors: names of arguments that are multiplied with one another, as the two of a product of matrices: one that
            comes of parameters alone is weights where another one is not.
        tables: names of arguments of which single rows are looked up, as of an embedding.
    """

    def register(function: Rule) -> Rule:
        for operator in operators:
            assert operator not in RULES, f"two rules for {operator}"
            RULES[operator] = RegisteredRule(function, structural, pointwise, weights, factors, tables)
        return function

    return register


def find_rule(target: Any) -> RegisteredRule | None:
    """Return the rule of an operator: the one of its overload before the one of all its overloads."""
    name = str(target)
    return RULES.get(name) or RULES.get(name.rpartition(".")[0])


def has_rule(target: Any) -> bool:
    """Whether a rule covers an operator."""
    return find_rule(target) is not None


def fixed(shape: Sequence[int]) -> Layout:
    """Return the layout in which nothing moves."""
    return tuple(Fixed(int(size)) for size in shape)


def is_layout(value: object) -> TypeGuard[Layout]:
    """Whether a value of the interpreter is a tensor: a tuple of terms (lists are arguments or several results)."""
    return isinstance(value, tuple)


def wrap(axis: int, dims: int) -> int:
    """Return the axis counted from the front."""
    return axis + dims if axis < 0 else axis


class Operator:
    """One call in the graph: its arguments by name, tensors as layouts, and what a rule may say about them.

    Args:
        node: the call; `node.meta["val"]` gives the shapes of its results.
        arguments: value of every argument of the operator's schema; a tensor is a `Layout`.
        solver: where equalities go.
    """

    def __init__(self, node: fx.Node, arguments: dict[str, Any], solver: Solver) -> None:
        self.node, self.arguments, self.solver = node, arguments, solver
        self.spaces: list[Layout] = []
        self.read_whole: list[Term] = []

    @classmethod
    def read(cls, node: fx.Node, values: dict[fx.Node, Any], solver: Solver) -> "Operator":
        """Look up the values of a call's arguments and give them the names of the operator's schema.

        Args:
            node: the call.
            values: layouts of what it is given, by node.
            solver: where its equations go.
        """
        target = node.target
        assert isinstance(target, torch._ops.OpOverload)
        args = fx.map_arg(node.args, lambda n: values[n])
        kwargs = fx.map_arg(node.kwargs, lambda n: values[n])
        arguments: dict[str, Any] = {}
        for i, argument in enumerate(target._schema.arguments):
            if i < len(args):
                arguments[argument.name] = args[i]
            else:
                arguments[argument.name] = kwargs.get(argument.name, argument.default_value)
        return cls(node, arguments, solver)

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def layout(self, name: str) -> Layout:
        """Return the layout of a tensor argument, with its own choice wherever the tensor is uniform."""
        return self.solver.layout(self.solver.instantiate(self.arguments[name]))

    def raw(self, name: str) -> Layout:
        """Return the layout of a tensor argument with uniform pieces as they are."""
        return self.solver.layout(self.arguments[name])

    def shapes(self) -> tuple[tuple[int, ...] | None, ...]:
        """Return the shapes of the results; None for a result that is no tensor."""
        value = self.node.meta.get("val")
        results = value if isinstance(value, tuple | list) else (value,)
        return tuple(tuple(map(int, r.shape)) if isinstance(r, torch.Tensor) else None for r in results)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first result."""
        shape = self.shapes()[0]
        assert shape is not None
        return shape

    def equal(self, left: Term, right: Term, reason: str) -> Term:
        """Ask that two axes move together; return the term they share.

        Args:
            left, right: axes of one size.
            reason: why, as `Symmetry.explain` gives it.
        """
        self.solver.unify(left, right, cause_of(self.node, reason))
        first, second = self.solver.resolve(left), self.solver.resolve(right)
        return second if isinstance(first, Fixed) and first.key is None else first

    def iterates(self, *layouts: Layout) -> None:
        """Name the operator's iteration space, and the layouts of the statistics that it takes on the way.

        The iteration space has one axis for each index variable of the operator (for y = x W^T: batch, out and in),
        which says that the operator works on each position of an axis separately but where it contracts or reduces.
        Atoms of an operator without one depend on no other axis.
        """
        self.spaces.extend(layouts)

    def reads(self, *terms: Term) -> None:
        """Name axes that the operator reads in full although its result shows them too.

        Without this, an axis of the result is read as far as the result is: what is cut off later was not read.
        """
        self.read_whole.extend(terms)

    def pin(self, term: Term, reason: str) -> Term:
        """Ask that an axis does not move; return its term.

        Args:
            term: the axis.
            reason: why, as `Symmetry.explain` gives it; `docs/pinned.md` lists all.
        """
        self.solver.pin(term, cause_of(self.node, reason))
        return Fixed(term.size)

    def cut(self, term: Term, at: int, reason: str) -> tuple[Term, Term]:
        """Cut an axis in two along its length.

        Args:
            term: the axis.
            at: positions in the first part.
            reason: why, should the axis be pinned by it.
        """
        return self.solver.cut(term, at, cause_of(self.node, reason))

    def split(self, term: Term, sizes: Sequence[int], reason: str) -> tuple[Term, ...]:
        """Split an axis into row-major factors.

        Args:
            term: the axis.
            sizes: of the factors, the outermost first; their product is the size of the axis.
            reason: why, should the axis be pinned by it.
        """
        return self.solver.split(term, sizes, cause_of(self.node, reason))

    def fresh(self, size: int) -> Term:
        """Return an atom of its own."""
        return self.solver.fresh(size)
