"""Weights that a user names, read from whatever they stand in and brought to a model's own names; and written."""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from reticket.cli.checkpoints import part_named, weights_in
from reticket.cli.tensor_files import SAFE, read_tensors
from reticket.dense import is_dense
from reticket.errors import AlignmentError, InputError
from reticket.files import said, write_file
from reticket.symmetry import load_into
from reticket.symmetry.model_tensors import is_extra, named_state
from reticket.types import StateDict
from reticket.untrusted import one_line
from reticket.wrapped import named_like

MARK = "#"  # between a file and the part of it that is meant
COUNTERS = ("n_averaged",)  # what torch's AveragedModel keeps beside the model
DEEPEST_PREFIX = 3  # names before a dot that a part of a checkpoint is looked for behind


def read_weights(source: str | Path) -> dict[str, Any]:
    """Return the state_dict in a file, or in a part of it.

    Args:
        source: a `.safetensors` file, a torch file, a folder in the Hub's layout; or `FILE#KEY`, of which the key is an
            entry of a checkpoint (`a.pt#ema`, `a.pt#trainer.model`) or a module (`a.ckpt#state_dict.backbone`). Where
            several state_dicts stand in it and one alone is called as usual, that is taken and a note is printed.

    Returns:
        Tensors by name, and what else stands under `_extra_state`.

    Raises:
        InputError: when there is none, or when several could be meant.
    """
    path, key = _parted(os.fspath(source))
    weights, note = weights_in(part_named(read_tensors(path), key, os.fspath(source)), os.fspath(source))
    if note:
        print(f"reticket: {note}", file=sys.stderr)
    return weights


def load_file(network: nn.Module, source: str | Path) -> dict[str, Any]:
    """Write the weights of a file into a network and return them by the network's names.

    Args:
        network: is written into.
        source: as for `read_weights`.

    Raises:
        InputError: when there are none, or they do not fit the network.
    """
    try:
        weights = fitted(read_weights(source), named_state(network), os.fspath(source))
        load_into(network, weights)
    except AlignmentError as error:
        raise AlignmentError(f"{os.fspath(source)}: {error}") from None
    return weights


def fitted(weights: StateDict, own: Mapping[str, Tensor], source: str) -> dict[str, Any]:
    """Return weights by the names of a model, without what stands before all of them, if all then fit.

    Wrappers (`module.`, `_orig_mod.`) are looked through wherever they stand, a name that holds the whole model
    (`model.` of Lightning) where it stands before all names. Of tied weights one is enough. What fits neither way is
    returned as it is called.

    Args:
        weights: as read.
        own: the tensors of the model by name, a tied one under each of its names.
        source: what the user wrote, for the error.

    Raises:
        InputError: when the model is a part of what is there, with the way to name that part.
    """
    weights = {name: tensor for name, tensor in weights.items() if name not in COUNTERS or name in own}
    for prefix in ("", *prefixes_of_all(weights)):
        found = named_like(own, {name.removeprefix(prefix): tensor for name, tensor in weights.items()})
        if own.keys() == {name for name in found if not is_extra(name)}:
            return found
    if parts := _parts_that_fit(weights, own):
        named = ", ".join(f"'{one_line(part)}.'" for part in parts)
        raise InputError(
            f"{source}: holds more than the model, all of which stands behind {named}; name the part that is meant, as "
            f"{source}{'.' if MARK in source else MARK}{one_line(parts[0])}"
        )
    return dict(weights)


def _parted(source: str) -> tuple[Path, str]:
    """Return the file and the key of what a user wrote; a file whose name has the mark in it is that file.

    >>> _parted("a.pt#ema.model")
    (PosixPath('a.pt'), 'ema.model')
    """
    path, mark, key = source.rpartition(MARK)
    return (Path(path), key) if mark and path and not Path(source).exists() else (Path(source), "")


def prefixes_of_all(weights: StateDict) -> Iterator[str]:
    """Yield what stands before a dot in all names, shortest first.

    >>> list(prefixes_of_all({"model.net.0.weight": 1, "model.net.2.weight": 2}))
    ['model.', 'model.net.']
    """
    first = next(iter(weights), "")
    for prefix in (first[: at + 1] for at, letter in enumerate(first) if letter == "."):
        if not all(name.startswith(prefix) for name in weights):
            return
        yield prefix


def _parts_that_fit(weights: StateDict, own: Mapping[str, Tensor]) -> list[str]:
    """Return the modules in each of which all of a model stands, while others stand beside them."""
    heads: dict[str, None] = {}
    for name in weights:
        parts = name.split(".")
        heads |= {".".join(parts[:n]): None for n in range(1, min(len(parts), DEEPEST_PREFIX + 1))}
    fits = []
    for head in heads:
        inside = {name.removeprefix(f"{head}."): one for name, one in weights.items() if name.startswith(f"{head}.")}
        if own.keys() == {name for name in named_like(own, inside) if not is_extra(name)}:
            fits.append(head)
    return fits


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


def write_weights(target: str | Path, weights: StateDict) -> Path:
    """Write weights for `read_weights` and everything that reads safetensors; the file is the old one or the new one.

    Args:
        target: as for `weights_target`; a folder is made where there is none.
        weights: by name.

    Returns:
        The file written.

    Raises:
        InputError: for another ending, what safetensors cannot hold, or when it cannot be written.
    """
    path = weights_target(target)
    try:
        content = safetensors.torch.save(_storable(weights, path), metadata={"format": "pt"})
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
