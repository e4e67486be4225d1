"""The methods an experiment compares: each a small function from (ticket, alignment, B) to an initial sparse network.

A new method is a function under `@method(...)`; the contract tests find it in `METHODS`.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from inspect import signature
from typing import Literal

import torch

from reticket.errors import InputError
from reticket.registry import Registry, first_line
from reticket.tickets.control import erk_mask, layer_shuffle, random_mask
from reticket.tickets.mask import Mask
from reticket.tickets.start import SparseStart
from reticket.tickets.ticket import Ticket
from reticket.tickets.transfer import Carries, transfer, whole
from reticket.types import StateDict

Frame = Literal["init", "mask"]


@dataclass(frozen=True, eq=False)
class MethodInputs:
    """What methods are made of; a method asks for some of these fields by name (`Method.needs`).

    Args:
        ticket: A's mask and the signs of its pruned, trained weights.
        trained_a: A's dense weights at the end of training.
        pruned_a: A's weights at the end of the IMP chain at this sparsity.
        rewound_a: A's dense weights at the rewind point k.
        rewound_b: B's dense weights at k.
        mask_b: B's own IMP mask at this sparsity.
        alignment: carries A's units to B's order.
        random_alignment: an alignment drawn at random.
        generator: randomness of the method, on the CPU; it moves on as it is drawn from.
        frame: "init" moves the ticket to B's units, "mask" moves B's weights to A's units by the inverse; the two are
            the same training problem up to relabelling.
    """

    ticket: Ticket | None = None
    trained_a: StateDict | None = None
    pruned_a: StateDict | None = None
    rewound_a: StateDict | None = None
    rewound_b: StateDict | None = None
    mask_b: Mask | None = None
    alignment: Carries | None = None
    random_alignment: Carries | None = None
    generator: torch.Generator | None = None
    frame: Frame = "init"


@dataclass(frozen=True)
class Method:
    """One method of an experiment.

    Args:
        name: as in a configuration and a table.
        function: from fields of `MethodInputs`, by name, to the initial sparse network; pure but for drawing from
            `generator`.
        needs: the fields that must be given for it.
        network: whose initialisation and order of data it trains with, "A" or "B".
        trains: whether the network is trained from there, or only evaluated.
        sparse: whether it depends on the sparsity.
        description: one line for a report.
        counts_alone: whether it takes of the ticket only how many weights it keeps, which is known before there is one.
    """

    name: str
    function: Callable[..., SparseStart]
    needs: tuple[str, ...]
    network: Literal["A", "B"]
    trains: bool
    sparse: bool
    description: str
    counts_alone: bool = False

    def __call__(self, inputs: MethodInputs) -> SparseStart:
        """Return the initial sparse network.

        Raises:
            InputError: when a field that the method needs is None.
        """
        missing = [name for name in self.needs if getattr(inputs, name) is None]
        if missing:
            raise InputError(f"method '{self.name}' needs {', '.join(missing)}; give MethodInputs({missing[0]}=...)")
        return self.function(**{name: getattr(inputs, name) for name in self.uses})

    @cached_property
    def uses(self) -> tuple[str, ...]:
        """Every field of `MethodInputs` that it looks at, needed or not."""
        return tuple(signature(self.function).parameters)


METHODS = Registry[Method]("method", "reticket.methods", InputError, says=lambda one: one.description)


def method(
    name: str,
    *,
    network: Literal["A", "B"] = "B",
    trains: bool = True,
    sparse: bool = True,
    counts_alone: bool = False,
) -> Callable[[Callable[..., SparseStart]], Method]:
    """Register a function as a method.

    Its parameters are the fields of `MethodInputs` that it uses, so that a planner knows what to compute for it and
    what not; the first line of its docstring is its description.

    Args:
        name: as in a configuration and a table.
        network: whose initialisation and order of data it trains with.
        trains: whether the network is trained from there, or only evaluated.
        sparse: whether it depends on the sparsity.
        counts_alone: whether it takes of the ticket only how many weights it keeps: no ticket need be found for it, and
            none is part of its cost.

    Raises:
        InputError: when the name is taken, a parameter is no field of `MethodInputs`, or there is no docstring.
    """
    known = {field.name: field.default for field in fields(MethodInputs)}

    def register(function: Callable[..., SparseStart]) -> Method:
        parameters = tuple(signature(function).parameters)
        unknown = [parameter for parameter in parameters if parameter not in known]
        if unknown:
            raise InputError(
                f"method '{name}' asks for '{unknown[0]}', which is no field of MethodInputs: {', '.join(known)}"
            )
        description = first_line(function)
        if not description:
            raise InputError(f"method '{name}' has no docstring; its first line is what the report says of it")
        needs = tuple(parameter for parameter in parameters if known[parameter] is None)
        return METHODS.add(name, Method(name, function, needs, network, trains, sparse, description, counts_alone))

    return register


def get_method(name: str) -> Method:
    """Return the method of this name.

    Raises:
        InputError: when there is none, with the nearest name, or when the package that announces it is broken.
    """
    return METHODS.named(name)


def _carry(ticket: Ticket, weights: StateDict, alignment: Carries, frame: str) -> tuple[Ticket, StateDict]:
    """Bring A's ticket and B's weights into one frame."""
    moved = transfer(ticket, alignment, weights)
    if frame == "init":
        return moved, weights
    back = whole(alignment).inverse()
    return back.apply(moved), back.apply(weights)


def _masked(weights: StateDict, mask: Mask) -> SparseStart:
    return SparseStart(mask.apply_to(weights), mask)


@method("dense", network="A", trains=False, sparse=False)
def dense(trained_a: StateDict) -> SparseStart:
    """The network trained without pruning: sparsity 0, the point of departure.

    Its mask keeps every weight: each tensor of two axes or more.
    """
    return SparseStart(trained_a, Mask.full({name: t for name, t in trained_a.items() if t.dim() > 1}))


@method("imp", network="A", trains=False)
def imp(ticket: Ticket, pruned_a: StateDict) -> SparseStart:
    """The end of network A's own iterative magnitude pruning at that sparsity, without a rewind."""
    return _masked(pruned_a, ticket.mask)


