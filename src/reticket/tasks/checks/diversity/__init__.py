"""What sparse networks give as an ensemble, and how differently its members predict."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from reticket.experiment import Task
from reticket.figures.columns import PLACE
from reticket.figures.finding import Finding
from reticket.figures.table import Column, Table, Value, column
from reticket.figures.text import number, percent, rewound
from reticket.tasks.cells import Runs
from reticket.tasks.check import Check, register, settings_in
from reticket.tasks.checks.diversity.figure import diversity, diversity_point
from reticket.tasks.checks.diversity.members import DiversitySettings, Ensemble, ensembles, groups_of
from reticket.tasks.checks.diversity.record import Diversity, row_of
from reticket.tasks.results import Results
from reticket.tasks.stored import Stored


def _over_tickets(name: str, head: str, digits: int, sign: bool = False) -> Column:
    """Return the column of a number of an ensemble, with its spread, and a digit less, where there are several."""

    def text(row: Diversity) -> str:
        sd = row.over_tickets and getattr(row.over_tickets, name).sd
        if sd is None:
            return number(getattr(row, name), digits, sign=sign)
        return f"{number(getattr(row, name), digits - 1, sign=sign)} ± {number(sd, digits - 1)}"

    def record(row: Diversity) -> dict[str, Value]:
        return {name: getattr(row, name), f"{name}_sd": row.over_tickets and getattr(row.over_tickets, name).sd}

    return Column(head, text, record)


def _several(rows: Sequence[Diversity]) -> bool:
    return any(row.over_tickets is not None for row in rows)


@register
class Ensembles(Check):
    """Diversity of ensembles by the paper's protocol: one ticket, several networks; beside them independent runs."""

    name = "diversity"
    place = 40
    settings = DiversitySettings
    rewinds = ("diversity_rewind",)
    sections: ClassVar = {"diversity": Diversity}
    of_classes = True
    title = "Diversity of an ensemble"
    about = "Members that err differently gain as an ensemble; what a start hands over, it takes from diversity."
    columns: ClassVar = {
        "diversity": (
            *PLACE,
            column("protocol", "protocol"),
            column("members", "members"),
            replace(column("n", "n"), shown=_several),
            _over_tickets("mean_accuracy", "mean (%)", 2),
            _over_tickets("ensemble_accuracy", "ensemble (%)", 2),
            _over_tickets("gain", "gain (points)", 2, sign=True),
            _over_tickets("disagreement", "disagreement", 3),
            _over_tickets("kl", "KL (nats)", 3),
            _over_tickets("js", "JS (nats)", 3),
            column("own_epochs"),
            column("shared_epochs"),
        )
    }

    def fits(self, settings: DiversitySettings, sparsities: Sequence[float], rewinds: Sequence[str]) -> None:
        """Refuse a sparsity or a rewind point that the table does not have."""
        for field, known in (("diversity_sparsity", sparsities), ("diversity_rewind", rewinds)):
            wanted = getattr(settings, field)
            if wanted is not None and wanted not in known:
                raise ValueError(f"checks.{field} is {wanted}, which is none of {list(known)}")
        size, count, others = settings.diversity_members, settings.diversity_tickets, settings.independent_members
        if count > 1 and size < 2:
            raise ValueError(
                f"checks.diversity_tickets is {count}, but an ensemble has {size} members; "
                "set checks.diversity_tickets=1 too, or give diversity_members"
            )
        if count > 1 and others not in (0, size):
            raise ValueError(
                f"checks.independent_members is {others}, but with {count} tickets independent runs are ensembles of "
                f"{size} too, of the same seeds; leave it out"
            )

    def tasks(self, plan: Runs) -> Mapping[Ensemble, tuple[Task, ...]]:
        """Return the members of every ensemble."""
        return ensembles(plan)

    def results(self, found: Stored, tasks: Mapping[Ensemble, tuple[Task, ...]]) -> Mapping[str, Any]:
        """Return how different the members of an ensemble are: independent runs, and one ticket on several networks."""
        settings = settings_in(found.plan, DiversitySettings)
        spread = settings.diversity_tickets > 1
        independent = {Ensemble("independent", cell): found.plan.runs[cell] for cell, _ in found.cells()}
        independent |= {ensemble: mine for ensemble, mine in tasks.items() if ensemble.protocol == "independent"}
        sharing = {ensemble: mine for ensemble, mine in tasks.items() if ensemble.protocol == "one ticket"}
        rows = []
        for ensemble, mine in {**independent, **sharing}.items():
            least = settings.diversity_members if spread else 2  # of several, only whole ones are compared
            groups = [[task for task in group if found.get(task)] for group in groups_of(mine, settings)]
            if whole := [group for group in groups if len(group) >= least]:
                rows.append(row_of(ensemble, whole, found, spread=spread))
        return {"diversity": rows}

    def finding(self, results: Results) -> Finding | None:
        """Return the gain of the ensemble against the disagreement of its members at the highest sparsity."""
        return diversity(results)

    def opened(self, results: Results) -> tuple[tuple[str, Table], ...]:
        """Return the part of the table that stands open: the setting that the text speaks of."""
        place = diversity_point(results)
        if place is None:
            return ()
        kept = [
            record
            for record in results.of(Diversity)
            if record.sparsity == place[0] and record.rewind in (place[1], None)
        ]
        columns = self.columns["diversity"]
        if _several(kept):  # spreads need the room; the caption says the place
            columns = [one for one in columns if one not in PLACE[1:3]]
        table = Table.of("diversity", kept, columns)
        return ((f"Diversity at {percent(place[0])} sparsity, {rewound(place[1])}", table),)
