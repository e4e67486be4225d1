"""Peak memory: ImageNet's loader for two numbers of images, and the work of a task of every CIFAR preset.

`python -m benchmarks.memory` writes results/memory.json. Each figure is the largest resident size of a process of its
own that does nothing else: for the loader, with torch and all imports, after batches of training and of evaluation; for
a preset, with the whole data set (made up, of the published size), after steps of training under a mask, evaluation,
discovery, matching and, where the preset has barriers, REPAIR, in the preset's own batches. Presets' peaks are also
given as they stood after each of these.
"""

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from reticket.connectivity import barrier
from reticket.data import Dataset, Reading, describe, imagenet, open_dataset
from reticket.experiment import ExecutionConfig
from reticket.experiment.memory import keep_freed_memory
from reticket.matching import match, memory_options
from reticket.models import build_model
from reticket.rng import generator_for
from reticket.symmetry import discover
from reticket.tasks.config import Config
from reticket.tasks.presets import list_presets, load_config
from reticket.tasks.running import environment_of
from reticket.tasks.sweep import variants
from reticket.training import TrainingRun, evaluate, evaluation_batch
from reticket.training.batches import training_batches
from reticket.training.snapshot import state_of

OUT = Path(__file__).parent / "results" / "memory.json"
PRESET = "imagenet-resnet50"  # whose batches the loader makes
PARTS = {"a tenth": 10, "all of it": 1}  # of ImageNet
DIFFERENT = 64  # images; all others are further names of these
BATCHES = 3
STEPS = 2  # of training
IMAGES = 500  # evaluated, and read by REPAIR
MATCHED = 128  # images, in parts; more parts take no more memory
GB = 1e9
GOAL = 2.0  # GB


def main() -> None:
    """Measure the loader, the presets, or both; what is not asked for stays as it was."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--only", choices=("loader", "presets"))
    parser.add_argument(
        "--scratch", type=Path, help="folder for 1.3 million names of images; a temporary one without it"
    )
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    found: dict[str, Any] = json.loads(arguments.out.read_text("utf-8")) if arguments.out.exists() else {}
    if arguments.only != "presets":
        found["loader"] = measure_loader(arguments.scratch)
        write(found, arguments.out)
    if arguments.only != "loader":
        found["presets"] = {}
        for name, config in cifar_configs().items():
            found["presets"][name] = alone(preset_work, config.model_dump(mode="json"))
            print(f"{name}: {found['presets'][name]['peak'] / GB:.2f} GB {found['presets'][name]['until']}", flush=True)
            write(found, arguments.out)


def write(found: Mapping[str, Any], out: Path) -> None:
    """Keep the figures with versions and hardware."""
    whole = {"goal": GOAL * GB, **found, "environment": environment_of(ExecutionConfig())}
    out.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def alone(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Return what `work` returns, done in a process of its own, with its peak in bytes and its seconds."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (work, arguments))


def _measured(work: Callable[..., dict[str, Any]], arguments: tuple[Any, ...]) -> dict[str, Any]:
    torch.set_num_threads(1)
    keep_freed_memory()  # as every process that carries out tasks does
    begun = time.monotonic()
    said = work(*arguments)
    return said | {"peak": peak(), "seconds": round(time.monotonic() - begun, 1)}


def peak() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure_loader(scratch: Path | None) -> dict[str, Any]:
    """Return the peaks for a tenth of ImageNet's names and for all, and the bytes that one more image takes."""
    found: dict[str, Any] = {}
    for part, divisor in PARTS.items():
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            counts = {split: count // divisor for split, count in imagenet.COUNTS.items()}
            make_names(Path(folder), counts)
            found[part] = counts | alone(loader_work, folder, counts, load_config(PRESET)[1].dense.batch_size)
        print(f"loader, {counts['train']:,} images: {found[part]['peak'] / GB:.2f} GB", flush=True)
    few, many = (found[part] for part in PARTS)
    found["bytes_an_image"] = (many["peak"] - few["peak"]) / (many["train"] - few["train"])
    return found


def make_names(folder: Path, counts: Mapping[str, int]) -> None:
    """Write a few JPEGs of ImageNet's usual size and give them as many names as ImageNet has, in folders of classes."""
    draw = np.random.default_rng(0)
    for number in range(DIFFERENT):
        coarse = Image.fromarray(draw.integers(0, 256, (38, 50, 3), dtype=np.uint8))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)
    for split, count in counts.items():
        for label in range(imagenet.CLASSES):
            place = folder / split / f"n{label:08d}"
            place.mkdir(parents=True)
            for number in range(label, count, imagenet.CLASSES):
                os.link(folder / f"{number % DIFFERENT}.jpg", place / f"n{label:08d}_{number}.JPEG")


