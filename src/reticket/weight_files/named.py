"""Weights that a user names, read from whatever they stand in and brought to a model's own names."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from reticket.errors import AlignmentError, InputError
from reticket.symmetry import load_into
from reticket.symmetry.model_tensors import is_extra, named_state
from reticket.types import StateDict
from reticket.untrusted import one_line
from reticket.weight_files.on_disk import read_tensors
from reticket.weight_files.parts import part_named, weights_in
from reticket.wrapped import inside, named_like

MARK = "#"  # between a file and the part of it that is meant
COUNTERS = ("n_averaged",)  # what torch's AveragedModel keeps beside the model
DEEPEST_PREFIX = 3  # names before a dot that a part of a checkpoint is looked for behind


def warned(note: str) -> None:
    """Warn of what was taken where several could be meant."""
    warnings.warn(note, stacklevel=3)


def read_weights(
    source: str | Path, model: nn.Module | None = None, *, say: Callable[[str], None] = warned
) -> dict[str, Any]:
    """Return the state_dict in a file, or in a part of it.

    Args:
        source: a `.safetensors` file, a torch file, a folder in the Hub's layout; or `FILE#KEY`, of which the key is an
            entry of a checkpoint (`a.pt#ema`, `a.pt#trainer.model`) or a module (`last.ckpt#backbone`).
        model: by whose names they are returned, see `fitted`; None for the names of the file.
        say: is told of the choice where several state_dicts stand there and one alone, which is taken, is called as
            usual.

    Returns:
        Tensors by name, and what else stands under `_extra_state`.

    Raises:
        InputError: when there is none, or when several could be meant.

    >>> import torch
    >>> from tempfile import TemporaryDirectory
    >>> net = nn.Linear(2, 1)
    >>> with TemporaryDirectory() as folder:
    ...     torch.save({"state_dict": {f"model.{n}": w for n, w in net.state_dict().items()}}, f"{folder}/last.ckpt")
    ...     sorted(read_weights(f"{folder}/last.ckpt")), sorted(read_weights(f"{folder}/last.ckpt", net))
    (['model.bias', 'model.weight'], ['bias', 'weight'])
    """
    text = os.fspath(source)
    path, key = _parted(text)
    weights, note = weights_in(part_named(read_tensors(path), key, text), text)
    if note:
        say(note)
    return weights if model is None else fitted(weights, named_state(inside(model)), text)


def load_file(network: nn.Module, source: str | Path, *, say: Callable[[str], None] = warned) -> dict[str, Any]:
    """Write the weights of a file into a network and return them by the network's names.

    Args:
        network: is written into.
        source, say: as for `read_weights`.

    Raises:
        InputError: when there are none, or they do not fit the network.
    """
    weights = read_weights(source, network, say=say)
    try:
        load_into(network, weights)
    except AlignmentError as error:
        raise AlignmentError(f"{os.fspath(source)}: {error}") from None
    return weights


def fitted(weights: StateDict, own: Mapping[str, Tensor], source: str) -> dict[str, Any]:
    """Return weights by the names of a model, without what stands before all of them, if all then fit.

    Wrappers (`module.`, `_orig_mod.`) are looked through wherever they stand, a name that holds the whole model
    (`model.` of Lightning) where it stands before all names. Of tied weights one is enough. A weight that
    `torch.nn.utils.prune` keeps as `w_orig` and `w_mask` is one with zeros. What fits neither way is returned as it is
    called.

    Args:
        weights: as read.
        own: the tensors of the model by name, a tied one under each of its names.
        source: what the user wrote, for the error.

    Raises:
        InputError: when the model is a part of what is there, with the way to name that part.
    """
    weights = {name: tensor for name, tensor in weights.items() if name not in COUNTERS or name in own}
    for given in (weights, _zeroed(weights)):
        for prefix in ("", *prefixes_of_all(given)):
            found = named_like(own, {name.removeprefix(prefix): tensor for name, tensor in given.items()})
            if own.keys() == {name for name in found if not is_extra(name)}:
                return found
    if parts := _parts_that_fit(weights, own):
        named = ", ".join(f"'{one_line(part)}.'" for part in parts)
        raise InputError(
            f"{source}: holds more than the model, all of which stands behind {named}; name the part that is meant, as "
            f"{source}{'.' if MARK in source else MARK}{one_line(parts[0])}"
        )
    return dict(weights)


def _zeroed(weights: StateDict) -> dict[str, Any]:
    """Return weights with a mask of `torch.nn.utils.prune` as what the network computes with: 0 where pruned.

    >>> import torch
    >>> _zeroed({"w_orig": torch.tensor([2.0, 3.0]), "w_mask": torch.tensor([0.0, 1.0])})
    {'w': tensor([0., 3.])}
    """
    stems = [name.removesuffix("_mask") for name in weights if name.endswith("_mask")]
    whole, split = {}, set[str]()
    for stem in stems:
        original, mask = weights.get(f"{stem}_orig"), weights[f"{stem}_mask"]
        if isinstance(original, Tensor) and isinstance(mask, Tensor) and original.shape == mask.shape:
            whole[stem] = original.masked_fill(mask == 0, 0)
            split |= {f"{stem}_orig", f"{stem}_mask"}
    return {name: tensor for name, tensor in weights.items() if name not in split} | whole


def _parted(source: str) -> tuple[Path, str]:
    """Return the file and the key of what a user wrote; a file whose name has the mark in it is that file.

    >>> _parted("a.pt#ema.model")
    (PosixPath('a.pt'), 'ema.model')
    """
    path, mark, key = source.rpartition(MARK)
    return (Path(path), key) if mark and path and not Path(source).exists() else (Path(source), "")


def prefixes_of_all(weights: Iterable[str]) -> Iterator[str]:
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
        behind = {name.removeprefix(f"{head}."): one for name, one in weights.items() if name.startswith(f"{head}.")}
        if own.keys() == {name for name in named_like(own, behind) if not is_extra(name)}:
            fits.append(head)
    return fits
