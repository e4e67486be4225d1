"""Whether an experiment's model fits its data, on two of its inputs: said once, before anything is computed."""

import torch

from reticket.data import Reading
from reticket.errors import OF_OTHERS, ConfigError, ReticketError
from reticket.lookup import raised
from reticket.models import build_model
from reticket.objectives import Prediction, objective_of
from reticket.rng import generator_for
from reticket.tasks.planning import Planned


def try_model(planned: Planned) -> None:
    """Refuse a model that does not take the data of its experiment, or has not one output for each of their classes.

    A model whose training or objective is the user's own is not tried: they may call it in a way of their own.

    Args:
        planned: the experiment.

    Raises:
        ConfigError: with what the model said of the inputs.
    """
    config, dataset = planned.variant.config, planned.dataset
    if config.dense.train is not None or ":" in config.dense.objective:
        return
    named, of_data = f"model '{config.model.name}'", f"data set '{config.data.name}'"
    objective = objective_of(config.dense.objective)
    model = build_model(config.model.name, generator=generator_for("trial"), **planned.blueprint.networks.params)
    seen = Prediction(
        model.eval(), next(iter(Reading(dataset, "train", 2, torch.arange(min(2, dataset.size("train"))))))
    )
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=()):
            outputs = seen.logits.shape if objective.classes is None else objective.classes(seen)[0].shape
    except OF_OTHERS as reason:
        why = str(reason) if isinstance(reason, ReticketError) else raised(reason, type(model).forward)
        raise ConfigError(
            f"{named} does not fit {of_data}, whose inputs are of shape {tuple(dataset.input_shape)}: {why}; change "
            f"model.params, or the data"
        ) from reason
    classes, exactly = len(dataset.classes), config.dense.objective == "classification"
    if objective.classes is not None and (outputs[1] < classes or (exactly and outputs[1] > classes)):
        raise ConfigError(
            f"{named} has {outputs[1]} outputs, but {of_data} has {classes} classes; change model.params so that "
            f"it has one for each"
        )
