"""Numerical proof: random draws of the whole group must not change the function of the model.

If the claimed group is not wholly a symmetry, its true symmetries are a proper subgroup, so that a uniform draw passes
with probability at most 1/2 and k draws miss with at most 2^-k.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from reticket.dense import dense, is_dense
from reticket.errors import VerificationError
from reticket.rng import generator_for
from reticket.symmetry.alignment import Alignment, identity_alignment, random_alignment
from reticket.symmetry.compared import Differences, Run, moved_by
from reticket.symmetry.effect import CONFIRMED, Piece, pieces, suspects
from reticket.symmetry.exact import Exact, copy_in, exact, free_memory, is_number, randomise
from reticket.symmetry.filled import check_inputs, check_shaped
from reticket.symmetry.graph import Inputs, opened
from reticket.symmetry.model_tensors import named_state, same_tensor
from reticket.symmetry.symmetry import Symmetry
from reticket.symmetry.terms import Layout
from reticket.symmetry.trials import Trial, resized_trials, roomier_sizes
from reticket.symmetry.untouched import Kept, kept
from reticket.weights import module_of

ROUNDING = 100  # times what the last bits of the weights make: so much of a difference may be rounding
SHAKES = 4  # how often the last bits are changed before a difference is held against a symmetry
STEADY = 1e-3  # times the tolerance: rounding that leaves a trial fit for train mode, whatever the draw
CHANGES = "changes the function of the model, found by the numerical proof"
CHANGES_ELSEWHERE = "changes the function at other input sizes than the example's, found by the numerical proof"
LOOSEST = 1000  # times the tolerance: a value that rounding moves by more proves little
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}


def precision(model: nn.Module) -> tuple[torch.dtype | None, str]:
    """Return the dtype that a proof of this model computes in, None for no proof, and what to say about it."""
    state = list(named_state(model).values())
    if any(tensor.is_meta for tensor in state):
        return None, "not proven: the model is on the meta device and holds no values"
    numbers = sum(tensor.numel() * (1 + tensor.is_complex()) for tensor in state if is_number(tensor))
    device = state[0].device if state else torch.device("cpu")
    free = free_memory(device)
    if device.type != "mps" and (free is None or 8 * numbers <= free / 4):
        return torch.float64, ""
    if free is not None and 4 * numbers > free / 2:
        return None, f"not proven: a copy of the model takes {4e-9 * numbers:.1f} GB, {1e-9 * free:.1f} GB are free"
    return torch.float32, f"proven in float32 to {TOLERANCES[torch.float32]:g} only: no room for a copy in float64"


@dataclass
class Proof:
    """A copy of a model on which claimed symmetries are tried.

    Args:
        symmetry: what is claimed.
        model: the model; only read.
        inputs: example inputs.
        wide: dtype to compute in.
        tolerance: largest difference allowed, relative to the largest output.
        notes: what could not be proven, against expectation.
        remarks: what could not be proven because of what the model is.
    """

    symmetry: Symmetry
    model: nn.Module
    inputs: Inputs
    wide: torch.dtype = torch.float64
    tolerance: float = 1e-9
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._twin = copy_in(self.model, self.wide)
        self._state = named_state(self._twin)
        self._kept = Kept([self._twin], but=self._state.values())
        self._given = named_state(self.model)
        self._identity = identity_alignment(self.symmetry)
        self._placed: Alignment | None = self._identity
        self._touched: set[str] = set()
        self._expected: dict[tuple[int, bool], Run] = {}
        self._shaken: dict[tuple[int, bool], list[Differences]] = {}
        self._changed: dict[str, Tensor] = {}
        self._trials = [Trial.example(self.inputs, self.wide)]
        self._changed = randomise(self._twin, generator_for("verify", "weights"))
        self._keep_the_way()
        if not self._reference(0, False).finite:
            raise VerificationError(
                f"nothing can be proven for {type(self.model).__name__}: its output is not finite on the example "
                f"inputs; pass example inputs of a usual scale"
            )
        self._add_trials()
        self._drawn_on = len(self._trials)
        self._training = self._choose_training()

    def _keep_the_way(self) -> None:
        """Prove with the weights as they are where other weights take another way through the model."""
        randomised, changed = self._reference(0, False), self._changed
        if not randomised.way:
            return
        self._changed, self._placed, self._expected = {}, None, {}
        if self._reference(0, False).way == randomised.way:
            self._changed, self._placed, self._expected = changed, None, {(0, False): randomised}
        else:
            self.notes.append("proven for the weights as they are: others take another way through the model")

    def _add_trials(self) -> None:
        """Add new inputs of other sizes and batches, as far as the model runs."""
        runs = dict[Trial, Run]()

        def fits(trial: Trial) -> bool:
            run = self._fits(trial)
            runs.update({} if run is None else {trial: run})
            return run is not None

        example = self._trials[0]
        for trial in resized_trials(example, self.symmetry.inputs, fits):
            self._keep(trial, runs[trial])
        if len(self._trials) > 1:
            return
        self.remarks.append(
            "proven at the sizes of the example inputs only: at others the model fails or acts otherwise"
        )
        if not self._add(example.redrawn(1, {}, {})):
            self.remarks.append("proven on the example inputs only: on random ones the model fails or acts otherwise")

    def _add(self, trial: Trial) -> bool:
        """Keep the trial if the model runs on it, with finite results and on the way of the example."""
        if (run := self._fits(trial)) is not None:
            self._keep(trial, run)
        return run is not None

    def _keep(self, trial: Trial, run: Run) -> None:
        self._expected[len(self._trials), False] = run
        self._trials.append(trial)

    def _fits(self, trial: Trial) -> Run | None:
        """Return what the model gives in eval mode, None where it fails, is not finite or takes another way."""
        try:
            run = self._run(trial, False, self._identity)
            usual = run.finite and run.way == self._reference(0, False).way
            return run if usual and run.fits(self.symmetry.outputs) else None
        except Exception:
            return None

    def _choose_training(self) -> int | None:
        """Return the trial to try train mode on, the smallest where rounding is small; None where it acts as eval."""
        failure, found = "its output is not finite", dict[int, float]()
        for trial in self._candidates():
            try:
                run = self._reference(trial, True)
                on_the_way = not run.way or run.way == self._reference(0, True).way
            except Exception as error:
                failure = f"{type(error).__name__}: {error}"
                continue
            if run.same(self._reference(trial, False)):
                return None
            if run.finite and on_the_way:
                found[trial] = max(self._rounding(trial, True).values(), default=0.0)
                if found[trial] <= STEADY * self.tolerance:
                    return trial
        if not found:
            self.notes.append(f"train mode is not proven, it does not run on these inputs: {failure}")
        return min(found, key=found.__getitem__, default=None)

    def _candidates(self) -> Iterator[int]:
        """Yield the trials for train mode, small ones first, and one that leaves BatchNorm more values to normalise."""
        yield from sorted(range(len(self._trials)), key=lambda i: (self._trials[i].numbers, -i))
        example = self._trials[0]
        for size in roomier_sizes(example, self.symmetry.inputs):
            if self._add(example.redrawn(4, {}, size)):
                yield len(self._trials) - 1
                return

    def _modes(self, trial: int) -> tuple[tuple[int, bool], ...]:
        """Return what a draw is tried on: one trial in eval mode, and the one for train mode."""
        return ((trial, False),) if self._training is None else ((trial, False), (self._training, True))

    def _place(self, alignment: Alignment) -> None:
        """Give the copy the permuted weights; what a run may write is set anew every time."""
        self._kept.restore()  # what an earlier run left, as a table made of the weights, would hide these
        all_anew, self._placed = self._placed is not alignment, alignment
        done: set[tuple[int, Layout]] = set()
        with torch.no_grad():
            for name, tensor in self._state.items():
                tied = (id(tensor), self.symmetry.layouts[name])
                if tied not in done and (all_anew or name in self._touched or not isinstance(tensor, nn.Parameter)):
                    base = self._changed[name] if name in self._changed else self._given[name].detach()
                    tensor.copy_(alignment.tensor(name, base))
                    done.add(tied)
        self._touched.clear()
        if all_anew:
            now = named_state(self._twin)
            assert all(same_tensor(now[name], t) for name, t in self._state.items()), "the proof lost hold of its copy"

    def _forward(self, trial: Trial, train: bool, alignment: Alignment, gradients: bool) -> tuple[list[Any], Exact]:
        layouts = iter(self.symmetry.inputs)
        moved = [moved_by(v, next(layouts, ()), alignment) if isinstance(v, Tensor) else v for v in trial.values]
        args, kwargs = tree_unflatten(moved, trial.spec)
        self._twin.train(train)
        with exact(trial.seed, self.wide, gradients=gradients) as mode:
            return tree_flatten(opened(self._twin(*args, **kwargs)))[0], mode

    def _run(self, trial: Trial, train: bool, alignment: Alignment) -> Run:
        self._place(alignment)
        before = {n: (t, t._version, _unless_parameter(t)) for n, t in self._state.items()}
        found, mode = self._forward(trial, train, alignment, gradients=False)
        outputs = [x.detach().clone() if isinstance(x, Tensor) else x for x in found]
        now = named_state(self._twin)
        written = {
            name: now.get(name, tensor).detach().clone()
            for name, (tensor, version, value) in before.items()
            if not same_tensor(now.get(name, tensor), tensor)
            or tensor._version != version
            or not (value is None or torch.equal(value, tensor))
        }
        self._touched.update(written)
        return Run(outputs, written, tuple(mode.way) if mode.reads else ())

    def _reference(self, trial: int, train: bool) -> Run:
        if (trial, train) not in self._expected:
            self._expected[trial, train] = self._run(self._trials[trial], train, self._identity)
        return self._expected[trial, train]

    def error(self, names: Sequence[str], draw: int) -> float:
        """Return the largest relative difference when the named groups are drawn at random and the others stay."""
        others = self._drawn_on - 1
        trial = 1 + (draw - 1) % others if draw and others else 0
        alignment = self._drawn(names, draw)
        return max(self._settled(tried, train, alignment) for tried, train in self._modes(trial))

    def _drawn(self, names: Sequence[str], draw: int) -> Alignment:
        drawn = random_alignment(self.symmetry, generator_for("verify", "draw", draw, *names)).permutations
        chosen = frozenset(names)
        permutations = {k: drawn[k] if k in chosen else v for k, v in self._identity.permutations.items()}
        return Alignment(self.symmetry, permutations)

    def reasons(self, names: Sequence[str], draws: int) -> dict[str, str]:
        """Say of groups that change the function whether they do so on inputs of the example's sizes, too."""
        here = [name for name in names if self._changes_here([name], draws)]
        if not here and self._changes_here(names, draws):
            here = list(names)
        return {name: CHANGES if name in here else CHANGES_ELSEWHERE for name in names}

    def _changes_here(self, names: Sequence[str], draws: int) -> bool:
        modes = [mode for mode in self._modes(0) if self._trials[mode[0]].shapes == self._trials[0].shapes]
        alignments = (self._drawn(names, draw) for draw in range(draws))
        return any(self._settled(*mode, drawn) > self.tolerance for drawn in alignments for mode in modes)

    def _settled(self, trial: int, train: bool, alignment: Alignment) -> float:
        """Return the largest difference that a permutation makes, leaving out values that rounding moves as much."""
        got = self._run(self._trials[trial], train, alignment)
        found = self._reference(trial, train).moved(alignment).differences(got)
        large = {key: size for key, size in found.items() if size > self.tolerance}
        if not large:
            return max(found.values(), default=0.0)
        loose = LOOSEST * self.tolerance
        for shakes in (1, SHAKES):  # BatchNorm over few values enlarges some last bits by far more than others
            rounding = self._rounding(trial, train, shakes)
            held = [size for key, size in large.items() if size > ROUNDING * rounding.get(key, 0.0)]
            if not held:
                break
        if held or (max(large.values()) > loose and not (train and self._repeats(trial, train))):
            return max(held or large.values())
        remark = f"proven to {loose:g} only: rounding makes more than {self.tolerance:g} here"
        if max(large.values()) > loose:
            remark = f"not all values are proven in train mode: rounding alone moves some by more than {loose:g}"
        self.remarks.extend([remark] if remark not in self.remarks else [])
        return 0.0

    def _pieces(self) -> list[Piece]:
        """Return what the groups move of every parameter, tied ones once."""
        own = {id(p): name for name, p in reversed(self._state.items()) if isinstance(p, nn.Parameter) and p.is_leaf}
        named = sorted(own.values(), key=list(self._state).index)
        return [piece for name in named for piece in pieces(name, self.symmetry.layouts[name])]

    def without_effect(self) -> tuple[str, ...]:
        """Say which parameters, or parts of them, that the groups move have no effect on what the model returns."""
        last = min(range(self._drawn_on), key=lambda i: (self._trials[i].numbers, -i))
        doubtful = self._pieces()
        try:
            for tried, train in self._modes(last):
                parameters = {piece.name: self._state[piece.name] for piece in doubtful}
                self._place(self._identity)
                doubtful = suspects(parameters, doubtful, partial(self._differentiable, tried, train))
        except Exception as error:
            return (f"which weights have no effect was not examined: {type(error).__name__}: {error}",)
        if doubtful and self._matter(doubtful, last):
            doubtful = [piece for piece in doubtful[:CONFIRMED] if not self._matter([piece], last)]
        silent = ", ".join(map(str, doubtful))
        return (f"cannot be proven, for it has no effect on the output: {silent}",) if silent else ()

    def _differentiable(self, trial: int, train: bool) -> list[Tensor]:
        """Return what the model returns, with gradients."""
        values, _ = self._forward(self._trials[trial], train, self._identity, gradients=True)
        return [dense(value) for value in values if isinstance(value, Tensor)]

    def _matter(self, found: Sequence[Piece], trial: int) -> bool:
        """Whether noise on pieces of parameters changes anything."""
        shifts = [self._shift(tried, train, found, 0.1) for tried, train in self._modes(trial)]
        return any(isinstance(key, int) and size > self.tolerance for shift in shifts for key, size in shift.items())

    def _shift(self, trial: int, train: bool, found: Sequence[Piece], noise: float, shake: int = 0) -> Differences:
        """Return by how much every value compared changes when pieces of parameters are disturbed."""
        expected = self._reference(trial, train)
        self._place(self._identity)
        generator = generator_for("verify", "noise", shake)
        with torch.no_grad():
            for piece in found:
                stretch = piece.of(self._state[piece.name])
                scale = float(torch.linalg.vector_norm(stretch)) / max(1, stretch.numel()) ** 0.5 or 1.0
                drawn = torch.rand(stretch.shape, generator=generator, dtype=torch.float64, device="cpu")
                stretch.add_(drawn.sub_(0.5).to(stretch.device, stretch.dtype), alpha=noise * scale)
        try:
            got = self._run(self._trials[trial], train, self._identity)
        finally:
            self._touched.update(piece.name for piece in found)
        return expected.differences(got)

    def _rounding(self, trial: int, train: bool, shakes: int = 1) -> Differences:
        """Return by how much every value compared changes when every weight changes in its last bits.

        Args:
            trial: number of the trial.
            train: the mode.
            shakes: how often the weights are changed at least; the largest change counts.
        """
        done = self._shaken.setdefault((trial, train), [])
        while len(done) < shakes:
            noise = 4 * torch.finfo(self.wide).eps
            done.append(self._shift(trial, train, self._pieces(), noise, shake=len(done)))
        return {key: max(shaken.get(key, 0.0) for shaken in done) for key in done[0]}

    def _repeats(self, trial: int, train: bool) -> bool:
        """Whether the same weights give the same again, so that rounding alone is to blame for what differs."""
        again = self._run(self._trials[trial], train, self._identity)
        return max(self._reference(trial, train).differences(again).values(), default=0.0) <= self.tolerance

    def guilty(self, names: Sequence[str], draws: int) -> list[str]:
        """Return the groups among `names` that change the function, found by bisection; empty when none does."""
        if not names or all(self.error(names, draw) <= self.tolerance for draw in range(draws)):
            return []
        if len(names) == 1:
            return list(names)
        half = len(names) // 2
        found = self.guilty(names[:half], draws) + self.guilty(names[half:], draws)
        return found or list(names)


