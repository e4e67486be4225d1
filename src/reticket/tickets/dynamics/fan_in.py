"""SRigL: RigL under the constraint that all neurons of a layer that keep weights keep equally many."""

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reticket.errors import MaskError
from reticket.options import Within
from reticket.tickets.counts import kept_count
from reticket.tickets.dynamics.exchange import annealed, exchanged, without_smallest
from reticket.tickets.dynamics.registry import dynamics
from reticket.tickets.mask import Mask
from reticket.tickets.patterns import FAN_IN
from reticket.tickets.ranking import keep_largest


@dynamics("srigl", keeps=FAN_IN)
def srigl(
    mask: Mask,
    weights: Mapping[str, Float[Tensor, "..."]],
    gradient: Mapping[str, Float[Tensor, "..."]],
    progress: float,
    initial: float,
    *,
    alpha: Annotated[float, Within(0, 1)] = 0.3,
    gamma: Annotated[float, Within(0, 1)] = 0.3,
) -> Mask:
    """SRigL: RigL with a constant fan-in of each layer; neurons that keep too little that matters lose all weights.

    Of a layer with n kept weights the K = floor(f n) of least |w| go, f as in `rigl`. What stays and the K largest
    |dL/dw| of the others are salient. A neuron with fewer than gamma k salient weights, k its layer's fan-in, is
    ablated for good, but for those of the network's last layer. Every other neuron keeps what stays, at most k' of
    largest |w|, and takes the others of largest |dL/dw| until it has k'. The k' of the layers are those that keep their
    counts, rounded down, and then one more in layers that lost most, as long as no more weights are kept than at the
    beginning.

    A mask without a constant fan-in gets one at the first change: neurons without weights stay so, and none is ablated.

    Args:
        mask: as it is, layers in their order in the network.
        weights: the masked weights by name, outputs (neurons) first; positions of a kernel count as inputs.
        gradient: of the loss by name, pruned weights included.
        progress: t / T_end, share of the changing part of the training that is done, in (0, 1].
        initial: fraction kept when the training began.
        alpha: the fraction exchanged at the beginning.
        gamma: least share of its fan-in that is salient in a neuron; 0 for no ablation.

    Returns:
        The next mask, in which all neurons of a layer keep equally many weights, or none.

    Raises:
        MaskError: when a weight has fewer than two axes.

    Lasby et al. 2024, arXiv 2305.02299, section 3. Deviations: fan-ins are rounded over all layers together, so that
    masks of other patterns keep their total within one neuron layer's weights; a layer keeps at least as many neurons
    as its count needs, by most salient weights; outputs are never ablated; ViTs have gamma = 0.95 there.

    >>> mask = Mask({"w": torch.tensor([[True, True, False, False], [True, False, False, True]])})
    >>> w, g = torch.tensor([[4.0, 3, 0, 0], [2, 0, 0, 1]]), torch.tensor([[0.0, 0, 1, 9], [0, 5, 2, 0]])
    >>> srigl.function(mask, {"w": w}, {"w": g}, 0.01, 0.5)["w"].int()
    tensor([[1, 1, 0, 0],
            [1, 1, 0, 0]], dtype=torch.int32)
    """
    share = annealed(alpha, progress)
    stays, active, counts, outputs = {}, {}, {}, list(mask)[-1]
    for name, kept in mask.items():
        if kept.dim() < 2:
            raise MaskError(f"'{name}' has shape {tuple(kept.shape)}, no fan-in; leave it out of the mask")
        counts[name] = int(kept.sum())
        many = exchanged(share, counts[name])
        stays[name] = without_smallest(weights[name].flatten(), kept.flatten(), many).view(len(kept), -1)
        least = gamma if name != outputs else 0.0
        active[name] = _active(kept.flatten(1), stays[name], gradient[name].abs().float().flatten(1), many, least)
    total = kept_count(initial, mask.numel)
    inputs = {name: stay.shape[1] for name, stay in stays.items()}
    wanted = fan_ins(counts, {name: int(alive.sum()) for name, alive in active.items()}, inputs, total)
    found = {}
    for name, stay in stays.items():
        value = torch.where(stay, weights[name].flatten(1).abs().float(), gradient[name].flatten(1).abs().float())
        found[name] = (_best(stay, value, wanted[name]) & active[name][:, None]).view_as(mask[name])
    return Mask(found)


def fan_ins(
    counts: Mapping[str, int], neurons: Mapping[str, int], inputs: Mapping[str, int], total: int
) -> dict[str, int]:
    """Return by layer how many weights a neuron keeps, such that all together keep at most `total`, or nearly so many.

    Args:
        counts: weights that the layer keeps now.
        neurons: that keep any; a layer with none gets 0.
        inputs: weights that a neuron has.
        total: number of weights to keep in all.

    >>> fan_ins({"a": 15, "b": 12}, {"a": 10, "b": 4}, {"a": 20, "b": 10}, 27)
    {'a': 1, 'b': 4}
    """
    living = {name: number for name, number in neurons.items() if number}
    found = {name: min(inputs[name], max(1, counts[name] // number)) for name, number in living.items()}
    while True:
        left = total - sum(found[name] * number for name, number in living.items())
        open_layers = [name for name, number in living.items() if number <= left and found[name] < inputs[name]]
        if not open_layers:
            return {name: found.get(name, 0) for name in counts}
        lost = {name: counts[name] / living[name] - found[name] for name in open_layers}
        found[max(open_layers, key=lambda name: lost[name])] += 1


def _active(
    kept: Bool[Tensor, "neurons inputs"],
    stays: Bool[Tensor, "neurons inputs"],
    gradient: Float[Tensor, "neurons inputs"],
    many: int,
    gamma: float,
) -> Bool[Tensor, " neurons"]:
    """Return which neurons go on to keep weights."""
    fan_in = kept.sum(1)
    active = fan_in > 0
    if not active.any() or (fan_in[active] != fan_in.max()).any():
        return active  # of another pattern: the first change alone gives it this one
    grown = keep_largest(gradient.masked_fill(stays, -math.inf).flatten(), many).view_as(stays)
    salient = (stays | grown).sum(1)
    alive = active & (salient >= gamma * fan_in)
    least = -(-int(kept.sum()) // kept.shape[1])
    if int(alive.sum()) < least:
        return keep_largest(salient.float().masked_fill(~active, -math.inf), least)
    return alive


def _best(
    first: Bool[Tensor, "neurons inputs"], value: Float[Tensor, "neurons inputs"], count: int
) -> Bool[Tensor, "neurons inputs"]:
    """Return `count` of each neuron: those of `first` before all others, among them the largest."""
    order = value.argsort(dim=1, descending=True, stable=True)
    before = first.gather(1, order).int().argsort(dim=1, descending=True, stable=True)
    return torch.zeros_like(first).scatter_(1, order.gather(1, before)[:, :count], True)
