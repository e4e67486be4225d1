"""From a configuration to what can be carried out: its data opened, its sweep unrolled, its tasks planned."""

from dataclasses import dataclass
from pathlib import Path

from reticket.data import DataSource, Description, describe, open_dataset
from reticket.errors import ConfigError, DataError
from reticket.models import code_of
from reticket.objectives import objective_of
from reticket.tasks.blueprint import Blueprint
from reticket.tasks.config import Config, DataConfig
from reticket.tasks.networks import Facts
from reticket.tasks.scale import scaled
from reticket.tasks.sweep import Variant, variants
from reticket.tasks.work import Sizes


@dataclass(frozen=True)
class Planned:
    """One experiment, ready to be carried out: an ordinary one, or a variant of a sweep."""

    variant: Variant
    dataset: DataSource
    blueprint: Blueprint


def plan_experiment(config: Config, *, folder: Path | None = None, threads: int = 1) -> tuple[Planned, ...]:
    """Return the experiments that `config` stands for with their data and tasks; nothing is computed or written.

    Args:
        config: the experiment.
        folder: of the data; None searches RETICKET_DATA and the system's places.
        threads: the threads a task computes with.

    Raises:
        ConfigError, DataError: when one of them cannot be run as it is.
    """
    opened: dict[str, DataSource] = {}
    planned = []
    for variant in variants(config):
        data, model = variant.config.data, variant.config.model
        dataset = opened.get(data.model_dump_json()) or _opened(data, folder)
        opened[data.model_dump_json()] = dataset
        _check_objective(dataset, variant.config)
        blueprint = Blueprint(variant.config, facts_of(dataset, model.name), threads=threads)
        tuple(blueprint.targets)  # each task is made, so that one that cannot be is said now
        planned.append(Planned(variant, dataset, blueprint))
    return tuple(planned)


def _check_objective(dataset: DataSource, config: Config) -> None:
    """Refuse data that are not what the networks are to be trained and judged for."""
    labels, objective = dataset.labels("train"), objective_of(config.dense.objective)
    if labels.is_floating_point() and objective.classes is not None:
        raise ConfigError(
            f"data set '{config.data.name}' has numbers to be predicted, which dense.objective "
            f"'{config.dense.objective}' has no use for; set it to 'regression'"
        )
    if labels.dim() == 2 and config.dense.objective == "classification" and config.dense.train is None:
        raise ConfigError(
            f"data set '{config.data.name}' has a label for each token, which dense.objective 'classification' has no "
            f"use for; set it to 'language-model'"
        )


def scale_experiment(
    config: Config, *, epochs: int | None = None, subset: int | None = None, folder: Path | None = None
) -> Config:
    """Return `config` made smaller; see `reticket.tasks.scale.scaled`.

    Args:
        config: the whole experiment.
        epochs: of dense training.
        subset: training images to keep, and test images at most.
        folder: of the data, whose sizes decide what is left out.

    Raises:
        ConfigError, DataError: when there is no such experiment, or its data are not there.
    """
    if epochs is None and subset is None:
        return config
    data = config.data.model_copy(update={"train_size": None, "test_size": None})
    return scaled(config, sizes_of(_opened(data, folder)), epochs=epochs, subset=subset)


@dataclass(frozen=True)
class Outline:
    """What a dry run must know of one experiment; its data need not be there.

    Args:
        variant: the experiment.
        blueprint: its tasks.
        sizes: of the data as they are used.
        augmented: whether images are augmented in training, as far as that is known.
        missing: why the data could not be opened; empty where they were.
    """

    variant: Variant
    blueprint: Blueprint
    sizes: Sizes
    augmented: bool
    missing: str = ""


def outline_experiment(
    config: Config,
    *,
    epochs: int | None = None,
    subset: int | None = None,
    folder: Path | None = None,
    threads: int = 1,
) -> tuple[Config, tuple[Outline, ...]]:
    """Return a scaled experiment and the tasks of its variants; by the sizes that are published where data are missing.

    The keys of tasks hold what is in the data, so without them nothing that is stored is found.

    Args:
        config: the whole experiment.
        epochs, subset: as for `scale_experiment`.
        folder: of the data.
        threads: the threads a task computes with.

    Raises:
        ConfigError: when there is no such experiment.
        DataError: when the data are missing and what they are is not known either.
    """
    try:
        config = scale_experiment(config, epochs=epochs, subset=subset, folder=folder)
        planned = plan_experiment(config, folder=folder, threads=threads)
        return config, tuple(
            Outline(
                outline.variant, outline.blueprint, sizes_of(outline.dataset), outline.dataset.augmentation != "none"
            )
            for outline in planned
        )
    except DataError as error:
        found = _description(config.data, error)
        whole = Sizes(found.train, found.test)
        config = scaled(config, whole, epochs=epochs, subset=subset)
        return config, tuple(_described(variant, threads, str(error)) for variant in variants(config))


def _description(data: DataConfig, error: DataError) -> Description:
    """Return what is published of data that could not be opened; where nothing is, why they could not is raised."""
    try:
        return describe(data.name, data.params)
    except DataError:
        raise error from None


def _described(variant: Variant, threads: int, missing: str) -> Outline:
    data = variant.config.data
    found = describe(data.name, data.params)
    sizes = Sizes(data.train_size or found.train, data.test_size or found.test)
    code = code_of(variant.config.model.name)
    facts = Facts("", sizes.train, tuple(map(str, range(found.classes))), found.input_shape, code, test_size=sizes.test)
    blueprint = Blueprint(variant.config, facts, threads=threads)
    return Outline(variant, blueprint, sizes, len(found.input_shape) == 3, missing)


def sizes_of(dataset: DataSource) -> Sizes:
    """Return how many inputs a data set has, and how many a class-balanced part of its test inputs may have."""
    if not dataset.is_classified:
        return Sizes(dataset.size("train"), dataset.size("test"))
    counts = dataset.labels("test").bincount()
    counts = counts[counts > 0]
    return Sizes(dataset.size("train"), dataset.size("test"), int(counts.min()) * len(counts))


def facts_of(dataset: DataSource, model: str) -> Facts:
    """Return what planning must know of `dataset` and of the code of the model of this name."""
    return Facts(
        fingerprint=dataset.fingerprint(),
        train_size=dataset.size("train"),
        classes=dataset.classes,
        input_shape=dataset.input_shape,
        model_code=code_of(model),
        is_tokens=dataset.is_tokens,
        is_classified=not dataset.labels("train").is_floating_point(),
        test_size=dataset.size("test"),
    )


def _opened(data: DataConfig, folder: Path | None) -> DataSource:
    return open_dataset(
        data.name,
        folder=folder,
        train_size=data.train_size,
        test_size=data.test_size,
        subset_seed=data.subset_seed,
        params=data.params,
    )
