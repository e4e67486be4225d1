"""The methods an experiment compares: each a small function from (ticket, alignment, B) to an initial sparse network.

A new method is a function under `@method(...)`; the contract tests find it in `METHODS`.
"""

import copy
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import torch
from torch import nn

from reticket.options import Within
from reticket.symmetry import load_into
from reticket.tickets.control import erk_mask, layer_shuffle, random_mask
from reticket.tickets.criteria import criterion_of
from reticket.tickets.mask import Mask
from reticket.tickets.method_registry import METHODS, Frame, Method, MethodInputs, get_method, method
from reticket.tickets.polish import Room, polish
from reticket.tickets.sign_share import share_of_signs
from reticket.tickets.start import SparseStart
from reticket.tickets.target import Target
from reticket.tickets.ticket import Ticket
from reticket.tickets.transfer import Carries, transfer, whole
from reticket.types import StateDict

__all__ = ["METHODS", "Frame", "Method", "MethodInputs", "get_method", "method"]

Share = Annotated[float, Within(0, 1)]


def _masked(weights: StateDict, mask: Mask) -> SparseStart:
    return SparseStart(mask.apply_to(weights), mask)


def _framed(start: SparseStart, alignment: Carries, frame: Frame) -> SparseStart:
    """Bring what starts in B's units to A's, where the frame is the mask's."""
    if frame == "init":
        return start
    back = whole(alignment).inverse()
    return SparseStart(back.apply(start.weights), back.apply(start.mask))


def _network(model: nn.Module, weights: StateDict) -> nn.Module:
    """Return a module of its own with these weights."""
    network = copy.deepcopy(model)
    load_into(network, weights)
    return network


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
    moved = transfer(ticket, alignment, rewound_b)
    return _framed(_masked(rewound_b, moved.mask), alignment, frame)


@method("naive")
def naive(ticket: Ticket, rewound_b: StateDict) -> SparseStart:
    """B rewound, with A's mask as it is: the ticket moved without aligning."""
    return _masked(rewound_b, ticket.mask)


@method("random-permutation")
def random_permutation(ticket: Ticket, rewound_b: StateDict, random_alignment: Carries, frame: Frame) -> SparseStart:
    """Control: A's mask carried by a permutation drawn at random."""
    moved = transfer(ticket, random_alignment, rewound_b)
    return _framed(_masked(rewound_b, moved.mask), random_alignment, frame)


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


@method("one-shot")
def one_shot(trained_b: StateDict, target: Target) -> SparseStart:
    """Control: B trained to its end, pruned once by magnitude and retrained from there; no ticket is needed.

    It starts from B's weights at the end, not from those at the rewind point, which says how long it is retrained:
    learning-rate rewinding (Renda et al. 2020, arXiv 2003.02389) after one round, with the recipe of sparse training.
    """
    return _masked(trained_b, target.mask_of(trained_b))


@method("gradual", dynamics="gradual")
def gradual(rewound_b: StateDict, target: Target) -> SparseStart:
    """Control: B rewound with all its weights, pruned by magnitude more and more while it is trained, once.

    Zhu & Gupta 2017 (arXiv 1710.01878), by the dynamics of this name, whose options are its own; no ticket is needed.
    """
    return SparseStart(rewound_b, Mask.full({name: rewound_b[name] for name in target.names}))


@method("snip")
def snip(rewound_b: StateDict, target: Target, model: nn.Module, batches: Iterable[Any], loss: str) -> SparseStart:
    """Control: B rewound, pruned there by connection sensitivity |w g| on some training examples (SNIP).

    Lee et al. 2019 (arXiv 1810.02340) prune at initialisation, which rewind point 0 is. Norms use the statistics of the
    batches, as in training.
    """
    return _masked(rewound_b, target.mask_of(_network(model, rewound_b), "snip", batches=batches, loss=loss))


