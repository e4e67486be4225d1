"""Numerical proof: random draws of the whole group must not change the function of the model.

If the claimed group is not wholly a symmetry, its true symmetries are a proper subgroup, so that a uniform draw passes
with probability at most 1/2 and k draws miss with at most 2^-k.
"""

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_unflatten

from reticket.errors import VerificationError
from reticket.rng import generator_for
from reticket.symmetry.alignment import Alignment, identity_alignment, load_into, random_alignment
from reticket.symmetry.gather import gather
from reticket.symmetry.graph import Inputs, named_state, quiet
from reticket.symmetry.symmetry import Symmetry
from reticket.types import Permutation

LOW = (torch.float32, torch.float16, torch.bfloat16)
DROPOUT = tuple(
    function
    for module in (F, torch)
    for name in [
        "dropout",
        "dropout_",
        "dropout1d",
        "dropout2d",
        "dropout3d",
        "alpha_dropout",
        "alpha_dropout_",
        "feature_dropout",
        "feature_dropout_",
        "feature_alpha_dropout",
        "feature_alpha_dropout_",
    ]
    if (function := getattr(module, name, None)) is not None
)
RECURRENT = (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)
CASTS = (Tensor.float, Tensor.half, Tensor.bfloat16)


class _Exact(TorchFunctionMode):
    """Computes in float64 whatever dtype the model asks for, and takes dropout for the identity."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in DROPOUT:
            return args[0] if args else kwargs["input"]
        if func in CASTS:
            return args[0].double()
        if func in RECURRENT:  # the one number in their call is the dropout between layers
            args = tuple(0.0 if isinstance(a, float) else a for a in args)
        if func is F.scaled_dot_product_attention:
            args, kwargs = (*args[:4], 0.0, *args[5:]) if len(args) > 4 else args, {**kwargs, "dropout_p": 0.0}
            if len(args) > 4:
                del kwargs["dropout_p"]
        wide = [torch.float64 if isinstance(a, torch.dtype) and a in LOW else a for a in args]
        named = {k: torch.float64 if isinstance(v, torch.dtype) and v in LOW else v for k, v in kwargs.items()}
        return func(*wide, **named)


@contextmanager
def _exact(seed: int) -> Iterator[None]:
    default = torch.get_default_dtype()
    with ExitStack() as exits:
        exits.enter_context(torch.random.fork_rng(devices=[]))
        exits.enter_context(quiet())
        exits.enter_context(torch.no_grad())
        torch.manual_seed(seed)
        torch.set_default_dtype(torch.float64)
        exits.callback(torch.set_default_dtype, default)
        exits.enter_context(_Exact())
        yield


def double_copy(model: nn.Module) -> nn.Module:
    """Return a copy of the model with every floating tensor in float64, plain attributes included."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in module.__dict__.values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    twin = copy.deepcopy(model, memo).double()
    for module in twin.modules():
        for name, value in list(module.__dict__.items()):
            if isinstance(value, Tensor) and value.is_floating_point():
                module.__dict__[name] = value.double()
    return twin


def _randomise(model: nn.Module, generator: torch.Generator) -> None:
    """Make vectors, statistics and constant tensors differ from unit to unit, so that a forgotten one shows."""
    buffers = {id(buffer) for buffer in model.buffers()}
    with torch.no_grad():
        for tensor in named_state(model).values():
            if not tensor.is_floating_point() or tensor.numel() < 2:
                continue
            if id(tensor) in buffers:
                positive = bool((tensor > 0).all())
                if tensor.dim() == 1:
                    noise = torch.rand(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.device)
                    tensor.copy_(tensor * (0.5 + noise) if positive else tensor + 0.3 * (noise - 0.5))
            elif tensor.dim() == 1 or bool((tensor == tensor.flatten()[0]).all()):
                noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
                tensor.add_(noise.to(tensor.device), alpha=0.3)


@dataclass(frozen=True)
class _Run:
    """What one forward left behind: outputs, and the tensors of the state that it wrote."""

    outputs: list[Any]
    state: Mapping[str, Tensor]


