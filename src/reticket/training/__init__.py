"""Training in memory: optimisers on one flat vector, schedules, exact masks, resumption to the same bits."""

from reticket.training.augmentations import AUGMENTATIONS, augmentation, find_augmentation
from reticket.training.callbacks import LogMetrics, MetricsLogger, Notices, ReportProgress
from reticket.training.evaluation import Evaluation, evaluate, evaluation_batch, score
from reticket.training.flat import FlatParameters
from reticket.training.loop import Span, train
from reticket.training.optimisers import OPTIMISERS, GrowingOptimiser, Optimiser, optimiser
from reticket.training.own import OwnTraining
from reticket.training.placement import Placement
from reticket.training.rate_schedules import SCHEDULES, Moment, schedule
from reticket.training.recipe import Recipe, learning_rate, parse_position, steps_per_epoch
from reticket.training.resume import Resume
from reticket.training.run import Callback, Observer, TrainingRun
from reticket.training.sgd import SGD
from reticket.training.sign_in import PARAMETRIZATIONS, SignIn
from reticket.training.state import EpochRecord, Progress, TrainResult, TrainState
from reticket.training.torch_optimisers import find_optimiser
from reticket.training.watched import WatchedRun

__all__ = [
    "AUGMENTATIONS",
    "OPTIMISERS",
    "PARAMETRIZATIONS",
    "SCHEDULES",
    "SGD",
    "Callback",
    "EpochRecord",
    "Evaluation",
    "FlatParameters",
    "GrowingOptimiser",
    "LogMetrics",
    "MetricsLogger",
    "Moment",
    "Notices",
    "Observer",
    "Optimiser",
    "OwnTraining",
    "Placement",
    "Progress",
    "Recipe",
    "ReportProgress",
    "Resume",
    "SignIn",
    "Span",
    "TrainResult",
    "TrainState",
    "TrainingRun",
    "WatchedRun",
    "augmentation",
    "evaluate",
    "evaluation_batch",
    "find_augmentation",
    "find_optimiser",
    "learning_rate",
    "optimiser",
    "parse_position",
    "schedule",
    "score",
    "steps_per_epoch",
    "train",
]
