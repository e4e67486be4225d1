"""Packing a masked model for execution: which format each layer takes is measured where it will be used."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from reticket.copied import private_copy
from reticket.errors import InputError, MaskError
from reticket.forward import call, evaluating
from reticket.lookup import as_names
from reticket.packed.formats import FORMATS, Format, Product
from reticket.packed.layers import MaskedWeight, PackedConvolution, PackedLinear
from reticket.packed.pattern import KeptEntries
from reticket.tickets import Mask, Ticket
from reticket.weights import Weights, module_of, state_of
from reticket.wrapped import inside

TURNS, LONG = 7, 0.5  # turns at least, and seconds, for which formats are timed; the median of each counts
CLOSE = 1e-4  # of the largest output: how far a product may be from the dense one


@dataclass(frozen=True)
class Choice:
    """What was chosen for a layer.

    Args:
        layer: its path in the model.
        format: that it computes in.
        samples: rows that it was measured on.
        seconds: that its product took, by name of every format that was tried.

    >>> print(Choice("fc", "csr", 1, {"dense": 2e-4, "csr": 1e-4}))
    fc: csr, 2.00 times as fast as dense on 1 row
    """

    layer: str
    format: str
    samples: int
    seconds: Mapping[str, float]

    def __str__(self) -> str:
        if "dense" not in self.seconds:
            return f"{self.layer}: {self.format}"
        times = self.seconds["dense"] / self.seconds[self.format]
        rows = f"{self.samples} row{'s' if self.samples != 1 else ''}"
        return f"{self.layer}: {self.format}, {times:.2f} times as fast as dense on {rows}"


def compile_sparse(
    model: nn.Module,
    ticket: Mask | Ticket,
    example_inputs: Any,
    *,
    formats: str | Iterable[str] | None = None,
) -> tuple[nn.Module, tuple[Choice, ...]]:
    """Return a copy of a model that holds and computes with the kept weights alone, in the fastest format a layer.

    Masked linear layers and convolutions of one pixel become `PackedLinear` and `PackedConvolution`; what else a mask
    names stays dense, and is held at 0 where it is pruned. Every format that suits is timed on what
    the layer sees of the example inputs, as many samples as these have: give a batch of the size that will be used.
    Outputs are those of the masked model but for rounding. The copy can be trained: only what is kept has a gradient.

    Args:
        model: the network that the mask belongs to; it is left as it was.
        ticket: which weights are kept.
        example_inputs: a tensor, a tuple of positional inputs or a dict of keyword inputs.
        formats: names of `FORMATS` to choose from, or one; all by default.

    Returns:
        The packed model in evaluation mode, and what was chosen for each layer.

    Raises:
        MaskError: when the mask does not fit the model, or a masked weight is tied to another.
        InputError: for what is no mask, an unknown format, or when none of those named suits a layer.
        ModelError: when the model cannot take the example inputs.

    >>> from reticket import prune
    >>> net, x = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8)), torch.randn(4, 64)
    >>> mask = prune(net, 0.1, pattern="fan-in", scope="layer")
    >>> packed, choices = compile_sparse(net, mask, x, formats="condensed")
    >>> packed
    Sequential(
      (0): PackedLinear(64 -> 32, 192 of 2048 weights, condensed)
      (1): ReLU()
      (2): PackedLinear(32 -> 8, 24 of 256 weights, condensed)
    )
    """
    mask = ticket.mask if isinstance(ticket, Ticket) else ticket
    if not isinstance(mask, Mask):
        raise InputError(f"compile_sparse packs by a Mask or a Ticket, got {type(ticket).__name__}; give one")
    chosen = _formats(formats)
    network = private_copy(inside(module_of(model))).eval()
    mask.check_fits(network.state_dict())
    _check_untied(network, mask)
    with torch.no_grad():
        for name in mask:
            weight = network.get_parameter(name)
            weight.mul_(mask[name].to(weight.device))
    layers = {path: module for path, module in network.named_modules() if f"{path}.weight" in mask and _packs(module)}
    seen = _seen_by(network, layers, example_inputs)
    candidates = {
        path: Candidates(layer, mask[f"{path}.weight"], seen[path], chosen)
        for path, layer in layers.items()
        if path in seen
    }
    for path, own in candidates.items():
        if not own.products:
            raise InputError(
                f"none of the sparse formats {', '.join(one.name for one in chosen)} suits layer '{path}'; add dense"
            )
    choices = tuple(_measured(candidates))
    for choice in choices:
        path = choice.layer
        _set(network, path, _packed(layers[path], mask[f"{path}.weight"], choice.format))
    for name in mask:
        where, _, attribute = name.rpartition(".")
        if where not in candidates:
            module = network.get_submodule(where)
            kept = MaskedWeight(mask[name].to(network.get_parameter(name).device))
            register_parametrization(module, attribute, kept)
    return network, choices


def load_packed(packed: nn.Module, weights: Weights) -> None:
    """Put another initialisation into a packed model: one ticket, packed once, serves them all.

    Args:
        packed: as `compile_sparse` gave it.
        weights: of the model that was packed, with the mask's units in their places, by name or as a module.

    Raises:
        MaskError: when a weight is missing or of another shape.
    """
    state = dict(state_of(weights, "weights"))
    layers = {path: one for path, one in packed.named_modules() if isinstance(one, PackedLinear)}
    rest = {
        name.replace(".parametrizations.", ".").removesuffix(".original"): tensor
        for name, tensor in packed.state_dict().items()
        if not any(name.startswith(f"{path}.") for path in layers)
    }
    wanted = {f"{path}.weight": tuple(layer.weight.shape) for path, layer in layers.items()}
    wanted |= {name: tuple(tensor.shape) for name, tensor in rest.items()}
    for name, shape in wanted.items():
        found = tuple(state[name].shape) if name in state else None
        if found != shape:
            seen = "there is none" if found is None else f"it has shape {found}"
            raise MaskError(
                f"the packed model wants '{name}' of shape {shape}, but {seen} in the weights; give its own"
            )
    for path, layer in layers.items():
        layer.load(state[f"{path}.weight"], state.get(f"{path}.bias"))
    with torch.no_grad():
        for name, tensor in rest.items():
            tensor.copy_(state[name])


def _check_untied(network: nn.Module, mask: Mask) -> None:
    """Refuse masked weights that stand under several names: packed, they would be one weight no more."""
    owners: dict[int, list[str]] = {}
    for name, weight in network.named_parameters(remove_duplicate=False):
        owners.setdefault(id(weight), []).append(name)
    for names in owners.values():
        if len(names) > 1 and any(name in mask for name in names):
            raise MaskError(
                f"'{names[0]}' and '{names[1]}' are one tensor, which packing would part; leave it out of the mask"
            )


def _formats(names: str | Iterable[str] | None) -> list[Format]:
    return [FORMATS.named(name) for name in (FORMATS if names is None else as_names(names))]


def _packs(module: nn.Module) -> bool:
    """Whether a module is a linear layer, or a convolution that is one of every pixel."""
    if type(module) is nn.Linear:
        return True
    plain = type(module) in (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return plain and {*module.kernel_size} == {1} and not any(module.padding) and module.groups == 1  # type: ignore[misc, arg-type, union-attr]


def _seen_by(network: nn.Module, layers: Mapping[str, nn.Module], inputs: Any) -> dict[str, Tensor]:
    """Return by path what each layer is called with, one row a sample."""
    seen: dict[str, Tensor] = {}
    with ExitStack() as hooks, evaluating(network):
        for path, layer in layers.items():

            def keep(module: nn.Module, given: tuple[Any, ...], named: Mapping[str, Any], path: str = path) -> None:
                x = given[0] if given else named.get("input")
                if isinstance(x, Tensor):  # the layer itself refuses all else
                    seen.setdefault(path, _rows(module, x.detach()))

            hooks.callback(layer.register_forward_pre_hook(keep, with_kwargs=True).remove)
        call(network, inputs)
    return seen


def _rows(layer: nn.Module, x: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return x.reshape(-1, x.shape[-1])
    stride: tuple[int, ...] = layer.stride  # type: ignore[assignment]
    pixels = x[(..., *(slice(None, None, step) for step in stride))]
    channels = pixels.dim() - len(stride) - 1
    return pixels.movedim(channels, -1).reshape(-1, pixels.shape[channels])


class Candidates:
    """The products that a layer can be computed by, with what it sees.

    Args:
        layer: a linear layer, or a convolution that is one of every pixel.
        kept: True for what is kept of its weight.
        x: what it is called with, one row a sample.
        formats: to choose from.
    """

    def __init__(self, layer: nn.Module, kept: Tensor, x: Tensor, formats: Sequence[Format]) -> None:
        weight: Tensor = layer.weight  # type: ignore[assignment]
        entries = KeptEntries(kept.reshape(kept.shape[:2]).to(weight.device))
        self.values, self.x = entries.values_of(weight), x
        right = x @ entries.dense(self.values).T
        built = {one.name: one.build(entries) for one in formats if one.suits(entries)}
        self.products = {name: one for name, one in built.items() if _is_right(one, self.values, x, right)}


def _measured(candidates: Mapping[str, Candidates]) -> Iterator[Choice]:
    """Return the fastest format of every layer.

    Layers take turns, as in the network, so that the weights of one are found in the cache only where they would be.
    """
    taken: dict[tuple[str, str], list[float]] = {}
    formats = dict.fromkeys(name for own in candidates.values() for name in own.products)
    alone = all(len(own.products) == 1 for own in candidates.values())
    begun, turns = time.perf_counter(), 0
    while not alone and (turns < TURNS or time.perf_counter() - begun < LONG):
        for name in formats:
            for path, own in candidates.items():
                if name in own.products:
                    taken.setdefault((path, name), []).append(_seconds(own.products[name], own.values, own.x))
        turns += 1
    for path, own in candidates.items():
        seconds = {name: median(taken[path, name]) for name in own.products} if not alone else {}
        chosen = min(own.products, key=lambda name: seconds.get(name, 0.0))
        yield Choice(path, chosen, len(own.x), seconds)


def _is_right(product: Product, values: Tensor, x: Tensor, right: Tensor) -> bool:
    """Whether a product can be had of such values here, and is what it should be."""
    try:
        with torch.no_grad():
            found = product(values, x)
    except (RuntimeError, NotImplementedError, TypeError):  # a type or device that this format does not know
        return False
    if found.shape != right.shape:
        return False
    return bool((found - right).abs().max() <= CLOSE * right.abs().max().clamp_min(torch.finfo(right.dtype).tiny))


def _seconds(product: Product, values: Tensor, x: Tensor) -> float:
    begun = time.perf_counter()
    with torch.no_grad():
        product(values, x)
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - begun


def _packed(layer: nn.Module, kept: Tensor, name: str) -> PackedLinear:
    weight: Tensor = layer.weight  # type: ignore[assignment]
    bias: Tensor | None = layer.bias  # type: ignore[assignment]
    if isinstance(layer, nn.Linear):
        return PackedLinear(weight, kept, bias, name)
    return PackedConvolution(weight, kept, bias, name, layer.stride)  # type: ignore[arg-type]


def _set(network: nn.Module, path: str, layer: nn.Module) -> None:
    where, _, name = path.rpartition(".")
    setattr(network.get_submodule(where), name, layer)
