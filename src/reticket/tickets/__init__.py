"""Tickets: masks, magnitude pruning, iterative magnitude pruning, sparse training, and the methods compared."""

from reticket.tickets.by_name import weights_of
from reticket.tickets.control import erk_counts, erk_mask, layer_shuffle, random_mask
from reticket.tickets.counts import kept_count
from reticket.tickets.criteria import CRITERIA, Criterion, criterion
from reticket.tickets.density import Coverage, coverage, true_density
from reticket.tickets.density_schedules import Cyclic, Gradual, OneShot, Schedule
from reticket.tickets.during import Pruner, sparsify
from reticket.tickets.evolving import EvolvingMask, evolving
from reticket.tickets.imp import (
    STYLES,
    Chain,
    ChainLeaf,
    Round,
    Style,
    chain,
    iterative_magnitude_pruning,
    prune_round,
)
from reticket.tickets.mask import Mask
from reticket.tickets.methods import METHODS, Method, MethodInputs, get_method, method
from reticket.tickets.movement import Movement
from reticket.tickets.polish import polish
from reticket.tickets.prunable import known_prunable, prunable
from reticket.tickets.prune import prune, prune_magnitude
from reticket.tickets.pruning import Pruning
from reticket.tickets.sign_in import Products, sign_in
from reticket.tickets.sign_share import share_of_signs
from reticket.tickets.sparse import sparse
from reticket.tickets.start import SparseStart
from reticket.tickets.target import Target
from reticket.tickets.ticket import Ticket, signs_of
from reticket.tickets.transfer import transfer
from reticket.tickets.widening import widen

__all__ = [
    "CRITERIA",
    "METHODS",
    "STYLES",
    "Chain",
    "ChainLeaf",
    "Coverage",
    "Criterion",
    "Cyclic",
    "EvolvingMask",
    "Gradual",
    "Mask",
    "Method",
    "MethodInputs",
    "Movement",
    "OneShot",
    "Products",
    "Pruner",
    "Pruning",
    "Round",
    "Schedule",
    "SparseStart",
    "Style",
    "Target",
    "Ticket",
    "chain",
    "coverage",
    "criterion",
    "erk_counts",
    "erk_mask",
    "evolving",
    "get_method",
    "iterative_magnitude_pruning",
    "kept_count",
    "known_prunable",
    "layer_shuffle",
    "method",
    "polish",
    "prunable",
    "prune",
    "prune_magnitude",
    "prune_round",
    "random_mask",
    "share_of_signs",
    "sign_in",
    "signs_of",
    "sparse",
    "sparsify",
    "transfer",
    "true_density",
    "weights_of",
    "widen",
]
