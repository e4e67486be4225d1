"""How far the matching can be trusted: what other data, an earlier point of training and signs say, group by group."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar

from pydantic import Field

from reticket.experiment import Context, Output, Result, Task
from reticket.figures.chart import Dot, dot_of, labelled_dots, name_room, row_height
from reticket.figures.columns import MATCHED
from reticket.figures.finding import Finding, left_out
from reticket.figures.looks import PALETTE
from reticket.figures.spec import FigureSpec, LegendEntry, Panel
from reticket.figures.table import column, measured
from reticket.figures.text import group_names, percent, plural, shortened, spread_note
from reticket.matching import assess
from reticket.records import Measured, Record, Stat
from reticket.tasks.cells import Runs
from reticket.tasks.check import Check, register, settings_in
from reticket.tasks.declared import CheckSettings
from reticket.tasks.inputs import alignment_of, checkpoints_in, dataset_for, network_of, reading_for, required_mask
from reticket.tasks.matchers import given_to_matcher
from reticket.tasks.results import Results
from reticket.tasks.rows import KEYS, MATCH_AT
from reticket.tasks.stored import Stored, stat_of
from reticket.tasks.work import Sizes, Work

MOST_GROUPS = 48
LEAST_BATCHES = 8  # that halves are drawn of
SHARES = {  # of the figure: what is said of each, its colour and its mark
    "changed": ("on half of the data", "permuted", "D"),
    "changed_earlier": ("earlier in training", "naive", "s"),
}


class TrustSettings(CheckSettings):
    """How often networks are matched again."""

    trust_halves: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="random halves of the inputs on which each pair is matched again; 0 for no such check",
    )
    trust_samples: int = Field(default=2000, ge=2, description="training inputs that the halves are drawn of")


class Trust(Record):
    """How far the matching of one group can be trusted."""

    group: str = Field(description="name of the group")
    units: int = Field(description="units that are permuted, those of all copies")
    match_at: str | None = Field(default=None, description=MATCH_AT)
    correlation: Measured = Field(
        default=Stat(), description="mean correlation of matched units, in [-1, 1], whatever they were matched by"
    )
    margin: Measured = Field(
        default=Stat(), description="how far the partner is ahead of the best other unit (correlation)"
    )
    changed: Measured = Field(
        default=Stat(), description="percent of the units that have another partner when matched on half of the inputs"
    )
    changed_earlier: Measured = Field(
        default=Stat(), description="percent of the units that have another partner when matched earlier in training"
    )
    signs: Measured = Field(
        default=Stat(), description="percent of the moved ticket's weights at which trained A's sign is trained B's"
    )
    keys: tuple[str, ...] = Field(default=(), description=KEYS)


def run_trust(task: Task, inputs: Mapping[str, Result], context: Context) -> Output:
    """Match the networks again on halves of the data and at an earlier point, and count what changes."""
    networks = {
        side: [network_of(task, result).to(context.device) for result in checkpoints_in(inputs, side)]
        for side in ("a", "b", "earlier_a", "earlier_b")
    }
    earlier = (networks["earlier_a"], networks["earlier_b"])
    found = assess(
        alignment_of(inputs),
        networks["a"],
        networks["b"],
        reading_for(task, dataset_for(task, context), "train", context),
        task.spec["method"],
        resamples=task.spec["halves"],
        mask=required_mask(inputs["kept"]) if "kept" in inputs else None,
        earlier=earlier if earlier[0] else None,
        **given_to_matcher(task.spec, inputs, context.device),
    )
    return Output({"groups": [asdict(group) for group in found.groups]})


@register
class Trusts(Check):
    """Stability of the matching under other data and earlier in training, and agreement of signs."""

    name = "trust"
    place = 25
    settings = TrustSettings
    sections: ClassVar = {"trust": Trust}
    runners: ClassVar = {"trust": run_trust}
    title = "How far the matching can be trusted"
    about = "A unit that gets another partner on other data, or had one earlier in training, has no sure partner."
    columns: ClassVar = {
        "trust": (
            column("group", "group"),
            column("units", "units"),
            MATCHED,
            measured("correlation", "matched correlation", 3),
            measured("margin", "margin", 3),
            measured("changed", "changed on half of the data (%)"),
            measured("changed_earlier", "changed earlier in training (%)"),
            measured("signs", "signs alike on kept weights (%)"),
            column("n", "n", get="changed.n"),
        )
    }

    def tasks(self, plan: Runs) -> Mapping[str, tuple[Task, ...]]:
        """Return by position of B one task a seed, where the table moves tickets."""
        settings = settings_in(plan, TrustSettings)
        if not settings.trust_halves:
            return {}
        moved = {cell.match_at: runs for cell, runs in plan.runs.items() if cell.match_at is not None}  # the last cells
        seeds = plan.config.grid.seeds
        return {
            at: tuple(_task(plan, settings, seed, run) for seed, run in zip(seeds, runs, strict=True))
            for at, runs in moved.items()
        }

    def work(self, task: Task, sizes: Sizes) -> Work:
        """Return its passes of both networks: the correlations, each half, and the earlier point."""
        return _work(task.spec, task.inputs, sizes)

    def results(self, found: Stored, tasks: Mapping[str, tuple[Task, ...]]) -> Mapping[str, Any]:
        """Return how far the matching of each group can be trusted, at every position of B."""
        return {"trust": [row for at, mine in tasks.items() for row in _rows(at, found.present(mine))]}

    def finding(self, results: Results) -> Finding | None:
        """Return the shares of units that change, and of signs that agree, of each group."""
        return trust(results)


def _task(plan: Runs, settings: TrustSettings, seed: int, run: Task) -> Task:
    """Return the check of the alignment that a run moves its ticket by."""
    matching = run.inputs["alignment"]
    samples = min(settings.trust_samples, plan.facts.train_size)
    batch_size = max(1, min(plan.config.matching.batch_size, samples // LEAST_BATCHES))
    spec = {**matching.spec, "halves": settings.trust_halves, "samples": samples, "batch_size": batch_size}
    inputs = {**matching.inputs, "alignment": matching, **_earlier(plan, seed, matching)}
    inputs |= {"kept": run.inputs["ticket"]} if "ticket" in run.inputs else {}
    cost = _work(spec, inputs, plan.facts.sizes).cost(plan.facts.train_size)
    return Task("trust", 1, spec, inputs, label=f"trust in {matching.label}", cost=cost)


def _work(spec: Mapping[str, Any], inputs: Mapping[str, Task], sizes: Sizes) -> Work:
    networks = 2 * len(checkpoints_in(inputs, "a"))
    passes = 1 + spec["halves"] / 2 + ("earlier_a" in inputs)
    return Work(evaluated=networks * passes * min(spec["samples"], sizes.train))


def _earlier(plan: Runs, seed: int, matching: Task) -> dict[str, Task]:
    """Return both networks at the latest rewind point before they were matched; none where several points were."""
    if "b" not in matching.inputs:
        return {}
    matched = min(matching.inputs[side].spec["at"] for side in "ab")
    step = max((step for step in plan.networks.rewinds.values() if 0 < step < matched), default=None)
    return {} if step is None else {f"earlier_{name.lower()}": plan.networks.at((name, seed), step) for name in "AB"}


def _rows(place: str, results: Sequence[Result]) -> list[Trust]:
    keys = tuple(result.key for result in results)
    by_group = zip(*(result.values["groups"] for result in results), strict=True)  # the same groups in every seed
    return [
        Trust(
            group=seeds[0]["group"],
            units=seeds[0]["units"],
            match_at=place,
            correlation=_over(seeds, "correlation"),
            margin=_over(seeds, "margin"),
            changed=_over(seeds, "changed", 100),
            changed_earlier=_over(seeds, "changed_earlier", 100),
            signs=_over(seeds, "signs", 100),
            keys=keys,
        )
        for seeds in by_group
    ]


def _over(seeds: Sequence[Mapping[str, Any]], field: str, unit: int = 1) -> Stat:
    return stat_of([unit * one[field] for one in seeds if one[field] is not None])


# ---------------------------------------------------------------- the figure


def trust(results: Results) -> Finding | None:
    """Return the shares of units that change, and of signs that agree, of each group."""
    known = results.of(Trust)
    if not known:
        return None
    shown = known[:MOST_GROUPS]
    words = group_names([record.group for record in known])[: len(shown)]
    names = [f"{shortened(name, 20)} ({record.units})" for name, record in zip(words, shown, strict=True)]
    says = _says(known)
    changes = [_points(shown, field, colour, marker) for field, (_, colour, marker) in SHARES.items()]
    panels = [_panel(names, [dot for dots in changes for dot in dots], "units with another partner (%)", says)]
    if signs := _points(shown, "signs", "permuted", "o"):
        panels.append(_panel(names, signs, "signs alike on kept weights (%)", "Half of the signs agree by chance."))
    legend = tuple(LegendEntry(text, PALETTE[colour][0], marker) for text, colour, marker in SHARES.values())
    caption = (
        "Left: units of each group that get another partner when the networks are matched on a random half of the "
        "training inputs, or had another one at the latest rewind point before. Right: weights that the moved ticket "
        "keeps at which trained A has the sign of trained B; 50 % are alike by chance. "
        f"{spread_note('Whiskers', (record.changed.n for record in known))}"
    )
    return Finding(
        FigureSpec("trust", tuple(panels), legend),
        (says,),
        caption + left_out(len(shown), len(known), "groups", "trust"),
    )


def _points(records: Sequence[Trust], field: str, colour: str, marker: str) -> list[Dot]:
    found = [dot_of(row, getattr(record, field), PALETTE[colour][0], marker) for row, record in enumerate(records)]
    return [dot for dot in found if dot is not None]


def _panel(names: Sequence[str], points: Sequence[Dot], unit: str, says: str) -> Panel:
    draw = partial(labelled_dots, names=names, points=points, unit=unit, limits=None)
    alt = f"Of each group, {unit}. {says}"
    return Panel(draw, unit, "group (units)", alt, row_height(len(names)), name_room(names))


def _says(known: Sequence[Trust]) -> str:
    """Return how many units change, over all groups."""
    parts = []
    for field, (when, *_) in SHARES.items():
        seen = [(getattr(record, field).mean, record.units) for record in known]
        counted = [(mean, units) for mean, units in seen if mean is not None]
        if counted:
            share = sum(mean * units for mean, units in counted) / sum(units for _, units in counted)
            parts.append(f"{percent(round(share / 100, 3))} have another partner {when}")
    return f"Of the units of {plural(len(known), 'group')}, {' and '.join(parts)}."