def _unless_parameter(tensor: Tensor) -> Tensor | None:
    """Return a copy of a buffer: BatchNorm updates its statistics without counting a version."""
    return None if isinstance(tensor, nn.Parameter) or not is_dense(tensor) else tensor.detach().clone()


def guilty_groups(
    symmetry: Symmetry, model: nn.Module, inputs: Inputs, *, draws: int = 4
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the groups that change the function of the model, each with the reason, and what could not be proven."""
    if not symmetry.groups:
        return {}, ()
    wide, limit = precision(model)
    if wide is None:
        return {}, (limit,)
    with kept(model):
        proof = Proof(symmetry, model, inputs, wide, TOLERANCES[wide])
        guilty = proof.reasons(proof.guilty(tuple(symmetry.groups), draws), draws)
        silent = () if guilty else proof.without_effect()
    return guilty, tuple(note for note in (limit, *proof.notes, *proof.remarks, *silent) if note)


def verify(
    sym: Symmetry,
    model: nn.Module,
    example_inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    *,
    draws: int = 8,
    tolerance: float | None = None,
) -> None:
    """Prove by random draws that the claimed symmetry keeps the function of a model.

    All groups are drawn at once and the outputs compared in float64, in eval and in train mode (there the buffers after
    the step too; dropout is taken for the identity), with affine parameters and statistics randomised; on the example's
    inputs and on new ones of other sizes, where the model runs on them. A wrong claim passes with probability at most
    2^-draws. The model is only read. What could not be proven is warned about.

    Args:
        sym: what is claimed.
        model: the model.
        example_inputs: a tensor, a tuple of positional inputs or a dict of keyword inputs.
        kwargs: keyword inputs beside positional ones.
        draws: number of draws of the whole group.
        tolerance: largest difference allowed, relative to the largest output; 1e-9, or 1e-4 for a model too big for a
            copy in float64, which is verified in float32.

    Raises:
        VerificationError: names the groups that change the function, or says why nothing can be proven.

    >>> from reticket.symmetry import discover
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> verify(discover(model, torch.zeros(2, 4)), model, torch.zeros(2, 4))
    """
    check_shaped(module_of(model))
    wide, limit = precision(model)
    if wide is None:
        raise VerificationError(f"the symmetry of {type(model).__name__} is {limit}")
    inputs = Inputs.of(example_inputs, kwargs)
    check_inputs(inputs.leaves())
    allowed = TOLERANCES[wide] if tolerance is None else tolerance
    with kept(model):
        proof = Proof(sym, model, inputs, wide, allowed)
        for note in filter(None, (limit, *proof.notes)):
            warnings.warn(note, stacklevel=2)
        guilty = proof.guilty(tuple(sym.groups), draws)
        worst = max(proof.error(guilty, draw) for draw in range(draws)) if guilty else 0.0
    if guilty:
        raise VerificationError(
            f"permuting {', '.join(guilty)} changes the function of {type(model).__name__} by {worst:.2g} of its "
            f"largest output (allowed {allowed:g}): this symmetry is not of this model, or a rule is wrong"
        )
