"""How long a model takes for one image on this machine: real training steps and evaluations, on made-up inputs."""

import json
import multiprocessing
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from reticket.data import Dataset
from reticket.errors import OF_OTHERS, ModelError, ReticketError
from reticket.experiment.frozen import text_of
from reticket.forward import call
from reticket.lookup import raised_in
from reticket.models import build_model
from reticket.rng import generator_for
from reticket.training import Placement, Recipe, TrainingRun, evaluate

LONG_ENOUGH = 0.4  # seconds; a batch is not made larger when a step takes as long
STEPS = 3
OF_NO_WEIGHT: Mapping[str, Any] = {
    "epochs": 1,
    "lr": 1e-3,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "schedule": "constant",
    "schedule_options": {},
    "warmup_epochs": 0,
    "milestones": (),
    "gamma": 0.1,
    "train": None,
}
"""Of a recipe, what does not decide how long a step takes, as it is while steps are timed."""
OBJECTIVES = ("classification", "language-model", "regression")  # that made-up labels are made for


def step_of(recipe: Mapping[str, Any]) -> str:
    """Return what decides how long a step takes as one text.

    Args:
        recipe: what is decisive of it, as in the spec of a task.

    >>> step_of({"epochs": 5, "lr": 0.1, "batch_size": 64}) == step_of({"epochs": 9, "lr": 0.2, "batch_size": 64})
    True
    """
    return _step_of(text_of(recipe))


@lru_cache(maxsize=64)
def _step_of(text: str) -> str:
    return text_of({name: value for name, value in json.loads(text).items() if name not in OF_NO_WEIGHT})


@dataclass(frozen=True)
class Speed:
    """Seconds for one image, in training (forward, backward and step) and in evaluation.

    Args:
        training: seconds for an image in a training step.
        evaluation: seconds for an image in evaluation.
        batch_size: at which training was timed, that of the experiment or as large as could be timed quickly.
        jobs: processes that were timed side by side; the times are those of one of them.
    """

    training: float
    evaluation: float
    batch_size: int
    jobs: int = 1


@dataclass(frozen=True)
class Workload:
    """What is timed.

    Args:
        model: name of the model.
        params: of the model.
        input_shape: of one input.
        classes: number of classes.
        recipe: of the training: its batch size, precision, optimiser and whatever else a step of it does.
        augment: whether inputs are augmented as the recipe says.
        tokens: whether an input is a row of tokens, of which there are as many kinds as classes.
    """

    model: str
    params: Mapping[str, Any]
    input_shape: tuple[int, ...]
    classes: int
    recipe: Recipe
    augment: bool = False
    tokens: bool = False


def measure(work: Workload, *, jobs: int = 1, threads: int = 1, device: str = "cpu") -> Speed:
    """Time a model as a run would use it: `jobs` processes side by side, each with `threads` threads on `device`.

    Args:
        work: the model and its inputs.
        jobs: processes.
        threads: of each.
        device: where they compute.

    Returns:
        The mean of the processes.
    """
    if jobs == 1:
        return _measure(work, threads, device)
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs) as pool:
        found = pool.starmap(_measure, [(work, threads, device)] * jobs, chunksize=1)
    training, evaluation = (sum(getattr(speed, name) for speed in found) / jobs for name in ("training", "evaluation"))
    return Speed(training, evaluation, min(speed.batch_size for speed in found), jobs)


def _measure(work: Workload, threads: int, device: str) -> Speed:
    model = build_model(work.model, generator=generator_for("timing"), **dict(work.params))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _timed(model, work, device)
    except ReticketError:
        raise
    except OF_OTHERS as reason:
        why = raised_in(model, reason)
        raise ModelError(
            f"model '{work.model}' does not train on inputs of shape {work.input_shape}: {why}"
        ) from reason
    finally:
        torch.set_num_threads(before)


def _timed(model: nn.Module, work: Workload, device: str) -> Speed:
    """Return the speed of a model at batches as large as could be timed quickly."""
    size = min(work.recipe.batch_size, 4)
    while True:
        seconds = _training_step(model, work, size, device)
        if size == work.recipe.batch_size or seconds > LONG_ENOUGH:
            break
        size = min(work.recipe.batch_size, 4 * size if seconds < LONG_ENOUGH / 8 else 2 * size)
    many = _made_up(model, work, max(size, min(2048, int(LONG_ENOUGH * size / seconds))))
    options: dict[str, Any] = {"loss": "regression"} if _objective(work) == "regression" else {}
    evaluations = (_seconds(lambda: evaluate(model, many, "train", device=device, **options), device) for _ in range(2))
    return Speed(seconds / size, min(evaluations) / many.size("train"), size)


def _objective(work: Workload) -> str:
    """Return what is minimised while steps are timed: the recipe's objective, unless its labels cannot be made up."""
    if work.recipe.objective in OBJECTIVES:
        return work.recipe.objective
    return "language-model" if work.tokens else "classification"


def _training_step(model: nn.Module, work: Workload, size: int, device: str) -> float:
    """Return the seconds of one step, without the first, which sets things up; all are of one epoch."""
    recipe = replace(
        work.recipe,
        **OF_NO_WEIGHT,
        batch_size=size,
        accumulate=min(work.recipe.accumulate, size),
        objective=_objective(work),
        **({} if work.augment else {"augment": False, "augment_options": {}}),
    )
    run = TrainingRun(
        model, _made_up(model, work, (1 + STEPS) * size), recipe, rng_label=("timing",), where=Placement(device)
    )
    run.go(1)
    return _seconds(lambda: run.go(1 + STEPS), device) / STEPS


def _seconds(work: Callable[[], object], device: str) -> float:
    started = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _made_up(model: nn.Module, work: Workload, size: int) -> Dataset:
    """Return so many random inputs, with labels that the model can be trained for."""
    generator = generator_for("timing inputs")
    images = len(work.input_shape) == 3
    shape = (size, *work.input_shape)
    if work.tokens:
        x = torch.randint(work.classes, shape, generator=generator, device="cpu")
    elif images:
        x = torch.randint(256, shape, dtype=torch.uint8, generator=generator, device="cpu")
    else:
        x = torch.rand(shape, generator=generator, device="cpu")
    wanted = _objective(work)
    if wanted == "regression":  # labels of the form that the model gives
        first = next(model.parameters(), x)
        one = call(model, x[:1].to(first.device, first.dtype))
        assert isinstance(one, Tensor)
        y = torch.rand((size, *one.shape[1:]), generator=generator, device="cpu")
    else:
        labelled = shape if wanted == "language-model" else (size,)
        y = torch.randint(work.classes, labelled, generator=generator, device="cpu")
    per_channel = work.input_shape[0] if images else 1
    return Dataset(
        name="timing",
        train_x=x,
        train_y=y,
        test_x=x[:1],
        test_y=y[:1],
        classes=tuple(map(str, range(work.classes))),
        mean=(0.5,) * per_channel,
        std=(0.25,) * per_channel,
        augmentation="flip-crop" if images and work.augment else "none",
    )
