"""Reading weights, inputs, tickets and alignments that a user names; nothing is unpickled beyond tensors."""

from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from reticket.cli.models import resolve
from reticket.data import Reading, list_datasets, open_dataset
from reticket.data.subset import drawn_indices
from reticket.errors import ConfigError, DataError, InputError
from reticket.matching import HELD_BYTES, match
from reticket.symmetry import Alignment, discover, load_into
from reticket.tasks.presets import list_presets, load_config
from reticket.tickets import Ticket

BATCH = 500


def match_files(
    a: Path, b: Path, model: str, data: str, *, method: str, cost: str, samples: int, input_shape: str | None
) -> Alignment:
    """Return the alignment of the weights in file `a` onto those in file `b`.

    Raises:
        InputError: for a file that cannot be read or does not fit the model.
    """
    network_a, example = resolve(model, input_shape)
    network_b, _ = resolve(model, input_shape)
    load_into(network_a, read_weights(a))
    load_into(network_b, read_weights(b))
    inputs = read_inputs(data, model, samples)
    symmetry = discover(network_a, example)
    held = HELD_BYTES["cpu"]
    return match(network_a, network_b, symmetry, inputs.split(BATCH), method=method, cost=cost, held_bytes=held)


def transfer_file(ticket: Path, alignment: Path, output: Path) -> Ticket:
    """Move the mask or ticket in file `ticket` through the alignment in file `alignment` and write it to `output`.

    Raises:
        MaskError, AlignmentError: for a file that is no ticket or no alignment, or when they are of different models.
    """
    moved = Alignment.load(alignment).apply(Ticket.load(ticket))
    moved.save(output)
    return moved


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the state_dict in a `.safetensors` file, or in a torch file that holds tensors only.

    Raises:
        InputError: when there is none.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read as weights ({error})") from None
    except Exception as error:  # torch raises many types for a file that holds more than tensors
        first = str(error).splitlines()[0]
        raise InputError(f"{path}: holds more than tensors and is not unpickled ({first}); save a state_dict") from None
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise InputError(f"{path}: expected a state_dict (names to tensors), got {type(loaded).__name__}")
    return loaded


def read_inputs(data: str, model: str, samples: int) -> Tensor:
    """Return `samples` inputs or fewer, drawn from a data set (by name or folder) or from a file; shape `(n, ...)`.

    Raises:
        DataError, ConfigError: when there are none.
    """
    path = Path(data)
    if path.suffix in (".npy", ".safetensors"):
        inputs = _inputs_file(path)
        return inputs[drawn_indices(len(inputs), samples, "match", "train")]
    if data in list_datasets():
        dataset = open_dataset(data)
    elif model in list_presets():
        dataset = open_dataset(load_config(model)[1].data.name, folder=path)
    else:
        raise ConfigError(
            f"--data {data}: expected a data set ({', '.join(list_datasets())}), a .npy or .safetensors file of "
            "inputs, or with a preset as --model the folder of its data"
        )
    drawn = drawn_indices(dataset.size("train"), samples, "match", "train")
    return torch.cat([x for x, _ in Reading(dataset, "train", BATCH, drawn)])


def _inputs_file(path: Path) -> Tensor:
    try:
        if path.suffix == ".npy":
            return torch.from_numpy(np.load(path, allow_pickle=False)).float()
        tensors = safetensors.torch.load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be read as inputs ({error})") from None
    if len(tensors) != 1:
        raise DataError(f"{path}: expected one tensor of inputs, found {len(tensors)}: {', '.join(tensors)}")
    return next(iter(tensors.values())).float()


def write_text(path: Path, text: str) -> Path:
    """Write a text file and return its path.

    Raises:
        InputError: when it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); name a file in a folder that exists") from None
    return path
