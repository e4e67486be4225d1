"""What `reticket match` and `transfer` do with the files that a user names."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reticket.cli.input_files import BATCH, read_inputs
from reticket.cli.models import resolve
from reticket.cli.weights_files import read_weights
from reticket.errors import ConfigError
from reticket.matching import MATCHERS, match, memory_options
from reticket.nested import tensors_in
from reticket.rng import generator_for
from reticket.symmetry import Alignment, discover, load_into
from reticket.tasks.config import toml_value
from reticket.tickets import Ticket


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