@method("grasp")
def grasp(rewound_b: StateDict, target: Target, model: nn.Module, batches: Iterable[Any], loss: str) -> SparseStart:
    """Control: B rewound, pruned there such that the gradient's flow stays, w H g on some training examples (GraSP).

    Wang et al. 2020 (arXiv 2002.07376) prune at initialisation and divide logits by a temperature of 200; here the loss
    is that of the training.
    """
    return _masked(rewound_b, target.mask_of(_network(model, rewound_b), "grasp", batches=batches, loss=loss))


@method("synflow")
def synflow(rewound_b: StateDict, target: Target, model: nn.Module, example_inputs: Any) -> SparseStart:
    """Control: B rewound, pruned there by synaptic flow in 100 rounds, without data (SynFlow).

    Tanaka et al. 2020 (arXiv 2006.05467) prune at initialisation, which rewind point 0 is.
    """
    mask = target.mask_of(_network(model, rewound_b), "synflow", example_inputs=example_inputs)
    return _masked(rewound_b, mask)


@method("signed", only_where={"correlations": ("by", "correlation")})
def signed(
    ticket: Ticket,
    rewound_b: StateDict,
    alignment: Carries,
    correlations: StateDict | None,
    frame: Frame,
    *,
    share: Share = 1.0,
    by: Literal["magnitude", "correlation"] = "magnitude",
) -> SparseStart:
    """As permuted, and kept weights of B take the sign of A's aligned weight; B's magnitudes stay.

    A share of each layer's kept weights does: those of which B itself is least sure, by the magnitude it has at k, or
    those between the units that are matched best, by their correlation. A share of 0 is "permuted".
    """
    moved = transfer(ticket, alignment, rewound_b)
    scores = correlations
    if scores is None or by == "magnitude":
        scores = {name: -rewound_b[name].abs() for name in moved.mask}
    signs = share_of_signs(moved, scores, share)
    return _framed(_masked(signs.write_signs(rewound_b), moved.mask), alignment, frame)


@method("naive-signed")
def naive_signed(ticket: Ticket, rewound_b: StateDict, *, share: Share = 1.0) -> SparseStart:
    """As naive, and kept weights of B take the sign of A's weight; B's magnitudes stay.

    A share of each layer's kept weights does, those of the least magnitude in B at k; a share of 0 is "naive".
    """
    scores = {name: -rewound_b[name].abs() for name in ticket.mask}
    return _masked(share_of_signs(ticket, scores, share).write_signs(rewound_b), ticket.mask)


@method("polished", only_where={"model": ("by", "gradient"), "batches": ("by", "gradient")}, single=True)
def polished(
    ticket: Ticket,
    pruned_a: StateDict,
    trained_a: StateDict,
    rewound_b: StateDict,
    alignment: Carries,
    model: nn.Module | None,
    batches: Iterable[Any] | None,
    loss: str,
    frame: Frame,
    *,
    share: Share = 0.1,
    by: Literal["magnitude", "gradient"] = "magnitude",
    scope: Room = "layer",
) -> SparseStart:
    """As permuted, and which weights are kept is decided anew at k, by ranks of A's aligned weights and of B's.

    Of B's weights count the magnitudes |w| there, or |w g| with the gradient on some training examples, of the dense
    network; see `polish` for the score. A share of 0 is "permuted"; a share of 1 asks B alone.
    """
    moved, carry = transfer(ticket.mask, alignment, rewound_b), whole(alignment).apply
    weights = {name: rewound_b[name] for name in moved}
    if by == "gradient" and model is not None:
        sensitivity = criterion_of("snip")
        scores = sensitivity.scores(_network(model, rewound_b), weights, {"batches": batches, "loss": loss})
    else:
        scores = {name: weight.abs() for name, weight in weights.items()}
    mask = polish(moved, carry(pruned_a), carry(trained_a), scores, share, scope)
    return _framed(_masked(rewound_b, mask), alignment, frame)
