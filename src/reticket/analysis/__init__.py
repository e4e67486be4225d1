"""Analysis: what the numbers of trained networks say, in percent and nats, with spread."""

from reticket.analysis.claims import Claim, holm_adjusted, paired_t_test, settle_claims
from reticket.analysis.class_tests import ClassTest, changed_classes
from reticket.analysis.classes import per_class_accuracy, per_class_change
from reticket.analysis.difference import PairedDifference, is_settled, paired_difference, seeds_needed
from reticket.analysis.diversity import Diversity, diversity
from reticket.analysis.exemplars import Exemplars, accuracy_on, exemplars, modal_prediction
from reticket.analysis.front import pareto_front
from reticket.analysis.gap import GapClosed, gap_closed
from reticket.analysis.overlap import MaskOverlap, Overlap, overlap
from reticket.analysis.stats import Stat, mean_interval, welch_interval

__all__ = [
    "Claim",
    "ClassTest",
    "Diversity",
    "Exemplars",
    "GapClosed",
    "MaskOverlap",
    "Overlap",
    "PairedDifference",
    "Stat",
    "accuracy_on",
    "changed_classes",
    "diversity",
    "exemplars",
    "gap_closed",
    "holm_adjusted",
    "is_settled",
    "mean_interval",
    "modal_prediction",
    "overlap",
    "paired_difference",
    "paired_t_test",
    "pareto_front",
    "per_class_accuracy",
    "per_class_change",
    "seeds_needed",
    "settle_claims",
    "welch_interval",
]
