"""How a MODEL argument becomes a network and an example input."""

from pathlib import Path

import torch
from torch import Tensor, nn

from reticket.errors import ConfigError, ModelError
from reticket.models import build_model, example_input, list_models
from reticket.rng import generator_for
from reticket.tasks.presets import list_presets, load_config


def resolve(name: str, input_shape: str | None = None) -> tuple[nn.Module, Tensor]:
    """Return the network `name` stands for, and inputs to run it on.

    Args:
        name: a preset's name or file (its model is meant), a built-in model, `timm:NAME` or `package.module:function`.
        input_shape: shape of the example input as text, `2,3,224,224`; the model's own when None.

    Raises:
        ModelError: when nothing of that name can be built.
        ConfigError: for a shape that is no shape.
    """
    params: dict[str, object] = {}
    if name in list_presets() or Path(name).suffix == ".toml":
        config = load_config(name)[1].model
        name, params = config.name, dict(config.params)
    elif ":" not in name and name not in list_models():
        known = ", ".join([*list_presets(), *list_models()])
        raise ModelError(f"unknown model '{name}'; known: {known}, timm:NAME, package.module:function")
    network = build_model(name, generator=generator_for("example"), **params)
    if input_shape is None:
        return network, example_input(name, **params)
    return network, torch.randn(parse_shape(input_shape), generator=generator_for("example input"))


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
