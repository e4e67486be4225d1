"""Whether an experiment's model fits its data, on two of its inputs: said once, before anything is computed."""

import math

import torch
from torch import nn

from reticket.data import DataSource, Reading
from reticket.errors import OF_OTHERS, ConfigError, ReticketError
from reticket.figures.text import listed
from reticket.lookup import raised_in
from reticket.models import build_model
from reticket.objectives import objective_of
from reticket.rng import generator_for
from reticket.tasks.planning import Planned
from reticket.tickets import known_prunable
from reticket.training import evaluate

TRIED = 2  # inputs


def try_model(planned: Planned) -> tuple[str, ...]:
    """Refuse a model that cannot be evaluated on the data of its experiment, as its tasks evaluate it.

    One whose training or objective is the user's own is not evaluated: they may call it in a way of their own.

    Args:
        planned: the experiment.

    Returns:
        What should be read of a model that fits; nothing for most.

    Raises:
        ConfigError: with what was said of the inputs or outputs; and for a module that is there only once.
    """
    config, networks = planned.variant.config, planned.blueprint.networks
    with torch.random.fork_rng(devices=()):
        model, other = (
            build_model(config.model.name, generator=generator_for("trial", name), **networks.params) for name in "AB"
        )
        shared = {id(p) for p in model.parameters()} & {id(p) for p in other.parameters()}
        if model is other or shared:
            raise ConfigError(
                f"model '{config.model.name}' gives the same parameters each time that it is built, but networks must "
                f"not share them; make new ones in the function that model.name names"
            )
        read = []
        if config.dense.train is None and ":" not in config.dense.objective:
            _evaluate(planned, model)
            read = _unused(planned, model)
    begun = [(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=False) if p.requires_grad]
    if begun and all(torch.equal(p, q) for p, q in begun):
        read.append(
            f"every network of model '{config.model.name}' begins with the same weights, so A and B are one "
            f"initialisation, and naive and permuted say little; draw them from torch's own generator, which each "
            f"network has seeded for it"
        )
    return tuple(read)


def _few(dataset: DataSource) -> DataSource:
    return dataset.with_test_subset(torch.arange(min(TRIED, dataset.size("test"))))


def _evaluate(planned: Planned, model: nn.Module) -> None:
    """Refuse a model that cannot be evaluated on two inputs."""
    config, dataset, networks = planned.variant.config, planned.dataset, planned.blueprint.networks
    few = _few(dataset)
    options = {} if "objective" not in networks.common else {"loss": networks.common["objective"]}
    try:
        loss = evaluate(model, few, **options).loss
        if math.isfinite(loss):
            return
        why = f"its loss is {loss} before any training"
    except ReticketError as problem:
        why = str(problem)
    except OF_OTHERS as reason:
        why = raised_in(model, reason)
    where, shape = f"{planned.variant.folder}: " if planned.variant.folder else "", tuple(dataset.input_shape)
    raise ConfigError(
        f"{where}model '{config.model.name}' does not fit data set '{config.data.name}', whose inputs are of shape "
        f"{shape}: {why}; change model.params, or the data"
    )


def _unused(planned: Planned, model: nn.Module) -> list[str]:
    """Return what to say of weights that are pruned but have no part in the loss: they count as any others do."""
    config, dataset = planned.variant.config, planned.dataset
    if all(method == "dense" for method in config.grid.methods):
        return []
    parameters = dict(model.named_parameters(remove_duplicate=False))
    names = [one for one in known_prunable(model, config.prune.exclude, config.prune.include) if one in parameters]
    wanted = [parameters[name] for name in names]
    ((x, y),) = Reading(_few(dataset), "test", TRIED, device="cpu")
    x = x if dataset.is_tokens or not wanted else x.to(wanted[0].dtype)
    try:
        loss = objective_of(config.dense.objective)(model.eval(), (x, y))
        slopes = torch.autograd.grad(loss, wanted, allow_unused=True)
    except (ReticketError, *OF_OTHERS):  # it can be evaluated; what its training says is said by its training
        return []
    idle = [name for name, slope in zip(names, slopes, strict=True) if slope is None]
    if not idle:
        return []
    share = sum(parameters[name].numel() for name in idle) / sum(one.numel() for one in wanted)
    some = [repr(name) for name in idle[:3]] + ([f"{len(idle) - 3} more"] if len(idle) > 3 else [])
    return [
        f"{listed(some)} of model '{config.model.name}', {100 * share:.3g} % of the weights that are pruned, had no "
        f"part in what it gave for {len(y)} inputs; if they never have one, leave them out by prune.exclude: they are "
        f"pruned and counted like any others"
    ]
