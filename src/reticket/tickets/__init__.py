"""Tickets: masks, magnitude pruning, iterative magnitude pruning, sparse training, and the methods compared."""

from reticket.tickets.by_name import weights_of
from reticket.tickets.control import erk_counts, erk_mask, layer_shuffle, random_mask
from reticket.tickets.counts import kept_count
from reticket.tickets.density import true_density
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
from reticket.tickets.prunable import prunable
from reticket.tickets.prune import prune_magnitude
from reticket.tickets.pruning import Pruning
from reticket.tickets.sparse import sparse
from reticket.tickets.start import SparseStart
from reticket.tickets.ticket import Ticket, signs_of

__all__ = [
    "METHODS",
    "STYLES",
    "Chain",
    "ChainLeaf",
    "Mask",
    "Method",
    "MethodInputs",
    "Pruning",
    "Round",
    "SparseStart",
    "Style",
    "Ticket",
    "chain",
    "erk_counts",
    "erk_mask",
    "get_method",
    "iterative_magnitude_pruning",
    "kept_count",
    "layer_shuffle",
    "method",
    "prunable",
    "prune_magnitude",
    "prune_round",
    "random_mask",
    "signs_of",
    "sparse",
    "true_density",
    "weights_of",
]
