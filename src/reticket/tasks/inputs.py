"""What runners of tasks read: the data and the model a task names, and networks, masks, alignments among its inputs."""

import json
import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from reticket.data import DataSource, Reading, open_dataset
from reticket.data.source import Split
from reticket.data.subset import drawn_indices
from reticket.errors import DataError
from reticket.experiment import Context, Result, Task
from reticket.models import build_model
from reticket.rng import generator_for
from reticket.symmetry import Alignment, Symmetry, load_into
from reticket.tasks.tensors import WEIGHTS, alignment_in, mask_in, stripped
from reticket.tickets import Mask

Input = TypeVar("Input")
_loading = threading.Lock()


def model_for(task: Task, *labels: str | int) -> nn.Module:
    """Return the experiment's model, initialised by the generator of `labels`."""
    model = task.spec["model"]
    return build_model(model["name"], generator=generator_for(*labels, "init"), **thawed(model["params"]))


def network_of(task: Task, result: Result) -> nn.Module:
    """Return the experiment's model with the weights of a stored network."""
    model = model_for(task, "structure")
    load_into(model, stripped(result.tensors, WEIGHTS))
    return model


def dataset_for(task: Task, context: Context) -> DataSource:
    """Return the data set of a task, opened once in a process.

    Raises:
        DataError: when it is not what it was when the task was planned.
    """
    data = task.spec["data"]
    chosen = tuple(data.get(key) for key in ("train_size", "test_size", "subset_seed"))
    params = json.dumps(thawed(data.get("params") or {}), sort_keys=True)
    dataset, found = _loaded(data["name"], context.settings.get("data"), params, *chosen)
    if found != data["fingerprint"]:
        raise DataError(
            f"data set '{data['name']}' is not what it was when the run was planned (sha256 {found[:8]}, planned "
            f"{data['fingerprint'][:8]}); its files or its loader changed, or the loader draws at random: run again"
        )
    return dataset


def reading_for(task: Task, dataset: DataSource, split: Split, context: Context) -> Reading:
    """Return a part of the data as batches: `samples` inputs drawn for this kind of task, or all."""
    drawn = drawn_indices(dataset.size(split), task.spec["samples"], task.kind, split)
    return Reading(dataset, split, task.spec["batch_size"], drawn, context.device)


def _loaded(*arguments: Any) -> tuple[DataSource, str]:
    with _loading:  # else threads that begin together would each read the same files
        return _read(*arguments)


@lru_cache(maxsize=2)
def _read(
    name: str, folder: str | None, params: str, train_size: int | None, test_size: int | None, subset_seed: int
) -> tuple[DataSource, str]:
    dataset = open_dataset(
        name,
        folder=Path(folder) if folder else None,
        train_size=train_size,
        test_size=test_size,
        subset_seed=subset_seed,
        params=json.loads(params),
    )
    return dataset, dataset.fingerprint()


def symmetry_in(inputs: Mapping[str, Result]) -> Symmetry:
    """Return the symmetry among a task's inputs."""
    return _parsed_symmetry(inputs["symmetry"].values["symmetry"])


@lru_cache(maxsize=4)
def _parsed_symmetry(text: str) -> Symmetry:
    return Symmetry.from_json(text)


def alignment_of(inputs: Mapping[str, Result], name: str = "alignment") -> Alignment:
    """Return the alignment of A onto B among a task's inputs."""
    return alignment_in(inputs[name], symmetry_in(inputs))


def checkpoints_in(inputs: Mapping[str, Input], side: str) -> list[Input]:
    """Return the networks to be matched on one side, among results or tasks: `a`, or `a0`, `a1` and so on."""
    if side in inputs:
        return [inputs[side]]
    return [inputs[f"{side}{n}"] for n in range(len(inputs)) if f"{side}{n}" in inputs]


def required_mask(result: Result) -> Mask:
    """Return the mask of a network that was planned to be sparse."""
    mask = mask_in(result)
    assert mask is not None, "a pruned network was planned here"
    return mask


def thawed(value: Any) -> Any:
    """Return a deeply frozen spec value as plain dicts and lists."""
    if isinstance(value, Mapping):
        return {key: thawed(item) for key, item in value.items()}
    return [thawed(item) for item in value] if isinstance(value, tuple) else value
