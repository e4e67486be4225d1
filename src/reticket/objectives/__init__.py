"""What a model is trained and judged by: a loss and a metric on a batch, by name or functions of the user's."""

from reticket.objectives import members
from reticket.objectives.measures import Function, Measure, Objective
from reticket.objectives.prediction import Prediction, Tally, logits_of
from reticket.objectives.registry import METRICS, OBJECTIVES, chosen_objective, objective_for, objective_of

__all__ = [
    "METRICS",
    "OBJECTIVES",
    "Function",
    "Measure",
    "Objective",
    "Prediction",
    "Tally",
    "chosen_objective",
    "logits_of",
    "members",
    "objective_for",
    "objective_of",
]
