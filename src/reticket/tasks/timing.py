"""How long a model takes for one image on this machine: real training steps and evaluations, on made-up inputs."""

import multiprocessing
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from reticket.data import Dataset
from reticket.errors import OF_OTHERS, ModelError, ReticketError
from reticket.lookup import raised
from reticket.models import build_model
from reticket.rng import generator_for
from reticket.training import Placement, Recipe, TrainingRun, evaluate

LONG_ENOUGH = 0.4  # seconds; a batch is not made larger when a step takes as long
STEPS = 3
NOT_TIMED: Mapping[str, Any] = {
    "schedule": "constant",
    "schedule_options": {},
    "warmup_epochs": 0,
    "milestones": (),
    "accumulate": 1,
    "train": None,
    "augment_options": {},
    "label_smoothing": 0.0,
    "mixup": None,
    "cutmix": None,
}
"""Of a recipe, what costs a step nothing to speak of, or does not fit a few steps on made-up inputs."""


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
        augment: whether images are flipped and cropped.
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
        why = raised(reason, type(model).forward)
        raise ModelError(
            f"model '{work.model}' does not train on inputs of shape {work.input_shape}: {why}"
        ) from reason
    finally:
        torch.set_num_threads(before)


def _timed(model: nn.Module, work: Workload, device: str) -> Speed:
    """Return the speed of a model at batches as large as could be timed quickly."""
    size = min(work.recipe.batch_size, 4)
    while True:
        data = _made_up(work, size)
        seconds = _training_step(model, data, size, work, device)
        if size == work.recipe.batch_size or seconds > LONG_ENOUGH:
            break
        size = min(work.recipe.batch_size, 4 * size if seconds < LONG_ENOUGH / 8 else 2 * size)
    many = _made_up(work, max(size, min(2048, int(LONG_ENOUGH * size / seconds))))
    evaluation = min(_seconds(lambda: evaluate(model, many, "train", device=device), device) for _ in range(2))
    return Speed(seconds / size, evaluation / many.size("train"), size)


def _training_step(model: nn.Module, data: Dataset, size: int, work: Workload, device: str) -> float:
    """Return the seconds of one step, without the first, which sets things up."""
    recipe = replace(
        work.recipe,
        epochs=1 + STEPS,
        batch_size=size,
        lr=1e-3,
        augment=work.augment,
        objective="language-model" if work.tokens else "classification",
        **NOT_TIMED,
    )
    run = TrainingRun(model, data, recipe, rng_label=("timing",), where=Placement(device))
    run.go(1)
    return _seconds(lambda: run.go(1 + STEPS), device) / STEPS


def _seconds(work: Callable[[], object], device: str) -> float:
    started = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _made_up(work: Workload, size: int) -> Dataset:
    """Return random inputs: as many as one batch, so that an epoch is a step."""
    generator = generator_for("timing inputs")
    images = len(work.input_shape) == 3
    shape = (size, *work.input_shape)
    if work.tokens:
        x = torch.randint(work.classes, shape, generator=generator, device="cpu")
    elif images:
        x = torch.randint(256, shape, dtype=torch.uint8, generator=generator, device="cpu")
    else:
        x = torch.rand(shape, generator=generator, device="cpu")
    y = torch.randint(work.classes, shape if work.tokens else (size,), generator=generator, device="cpu")
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
