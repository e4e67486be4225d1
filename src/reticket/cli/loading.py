"""Reading weights, inputs, tickets and alignments that a user names; nothing is unpickled beyond tensors."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from reticket.cli.models import resolve
from reticket.data import Reading, list_datasets, open_dataset
from reticket.data.bounded import check_plain
from reticket.data.subset import drawn_indices
from reticket.errors import ConfigError, DataError, InputError
from reticket.files import write_file
from reticket.matching import MATCHERS, match, memory_options
from reticket.nested import tensors_in
from reticket.rng import generator_for
from reticket.symmetry import Alignment, discover, load_into
from reticket.tasks.config import toml_value
from reticket.tasks.presets import list_presets, load_config
from reticket.tickets import Ticket
from reticket.types import StateDict

BATCH = 500


def match_files(
    a: Path,
    b: Path,
    model: str,
    data: str | None,
    *,
    method: str,
    settings: Iterable[str] = (),
    start: Path | None = None,
    samples: int = 2000,
    input_shape: str | None = None,
) -> Alignment:
    """Return the alignment of the weights in file `a` onto those in file `b`.

    Args:
        a, b: the files.
        model: as MODEL of the command line.
        data: a data set or a file of inputs; None for a matcher that looks at no data.
        method: the matcher.
        settings: its options, as `key=value`.
        start: file of an alignment, for a matcher that begins from one.
        samples: inputs to match on at most.
        input_shape: of the example input, as text.

    Raises:
        InputError: for a file that cannot be read or does not fit the model, or an option that the matcher lacks.
    """
    options = read_options(settings)
    MATCHERS.named(method).settings(options)
    begun = None if start is None else Alignment.load(start)
    inputs = None if data is None else read_inputs(data, model, samples)
    network_a, example = _network(model, input_shape, inputs)
    network_b, _ = _network(model, input_shape, inputs)
    load_into(network_a, read_weights(a))
    load_into(network_b, read_weights(b))
    batches = None if inputs is None else inputs.to(next(tensors_in(example)).dtype).split(BATCH)
    symmetry = discover(network_a, example)
    options = memory_options(method, "cpu") | options
    return match(network_a, network_b, symmetry, batches, method=method, start=begun, **options)


def read_options(settings: Iterable[str]) -> dict[str, Any]:
    """Return the options of a matcher that `key=value` texts give; values are TOML, bare words are text.

    >>> read_options(["cost=cosine", "rounds=3"])
    {'cost': 'cosine', 'rounds': 3}
    """
    found: dict[str, Any] = {}
    for setting in settings:
        key, sign, text = setting.partition("=")
        if not sign or not key.strip():
            raise ConfigError(f"--set {setting}: expected key=value, for instance --set cost=cosine")
        found[key.strip()] = toml_value(text.strip())
    return found


def _network(model: str, input_shape: str | None, inputs: Tensor | None) -> tuple[nn.Module, Any]:
    """Return the network and its example input, which for a model that has none is the first of `inputs`.

    Integers of a file are ids, except bytes, which are pixels; the model's own example input decides where it has one.
    """
    if inputs is None:
        return resolve(model, input_shape)
    ids = not inputs.is_floating_point() and inputs.dtype != torch.uint8
    inputs = inputs if ids else inputs.float()
    network, example = resolve(model, input_shape, inputs=inputs[:2])
    if input_shape is not None and ids:
        example = torch.randint(
            int(inputs.max()) + 1, example.shape, generator=generator_for("example input"), device="cpu"
        )
    return network, example


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
        raise InputError(f"{path}: cannot be read as weights ({first_line(error)})") from None
    except Exception as error:  # torch raises many types for a file that holds more than tensors
        raise InputError(
            f"{path}: holds more than tensors and is not unpickled ({first_line(error)}); save a state_dict"
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


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, or its type's name where it says nothing.

    >>> first_line(ValueError("one\\ntwo")), first_line(EOFError())
    ('one', 'EOFError')
    """
    return (str(error).splitlines() or [type(error).__name__])[0]


def _inputs_file(path: Path) -> Tensor:
    try:
        check_plain(path)
        inputs = _array(path) if path.suffix == ".npy" else _only_tensor(path)
    except DataError:
        raise
    except Exception as error:  # numpy and safetensors raise many types for a damaged head
        raise DataError(f"{path}: cannot be read as inputs ({first_line(error)})") from None
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


def write_text(path: Path, text: str) -> Path:
    """Write a text file and return its path.

    Raises:
        InputError: when it cannot be written.
    """
    write_file(path, text, error=InputError, advice="name a file in a folder that exists")
    return path
