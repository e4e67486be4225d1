"""How much memory matching by activations takes at its peak, told before it begins by a run on a few examples."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any
from weakref import finalize

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from reticket.errors import InputError
from reticket.forward import call, evaluating, inputs_for, lay_channels_last, trial_copy
from reticket.matching.accumulated import MomentAccumulator, scaling_in, thinned
from reticket.matching.moments import BLOCK, centred
from reticket.matching.registry import MATCHERS
from reticket.nested import examples_in, parts, tensors_in
from reticket.symmetry import Site, Symmetry, capture
from reticket.symmetry.scaled import scaling_of
from reticket.symmetry.terms import shape_of

FLOAT = 4  # bytes
FEW = (2, 4)  # examples of the runs; what grows from one to the other grows on


@dataclass(frozen=True)
class Look:
    """What is in memory while one site is looked at, in bytes.

    Args:
        before: the most that the forward pass held since the look before.
        alive: what it holds now.
        values: of the site, in the precision that products are taken in.
        laid: whether units do not lie in rows, which takes a copy.
        far: whether their means are far from 0, which takes B's another one.
        whole: whether their squares are taken at once, as on a GPU.
    """

    before: int
    alive: int
    values: int
    laid: bool = False
    far: bool = False
    whole: bool = False

    @property
    def squares(self) -> int:
        """Those squares that are held together."""
        return self.values if self.whole else min(self.values, BLOCK * FLOAT)

    @property
    def of_a(self) -> int:
        """The most while A's units are taken: the values that are kept, and their squares."""
        return max(self.before, self.alive + (1 + self.laid) * self.values + self.squares)

    @property
    def of_b(self) -> int:
        """The most while B's units are taken: their squares."""
        return max(self.before, self.alive + (self.laid + self.far) * self.values + self.squares)

    def grown(self, other: "Look", examples: int) -> "Look":
        """Return the same of any number of examples, this being of the first of `FEW` and `other` of the second."""

        def grown(one: int, two: int) -> int:
            return round(one + (examples - FEW[0]) / (FEW[1] - FEW[0]) * max(0, two - one))

        before, alive = grown(self.before, other.before), grown(self.alive, other.alive)
        values = grown(self.values, other.values)
        return Look(before, alive, values, self.laid or other.laid, self.far or other.far, self.whole)


