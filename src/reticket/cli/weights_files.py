"""Reading and writing the weights that a user names as a file; nothing is unpickled beyond tensors."""

from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from reticket.data.bounded import check_plain
from reticket.errors import DataError, InputError
from reticket.files import said, write_file
from reticket.types import StateDict


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the state_dict in a `.safetensors` file, or in a torch file that holds tensors only.

    A checkpoint with one state_dict among other entries (`{"state_dict": ..., "epoch": 3}`) is taken as that.

    Raises:
        InputError: when there is none, or when several could be meant.
    """
    try:
        check_plain(path)
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        if path.stat().st_size == 0:
            raise EOFError("it is empty")
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except DataError as error:
        raise InputError(str(error)) from None
    except (OSError, EOFError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read as weights ({said(error)})") from None
    except Exception as error:  # torch raises many types for a file that holds more than tensors
        raise InputError(
            f"{path}: holds more than tensors and is not unpickled ({said(error)}); save a state_dict"
        ) from None
    return _state_dict(loaded, path)


def _state_dict(loaded: object, path: Path) -> dict[str, Tensor]:
    """Return the state_dict that was loaded, or the one entry of a checkpoint that is one.

    Raises:
        InputError: when there is none, or when there are several.
    """
    if not isinstance(loaded, dict):
        raise InputError(f"{path}: expected a state_dict (names to tensors), got {type(loaded).__name__}")
    weights = {name: value for name, value in loaded.items() if isinstance(value, Tensor)}
    others = {name: value for name, value in loaded.items() if name not in weights}
    if weights and all(str(name).rpartition(".")[2] == "_extra_state" for name in others):
        return weights
    nested = {name: value for name, value in others.items() if _is_state_dict(value)}
    if len(nested) == 1 and not weights:
        return _state_dict(next(iter(nested.values())), path)
    if nested:
        found = ", ".join(f"'{name}'" for name in nested)
        raise InputError(
            f"{path}: a checkpoint with nested weights in {found}, expected one "
            f"state_dict (names to tensors); save the one that is meant alone"
        )
    other = next(iter(others), None)
    what = "nothing" if other is None else f"a dict in which '{other}' is {type(others[other]).__name__}"
    raise InputError(f"{path}: expected a state_dict (names to tensors), got {what}; save model.state_dict()")


def _is_state_dict(value: object) -> bool:
    return isinstance(value, dict) and any(isinstance(item, Tensor) and item.dim() for item in value.values())


def write_weights(path: Path, weights: StateDict) -> None:
    """Write weights for `load_weights` and everything that reads safetensors.

    Args:
        path: a file that ends in `.safetensors`.
        weights: by name.

    Raises:
        InputError: for another ending, or when it cannot be written.
    """
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: weights are written as .safetensors; give such a name with -o")
    content = safetensors.torch.save({name: tensor.contiguous() for name, tensor in weights.items()})
    write_file(path, content, error=InputError, advice="choose another place with -o")
