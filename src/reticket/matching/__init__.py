"""Matching the units of two networks: streaming moments, linear assignment, methods behind one call."""

from reticket.matching import activation
from reticket.matching.activation import HELD_BYTES, MatchedAlignment, matching_bytes
from reticket.matching.registry import MATCHERS, list_matchers, match, matcher

__all__ = [
    "HELD_BYTES",
    "MATCHERS",
    "MatchedAlignment",
    "activation",
    "list_matchers",
    "match",
    "matcher",
    "matching_bytes",
]
