"""Dynamic sparse training in any loop: a mask that changes by dynamics, masked weights exactly zero."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reticket.errors import MaskError
from reticket.rng import as_generator
from reticket.tickets.dynamics import DYNAMICS, Dynamics, MaskMoment, Updates, on_cpu
from reticket.tickets.held import HeldWeight, held_weights
from reticket.tickets.mask import Mask
from reticket.tickets.sparse import sparse


class EvolvingMask:
    """What a loop calls after every step of its optimizer; `evolving` makes one.

    Args:
        dynamics: what changes the mask.
        options: of theirs, `every` and `end` among them.
        steps: of the whole training.
        density: fraction kept that is wanted at the end.
        generator: for dynamics that draw.
        weights: the masked parameters, in the order of the mask.
        mask: at the beginning.
        hold: keeps a mask's weights at 0 from now on, instead of those of the mask of before.
    """

    def __init__(
        self,
        dynamics: Dynamics,
        options: Mapping[str, Any],
        steps: int,
        density: float,
        generator: torch.Generator,
        weights: Mapping[str, HeldWeight],
        mask: Mask,
        hold: Callable[[Mask], None],
    ) -> None:
        self.mask, self.steps = mask, 0
        self._dynamics, self._options, self._updates = dynamics, options, Updates.changing(options, steps)
        self._density, self._initial, self._generator = density, mask.density, generator
        self._weights, self._hold = weights, hold
        self._gradient: dict[str, Tensor] = {}

    def step(self) -> bool:
        """Count a step of the optimizer, and change the mask if it is time to; return whether it was.

        Raises:
            MaskError: when it is time to, by gradients, and no backward pass has computed any for this step.
        """
        self.steps += 1
        progress = self._updates.progress(self.steps)
        if progress is None:
            return False
        if "gradient" in self._dynamics.uses and not self._gradient:
            raise MaskError(
                f"dynamics '{self._dynamics.name}' look at gradients, and no backward pass has computed one of a "
                f"masked weight for step {self.steps}, after which the mask changes; call backward() and the "
                f"optimizer's step() before each step() of the mask"
            )
        moment = MaskMoment(
            mask=self.mask,
            weights={name: on_cpu(weight.parameter) for name, weight in self._weights.items()},
            progress=progress,
            density=self._density,
            initial=self._initial,
            gradient={
                name: on_cpu(self._gradient.get(name, torch.zeros_like(weight.parameter)))
                for name, weight in self._weights.items()
            },
            generator=self._generator,
        )
        self._gradient.clear()
        self.mask = self._dynamics(moment, self._options)
        self._hold(self.mask)
        return True

    def watch(self, at_exit: Callable[[Callable[[], None]], object]) -> None:
        """See the gradient of pruned weights too, in the steps after which the mask changes."""
        for name, weight in self._weights.items():
            if weight.parameter.requires_grad and "gradient" in self._dynamics.uses:
                at_exit(weight.parameter.register_hook(self._gather(name)).remove)

    def _gather(self, name: str) -> Callable[[Tensor], None]:
        def gather(gradient: Tensor) -> None:
            if self._updates.progress(self.steps + 1) is not None:
                seen = self._gradient.get(name)
                self._gradient[name] = gradient.detach().clone() if seen is None else seen + gradient.detach()

        return gather


@contextmanager
def evolving(
    model: nn.Module,
    optimizer: Optimizer | Iterable[Optimizer],
    mask: Mask,
    dynamics: str = "rigl",
    *,
    steps: int,
    density: float | None = None,
    generator: torch.Generator | int = 0,
    **options: Any,
) -> Iterator[EvolvingMask]:
    """Train a model with a mask that changes, in any loop and by any optimizer; what is masked stays 0, as in `sparse`.

    Call `step()` on what the block yields after every step of the optimizer; its `mask` is the one of the moment. What
    comes begins at 0, without momentum. The dense gradient is the one that backward passes of the step before a change
    have computed, so that it costs nothing; several are added up.

    Args:
        model: the model to train; its parameters are written into.
        optimizer: any `torch.optim.Optimizer` over the model's parameters, or several.
        mask: at the beginning.
        dynamics: by name, as `reticket list dynamics` shows.
        steps: of the optimizer in the whole training.
        density: fraction of the masked weights to keep at the end, for dynamics that ask for it ("gradual").
        generator: on the CPU, or a seed, for dynamics that draw.
        **options: of the dynamics; `every` and `end` say at which steps the mask changes.

    Yields:
        The mask as it changes.

    Raises:
        MaskError: for dynamics or an option that there is not, dynamics that need a density and have none, steps in
            which the mask would never change, a training by several processes, or as `sparse`.

    >>> from reticket.tickets import prune_magnitude
    >>> net = nn.Linear(8, 8)
    >>> sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    >>> with evolving(net, sgd, prune_magnitude(net, 0.25), "rigl", steps=40, every=5) as run:
    ...     for _ in range(40):
    ...         sgd.zero_grad()
    ...         (net(torch.randn(4, 8)) - 1).square().mean().backward()
    ...         sgd.step()
    ...         _ = run.step()
    >>> run.mask.kept, int((net.weight != 0).sum())
    (16, 16)
    """
    chosen = _named(dynamics)
    settings = chosen.options.settings(options)
    if "density" in chosen.uses and density is None:
        raise MaskError(f"dynamics '{dynamics}' need the fraction of weights that is kept at the end; give density=...")
    if (
        torch.distributed.is_available()
        and torch.distributed.is_initialized()
        and torch.distributed.get_world_size() > 1
    ):
        raise MaskError("each process would change the mask by its own part of a batch; evolve it in one process")
    held = {weight.name: (name, weight) for name, weight in zip(mask, held_weights(model, mask), strict=True)}
    order = [name for name, _ in held[next(iter(held))][1].model.named_parameters(remove_duplicate=False)]
    weights = {held[name][0]: held[name][1] for name in order if name in held}
    with ExitStack() as watched, ExitStack() as inside:

        def hold(kept: Mask) -> None:
            inside.close()
            inside.enter_context(sparse(model, kept, optimizers))

        optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer)
        begun = Mask({name: mask[name] for name in weights})
        run = EvolvingMask(
            chosen,
            settings,
            steps,
            begun.density if density is None else density,
            as_generator(generator, "dynamics"),
            weights,
            begun,
            hold,
        )
        run.watch(watched.callback)  # before `sparse`, which masks what comes after
        hold(begun)
        yield run


def _named(dynamics: str) -> Dynamics:
    name, parenthesis, options = dynamics.partition("(")
    chosen = DYNAMICS.named(name.strip() if parenthesis else dynamics)
    if parenthesis:
        raise MaskError(
            f"unknown dynamics '{dynamics}'; options are given by keyword: "
            f"evolving(..., '{chosen.name}', {options.removesuffix(')') or '...'})"
        )
    return chosen
