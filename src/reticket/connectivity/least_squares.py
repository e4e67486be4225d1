"""Least squares after permuting: each layer of a merge does on every network's inputs nearly what that network's does.

RegMean (Jin et al. 2023, arXiv 2212.09849, equation 2): with the Gram matrices `G_i` of a layer's inputs in network i,
shares `s_i` and weights `W_i`, `W = (sum_i s_i W_i G_i) (sum_i s_i G_i)^-1` minimises the summed squared distance to
the outputs of all. Where networks see a feature alike that is their mean, where one alone uses it that one's weights.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn import functional as F

from reticket.connectivity.mixture import Mixture
from reticket.copied import private_copy
from reticket.forward import call
from reticket.nested import inputs_of
from reticket.symmetry.untouched import kept
from reticket.symmetry.writing import load_into
from reticket.types import StateDict

SHRUNK = 0.5  # what is left of products of different features, which few examples show (the paper: 0.9 and less)
RIDGE = 1e-6  # share of the mean square that every feature has besides: one that is always 0 gets the mean of weights

Grams = dict[str, Tensor]


def least_squares(
    model: nn.Module,
    ends: Sequence[StateDict],
    mixed: StateDict,
    mix: Mixture,
    batches: Iterable[object],
    to_inputs: Callable[[object], object] | None = None,
) -> dict[str, Any]:
    """Return a mixture in which the weights of linear layers and plain 2-d convolutions are those of least squares.

    All else is the mixture's: other layers, those with a tied or computed weight, and those that do not run.

    Args:
        model: gives the architecture; it is not changed.
        ends: the networks in one order of units.
        mixed: their mixture.
        mix: share of each.
        batches: read once for each network.
        to_inputs: what of a batch the model takes.
    """
    with kept(model):
        work = private_copy(model).eval()
    layers = _solved(work)
    every = [_grams(work, layers, end, batches, to_inputs) for end in ends]
    found = dict(mixed)
    for name, layer in layers.items():
        if all(name in grams for grams in every):
            weight, bias = f"{name}.weight", f"{name}.bias" if layer.bias is not None else None
            rows = [_rows(end, weight, bias) for end in ends]
            best = _best(rows, [_shrunk(grams[name]) for grams in every], mix.weights)
            found[weight] = (
                best[:, : rows[0].shape[1] - (bias is not None)].reshape(mixed[weight].shape).to(mixed[weight])
            )
            if bias is not None:
                found[bias] = best[:, -1].to(mixed[bias])
    return found


def _solved(model: nn.Module) -> dict[str, Any]:
    """Return the layers with a weight of their own whose outputs are products of it with their inputs."""
    uses: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    return {
        name: module
        for name, module in model.named_modules()
        if name and _is_plain(module) and uses[id(module.weight)] == 1  # pyright: ignore[reportArgumentType]
    }


def _is_plain(module: nn.Module) -> bool:
    if "weight" not in dict(module.named_parameters(recurse=False)):
        return False
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return isinstance(module, nn.Linear)


def _grams(
    work: nn.Module,
    layers: dict[str, Any],
    end: StateDict,
    batches: Iterable[object],
    to_inputs: Callable[[object], object] | None,
) -> Grams:
    """Return the products of all features that each layer gets, summed over positions and examples; 1 is a feature."""
    load_into(work, end)
    found: Grams = {}
    with _watching(layers, found):
        for batch in batches:
            call(work, inputs_of(batch, to_inputs))
    return found


@contextmanager
def _watching(layers: dict[str, Any], found: Grams) -> Iterator[None]:
    def hook_of(name: str) -> Any:
        def add(layer: Any, args: tuple[Tensor, ...]) -> None:
            x = _features(layer, args[0])
            gram = (x.T @ x).double().cpu()
            found[name] = found[name] + gram if name in found else gram

        return add

    handles = [layer.register_forward_pre_hook(hook_of(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _features(layer: nn.Linear | nn.Conv2d, x: Tensor) -> Float[Tensor, "samples features"]:
    """Return what the rows of a layer's weight are multiplied with, and a column of ones for its bias."""
    if isinstance(layer, nn.Conv2d):
        kernel, dilation, padding, stride = layer.kernel_size, layer.dilation, layer.padding, layer.stride
        x = F.unfold(x if x.dim() == 4 else x[None], kernel, dilation, padding, stride).transpose(1, 2)  # pyright: ignore[reportArgumentType]
    x = x.reshape(-1, x.shape[-1]).float()
    return x if layer.bias is None else torch.cat([x, x.new_ones(len(x), 1)], dim=1)


def _rows(end: StateDict, weight: str, bias: str | None) -> Float64[Tensor, "out features"]:
    rows = end[weight].detach().double().cpu().flatten(1)
    return rows if bias is None else torch.cat([rows, end[bias].detach().double().cpu()[:, None]], dim=1)


def _shrunk(gram: Float64[Tensor, "n n"]) -> Float64[Tensor, "n n"]:
    return SHRUNK * gram + (1 - SHRUNK) * torch.diag(gram.diagonal())


def _best(
    rows: Sequence[Float64[Tensor, "out n"]], grams: Sequence[Float64[Tensor, "n n"]], shares: Sequence[float]
) -> Float64[Tensor, "out n"]:
    """Return the rows that are nearest to those of all networks on the inputs of each."""
    size = max(float(gram.diagonal().mean()) for gram in grams)
    ridge = RIDGE * (size or 1.0) * torch.eye(len(grams[0]), dtype=torch.float64, device="cpu")
    weighted = [share * (gram + ridge) for gram, share in zip(grams, shares, strict=True)]
    wanted = sum(row @ gram for row, gram in zip(rows, weighted, strict=True))
    return torch.linalg.solve(sum(weighted), wanted, left=False)  # pyright: ignore[reportCallIssue, reportArgumentType]
