"""Inputs and labels that a user names: a data set, its folder, or a file of arrays; nothing is unpickled."""

import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Int64
from torch import Tensor

from reticket.data import DataSource, Reading, list_datasets, open_dataset
from reticket.data.bounded import check_plain
from reticket.data.source import Split
from reticket.data.subset import drawn_indices
from reticket.errors import ConfigError, DataError
from reticket.files import said
from reticket.tasks.presets import list_presets, load_config
from reticket.untrusted import one_line

BATCH = 500
ARRAYS = (".npy", ".npz", ".safetensors")
MOST_ARRAYS = 16  # of one file
SELF_LABELLED = ("language-model",)  # objectives whose labels are the inputs themselves


@dataclass(frozen=True)
class Examples:
    """Examples in batches that can be read again and again.

    Args:
        batches: inputs alone, pairs of inputs and labels, or mappings of keyword inputs.
        count: how many examples.
        part: of the data, in words.
        labelled: whether there are labels.
    """

    batches: Iterable[Any]
    count: int
    part: str
    labelled: bool

    def like(self, example: Any) -> "Examples":
        """Return the same with what is read from a file in the type of an example that is one tensor: ids or numbers.

        Args:
            example: of the model's inputs, or None.
        """
        if not isinstance(example, Tensor) or not isinstance(self.batches, list):
            return self
        return replace(self, batches=[_as_type(batch, example.dtype) for batch in self.batches])


def read_inputs(data: str, model: str, samples: int) -> Tensor | dict[str, Tensor]:
    """Return `samples` inputs or fewer, drawn from a data set (by name or folder) or from a file; shape `(n, ...)`.

    Floating-point numbers come as float32, integers as int64, bytes as they are. Arrays of a file that are not called x
    and y come by name, as keyword inputs.

    Raises:
        DataError, ConfigError: when there are none.
    """
    path = Path(data)
    if path.suffix in ARRAYS:
        arrays = _arrays(path)
        drawn = drawn_indices(_same_count(arrays, path), samples, "match", "train")
        if "x" in arrays or len(arrays) == 1:
            return arrays.get("x", next(iter(arrays.values())))[drawn]
        return {name: array[drawn] for name, array in arrays.items() if name != "labels"}
    dataset = _dataset(data, model)
    drawn = drawn_indices(dataset.size("train"), samples, "match", "train")
    return torch.cat([x for x, _ in Reading(dataset, "train", BATCH, drawn)])


def read_examples(data: str, model: str, samples: int, split: Split = "test") -> Examples:
    """Return `samples` examples or fewer, drawn from a data set or from a file, with labels where it has them.

    In a file `x` are the inputs and `y` the labels; an array alone is the inputs; arrays of other names are keyword
    inputs of the model, `labels` among them. Bytes are pixels.

    Args:
        data: a data set's name, `package.module:function`, with a preset as `model` a folder, or a file of arrays.
        model: as MODEL of the command line.
        samples: how many at most; in order, all of them where there are no more.
        split: which part of a data set.

    Raises:
        DataError, ConfigError: when there are none.
    """
    path = Path(data)
    if path.suffix in ARRAYS:
        arrays = _arrays(path)
        drawn = _drawn(_same_count(arrays, path), samples, "examples")
        labelled = len(arrays) > 1 and ("labels" in arrays or arrays.keys() == {"x", "y"})
        batches = [_batch(arrays, rows) for rows in drawn.split(BATCH)]
        return Examples(batches, len(drawn), f"examples of {path.name}", labelled)
    dataset = _dataset(data, model)
    drawn = _drawn(dataset.size(split), samples, split)
    return Examples(Reading(dataset, split, BATCH, drawn), len(drawn), f"{split} examples of {data}", labelled=True)


def check_labels(examples: Examples, data: str, loss: str | None) -> None:
    """Refuse examples without the labels that a loss needs.

    Args:
        examples: what was read.
        data: where from, as the user wrote it.
        loss: by name, None for what the examples are made for; a function of the user's needs what it needs.

    Raises:
        DataError: when there are none.
    """
    without = loss is not None and (loss in SELF_LABELLED or ":" in loss)
    if not examples.labelled and not without:
        raise DataError(
            f"{data}: has inputs and no labels, which {loss or 'a loss'} needs; give a data set, or a .npz or "
            f".safetensors file with inputs as x and labels as y (or the model's own names, labels among them)"
        )


