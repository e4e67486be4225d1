"""Pruning during a training, in any loop: a schedule says when and how far, a criterion which weights."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from reticket.lookup import as_names
from reticket.tickets.density_schedules import Schedule
from reticket.tickets.mask import Mask
from reticket.tickets.prunable import prunable
from reticket.tickets.prune import prune, pruned_to
from reticket.tickets.ranking import Budget, Scope
from reticket.tickets.sparse import sparse
from reticket.weights import module_of


class Pruner:
    """What a loop that prunes as it trains calls after every step; `sparsify` makes one.

    Args:
        schedule: from steps done to a density, None where nothing is pruned.
        choose: from a density and the mask of before, None where all weights may be kept, to a mask.
        hold: keeps a mask's weights at 0 from now on, instead of those of the mask of before.
        mask: the mask at the beginning.
    """

    def __init__(
        self,
        schedule: Schedule,
        choose: Callable[[float, Mask | None], Mask],
        hold: Callable[[Mask], None],
        mask: Mask,
    ) -> None:
        self._schedule, self._choose, self._hold = schedule, choose, hold
        self.mask, self.steps = mask, 0
        self._prune()

    def step(self) -> bool:
        """Count a step of the optimizer and prune if the schedule says so; return whether the mask was chosen anew."""
        self.steps += 1
        return self._prune()

    def _prune(self) -> bool:
        density = self._schedule(self.steps)
        if density is None:
            return False
        # a density that rises lets all weights compete again: what was pruned begins at 0
        falls = density <= self.mask.density
        self.mask = self._choose(density, self.mask if falls else None)
        self._hold(self.mask)
        return True


@contextmanager
def sparsify(
    model: nn.Module,
    optimizer: Optimizer | Iterable[Optimizer],
    schedule: Schedule,
    criterion: str | Callable[..., Mapping[str, Tensor]] = "magnitude",
    *,
    names: Iterable[str] | None = None,
    scope: Scope = "global",
    max_sparsity: float | Mapping[str, float] | None = None,
    pattern: str | None = None,
    **options: Any,
) -> Iterator[Pruner]:
    """Prune a model while it is trained, whatever the loop and the optimizer; what is pruned stays 0, as in `sparse`.

    Call `step()` on what the block yields after every step of the optimizer; its `mask` is the one of the moment. Where
    the density falls, only what is kept can go on to be kept; where it rises, as when a cycle of `Cyclic` begins, all
    weights can, those that were pruned from 0.

    Args:
        model: the model to train; its parameters are written into.
        optimizer: any `torch.optim.Optimizer` over the model's parameters, or several.
        schedule: `OneShot`, `Gradual`, `Cyclic`, or a function from the number of steps done to a density or None.
        criterion: as for `prune`; it is asked anew each time.
        names: weights to prune; by default `prunable(model)`.
        scope: compare scores over all layers or inside each, as for `prune`.
        max_sparsity: as for `prune`.
        pattern: which weights may be kept together, as of `prune`; N:M keeps as many of every M as the density says, at
            least N.
        **options: of the criterion.

    Yields:
        The pruner.

    Raises:
        MaskError: as `prune` and `sparse`.

    >>> import torch
    >>> from reticket.tickets import Gradual
    >>> net = nn.Linear(4, 4)
    >>> adamw = torch.optim.AdamW(net.parameters())
    >>> with sparsify(net, adamw, Gradual(0.25, end=10)) as pruner:
    ...     for _ in range(12):
    ...         adamw.zero_grad()
    ...         net(torch.randn(2, 4)).square().mean().backward()
    ...         adamw.step()
    ...         _ = pruner.step()
    >>> pruner.mask.density, int((net.weight == 0).sum())
    (0.25, 12)
    """
    own = prunable(module_of(model)) if names is None else as_names(names)
    optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer)

    def choose(density: float, within: Mask | None) -> Mask:
        budget = Budget(density, scope, max_sparsity, pattern)
        return pruned_to(budget, model, criterion, names=own, within=within, options=options)

    with ExitStack() as held:

        def hold(mask: Mask) -> None:
            held.close()
            held.enter_context(sparse(model, mask, optimizers))

        dense = prune(model, 1.0, names=own)
        hold(dense)
        yield Pruner(schedule, choose, hold, dense)
