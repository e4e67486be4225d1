"""Whether an experiment's model fits its data, on two of its inputs: said once, before anything is computed."""

import math

import torch
from torch import Tensor, nn

from reticket.copied import private_copy
from reticket.data import Dataset, DataSource, Reading
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
        read = _odd_numbers(planned.dataset)
        if config.dense.train is None and ":" not in config.dense.objective:
            few = planned.dataset.with_test_subset(torch.arange(min(TRIED, planned.dataset.size("test"))))
            _evaluate(planned, model, few)
            read += _unused(planned, model, few)
    begun = [(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=False) if p.requires_grad]
    if begun and all(torch.equal(p, q) for p, q in begun):
        read.append(
            f"every network of model '{config.model.name}' begins with the same weights, so A and B are one "
            f"initialisation, and naive and permuted say little; draw them from torch's own generator, which each "
            f"network has seeded for it"
        )
    return tuple(read)


def _evaluate(planned: Planned, model: nn.Module, few: DataSource) -> None:
    """Refuse a model that cannot be evaluated on a few inputs."""
    config, networks = planned.variant.config, planned.blueprint.networks
    options = {} if "objective" not in networks.common else {"loss": networks.common["objective"]}
    try:
        loss = evaluate(model, few, **options).loss
        if math.isfinite(loss) or math.isfinite(_loss_in_training(planned, model, few)):
            return
        why = f"its loss is {loss} before any training"
    except ReticketError as problem:
        why = str(problem)
    except OF_OTHERS as reason:
        why = raised_in(model, reason)
    where, shape = f"{planned.variant.folder}: " if planned.variant.folder else "", tuple(few.input_shape)
    raise ConfigError(
        f"{where}model '{config.model.name}' does not fit data set '{config.data.name}', whose inputs are of shape "
        f"{shape}: {why}; change model.params, or the data"
    )


def _loss_in_training(planned: Planned, model: nn.Module, few: DataSource) -> float:
    """Return the loss by the statistics of the inputs themselves, as a step of training has it."""
    with torch.no_grad():
        return float(_loss(planned, private_copy(model).train(), few))


def _loss(planned: Planned, model: nn.Module, few: DataSource) -> Tensor:
    ((x, y),) = Reading(few, "test", TRIED, device="cpu")
    first = next(model.parameters(), x)
    return objective_of(planned.variant.config.dense.objective)(model, (x if few.is_tokens else x.to(first.dtype), y))


def _unused(planned: Planned, model: nn.Module, few: DataSource) -> list[str]:
    """Return what to say of weights that are pruned but have no part in the loss: they count as any others do."""
    config = planned.variant.config
    if all(method == "dense" for method in config.grid.methods):
        return []
    parameters = dict(model.named_parameters(remove_duplicate=False))
    try:
        pruned = known_prunable(model, config.prune.exclude, config.prune.include)
        names = [name for name in pruned if name in parameters]
        wanted = [parameters[name] for name in names]
        slopes = torch.autograd.grad(_loss(planned, model.eval(), few), wanted, allow_unused=True)
    except (ReticketError, *OF_OTHERS):  # it can be evaluated; what its training says is said by its training
        return []
    idle = [name for name, slope in zip(names, slopes, strict=True) if slope is None]
    if not idle:
        return []
    share = sum(parameters[name].numel() for name in idle) / sum(one.numel() for one in wanted)
    some = [repr(name) for name in idle[:3]] + ([f"{len(idle) - 3} more"] if len(idle) > 3 else [])
    return [
        f"{listed(some)} of model '{config.model.name}', {100 * share:.3g} % of the weights that are pruned, had no "
        f"part in what it gave for {few.size('test')} inputs; if they never have one, leave them out by prune.exclude: "
        f"they are pruned and counted like any others"
    ]


def _odd_numbers(dataset: DataSource) -> list[str]:
    """Return what to say of data in memory that hold numbers which are none: some models and objectives take them."""
    if not isinstance(dataset, Dataset):
        return []
    found = {"inputs": _not_finite(dataset.train_x), "labels": _not_finite(dataset.train_y)}
    return [
        f"{count} of {dataset.size('train')} {what} of data set '{dataset.name}' hold NaN or infinite numbers; unless "
        f"the model or the objective is made for them, leave them out"
        for what, count in found.items()
        if count
    ]


def _not_finite(values: Tensor) -> int:
    """Return how many rows hold a number that is NaN or infinite, looking at 16 MiB at a time."""
    if not values.is_floating_point():
        return 0
    flat = values.reshape(len(values), -1)
    parts = flat.split(max(1, 2**22 // max(1, flat.shape[1])))
    return sum(int((~torch.isfinite(part)).any(dim=1).sum()) for part in parts)
