"""Matching the units of two networks: streaming moments, linear assignment, methods behind one call."""

from reticket.matching import activation
from reticket.matching.activation import MatchedAlignment, matching_bytes
from reticket.matching.each import match_each
from reticket.matching.registry import MATCHERS, Matcher, list_matchers, match, matcher, memory_options

__all__ = [
    "MATCHERS",
    "MatchedAlignment",
    "Matcher",
    "activation",
    "list_matchers",
    "match",
    "match_each",
    "matcher",
    "matching_bytes",
    "memory_options",
]
