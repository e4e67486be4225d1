"""Reading the inputs that a user names: a data set, its folder, or a file of numbers; nothing is unpickled."""

from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from reticket.data import Reading, list_datasets, open_dataset
from reticket.data.bounded import check_plain
from reticket.data.subset import drawn_indices
from reticket.errors import ConfigError, DataError
from reticket.files import said
from reticket.tasks.presets import list_presets, load_config

BATCH = 500


def read_inputs(data: str, model: str, samples: int) -> Tensor:
    """Return `samples` inputs or fewer, drawn from a data set (by name or folder) or from a file; shape `(n, ...)`.

    Floating-point numbers come as float32, integers as int64, bytes as they are.

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
        check_plain(path)
        inputs = _array(path) if path.suffix == ".npy" else _only_tensor(path)
    except DataError:
        raise
    except Exception as error:  # numpy and safetensors raise many types for a damaged head
        raise DataError(f"{path}: cannot be read as inputs ({said(error)})") from None
    if inputs.dim() == 0 or inputs.numel() == 0:
        raise DataError(
            f"{path}: expected inputs of shape (n, ...) as numbers, found {inputs.dtype} of shape "
            f"{tuple(inputs.shape)}; write one array whose first axis is the examples"
        )
    if inputs.is_floating_point():
        return inputs.float()
    return inputs if inputs.dtype == torch.uint8 else inputs.long()


def _array(path: Path) -> Tensor:
    array = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped, so that no more than the file is read
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise DataError(f"{path}: expected an array of real numbers, found {kind}")
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))


def _only_tensor(path: Path) -> Tensor:
    tensors = safetensors.torch.load_file(path)
    if len(tensors) != 1:
        raise DataError(f"{path}: expected one tensor of inputs, found {len(tensors)}: {', '.join(tensors)}")
    found = next(iter(tensors.values()))
    if found.is_complex():
        raise DataError(f"{path}: expected a tensor of real numbers, found {found.dtype}")
    return found
