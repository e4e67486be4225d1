"""Permutation symmetries of any torch model: found by tracing, proven numerically, applied to weights and masks."""

from reticket.symmetry.alignment import Alignment, Quality, identity_alignment, random_alignment
from reticket.symmetry.discover import discover
from reticket.symmetry.rules import Operator, Refusal, rule
from reticket.symmetry.sites import Site, capture
from reticket.symmetry.structure import Group, Member
from reticket.symmetry.symmetry import Symmetry
from reticket.symmetry.traced import Inside
from reticket.symmetry.verify import verify
from reticket.symmetry.widening import Widening
from reticket.symmetry.writing import load_into

__all__ = [
    "Alignment",
    "Group",
    "Inside",
    "Member",
    "Operator",
    "Quality",
    "Refusal",
    "Site",
    "Symmetry",
    "Widening",
    "capture",
    "discover",
    "identity_alignment",
    "load_into",
    "random_alignment",
    "rule",
    "verify",
]
