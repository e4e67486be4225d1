"""Matching the units of two networks: streaming moments, linear assignment, methods behind one call."""

from reticket.matching import activation, combined, controls, frank_wolfe, refine, weight
from reticket.matching.activation import MatchedAlignment
from reticket.matching.assessment import Assessment, GroupAssessment, assess
from reticket.matching.each import match_each
from reticket.matching.footprint import matching_memory
from reticket.matching.many import CommonFrame, match_many
from reticket.matching.registry import MATCHERS, Matcher, list_matchers, match, matcher, memory_options
from reticket.matching.seen import Activations
from reticket.matching.wider import assign_repeated, match_wider

__all__ = [
    "MATCHERS",
    "Activations",
    "Assessment",
    "CommonFrame",
    "GroupAssessment",
    "MatchedAlignment",
    "Matcher",
    "activation",
    "assess",
    "assign_repeated",
    "combined",
    "controls",
    "frank_wolfe",
    "list_matchers",
    "match",
    "match_each",
    "match_many",
    "match_wider",
    "matcher",
    "matching_memory",
    "memory_options",
    "refine",
    "weight",
]
