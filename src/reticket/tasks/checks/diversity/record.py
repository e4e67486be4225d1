"""The rows of ensembles: what one gains, how much its members differ, over several tickets where there are several."""

from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

import torch
from pydantic import Field

from reticket.analysis import diversity
from reticket.experiment import Task
from reticket.records import Measured, Number, Record
from reticket.tasks.checks.diversity.members import Ensemble
from reticket.tasks.costs import mean_cost, network_cost
from reticket.tasks.rows import KEYS, CellRecord, Priced
from reticket.tasks.stored import Stored, place_of, stat_of


class OverTickets(Record):
    """Mean, spread and values over several tickets, each of which has an ensemble of its own."""

    mean_accuracy: Measured = Field(description="of the members' mean test accuracy (percent)")
    ensemble_accuracy: Measured = Field(description="of the ensembles' accuracy (percent)")
    gain: Measured = Field(description="of ensemble less mean accuracy (points)")
    disagreement: Measured = Field(description="of the share of test images on which two members differ, in [0, 1]")
    kl: Measured = Field(description="of the Kullback-Leibler divergence of two members (nats an image)")
    js: Measured = Field(description="of the Jensen-Shannon divergence of two members (nats an image)")


class Diversity(CellRecord, Priced):
    """What an ensemble of members gains, and how much its members differ; its cost is that of all members together."""

    protocol: str = Field(default="", description="'one ticket' on several networks, or 'independent' runs")
    members: int = Field(default=0, description="networks of the ensemble")
    n: int = Field(default=1, description="ensembles, each from another ticket or of other seeds; numbers are means")
    mean_accuracy: Number = Field(default=None, description="mean test accuracy of the members (percent)")
    ensemble_accuracy: Number = Field(
        default=None, description="of the mean of their predicted probabilities (percent)"
    )
    disagreement: Number = Field(
        default=None, description="share of test images on which two members differ, in [0, 1]"
    )
    kl: Number = Field(
        default=None, description="Kullback-Leibler divergence of two members, both ways (nats an image)"
    )
    js: Number = Field(default=None, description="Jensen-Shannon divergence of two members (nats an image)")
    over_tickets: OverTickets | None = Field(
        default=None, description="spread over the tickets, where several were asked for"
    )
    keys: tuple[str, ...] = Field(default=(), description=KEYS)

    @property
    def gain(self) -> float | None:
        """Ensemble accuracy less the members' mean accuracy, in points."""
        if self.ensemble_accuracy is None or self.mean_accuracy is None:
            return None
        return self.ensemble_accuracy - self.mean_accuracy


def row_of(ensemble: Ensemble, groups: Sequence[Sequence[Task]], found: Stored, *, spread: bool) -> Diversity:
    """Return the row of an ensemble.

    Args:
        ensemble: which.
        groups: its members, of every ticket; their results are there.
        found: the results.
        spread: whether the row says how the tickets differ.
    """
    results, sizes = [found.present(group) for group in groups], found.plan.facts.sizes
    measured = [asdict(diversity(torch.stack([r.tensors["logits"] for r in one]), found.labels)) for one in results]
    values = {name: [one[name] for one in measured] for name in measured[0] if name != "members"}
    gains = [one["ensemble_accuracy"] - one["mean_accuracy"] for one in measured]
    spreads = {name: stat_of(those) for name, those in {**values, "gain": gains}.items()} if spread else {}
    costs = [network_cost(group, found.get, sizes, reused=ensemble.protocol == "one ticket") for group in groups]
    means: dict[str, Any] = {name: fmean(those) for name, those in values.items()}
    return Diversity(
        **place_of(ensemble.cell),
        **mean_cost(costs),
        protocol=ensemble.protocol,
        members=measured[0]["members"],
        n=len(groups),
        **means,
        over_tickets=OverTickets(**spreads) if spread else None,
        keys=tuple(result.key for one in results for result in one),
    )
