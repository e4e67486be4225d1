"""Analysis: what the numbers of trained networks say, in percent and nats, with spread."""

from reticket.analysis.classes import per_class_accuracy, per_class_change
from reticket.analysis.diversity import Diversity, diversity
from reticket.analysis.gap import GapClosed, gap_closed
from reticket.analysis.overlap import MaskOverlap, Overlap, overlap
from reticket.analysis.stats import Stat, mean_interval

__all__ = [
    "Diversity",
    "GapClosed",
    "MaskOverlap",
    "Overlap",
    "Stat",
    "diversity",
    "gap_closed",
    "mean_interval",
    "overlap",
    "per_class_accuracy",
    "per_class_change",
]
