"""Whether an experiment's model fits its data, on two of its inputs: said once, before anything is computed."""

import torch
from torch import nn

from reticket.errors import OF_OTHERS, ConfigError, ReticketError
from reticket.lookup import raised_in
from reticket.models import build_model
from reticket.rng import generator_for
from reticket.tasks.planning import Planned
from reticket.training import evaluate


def try_model(planned: Planned) -> str:
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
        if config.dense.train is None and ":" not in config.dense.objective:
            _evaluate(planned, model)
    begun = [(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=False) if p.requires_grad]
    if begun and all(torch.equal(p, q) for p, q in begun):
        return (
            f"every network of model '{config.model.name}' begins with the same weights, so A and B are one "
            f"initialisation, and naive and permuted say little; draw them from torch's own generator, which each "
            f"network has seeded for it"
        )
    return ""


def _evaluate(planned: Planned, model: nn.Module) -> None:
    """Refuse a model that cannot be evaluated on two inputs."""
    config, dataset, networks = planned.variant.config, planned.dataset, planned.blueprint.networks
    few = dataset.with_test_subset(torch.arange(min(2, dataset.size("test"))))
    options = {} if "objective" not in networks.common else {"loss": networks.common["objective"]}
    try:
        evaluate(model, few, **options)
        return
    except ReticketError as problem:
        why = str(problem)
    except OF_OTHERS as reason:
        why = raised_in(model, reason)
    where, shape = f"{planned.variant.folder}: " if planned.variant.folder else "", tuple(dataset.input_shape)
    raise ConfigError(
        f"{where}model '{config.model.name}' does not fit data set '{config.data.name}', whose inputs are of shape "
        f"{shape}: {why}; change model.params, or the data"
    )
