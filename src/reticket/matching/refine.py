"""Matching by the loss: the permutations for which the networks between A and B do best.

Relaxed to soft alignments, the loss half way has a gradient. Left to itself it averages units, which no permutation
can; with Gumbel's noise only what is nearly a permutation does well on every draw (Mena et al. 2018).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reticket.copied import private_copy
from reticket.errors import AlignmentError, InputError
from reticket.forward import device_of, inputs_for, loss_of, scored
from reticket.matching.activation import match_activations
from reticket.matching.registry import matcher
from reticket.matching.soft import Soft, applied, corner, is_soft, nearest, sinkhorn
from reticket.nested import checked_batches, examples_in, parts
from reticket.objectives import Function, Measure, Objective, chosen_objective, objective_for
from reticket.rng import generator_for
from reticket.symmetry import Alignment, Symmetry, load_into
from reticket.symmetry.gather import gather
from reticket.symmetry.model_tensors import named_state
from reticket.symmetry.untouched import kept
from reticket.types import Permutation

HELD_OUT = 5  # one batch of so many is not learned from
NEAR, FAR = 0.4, 0.6  # positions between A and B that are learned on
STAY = 0.8  # chance that the noise leaves a unit where the search begins
TEMPERATURE = {"sinkhorn": 0.3, "straight-through": 1.0}
LEARNING_RATE = {"sinkhorn": 0.1, "straight-through": 0.03}  # in logits
CANDIDATES = 8  # permutations judged on the way
SAME = 1e-6  # share of the loss that two networks of the same function may differ by
TINY = torch.finfo(torch.float32).tiny
Moved = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False, repr=False)
class RefinedAlignment(Alignment):
    """An alignment with the losses half way to B, on the batches held out.

    Args:
        loss_before: of the permutations that refinement began from.
        loss_after: of these; never more.
    """

    loss_before: float = math.nan
    loss_after: float = math.nan


@matcher("refine", trained=lambda batch, steps, batch_size, **_: steps * min(batch, batch_size))
def match_by_loss(
    models_a: Sequence[nn.Module],
    models_b: Sequence[nn.Module],
    sym: Symmetry,
    batches: Iterable[object],
    start: Alignment | None = None,
    *,
    how: Literal["sinkhorn", "straight-through"] = "sinkhorn",
    steps: int = 400,
    batch_size: int = 128,
    learning_rate: float | None = None,
    seed: int = 0,
    loss: Objective | Measure | Function | str | None = None,
    to_inputs: Callable[[object], object] | None = None,
) -> RefinedAlignment:
    """Refine a matching until the networks half way do best, by the gradient of their loss; needs labelled batches.

    `min over pi of E[L((1 - t) pi(A) + t B)]`, t drawn from [0.4, 0.6] for every batch (Pena et al. 2023 relax
    permutations by Sinkhorn's normalisation too, without noise; Ainsworth et al. 2023, section 3.3, are straight
    through). It begins from `start`, or from what activations match. BatchNorm normalises by the batch. Of the
    permutations met on the way those are returned that do best half way on every fifth batch, which is not learned
    from: none does worse there than the start, which is returned where it does no worse than A and B do. Of several
    checkpoints the last are refined.

    Args:
        models_a, models_b, sym, batches, start, to_inputs: as `match` has them; batches are kept in memory.
        how: what is relaxed; "straight-through" takes the loss of permutations and the gradient of soft ones.
        steps: of Adam, each with one batch.
        batch_size: examples in a batch at most; larger ones are cut.
        learning_rate: of logits; None for 0.1, straight through 0.03.
        seed: of batches, positions and noise.
        loss: what is lowered, as in `barrier`.

    Returns:
        The alignment, with the losses half way before and after.

    Raises:
        InputError: for numbers out of range, fewer than two batches, no labels, or a loss without a gradient.
        AlignmentError: when the loss is not finite.
    """
    rate = LEARNING_RATE[how] if learning_rate is None else learning_rate
    if min(steps, batch_size) < 1 or rate <= 0:
        raise InputError(
            f"steps and batch_size must be at least 1 and learning_rate above 0, got {steps}, {batch_size} and {rate}"
        )
    learned, held_out = _divided(batches, batch_size)
    if start is None:
        every = [*learned, *held_out]
        start = match_activations(models_a, models_b, sym, every, to_inputs=to_inputs, unmatched="identity")
    objective = chosen_objective(loss, None) or objective_for(learned[0])
    generator = generator_for("matching by the loss", seed)
    with kept(models_a[-1], models_b[-1]), torch.enable_grad():
        line = Line(sym, models_a[-1], models_b[-1], objective, _taking(sym, to_inputs))
        search = Search(line, how, rate, generator)
        return search.best(start, learned, held_out, steps)


def _divided(batches: Iterable[object], size: int) -> tuple[list[object], list[object]]:
    """Return batches of at most `size` examples: those to learn from, and those held out."""
    found: list[object] = []
    for batch in checked_batches(batches, "matching"):
        examples = examples_in(batch)
        found += parts(
            batch, math.ceil(examples / math.ceil(examples / size))
        )  # of equal size: no batch of one is left
    held_out = found[HELD_OUT - 1 :: HELD_OUT] or found[1:]
    if not held_out:
        raise InputError(
            f"matcher 'refine' got {len(found)} batches of at most {size} examples, but needs 2 or more: one of "
            f"{HELD_OUT} is held out to judge by; give more of them, or a smaller batch_size"
        )
    return [batch for batch in found if not any(batch is one for one in held_out)], held_out


def _taking(sym: Symmetry, to_inputs: Callable[[object], object] | None) -> Callable[[object], object]:
    """Return what a model with a loss takes of a batch: a mapping whole, its own loss needs the labels."""

    def take(batch: object) -> object:
        return batch if to_inputs is None and isinstance(batch, Mapping) else inputs_for(sym, batch, to_inputs)

    return take


class Line:
    """The networks between A, with its units moved, and B; run in a private copy.

    What is not floating point is as in B.

    Args:
        sym: the symmetry of both.
        model_a: the network whose units move.
        model_b: the other end.
        objective: what networks are judged by.
        take: what of a batch the model takes.
    """

    def __init__(
        self,
        sym: Symmetry,
        model_a: nn.Module,
        model_b: nn.Module,
        objective: Objective,
        take: Callable[[object], object],
    ) -> None:
        self.sym, self.objective, self.take = sym, objective, take
        self.device = device_of(model_b)
        self.b = {name: tensor.detach().clone() for name, tensor in named_state(model_b).items()}
        self.a = {
            name: tensor.detach().to(self.b[name])
            for name, tensor in named_state(model_a).items()
            if tensor.is_floating_point()
        }
        self.work = _learning(private_copy(model_b))
        firsts = {id(tensor): name for name, tensor in reversed(named_state(self.work).items())}
        self.once = frozenset(firsts.values())  # one name for each tensor, however many layers share it

    def moved(self, permutations: Mapping[str, Permutation]) -> Moved:
        """Return A's tensors, permuted."""
        return {name: gather(tensor, self.sym.layouts[name], permutations) for name, tensor in self.a.items()}

    def mixed(self, soft: Soft) -> Moved:
        """Return A's tensors with their units mixed, permuted where they cannot be mixed."""
        layouts = self.sym.layouts
        hard = [name for name in self.a if not is_soft(layouts[name])]
        permutations = nearest(self.sym, soft) if hard else {}
        return {
            name: gather(tensor, layouts[name], permutations) if name in hard else applied(tensor, layouts[name], soft)
            for name, tensor in self.a.items()
        }

    def loss(self, permutations: Mapping[str, Permutation], at: float, batches: Sequence[object]) -> float:
        """Return the mean loss at a position between A, permuted, at 0, and B, at 1.

        Raises:
            AlignmentError: when it is not finite.
        """
        self._load(self._between(self.moved(permutations), at))
        return _finite(scored(self.work, batches, self.objective, to_inputs=self.take, who="matching").loss)

    def backward(self, soft: Soft, at: float, batch: object) -> None:
        """Add the gradient of the loss at a position to that of what the soft alignment was made of.

        It is taken in two steps, so that any model will do: that of the weights, then theirs.

        Raises:
            AlignmentError: when the loss is not finite.
            InputError: when it has no gradient.
        """
        weights = self._between(self.mixed(soft), at)
        self._load({name: tensor.detach() for name, tensor in weights.items()})
        self.work.zero_grad(set_to_none=True)
        loss = loss_of(self.work, batch, self.objective, self.take)
        _finite(float(loss.detach()))
        if not loss.requires_grad:
            raise InputError(
                f"the loss '{self.objective.name}' has no gradient, which matcher 'refine' goes by; give one that "
                "returns a tensor computed from the model's output"
            )
        loss.backward()
        gradients = {name: tensor.grad for name, tensor in named_state(self.work).items() if name in self.once}
        seen = [name for name, gradient in gradients.items() if gradient is not None and weights[name].requires_grad]
        torch.autograd.backward([weights[name] for name in seen], [gradients[name] for name in seen])

    def _between(self, moved: Moved, at: float) -> Moved:
        return {name: torch.lerp(tensor, self.b[name], at) for name, tensor in moved.items()}

    def _load(self, weights: Moved) -> None:
        load_into(self.work, {**self.b, **weights})


