"""Weights written as everything that reads safetensors takes them, the Hub's layout among it."""

import os
from pathlib import Path

import safetensors.torch
from torch import Tensor

from reticket.dense import is_dense
from reticket.errors import InputError
from reticket.files import said, write_file
from reticket.types import StateDict
from reticket.untrusted import one_line
from reticket.weight_files.on_disk import SAFE
from reticket.weights import Weights, state_of


def weights_target(target: str | Path) -> Path:
    """Return the file in which weights are written; to be asked before a long computation.

    Args:
        target: a file that ends in `.safetensors`; or a folder, with a / at its end or one that is there, in which it
            is `model.safetensors`, as the Hub has it.

    Raises:
        InputError: for another ending.

    >>> weights_target("merged/").as_posix()
    'merged/model.safetensors'
    """
    text = os.fspath(target)
    path = Path(text) / SAFE if text.endswith("/") or Path(text).is_dir() else Path(text)
    if path.suffix != ".safetensors":
        raise InputError(
            f"{path}: weights are written as .safetensors; give such a name with -o, or a folder with / at its end"
        )
    return path


def write_weights(target: str | Path, weights: Weights) -> Path:
    """Write weights for `read_weights` and everything that reads safetensors; the file is the old one or the new one.

    Args:
        target: as for `weights_target`; a folder is made where there is none.
        weights: a module, or its state_dict; tied weights are written under each of their names.

    Returns:
        The file written.

    Raises:
        InputError: for another ending, what is neither, what safetensors cannot hold, or when it cannot be written.
    """
    path = weights_target(target)
    try:
        content = safetensors.torch.save(_storable(state_of(weights), path), metadata={"format": "pt"})
    except (ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"{path}: weights cannot be written as safetensors ({said(error)})") from None
    write_file(path, content, error=InputError, advice="choose another place with -o", folders=path.name == SAFE)
    return path


def _storable(weights: StateDict, path: Path) -> dict[str, Tensor]:
    """Return weights as safetensors takes them: each whole, and none in the memory of another."""
    found: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in weights.items():
        if not isinstance(tensor, Tensor) or not is_dense(tensor):
            kind = f"of layout {tensor.layout}" if isinstance(tensor, Tensor) else f"a {type(tensor).__name__}"
            raise InputError(
                f"{path}: '{one_line(name)}' is {kind}, but safetensors holds dense tensors alone; leave it out of the "
                f"weights"
            )
        tensor = tensor.detach().contiguous()
        place = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if place in taken else tensor
        taken.add(place)
    return found
