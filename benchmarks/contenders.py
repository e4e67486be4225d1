"""Who matches in the benchmarks of matching: every method of this package, the plain way, and PyPI's `rebasin`.

`rebasin` (0.0.47; its needs are torchview, graphviz, tqdm) matches by weights and is measured where it is installed.
"""

import copy
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import reticket as rt
from benchmarks import layerwise, layerwise_chain
from reticket.models.conv import ConvSmall
from reticket.models.mlp import MLP
from reticket.models.resnet import ResNet20
from reticket.types import Permutation

Batches = Sequence[tuple[Tensor, Tensor]]  # inputs and labels
Contender = Callable[[nn.Module, nn.Module, rt.Symmetry, Batches], rt.Alignment]
PLAIN, REBASIN = "layer by layer (plain)", "rebasin (PyPI)"


def ours(**options: Any) -> Contender:
    """Return a matcher of this package with its options."""
    return lambda a, b, sym, batches: rt.match(a, b, sym, batches, **options)


def plain(a: nn.Module, b: nn.Module, sym: rt.Symmetry, batches: Batches) -> rt.Alignment:
    """Match layer by layer, on a copy of A."""
    way = layerwise.RESNET20 if isinstance(a, ResNet20) else layerwise_chain.CHAIN
    found = layerwise.match_layerwise(copy.deepcopy(a), b, [inputs for inputs, _ in batches], way)
    return rt.Alignment(sym, {name: Permutation(torch.tensor(index)) for name, index in found.items()})


def rebasin(a: nn.Module, b: nn.Module, sym: rt.Symmetry, batches: Batches) -> rt.Alignment:
    """Match by rebasin's coordinate descent over weights.

    It permutes a copy of A in place, without the statistics of BatchNorm, which it measures anew; which units went
    where is read off by matching A to the copy.

    Raises:
        ValueError: when what it made of A's parameters is no permutation of A's units.
    """
    from rebasin import PermutationCoordinateDescent  # pyright: ignore[reportMissingImports] (an extra of benchmarks)

    moved = copy.deepcopy(a)
    PermutationCoordinateDescent(b, moved, batches[0][0]).rebasin()
    found = rt.match(a, moved, sym, method="weight")
    for name, parameter in moved.named_parameters():
        if not torch.equal(found.tensor(name, a.get_parameter(name)), parameter):
            raise ValueError(f"rebasin changes the network's function: '{name}' is no permutation of A's")
    return found


CONTENDERS: Mapping[str, Contender] = {
    "identity": ours(method="identity"),
    "activation": ours(method="activation"),
    PLAIN: plain,
    "weight": ours(method="weight"),
    "weight, 5 restarts": ours(method="weight", restarts=5),
    REBASIN: rebasin,
    "frank-wolfe": ours(method="frank-wolfe"),
    "combined, weights 1": ours(method="combined", weights=1.0),
    "combined, weights 4": ours(method="combined", weights=4.0),
    "refine": ours(method="refine"),
    "refine, straight-through": ours(method="refine", how="straight-through"),
}


def why_not(name: str, model: nn.Module) -> str | None:
    """Return in one sentence why a contender cannot match a model; None where it can."""
    if name == PLAIN and not isinstance(model, MLP | ConvSmall | ResNet20):
        return "the paper, which it is written from, says nothing of networks with attention"
    if name == REBASIN and importlib.util.find_spec("rebasin") is None:
        return "it is not installed"
    return None
