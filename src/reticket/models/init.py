"""How weights are drawn: one rule for the convolution networks here that have no published rule of their own."""

from torch import nn


def initialise(module: nn.Module, last: nn.Linear) -> None:
    """Draw the weights of `module` in place, from torch's global generator (seeded by `build_model`).

    Kaiming normal (He et al. 2015) with fan-in: std `sqrt(2 / fan_in)` before a ReLU, and `sqrt(1 / fan_in)` for the
    last layer, which has none behind it. Biases 0; BatchNorm weights 1 and biases 0.

    Args:
        module: the model.
        last: its output layer.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear" if layer is last else "relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