@dataclass
class Proof:
    """A float64 copy of a model on which claimed symmetries are tried.

    Args:
        symmetry: what is claimed.
        model: the model; only read.
        inputs: example inputs.
        tolerance: largest difference relative to the largest output.
    """

    symmetry: Symmetry
    model: nn.Module
    inputs: Inputs
    tolerance: float = 1e-9
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        generator = generator_for("verify", "weights")
        self._twin = double_copy(self.model)
        _randomise(self._twin, generator)
        self._weights = {name: tensor.detach().clone() for name, tensor in named_state(self._twin).items()}
        self._trials = [tree_flatten((self.inputs.args, dict(self.inputs.kwargs)))]
        self._trials = [self._widened(0), self._widened(1)]
        self._expected: dict[tuple[int, bool], _Run] = {}
        self._modes = [False, True]
        try:
            self._reference(0, True)
        except Exception as error:
            self._modes = [False]
            self.notes.append(f"train mode is not proven, it does not run on these inputs: {error}")

    def _widened(self, trial: int) -> tuple[list[Any], Any]:
        """Return inputs in float64: the example's own (0), or new ones like them (1)."""
        values, spec = self._trials[0]
        generator = generator_for("verify", "inputs", trial)
        result = []
        for value in values:
            if isinstance(value, Tensor) and value.is_floating_point():
                fresh = torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value.device)
                value = (
                    value.detach().double()
                    if trial == 0
                    else fresh * (value.detach().double().std(correction=0) or 1.0)
                )
                value = value + 0.1 * fresh if trial == 0 and not bool(value.any()) else value
            elif isinstance(value, Tensor) and value.numel() > 1 and trial:
                order = torch.randperm(value.numel(), generator=generator).to(value.device)
                value = value.flatten()[order].reshape(value.shape)
            result.append(value)
        return result, spec

    def _run(self, weights: Mapping[str, Tensor], trial: int, train: bool, alignment: Alignment) -> _Run:
        values, spec = self._trials[trial]
        layouts = iter(self.symmetry.inputs)
        moved = [gather(v, next(layouts, ()), alignment.permutations) if isinstance(v, Tensor) else v for v in values]
        args, kwargs = tree_unflatten(moved, spec)
        load_into(self._twin, weights)
        self._twin.train(train)
        state = named_state(self._twin)
        versions = {name: tensor._version for name, tensor in state.items()}
        with _exact(trial):
            outputs = tree_flatten(self._twin(*args, **kwargs))[0]
        written = {name: t.detach().clone() for name, t in state.items() if t._version != versions[name]}
        return _Run([x.detach().clone() if isinstance(x, Tensor) else x for x in outputs], written)

    def _reference(self, trial: int, train: bool) -> _Run:
        if (trial, train) not in self._expected:
            identity = identity_alignment(self.symmetry)
            run = self._run(self._weights, trial, train, identity)
            if not all(bool(x.isfinite().all()) for x in run.outputs if isinstance(x, Tensor)):
                raise VerificationError(
                    f"nothing can be proven for {type(self.model).__name__}: its output is not finite on "
                    f"{'the example' if trial == 0 else 'random'} inputs; pass example inputs of a usual scale"
                )
            self._expected[trial, train] = run
        return self._expected[trial, train]

    def error(self, names: Sequence[str], draw: int) -> float:
        """Return the largest relative difference when the named groups are drawn at random and the others stay."""
        drawn = random_alignment(self.symmetry, generator_for("verify", "draw", draw, *names))
        chosen, kept = frozenset(names), identity_alignment(self.symmetry).permutations
        permutations: dict[str, Permutation] = {
            name: drawn.permutations[name] if name in chosen else kept[name] for name in self.symmetry.groups
        }
        alignment = Alignment(self.symmetry, permutations)
        weights = alignment.apply(self._weights)
        worst, trial = 0.0, draw % len(self._trials)
        for train in self._modes:
            expected, got = self._reference(trial, train), self._run(weights, trial, train, alignment)
            layouts = iter(self.symmetry.outputs)
            for want, have in zip(expected.outputs, got.outputs, strict=True):
                if isinstance(want, Tensor):
                    worst = max(worst, difference(gather(want, next(layouts, ()), alignment.permutations), have))
            for name, have in got.state.items():
                worst = max(worst, difference(alignment.tensor(name, expected.state[name]), have))
        return worst

    def guilty(self, names: Sequence[str], draws: int) -> list[str]:
        """Return the groups among `names` that change the function, found by bisection; empty when none does."""
        if not names or all(self.error(names, draw) <= self.tolerance for draw in range(draws)):
            return []
        if len(names) == 1:
            return list(names)
        half = len(names) // 2
        found = self.guilty(names[:half], draws) + self.guilty(names[half:], draws)
        return found or list(names)


def difference(want: Tensor, have: Tensor) -> float:
    """Return max |have - want| / max |want|; infinite where shapes or integers differ or a value is NaN."""
    if want.shape != have.shape:
        return float("inf")
    if want.numel() == 0 or not want.is_floating_point():
        return 0.0 if torch.equal(want, have) else float("inf")
    scale = float(want.abs().max()) or 1.0
    error = float((have - want).abs().max()) / scale
    return error if error == error else float("inf")


def guilty_groups(
    symmetry: Symmetry, model: nn.Module, inputs: Inputs, *, draws: int = 4
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the groups that change the function of the model, and what could not be proven."""
    if not symmetry.groups:
        return (), ()
    proof = Proof(symmetry, model, inputs)
    return tuple(proof.guilty(tuple(symmetry.groups), draws)), tuple(proof.notes)


def verify(
    sym: Symmetry,
    model: nn.Module,
    example_inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    *,
    draws: int = 8,
    tolerance: float = 1e-9,
) -> None:
    """Prove by random draws that the claimed symmetry keeps the function of a model.

    All groups are drawn at once and the outputs compared in float64, in eval and in train mode (there the buffers after
    the step too; dropout is taken for the identity), with affine parameters and statistics randomised. A wrong claim
    passes with probability at most 2^-draws. The model is only read.

    Args:
        sym: what is claimed.
        model: the model.
        example_inputs: a tensor, a tuple of positional inputs or a dict of keyword inputs.
        kwargs: keyword inputs beside positional ones.
        draws: number of draws of the whole group.
        tolerance: largest difference allowed, relative to the largest output.

    Raises:
        VerificationError: names the groups that change the function.

    >>> from reticket.symmetry import discover
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> verify(discover(model, torch.zeros(2, 4)), model, torch.zeros(2, 4))
    """
    proof = Proof(sym, model, Inputs.of(example_inputs, kwargs), tolerance)
    for note in proof.notes:
        warnings.warn(note, stacklevel=2)
    guilty = proof.guilty(tuple(sym.groups), draws)
    if guilty:
        worst = max(proof.error(guilty, draw) for draw in range(draws))
        raise VerificationError(
            f"permuting {', '.join(guilty)} changes the function of {type(model).__name__} by {worst:.2g} of its "
            f"largest output (allowed {tolerance:g}): this symmetry is not of this model, or a rule is wrong"
        )
