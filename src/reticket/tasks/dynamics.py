"""Dynamics of a mask in an experiment: what of them decides a result, and the callback that carries them out."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from reticket.errors import ConfigError, MaskError
from reticket.fixed import fixed_entries
from reticket.models.code import code_outside
from reticket.rng import generator_for
from reticket.tickets import Mask
from reticket.tickets.choice import Choice
from reticket.tickets.dynamics import DYNAMICS, Dynamics, MaskMoment, Updates, on_cpu
from reticket.training import Callback, Recipe, TrainingRun

ONLY_PRUNING = ("gradual",)  # of the dynamics; what others do, somebody's own among them, nothing says


def may_revive(dynamics: Dynamics | None) -> bool:
    """Return whether weights that are pruned may be kept again; they begin at 0 then.

    Args:
        dynamics: of a mask; None for one that stays.

    >>> may_revive(DYNAMICS["rigl"]), may_revive(DYNAMICS["gradual"]), may_revive(None)
    (True, False, False)
    """
    return dynamics is not None and dynamics.name not in ONLY_PRUNING


def check_dynamics(choice: Choice, recipe: Recipe, pattern: str | None) -> None:
    """Refuse dynamics where nothing can change the mask, or where it may not be changed so.

    Args:
        choice: the method with its dynamics.
        recipe: of the training.
        pattern: that masks of pruning have; None for any.

    Raises:
        ConfigError: when the training is a function of the user's own, or the dynamics break the pattern.
    """
    chosen = choice.chosen_dynamics
    if chosen is not None and pattern not in (None, chosen.keeps):
        raise ConfigError(
            f"grid.methods: '{choice}' changes single weights, which breaks prune.pattern {pattern}; leave one of them "
            f"out"
        )
    if chosen is not None and recipe.train is not None:
        raise ConfigError(
            f"grid.methods: '{choice}' changes the mask while a network trains, but '{recipe.train}' trains it by "
            f"itself; leave the dynamics out, or dense.train"
        )


def dynamics_spec(choice: Choice, density: float, length: int, scope: str) -> dict[str, Any]:
    """Return what decides how a mask changes, for the spec of a task; empty for a mask that stays.

    All options stand in it, defaults too, `every` in steps.

    Args:
        choice: the method with its dynamics.
        density: fraction kept that is wanted at the end.
        length: steps of the sparse training.
        scope: of the experiment's pruning, which is theirs where they have one and none is said.

    Raises:
        ConfigError: when the training is too short for the mask to change in it.
    """
    chosen = choice.chosen_dynamics
    if chosen is None:
        return {}
    options = chosen.options.settings(choice.dynamics_options)
    if "scope" in chosen.options:
        options.setdefault("scope", scope)
    try:
        updates = Updates.changing(options, length)
    except MaskError as problem:
        raise ConfigError(f"grid.methods: '{choice}': {problem}") from problem
    spec: dict[str, Any] = {"name": chosen.name, "options": {**options, "every": updates.every}}
    if "density" in chosen.uses:
        spec["density"] = density
    if code := code_outside(chosen.function):
        spec["code"] = code
    return {"dynamics": spec}


def looked_at(spec: Mapping[str, Any], length: int) -> int:
    """Return how many inputs the dynamics of a task pass through its network, forward and backward, beside the steps.

    Args:
        spec: of the task.
        length: steps of its training.
    """
    found = spec.get("dynamics")
    if found is None or "gradient" not in DYNAMICS.named(found["name"]).uses:
        return 0
    return Updates.of(found["options"], length).count * spec["recipe"]["batch_size"]


def dynamics_in(spec: Mapping[str, Any]) -> "list[Callback]":
    """Return what changes the mask in the training of a task: one callback, or none.

    Args:
        spec: of the task.
    """
    if "dynamics" not in spec:
        return []
    found = spec["dynamics"]
    label = (*spec["order"], "dynamics")
    return [ChangingMask(DYNAMICS.named(found["name"]), found["options"], found.get("density"), label)]


class ChangingMask(Callback):
    """Changes the mask of a run by dynamics, decided by the run and its step alone.

    Args:
        dynamics: which.
        options: of theirs, `every` and `end` among them.
        density: fraction kept that is wanted at the end; None for that at the beginning.
        label: of the random numbers; each change draws its own.
    """

    def __init__(
        self, dynamics: Dynamics, options: Mapping[str, Any], density: float | None, label: tuple[str | int, ...]
    ) -> None:
        self.dynamics, self.options, self.density, self.label = dynamics, dict(options), density, label

    def on_start(self, run: TrainingRun) -> None:
        """Refuse a model with fixed entries where the mask may let pruned weights return.

        Raises:
            ConfigError: naming the dynamics.
        """
        if may_revive(self.dynamics) and fixed_entries(run.model):
            raise ConfigError(
                f"dynamics '{self.dynamics.name}' let pruned weights return, at 0, where a fixed entry of an "
                f"asymmetric model would stay for ever; choose dynamics that only prune, as gradual, or frozen = false"
            )

    def after_step(self, run: TrainingRun) -> None:
        """Change the mask where it is time to."""
        progress = Updates.of(self.options, run.total - run.start).progress(run.step - run.start)
        if progress is None:
            return
        weights, kept = dict(run.model.named_parameters()), run.mask
        mask = Mask({name: kept[name] for name in weights if name in kept})
        initial = Mask(run.first_mask).density
        moment = MaskMoment(
            mask=mask,
            weights=_taken(weights, mask),
            progress=progress,
            density=initial if self.density is None else self.density,
            initial=initial,
            gradient=_taken(run.dense_gradient(), mask) if "gradient" in self.dynamics.uses else None,
            generator=generator_for(*self.label, run.step),
        )
        run.set_mask(self.dynamics(moment, self.options))


def _taken(tensors: Mapping[str, Tensor], mask: Mask) -> dict[str, Tensor]:
    """Return those that the mask is about."""
    return {name: on_cpu(tensors[name]) for name in mask}
