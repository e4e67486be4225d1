"""What weights are on a disk: a file of safetensors or of torch, or a folder in the layout of the Hugging Face Hub.

Nothing is unpickled beyond tensors and plain values, and an index of the Hub names files of its own folder only.
"""

import pickle
from argparse import Namespace
from collections.abc import Collection, Mapping
from pathlib import Path, PurePath
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from reticket.data.bounded import read_bytes
from reticket.errors import DataError, InputError
from reticket.files import check_plain, said
from reticket.untrusted import one_line, parsed, shown

INDEX = ".index.json"  # beside the shards whose names it knows
SAFE = "model.safetensors"
HUB = (SAFE, f"{SAFE}{INDEX}", "pytorch_model.bin", f"pytorch_model.bin{INDEX}")  # the first that is there counts
LONGEST_INDEX = 2**26  # bytes
CONTAINERS = (Namespace,)  # attributes and no more: what training scripts put beside the weights as `args`


def read_tensors(path: Path) -> Any:
    """Return what a file of weights holds, or a folder in the Hub's layout, whole or in shards.

    Args:
        path: a `.safetensors` file, a torch file of tensors and plain values, a folder with one of `HUB`, or an index.

    Raises:
        InputError: when there is none, it is damaged, holds more, or an index that does not fit its shards.
    """
    if path.is_dir():
        found = next((path / name for name in HUB if (path / name).exists()), None)
        if found is None:
            raise InputError(
                f"{path}: is a folder, but a plain file was expected, or a folder in the layout of the Hugging Face "
                f"Hub, with {SAFE} or another of its files; name the file of weights"
            )
        path = found
    return _from_shards(path) if path.name.endswith(INDEX) else _from_file(path)


def _from_file(path: Path) -> Any:
    try:
        check_plain(path)
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        if path.stat().st_size == 0:
            raise EOFError("it is empty")
    except (OSError, EOFError, SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"{path}: cannot be read as weights ({said(error)})") from None
    return _from_torch(path)


def _from_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(list(CONTAINERS)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as weights ({said(error)})") from None
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: holds more than tensors and is not unpickled ({said(error)}); save a state_dict"
        ) from None
    except Exception as error:  # torch raises many types for a damaged file
        raise InputError(f"{path}: cannot be read as weights ({said(error)}); save a state_dict") from None


def _from_shards(index: Path) -> dict[str, Any]:
    """Return the tensors that an index names, each from its shard."""
    shard_of = shards_in(index)
    found: dict[str, Any] = {}
    for shard in dict.fromkeys(shard_of.values()):
        held = _from_file(index.parent / shard)
        if not isinstance(held, dict):
            raise InputError(f"{index.parent / shard}: expected a shard of tensors by name, got {type(held).__name__}")
        check_shard(index, shard_of, shard, held)
        found |= held
    return found


def check_shard(index: Path, shard_of: Mapping[str, str], shard: str, held: Collection[str]) -> None:
    """Refuse a shard that holds other tensors than its index says.

    Args:
        index: of the folder.
        shard_of: what it says.
        shard: name of the file.
        held: names of the tensors in it.

    Raises:
        InputError: names one of them.
    """
    odd = set(held) ^ {name for name, place in shard_of.items() if place == shard}
    if odd:
        name = min(map(str, odd))
        where = "only the shard has" if name in held else "the shard lacks"
        raise InputError(
            f"{index}: does not fit its shard '{shard}': {where} '{one_line(name)}'; download the folder again"
        )


def shards_in(index: Path) -> dict[str, str]:
    """Return which file of its folder holds each tensor, as an index of the Hub says.

    Args:
        index: the file.

    Raises:
        InputError: when it is none, or names what is no file of its folder.
    """
    try:
        raw = read_bytes(index, LONGEST_INDEX)
        if len(raw) > LONGEST_INDEX:
            raise ValueError(f"it has more than {LONGEST_INDEX:,} bytes")
        data = parsed(raw.decode())
    except (DataError, OSError, ValueError) as error:
        raise InputError(f"{index}: cannot be read as an index of shards ({one_line(said(error))})") from None
    shard_of = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(shard_of, dict) or not shard_of:
        raise InputError(f'{index}: expected a JSON object with "weight_map", names of tensors to files, found none')
    ending = PurePath(index.name.removesuffix(INDEX)).suffix
    for name, shard in shard_of.items():
        if not isinstance(shard, str) or not _is_beside(shard) or PurePath(shard).suffix != ending:
            raise InputError(
                f"{index}: puts {shown(name)} into {shown(shard)}, but a {ending} file of its own folder "
                f"was expected; it is not read"
            )
    return shard_of


def _is_beside(name: str) -> bool:
    """Whether a name is that of a file and leads nowhere else.

    >>> _is_beside("model-00001-of-00002.safetensors"), _is_beside("../x.bin"), _is_beside("/etc/x.bin")
    (True, False, False)
    """
    return name.isprintable() and "\\" not in name and PurePath(name).name == name
