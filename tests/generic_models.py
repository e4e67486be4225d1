"""Models of the package with every parameter and statistic away from its default, so that a forgotten one shows."""

from typing import Any

from torch import nn

from reticket.models import build_model
from reticket.rng import generator_for

SHAPES = {"mlp": (12,), "conv-small": (3, 12, 12), "vgg11": (3, 32, 32), "resnet20": (3, 16, 16)}
PARAMS: dict[str, dict[str, Any]] = {
    "mlp": {"in_features": 12, "hidden": (15, 11), "classes": 3},
    "conv-small": {"in_channels": 3, "widths": (6, 8, 8, 10), "classes": 3},
    "vgg11": {"width": 0.125, "classes": 3},
    "resnet20": {"width": 0.5, "classes": 3},
}


def generic(name: str, label: str) -> nn.Module:
    """Return a model whose statistics and affine parameters are away from their defaults too."""
    model, generator = build_model(name, generator=generator_for(label), **PARAMS[name]), generator_for(label, "norm")
    for key, tensor in model.state_dict().items():
        if key.endswith(("bias", "running_mean")):
            tensor.normal_(generator=generator).mul_(0.2)
        if key.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
    return model