def matching_memory(
    model: nn.Module,
    sym: Symmetry,
    batch: object,
    *,
    others: int = 1,
    checkpoints: int = 1,
    **options: Any,
) -> int:
    """Return how many bytes of memory matching by activations takes at its peak, without matching.

    A copy of the model is run on a few examples of the batch, and what it held is carried on to the whole. Counted are
    activations, what is computed of them, cross products, similarities, and the copies of weights that `match` makes,
    not the networks and the batch, which are there already. For `match_many` of n networks `others` is n - 1.

    Args:
        model: one of the networks.
        sym: their symmetry.
        batch: the largest of the batches that they will be matched on.
        others: networks that one is matched to.
        checkpoints: of each network.
        options: of the method "activation", as `match` will be given them.

    Returns:
        The peak in bytes, on the device that the model is on. A process may keep more: a C library that reuses freed
        memory for what does not fit in the gaps.

    Raises:
        InputError: for an option that the method does not have, or what is no module.
        ModelError: when the model cannot take the batch.

    >>> from reticket import build_model, discover
    >>> model, batch = build_model("mlp"), torch.zeros(4000, 64)
    >>> f"{matching_memory(model, discover(model, batch[:2]), batch) / 1e6:.0f} MB"
    '17 MB'
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            f"matching_memory runs a module, got {type(model).__name__}; give one of the networks as a module"
        )
    MATCHERS.named("activation").check({"batches": batch}, options)
    inputs = inputs_for(sym, batch, options.get("to_inputs"))
    seen = MomentAccumulator(sym, options.get("held_bytes"), options.get("positions"))
    seen.norms = scaling_in([model])
    copied = trial_copy(model) or model
    with evaluating(copied):
        laid = _laid(copied, inputs, seen)
        looks = _looks(copied, seen, inputs)
    copies = (1 + others) * checkpoints * (_bytes_of(model.state_dict()) + laid)
    halves = 2 if isinstance(options.get("stop"), float | int) else 1
    halves += options.get("seen") is not None  # a batch is taken in apart
    products = 8 * checkpoints * sum(seen.units(group) ** 2 for _, group in _measured(seen))
    running = copies + others * halves * products + _most(looks, others)
    return max(running, (others * halves + halves - 1) * products + _scoring(seen, checkpoints))


def _laid(model: nn.Module, inputs: object, seen: MomentAccumulator) -> int:
    """Lay a model out as it will be matched, and return the bytes of what lies anew."""
    before = {id(p): p.data_ptr() for p in model.parameters()}
    if not seen.inside.sites:
        lay_channels_last([model], inputs)
    return sum(p.nbytes for p in model.parameters() if p.data_ptr() != before[id(p)])


def _bytes_of(state: Mapping[str, Any]) -> int:
    return sum(tensor.nbytes for tensor in {id(one): one for one in tensors_in(state)}.values())


def _measured(seen: MomentAccumulator) -> list[tuple[Site, str]]:
    """Return the sites that are measured, with every group there."""
    sites = [site for site in seen.sites if site.operator or site.module not in (seen.norms or ())]
    return [(site, group) for site in sites for group in seen.groups_at[site.name]]


def _scoring(seen: MomentAccumulator, checkpoints: int) -> int:
    """Return the bytes that the similarities take in the end, while those of the largest group are averaged."""
    squares = {group: 8 * seen.units(group) ** 2 for group in seen.views}
    measured = Counter(group for _, group in _measured(seen))
    averaged = [
        size * checkpoints * (3 * len(seen.views[group].sites) - measured[group]) for group, size in squares.items()
    ]
    return sum(squares.values()) + max(averaged, default=0)


def _most(looks: Sequence[Look], others: int) -> int:
    """Return the bytes at the peak of a pass, in which A's values wait for every B's."""
    held = list(accumulate((look.values for look in looks), initial=0))
    of_a = [look.of_a + before for look, before in zip(looks, held, strict=False)]
    of_b = [look.of_b + held[-1] - (before if others == 1 else 0) for look, before in zip(looks, held, strict=False)]
    return max([*of_a, *of_b], default=0)


def _looks(model: nn.Module, seen: MomentAccumulator, inputs: object) -> list[Look]:
    """Return what is in memory at every look at a part of the inputs."""
    size = seen.at_once(model, inputs)
    few, more = (_run(model, seen, next(parts(inputs, number))) for number in FEW)
    if examples_in(inputs) < FEW[1] or len(few) != len(more):
        return _inner_looks(seen, model, inputs, size) + more
    return _inner_looks(seen, model, inputs, size) + [a.grown(b, size) for a, b in zip(few, more, strict=True)]


def _inner_looks(seen: MomentAccumulator, model: nn.Module, inputs: object, size: int) -> list[Look]:
    """Return the looks at what only a traced graph shows, as discovery saw it: to trace anew would take long."""
    larger = size * seen.larger(inputs) / max(1, examples_in(inputs))
    sizes = [round(larger * 4 * math.prod(shape_of(site.layout))) for site, _ in _measured(seen) if site.traced]
    return [Look(one, one, one) for one in sizes]


def _run(model: nn.Module, seen: MomentAccumulator, inputs: object) -> list[Look]:
    """Run a model and return what is in memory at every look at it."""
    looks: list[Look] = []
    living = Living()

    def on_site(site: Site, tensor: Tensor) -> None:
        before, alive = living.most, living.alive
        with living.paused():
            for group in seen.groups_at[site.name]:
                rows = thinned(site.units(tensor, group, seen.views[group].along), examples_in(inputs), seen.positions)
                batch = centred(rows.reshape(-1, rows.shape[-1]))
                own = [_memory(one) for one in (tensor, rows, batch.values)]
                whole = tensor.device.type != "cpu"
                looks.append(Look(before, alive, batch.values.nbytes, own[0] != own[1], own[1] != own[2], whole))
        living.most = living.alive

    def on_next(site: Site, _: Site, module: nn.Module) -> bool:
        return site.module in (seen.norms or ()) and scaling_of(module) is not None

    with torch.no_grad(), living, capture(model, seen.sites, on_site, on_next):
        call(model, inputs)
    return looks


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _laid_anew(func: Any, args: Sequence[Any], result: Any) -> int:
    """Return the bytes that a convolution takes to lay its input out as its weights lie; 0 for all else."""
    if func is not torch.ops.aten.convolution.default or result.dim() != 4:
        return 0
    lies = [one.is_contiguous(memory_format=torch.channels_last) for one in (args[0], result)]
    return 0 if lies[0] is lies[1] else args[0].nbytes


class Living(TorchDispatchMode):
    """Counts the bytes of tensors that operators made while this was active and that are still alive.

    Attributes:
        alive: bytes now.
        most: bytes at most since `most` was set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.most = 0
        self._known: dict[int, int] = {}
        self._paused = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing meanwhile."""
        self._paused = True
        yield
        self._paused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self._paused:
            return result
        given = {one.untyped_storage()._cdata for one in tensors_in((args, kwargs))}
        for tensor in tensors_in(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in given and storage._cdata not in self._known:
                self._known[storage._cdata] = storage.nbytes()
                self.alive += storage.nbytes()
                finalize(storage, self._free, storage._cdata)
        self.most = max(self.most, self.alive + _laid_anew(func, args, result))
        return result

    def _free(self, storage: int) -> None:
        self.alive -= self._known.pop(storage)
