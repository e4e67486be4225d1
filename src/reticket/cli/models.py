"""How a MODEL argument becomes a network and an example input."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reticket.errors import ConfigError, ModelError
from reticket.lookup import imported, nearest
from reticket.models import build_model, example_input, list_models
from reticket.rng import generator_for
from reticket.tasks.presets import list_presets, load_config


def resolve(
    name: str,
    input_shape: str | None = None,
    vocabulary: int | None = None,
    inputs: Any = None,
    *,
    required: bool = True,
) -> tuple[nn.Module, Any]:
    """Return the network `name` stands for, and inputs to run it on.

    Args:
        name: a preset's name or file (its model is meant), a built-in model, `timm:NAME` or `package.module:function`.
        input_shape: shape of the example input as text, `2,3,224,224`; the model's own when None.
        vocabulary: number of ids, for a model that takes integers of that shape.
        inputs: what a model that has no example input is run on.
        required: whether a model without any is refused.

    Returns:
        The network, and a tensor, or what a function of the user's own carries as `example_input`: a tensor, a tuple of
        positional inputs or a dict of keyword inputs; None where there is none and none is required.

    Raises:
        ModelError: when nothing of that name can be built.
        ConfigError: for a shape that is no shape.
    """
    network, name, params = _built(name)
    if vocabulary is not None and input_shape is None:
        raise ConfigError("--vocabulary needs the shape of the ids: add --input-shape, for instance 2,16")
    if input_shape is None:
        example = _example(name, params, inputs)
        if example is None and required:
            raise ModelError(
                f"model '{name}' has no example input; give its shape with --input-shape 2,3,224,224 (ids: with "
                f"--vocabulary), or set the function's attribute example_input to a tensor, a tuple or a dict of inputs"
            )
        return network, example
    shape, generator = parse_shape(input_shape), generator_for("example input")
    if vocabulary is not None:
        return network, torch.randint(vocabulary, shape, generator=generator, device="cpu")
    return network, torch.randn(shape, generator=generator, device="cpu")


def _built(name: str) -> tuple[nn.Module, str, Mapping[str, object]]:
    """Return a network, and the name and the parameters of its model."""
    params: dict[str, object] = {}
    if name in list_presets() or Path(name).suffix == ".toml":
        config = load_config(name)[1].model
        name, params = config.name, dict(config.params)
    elif ":" not in name and name not in list_models():
        known = [*list_presets(), *list_models()]
        names = ", ".join([*known, "timm:NAME", "package.module:function"])
        raise ModelError(f"unknown model '{name}'{nearest(name, known)}; known: {names}")
    return build_model(name, generator=generator_for("example"), **params), name, params


def _example(name: str, params: Mapping[str, object], inputs: Any) -> Any:
    """Return what a model is run on: its own example, else the inputs given; None where there are neither."""
    if ":" in name and not name.startswith("timm:"):
        build = imported(name, "model", ModelError)
        example = getattr(build, "example_input", None)
        example = example(**params) if callable(example) else example
        if example is None or isinstance(example, tuple | dict):
            return inputs if example is None else example
    return example_input(name, **params)


def parse_shape(text: str) -> tuple[int, ...]:
    """Return the shape that `text` states.

    >>> parse_shape("2,3,32,32")
    (2, 3, 32, 32)
    """
    try:
        shape = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise ConfigError(f"--input-shape {text}: expected positive sizes with commas, for instance 2,3,224,224")
    return shape