def _finite(loss: float) -> float:
    if not math.isfinite(loss):
        raise AlignmentError(
            f"the loss between the two networks is {loss}: give networks that have not diverged, and batches as they "
            "were trained on"
        )
    return loss


def _learning(model: nn.Module) -> nn.Module:
    """Prepare a private copy: nothing is dropped, BatchNorm normalises by the batch, every weight has a gradient."""
    model.eval()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.train()
        if isinstance(module, nn.RNNBase):  # cuDNN has their gradient in training mode alone
            module.dropout = 0.0
            module.train()
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return model


class Search:
    """A search for the permutations of the lowest loss, by gradients of soft ones.

    Args:
        line: what is judged.
        how: "sinkhorn", or "straight-through": the loss is that of the nearest permutations, the gradient as if it
            were that of the soft ones.
        learning_rate: of Adam, in logits.
        generator: for batches, positions and noise.
    """

    def __init__(self, line: Line, how: str, learning_rate: float, generator: torch.Generator) -> None:
        self.line, self.how, self.learning_rate, self.generator = line, how, learning_rate, generator
        self.temperature = TEMPERATURE[how]

    def best(
        self, start: Alignment, learned: Sequence[object], held_out: Sequence[object], steps: int
    ) -> RefinedAlignment:
        """Return the best permutations met.

        Args:
            start: where to begin.
            learned: batches to learn from.
            held_out: batches to judge by.
            steps: each with one batch.
        """
        line, found = self.line, start.permutations
        ends = (line.loss(found, 0.0, held_out) + line.loss(found, 1.0, held_out)) / 2
        before = after = line.loss(found, 0.5, held_out)
        if before > ends * (1 + SAME):
            for candidate in self._candidates(found, learned, steps):
                loss = line.loss(candidate, 0.5, held_out)
                if loss < after:
                    found, after = candidate, loss
        return RefinedAlignment(line.sym, found, {}, before, after)

    def _candidates(
        self, start: Mapping[str, Permutation], learned: Sequence[object], steps: int
    ) -> Iterator[Mapping[str, Permutation]]:
        """Yield the permutations nearest to the soft ones now and then on the way, and at its end."""
        sym, line = self.line.sym, self.line
        logits = {
            name: (_logit(sym.groups[name].size) * one).to(line.device) for name, one in corner(sym, start).items()
        }
        optimizer = torch.optim.Adam([one.requires_grad_() for one in logits.values()], self.learning_rate)
        for step in range(steps):
            batch = learned[int(torch.randint(len(learned), (), generator=self.generator, device="cpu"))]
            at = NEAR + (FAR - NEAR) * float(torch.rand((), generator=self.generator, device="cpu"))
            optimizer.zero_grad()
            line.backward(self._drawn(logits), at, batch)
            optimizer.step()
            if (step + 1) * CANDIDATES // steps > step * CANDIDATES // steps:
                yield nearest(sym, sinkhorn(sym, {name: one / self.temperature for name, one in logits.items()}))

    def _drawn(self, logits: Mapping[str, Tensor]) -> Soft:
        """Return soft permutations with Gumbel's noise on their logits; straight through, the nearest permutations."""
        sym = self.line.sym
        noise = {name: torch.empty(one.shape, device="cpu") for name, one in logits.items()}
        for one in noise.values():
            one.exponential_(generator=self.generator).clamp_min_(TINY).log_().neg_()
        soft = sinkhorn(
            sym, {name: (one + noise[name].to(one.device)) / self.temperature for name, one in logits.items()}
        )
        if self.how == "sinkhorn":
            return soft
        hard = corner(sym, nearest(sym, soft))
        return {name: hard[name].to(one) + one - one.detach() for name, one in soft.items()}


def _logit(size: int) -> float:
    """Return the logit of a unit's place, against 0 for all others, at which it stays there in `STAY` of all draws."""
    return math.log(max(size - 1, 1) * STAY / (1 - STAY))