@method("imp-b")
def imp_b(mask_b: Mask, rewound_b: StateDict) -> SparseStart:
    """B rewound, with the mask that pruning B itself gives: the ceiling, at the full price of pruning B."""
    return _masked(rewound_b, mask_b)


@method("lth", network="A")
def lth(ticket: Ticket, rewound_a: StateDict) -> SparseStart:
    """A rewound, with A's own mask: the lottery ticket where it was found."""
    return _masked(rewound_a, ticket.mask)


@method("permuted")
def permuted(ticket: Ticket, rewound_b: StateDict, alignment: Carries, frame: Frame) -> SparseStart:
    """B rewound, with A's mask carried to B's neurons by the matched permutation."""
    ticket, weights = _carry(ticket, rewound_b, alignment, frame)
    return _masked(weights, ticket.mask)


@method("naive")
def naive(ticket: Ticket, rewound_b: StateDict) -> SparseStart:
    """B rewound, with A's mask as it is: the ticket moved without aligning."""
    return _masked(rewound_b, ticket.mask)


@method("random-permutation")
def random_permutation(ticket: Ticket, rewound_b: StateDict, random_alignment: Carries, frame: Frame) -> SparseStart:
    """Control: A's mask carried by a permutation drawn at random."""
    ticket, weights = _carry(ticket, rewound_b, random_alignment, frame)
    return _masked(weights, ticket.mask)


@method("layer-shuffle")
def shuffled(ticket: Ticket, rewound_b: StateDict, generator: torch.Generator) -> SparseStart:
    """Control: A's mask shuffled inside each layer, so that only the layers' densities remain."""
    return _masked(rewound_b, layer_shuffle(ticket.mask, generator))


@method("random", counts_alone=True)
def random(ticket: Ticket, rewound_b: StateDict, generator: torch.Generator) -> SparseStart:
    """Control: a uniformly random mask of the same density in every layer."""
    return _masked(rewound_b, random_mask(ticket.mask, ticket.mask.density, generator))


@method("erk", counts_alone=True)
def erk(ticket: Ticket, rewound_b: StateDict, generator: torch.Generator) -> SparseStart:
    """Control: a random mask with Erdős-Rényi-kernel densities, sparser where layers are larger."""
    return _masked(rewound_b, erk_mask(ticket.mask, ticket.mask.density, generator))


@method("signed")
def signed(ticket: Ticket, rewound_b: StateDict, alignment: Carries, frame: Frame) -> SparseStart:
    """As permuted, and each kept weight of B takes the sign of A's aligned weight; B's magnitudes stay."""
    ticket, weights = _carry(ticket, rewound_b, alignment, frame)
    return _masked(ticket.write_signs(weights), ticket.mask)


@method("naive-signed")
def naive_signed(ticket: Ticket, rewound_b: StateDict) -> SparseStart:
    """As naive, and each kept weight of B takes the sign of A's weight; B's magnitudes stay."""
    return _masked(ticket.write_signs(rewound_b), ticket.mask)