def _drawn(count: int, samples: int, part: str) -> Int64[Tensor, " k"]:
    drawn = drawn_indices(count, samples, "examples", part)
    assert drawn is not None
    return drawn.sort().values


def _batch(arrays: Mapping[str, Tensor], rows: Int64[Tensor, " k"]) -> Any:
    """Return some rows as a batch: a tensor, a pair, or a mapping."""
    values = {name: _ready(name, array[rows]) for name, array in arrays.items()}
    if len(values) == 1:
        return next(iter(values.values()))
    return (values["x"], values["y"]) if values.keys() == {"x", "y"} else values


def _ready(name: str, values: Tensor) -> Tensor:
    """Return bytes as what they stand for: labels as whole numbers, all else as pixels."""
    if values.dtype != torch.uint8:
        return values
    return values.long() if name in ("y", "labels") else values.float()


def _as_type(batch: Any, dtype: torch.dtype) -> Any:
    """Return a batch with its inputs in a type; those that have names of their own stay."""
    if isinstance(batch, tuple):
        return batch[0].to(dtype), batch[1]
    return batch.to(dtype) if isinstance(batch, Tensor) else batch


def _dataset(data: str, model: str) -> DataSource:
    """Return a data set by name, with the parameters of a preset that names it, or from the folder of a preset's."""
    own = load_config(model)[1].data if model in list_presets() or Path(model).suffix == ".toml" else None
    if data in list_datasets() or ":" in data:
        return open_dataset(data, params=own.params if own is not None and own.name == data else {})
    if own is not None:
        return open_dataset(own.name, folder=Path(data), params=own.params)
    raise ConfigError(
        f"--data {data}: expected a data set ({', '.join(list_datasets())}, package.module:function), a .npy, .npz or "
        ".safetensors file of inputs, or with a preset as --model the folder of its data"
    )


def _arrays(path: Path) -> dict[str, Tensor]:
    """Return the arrays of a file by name, a nameless one as "x"."""
    try:
        check_plain(path)
        found = _loaded(path)
    except DataError:
        raise
    except Exception as error:  # numpy and safetensors raise many types for a damaged head
        raise DataError(f"{path}: cannot be read as inputs ({said(error)})") from None
    if not found:
        raise DataError(f"{path}: holds no array; write inputs as x and labels as y")
    return {name: _plain(array, path) for name, array in found.items()}


def _loaded(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".npy":
        # mapped, so that no more than the file is read
        return {"x": _tensor(np.load(path, mmap_mode="r", allow_pickle=False), path)}
    if path.suffix == ".npz":
        _check_archive(path)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: _tensor(arrays[name], path) for name in arrays.files}
    return safetensors.torch.load_file(path)


def _check_archive(path: Path) -> None:
    """Refuse what unpacks to more than the file: arrays that are packed, or more of them than anyone writes."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if len(members) > MOST_ARRAYS or any(one.compress_type != zipfile.ZIP_STORED for one in members):
        raise DataError(
            f"{path}: expected up to {MOST_ARRAYS} arrays that are not compressed, found {len(members)}; write it with "
            "numpy.savez"
        )


def _tensor(array: Any, path: Path) -> Tensor:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise DataError(f"{path}: expected an array of real numbers, found {kind}")
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))


def _plain(array: Tensor, path: Path) -> Tensor:
    """Return an array in one of the types that inputs have: float32, int64 or bytes."""
    if array.is_complex():
        raise DataError(f"{path}: expected a tensor of real numbers, found {array.dtype}")
    if array.dim() == 0 or array.numel() == 0:
        raise DataError(
            f"{path}: expected inputs of shape (n, ...) as numbers, found {array.dtype} of shape "
            f"{tuple(array.shape)}; write one array whose first axis is the examples"
        )
    if array.is_floating_point():
        return array.float()
    return array if array.dtype == torch.uint8 else array.long()


def _same_count(arrays: Mapping[str, Tensor], path: Path) -> int:
    """Return how many examples there are, as many in every array."""
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        said_of = ", ".join(f"{one_line(name)} has {count}" for name, count in counts.items())
        raise DataError(f"{path}: expected as many examples in every array, but {said_of}; write them row by row")
    return next(iter(counts.values()))
