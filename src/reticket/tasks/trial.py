"""Whether an experiment's model fits its data, on two of its inputs: said once, before anything is computed."""

import torch

from reticket.errors import OF_OTHERS, ConfigError, ReticketError
from reticket.lookup import raised_in
from reticket.models import build_model
from reticket.rng import generator_for
from reticket.tasks.planning import Planned
from reticket.training import evaluate


def try_model(planned: Planned) -> None:
    """Refuse a model that cannot be evaluated on the data of its experiment, as its tasks evaluate it.

    One whose training or objective is the user's own is not tried: they may call it in a way of their own.

    Args:
        planned: the experiment.

    Raises:
        ConfigError: with what was said of the inputs or outputs.
    """
    config, dataset, networks = planned.variant.config, planned.dataset, planned.blueprint.networks
    if config.dense.train is not None or ":" in config.dense.objective:
        return
    few = dataset.with_test_subset(torch.arange(min(2, dataset.size("test"))))
    options = {} if "objective" not in networks.common else {"loss": networks.common["objective"]}
    with torch.random.fork_rng(devices=()):
        model = build_model(config.model.name, generator=generator_for("trial"), **networks.params)
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
