"""The recipe of a training in the task that carries it out."""

import importlib
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from reticket.models.code import code_outside, digest_of_code
from reticket.tasks.inputs import thawed
from reticket.training import Recipe, find_augmentation, find_optimiser
from reticket.training.rate_schedules import find_schedule

CODES = ("optimizer_code", "schedule_code", "objective_code", "train_code", "augment_code")
OPTIONS = ("optimizer_options", "schedule_options", "augment_options", "parametrization_options")
NO_CODE = ("torch",)  # packages whose release is provenance
RELEASED = ("timm", "torchvision")  # packages whose release is in the key, in place of their code


def recipe_spec(recipe: Recipe) -> dict[str, Any]:
    """Return what decides a training, with the code of what is not reticket's own.

    Args:
        recipe: of the training.

    Returns:
        What a task's `spec` holds under "recipe", as JSON.
    """
    codes = (
        _code(find_optimiser(recipe.optimizer).origin),
        _code(find_schedule(recipe.schedule).factor),
        _code_named(recipe.objective),
        _code_named(recipe.train or ""),
        _code_of_augmentation(recipe.augment),
    )
    return {**recipe.decisive(), **{name: code for name, code in zip(CODES, codes, strict=True) if code}}


def recipe_in(spec: Mapping[str, Any]) -> Recipe:
    """Return the recipe in the `spec` of a task that trains.

    Args:
        spec: holds under "recipe" what `recipe_spec` made.
    """
    values = {name: value for name, value in spec["recipe"].items() if name not in CODES}
    return Recipe(**values | {name: thawed(values[name]) for name in OPTIONS if name in values})


def _code(function: Callable[..., Any]) -> str:
    """Return what a key must hold of a function's code: a release, where an installed package of that name has it."""
    package = function.__module__.partition(".")[0]
    if package in NO_CODE:
        return ""
    return _release(package) if package in RELEASED else code_outside(function)


def _code_of_augmentation(name: bool | str) -> str:
    """Return what a key must hold of the code of an augmentation that a recipe names."""
    if not isinstance(name, str):
        return ""
    kind = find_augmentation(name)
    return _release(kind.package) if kind.package else _code(kind.make)


def _release(package: str) -> str:
    return f"{package} {version(package)}"


def _code_named(name: str) -> str:
    """Return what a key must hold of the code of `package.module:NAME`, a value or a function; nothing without one."""
    module, colon, _ = name.partition(":")
    return digest_of_code(importlib.import_module(module)) if colon else ""
