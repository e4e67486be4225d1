"""The plain way, layer by layer, where layers follow one another: MLP and the small convolution network."""

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.layerwise import NORM, Moves, Way
from reticket.models.conv import ConvSmall
from reticket.models.mlp import MLP


def steps(model: nn.Module, x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Run a network and yield the layer and the values of every activation of hidden units, in order."""
    if isinstance(model, MLP):
        x = x.flatten(1)
        for number, layer in enumerate(list(model.layers)[:-1]):
            yield f"layers.{number}.weight", (x := layer(x))
            yield f"layers.{number}.weight", (x := F.relu(x))
        return
    convs, norms = _convs(model)
    for number, (conv, norm) in enumerate(zip(convs, norms, strict=True)):
        yield f"convs.{number}.weight", (x := conv(x))
        yield f"convs.{number}.weight", (x := norm(x))
        yield f"convs.{number}.weight", (x := F.relu(x))
    yield f"convs.{len(convs) - 1}.weight", x.mean((2, 3))


def layers(model: nn.Module) -> dict[str, Moves]:
    """Return what each layer's permutation acts on, in the order in which the layers are matched."""
    if isinstance(model, MLP):
        return {
            f"layers.{i}.weight": [(f"layers.{i}.weight", 0), (f"layers.{i}.bias", 0), (f"layers.{i + 1}.weight", 1)]
            for i in range(len(model.layers) - 1)
        }
    count = len(_convs(model)[0])
    reads = [f"convs.{i}.weight" for i in range(1, count)] + ["fc.weight"]
    return {
        f"convs.{i}.weight": [(f"convs.{i}.weight", 0), *((f"norms.{i}.{name}", 0) for name in NORM), (reads[i], 1)]
        for i in range(count)
    }


def _convs(model: nn.Module) -> tuple[nn.ModuleList, nn.ModuleList]:
    assert isinstance(model, ConvSmall), type(model).__name__
    return model.convs, model.norms


CHAIN = Way(steps, layers)
