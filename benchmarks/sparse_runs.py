"""Sparse trainings from the rewind point of an experiment, one at a time: with masks that no method of its grid has."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from reticket.data import open_dataset
from reticket.experiment import Summary
from reticket.models import build_model
from reticket.rng import generator_for
from reticket.symmetry import load_into
from reticket.tasks.config import Config
from reticket.tickets import Mask
from reticket.training import Span, evaluate, parse_position, steps_per_epoch, train

TABLE_ALONE = (
    "checks.diversity_members=0",
    "checks.diversity_tickets=1",
    "checks.overlap=false",
    "checks.barriers=false",
)
"""Settings of an experiment of which only the table is wanted."""


def whole(summary: Summary) -> None:
    """Refuse a run of which something is missing: its rows would be of other seeds than they say.

    Args:
        summary: of the run.
    """
    if not summary.complete:
        raise RuntimeError(f"the experiment is not complete: {summary.failed or summary.unfinished}")


def initial(config: Config, *label: str | int) -> nn.Module:
    """Return a network of an experiment as it is before training.

    Args:
        config: of the experiment.
        label: of the network, as "A" and a seed.
    """
    return build_model(config.model.name, generator=generator_for(*label, "init"), **config.model.params)


class SparseRuns:
    """Networks at the rewind point, and their sparse training.

    Args:
        config: their experiment, of one rewind point.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        chosen = config.data.model_dump(exclude={"name"})
        self.data = open_dataset(config.data.name, **chosen)
        self.per_epoch = steps_per_epoch(self.data.size("train"), config.dense.batch_size)
        self.start = parse_position(config.grid.rewinds[0], self.per_epoch)

    def rewound(self, role: str, seed: int) -> nn.Module:
        """Return the network of a seed at the rewind point, "A" or "B"."""
        model, order = initial(self.config, role, seed), (role, seed, "order", 0)
        load_into(
            model, train(model, self.data, self.config.dense, rng_label=order, span=Span(stop=self.start)).weights
        )
        return model

    def accuracy(self, weights: Mapping[str, Tensor], mask: Mask, role: str, seed: int, *, times: int = 1) -> float:
        """Return the accuracy in percent after sparse training with a mask.

        Args:
            weights: at the rewind point.
            mask: that is held.
            role: "A" or "B": whose order of examples it is.
            seed: of the network.
            times: how many times the epochs of the experiment's sparse training, over which a cosine is stretched.

        Raises:
            ValueError: when the experiment's schedule says more than its length, or begins within an epoch.
        """
        model = initial(self.config, role, seed)
        load_into(model, mask.apply_to(weights))
        recipe, order = self.config.sparse_recipe, (role, seed, "order", 0)
        begun, within = divmod(self.start, self.per_epoch)
        if times > 1 and (recipe.schedule != "cosine" or recipe.warmup_epochs or within):
            raise ValueError("only a cosine without warm-up, from a whole epoch on, is stretched")
        recipe = replace(recipe, epochs=recipe.epochs + (times - 1) * (recipe.epochs - begun))
        found = train(model, self.data, recipe, rng_label=order, mask=mask, span=Span(self.start))
        return evaluate(model, self.data, weights=found.weights).accuracy
