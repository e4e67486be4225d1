"""The recipe of a training in the task that carries it out."""

from collections.abc import Mapping
from typing import Any

from reticket.models.code import code_outside
from reticket.tasks.inputs import thawed
from reticket.training import OPTIMISERS, Recipe

CODE = "optimizer_code"


def recipe_spec(recipe: Recipe) -> dict[str, Any]:
    """Return what decides a training, with the code of an optimiser that is not reticket's own.

    Args:
        recipe: of the training.

    Returns:
        What a task's `spec` holds under "recipe", as JSON.
    """
    code = code_outside(OPTIMISERS.named(recipe.optimizer).build)
    return {**recipe.decisive(), **({CODE: code} if code else {})}


def recipe_in(spec: Mapping[str, Any]) -> Recipe:
    """Return the recipe in the `spec` of a task that trains.

    Args:
        spec: holds under "recipe" what `recipe_spec` made.
    """
    values = {name: value for name, value in spec["recipe"].items() if name != CODE}
    if "optimizer_options" in values:
        values["optimizer_options"] = thawed(values["optimizer_options"])
    return Recipe(**values)
