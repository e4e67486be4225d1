"""Training in memory: SGD on one flat vector, schedules, masks that hold exactly, resumption to the same bits."""

from reticket.training.evaluation import Evaluation, evaluate, evaluation_batch, score
from reticket.training.loop import train
from reticket.training.recipe import Recipe, learning_rate, parse_position, steps_per_epoch
from reticket.training.state import EpochRecord, Progress, TrainResult, TrainState

__all__ = [
    "EpochRecord",
    "Evaluation",
    "Progress",
    "Recipe",
    "TrainResult",
    "TrainState",
    "evaluate",
    "evaluation_batch",
    "learning_rate",
    "parse_position",
    "score",
    "steps_per_epoch",
    "train",
]
