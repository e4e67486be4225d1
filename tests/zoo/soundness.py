"""Does a symmetry keep the function where the example did not look? A check that shares no code with the proof.

The model is copied into float64, its weights are drawn so that none is constant, and a random element of the group is
applied to them. Both copies answer new inputs of other sizes and batches in eval mode. As a control half of the tensors
that move are left behind: a check that does not see this would see nothing.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from reticket.symmetry import Symmetry, random_alignment

ALLOWED = 1e-6  # of the largest output; what float64 leaves of a true symmetry is some 1e-12
SEEN = 1e-3  # what half a permutation has to change at least
WIDER = {torch.float32: torch.float64, torch.float16: torch.float64, torch.bfloat16: torch.float64}
WIDER |= {torch.complex64: torch.complex128}
Draw = Callable[[int, Any, Generator], Any]


@dataclass(frozen=True)
class Elsewhere:
    """What was found.

    Args:
        error: largest difference, relative to the largest output; infinite where shapes or integers differ.
        control: the largest that half a permutation made; NaN where nothing moves.
        ran: (batch, size) at which the model ran.
        refused: those at which it did not.
    """

    error: float
    control: float
    ran: tuple[tuple[int, Any], ...]
    refused: tuple[tuple[int, Any], ...]

    @property
    def sound(self) -> bool:
        """Whether the function was kept everywhere."""
        return self.error <= ALLOWED

    @property
    def blind(self) -> bool:
        """Whether the check could not have seen a wrong claim."""
        return not self.ran or self.control < SEEN


class _Wide(TorchFunctionMode):
    """Computes in float64 what a model asks to have in fewer bits."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.float, Tensor.half, Tensor.bfloat16):
            return args[0].double()
        if getattr(func, "__name__", "").endswith("grouped_mm"):
            return _experts(*args, **kwargs)
        args, kwargs = tree_map(_wider, (args, kwargs or {}))
        return func(*args, **kwargs)


def _experts(rows: Tensor, experts: Tensor, *, offs: Tensor, **_: Any) -> Tensor:
    """Return the rows up to each offset times the expert of that number; torch's own product has no float64."""
    numbers = torch.searchsorted(offs.long(), torch.arange(len(rows)), right=True).clamp(max=len(experts) - 1)
    return torch.einsum("ri,rio->ro", rows, experts[numbers])


def _wider(value: Any) -> Any:
    return WIDER.get(value, value) if isinstance(value, torch.dtype) else value


@contextmanager
def _in_float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad(), _Wide():
            yield
    finally:
        torch.set_default_dtype(before)


def drawn_weights(model: nn.Module, generator: Generator) -> nn.Module:
    """Return a copy in float64 none of whose weights is a constant: ones, zeros and 1e-6 hide what is permuted."""
    twin = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.is_floating_point() and parameter.numel():
                vector = parameter.numel() == max(parameter.shape, default=1)
                scale = 0.3 if vector else 1 / math.sqrt(parameter[0].numel())
                parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=scale)
        for name, buffer in twin.named_buffers():
            noise = torch.randn(buffer.shape, generator=generator, dtype=torch.float64)
            if name.endswith("running_mean"):
                buffer.copy_(0.3 * noise)
            elif name.endswith("running_var"):
                buffer.copy_((0.3 * noise).exp())
    return twin


def elsewhere(
    symmetry: Symmetry, model: nn.Module, draw: Draw, example: Any, others: Sequence[Any], *, seed: int = 1
) -> Elsewhere:
    """Compare a model with its permuted copy on inputs of other batches and sizes than the example.

    Args:
        symmetry: what is claimed.
        model: the model; only read.
        draw: makes inputs, a tensor or a dict by keyword, of a batch and a size.
        example: size of the example, whose batch is 2.
        others: sizes to try.
        seed: decides weights, permutations and inputs.
    """
    generator = torch.Generator().manual_seed(seed)
    twin = drawn_weights(model, generator)
    whole, half = (_permuted(twin, state) for state in moved_weights(symmetry, twin, generator))
    pairs, refused = {}, []
    for batch, size in [(2, example), (1, example), (3, example), *((2, size) for size in others)]:
        inputs = draw(batch, size, generator)
        try:
            pairs[batch, size] = inputs, _answer(twin, inputs)
        except Exception:  # whatever a model says of a size that it does not take
            refused.append((batch, size))
    usual = {place: pair for place, pair in pairs.items() if all(bool(x.isfinite().all()) for x in pair[1])}
    errors = [_difference(want, _answer(whole, inputs)) for inputs, want in usual.values()]
    controls = [_difference(want, _answer(half, inputs)) for inputs, want in usual.values()]
    refused += [place for place in pairs if place not in usual]
    control = max(controls, default=0.0) if symmetry.groups else math.nan
    return Elsewhere(max(errors, default=0.0), control, tuple(usual), tuple(refused))


def moved_weights(symmetry: Symmetry, model: nn.Module, generator: Generator) -> tuple[dict[str, Tensor], ...]:
    """Return the weights moved by a random element of the group, and those of which every second tensor stayed."""
    state = {n: t.detach().clone() for n, t in model.state_dict().items() if isinstance(t, Tensor)}
    whole = random_alignment(symmetry, generator).apply(state)
    moving = [name for name in state if not torch.equal(state[name], whole[name])]
    return whole, whole | {name: state[name] for name in moving[::2]}


def _permuted(model: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """Return a copy with other weights, made before the model has run: some keep tables that they make of them."""
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for name, tensor in twin.state_dict().items():
            if name in state:
                tensor.copy_(state[name])
    return twin


def _answer(model: nn.Module, inputs: Any) -> list[Tensor]:
    wide = tree_map(lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x, inputs)
    torch.manual_seed(0)
    with _in_float64():
        answer = model(**wide) if isinstance(wide, dict) else model(wide)
    return [leaf for leaf in tree_leaves(answer) if isinstance(leaf, Tensor)]


def _difference(wants: list[Tensor], haves: list[Tensor]) -> float:
    if [x.shape for x in wants] != [x.shape for x in haves]:
        return math.inf
    return max((_distance(want, have) for want, have in zip(wants, haves, strict=True)), default=0.0)


def _distance(want: Tensor, have: Tensor) -> float:
    if not (want.is_floating_point() or want.is_complex()):
        return 0.0 if torch.equal(want, have) else math.inf
    found = float((want - have).abs().max() / want.abs().max()) if want.numel() and bool(want.any()) else 0.0
    return found if found == found else math.inf