def loader_work(folder: str, counts: Mapping[str, int], batch_size: int) -> dict[str, Any]:
    """Open ImageNet and take batches of training, then of evaluation."""
    imagenet.COUNTS.update(counts)
    source = open_dataset("imagenet", folder=Path(folder))
    options: Any = {"augment": True, "dtype": torch.float32, "device": torch.device("cpu"), "channels_last": True}
    begun, seen = time.monotonic(), 0
    for x, _ in islice(training_batches(source, batch_size, ("memory",), **options).epoch(0), BATCHES):
        seen += len(x)
        del x  # as training does
    rate = seen / (time.monotonic() - begun)
    for x, _ in islice(source.stored("test", batch_size), BATCHES):
        source.normalise(x)
    return {"batch_size": batch_size, "batches": BATCHES, "images_a_second": round(rate)}


def cifar_configs() -> dict[str, Config]:
    """Return the experiments on CIFAR: each model and batch size once, with REPAIR where a preset has it for them."""
    found: dict[str, Config] = {}
    for preset in list_presets():
        for variant in variants(load_config(preset)[1]):
            config = variant.config
            same = (config.model.name, config.model.params.get("width", 1), config.dense.batch_size)
            name = "{} of width {}, batches of {}".format(*same)
            if config.data.name.startswith("cifar") and (config.checks.pairs or name not in found):
                found[name] = config
    return found


def preset_work(values: Mapping[str, Any]) -> dict[str, Any]:
    """Do a little of all that the tasks of an experiment do, with the bounds that they set."""
    until = {}
    config = Config.model_validate(values)
    data = made_up(config.data.name)
    until["data"] = peak()
    recipe = config.dense
    a, b = (
        build_model(config.model.name, generator=generator_for("memory", name), **config.model.params) for name in "AB"
    )
    mask = {
        name: torch.rand(p.shape, generator=generator_for(name)) < 0.1
        for name, p in a.named_parameters()
        if p.dim() > 1
    }
    run = TrainingRun(a, data, recipe, rng_label=("memory",), mask=mask)
    run.go(STEPS)
    state = state_of(run)
    del run
    until["training"] = peak()
    evaluate(a, data.with_test_subset(torch.arange(IMAGES)), weights=state.weights)
    until["evaluation"] = peak()
    symmetry = discover(a, torch.zeros(2, *data.input_shape))
    few = torch.arange(min(IMAGES, config.matching.batch_size))
    batches = Reading(data, "train", len(few), few)
    match(a, b, symmetry, ((x[:MATCHED], y) for x, y in batches), stop=None, **memory_options("activation", "cpu"))
    until["matching"] = peak()
    if config.checks.pairs:
        test = Reading(data, "test", evaluation_batch(a, data.input_shape), few)
        barrier(a, state.weights, b.state_dict(), test, (0, 0.5, 1), repair=True, repair_batches=batches)
        until["barrier"] = peak()
    return {
        "until": {name: round(most / GB, 2) for name, most in until.items()},  # GB
        "data": config.data.name,
        "model": config.model.model_dump(),
        "batch_size": recipe.batch_size,
        "steps": STEPS,
    }


def made_up(name: str) -> Dataset:
    """Return random images, as many as the data set has."""
    about = describe(name)
    draw = generator_for("memory", name)
    x, y = {}, {}
    for split, count in (("train", about.train), ("test", about.test)):
        x[split] = torch.randint(256, (count, *about.input_shape), dtype=torch.uint8, generator=draw)
        y[split] = torch.randint(about.classes, (count,), generator=draw)
    classes = tuple(map(str, range(about.classes)))
    three = ((0.5,) * 3, (0.25,) * 3)
    return Dataset(name, x["train"], y["train"], x["test"], y["test"], classes, *three, augmentation="flip-crop")


if __name__ == "__main__":
    main()
