"""The moments of two models' activations at every site, batch by batch."""

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from reticket.errors import AlignmentError, SymmetryError
from reticket.forward import call, look_inside
from reticket.matching.assignment import pooled
from reticket.matching.forest import GroupForest, SimilarityScores
from reticket.matching.moments import CentredBatch, Moments, PairMoments, ScaledUnits, centre, centre_unmasked, centred
from reticket.nested import described, examples_in, parts, tensors_in
from reticket.symmetry import Inside, Site, Symmetry, capture
from reticket.symmetry.scaled import scaling_of
from reticket.symmetry.terms import shape_of
from reticket.symmetry.views import conditional_views, direct_views, reached_by
from reticket.types import Permutation

Score: TypeAlias = Callable[[PairMoments], Tensor]
Units: TypeAlias = CentredBatch | ScaledUnits
At: TypeAlias = tuple[str, str]  # name of a site, name of a group
Centre: TypeAlias = Callable[[Tensor], CentredBatch]


class MomentAccumulator:
    """The moments at every site of every pair of checkpoints so far.

    A BatchNorm's output is not measured where its input is: its moments follow from those.

    Args:
        sym: symmetry of the models.
        held_bytes: how much of A's activations is held at once; None for those of a whole batch.
        positions: of an example that are looked at, at most, at every site; None for all.
    """

    def __init__(self, sym: Symmetry, held_bytes: int | None = None, positions: int | None = None) -> None:
        self.sym, self.held_bytes, self.positions = sym, held_bytes, positions
        self.direct = direct_views(sym)
        reached = reached_by(sym, self.direct)
        self.conditional = conditional_views(sym, reached)
        self.views = self.direct | self.conditional
        self.matched = frozenset([*reached, *self.conditional])
        self.groups_at: dict[str, list[str]] = {}  # by the name of a site
        for group, views in self.views.items():
            for site in views.sites:
                self.groups_at.setdefault(site.name, []).append(group)
        self.sites = [site for site in sym.sites if site.name in self.groups_at]
        self.inside = Inside(self.sites)
        self.masked = False  # whether a mask was met
        self.at_most: int | None = None  # examples that fit the sites together; None for any number
        self.norms: frozenset[str] | None = None  # paths of modules that scale alone in every model
        self.shifts: dict[At, Tensor] = {}  # means of A's units in the last part, to centre the next
        self.known: dict[tuple[int, str], dict[str, ScaledUnits]] = {}  # by the model's id and a site
        self.examples = self.batches = 0
        self.before = self.place = 0  # examples before all of these, and before those that are run just now
        self.moments: dict[At, list[PairMoments]] = {}  # one for each pair of checkpoints
        self.scaled: dict[At, list[tuple[ScaledUnits, ScaledUnits]]] = {}  # likewise, of what is not measured

    def shape(self, group: str) -> tuple[int, ...]:
        """Return how many units of a group are told apart: its size at every position of what it is seen along."""
        along = [self.sym.fixed_parents.get(name) or self.sym.groups[name].size for name in self.views[group].along]
        return (*along, self.sym.groups[group].size)

    def units(self, group: str) -> int:
        """Return how many units of a group are told apart, at all positions of what it is seen along together."""
        return math.prod(self.shape(group))

    def take(self, models_a: Sequence[nn.Module], models_b: Sequence[nn.Module], inputs: object) -> None:
        """Run every pair of checkpoints on one batch, in parts where A's activations would be more than is allowed."""
        take_together([self], models_a, [models_b], inputs)

    def at_once(self, model: nn.Module, inputs: object) -> int:
        """Return how many examples of a batch are run through the models together."""
        size = examples_in(inputs) if self.at_most is None else self.at_most
        if self.held_bytes is None:
            return size
        return max(1, min(size, self.held_bytes // max(1, self.bytes_an_example(model, inputs))))

    def bytes_an_example(self, model: nn.Module, inputs: object) -> int:
        """Return how much of A's activations is held for an example, by the shapes that discovery saw.

        Inputs of another size than discovery's, as larger images, are taken to make activations larger alike.
        """
        measured = [site for site in self.sites if site.operator or site.module not in (self.norms or ())]
        seen = sum(self._values(site, group) for site in measured for group in self.groups_at[site.name])
        width = max([4, *(p.element_size() for p in model.parameters() if p.is_floating_point())])
        return round(seen * self.larger(inputs) * width / max(1, examples_in(inputs)))

    def _values(self, site: Site, group: str) -> int:
        """Return how many values of a group's units are looked at at a site, of the inputs that discovery saw."""
        every = math.prod(shape_of(site.layout))
        if self.positions is None:
            return every
        return min(every, self.units(group) * self.positions * max(1, shape_of(self.sym.inputs[0])[0]))

    def larger(self, inputs: object) -> float:
        """Return how many times as large as discovery's inputs these are."""
        given = sum(math.prod(shape_of(layout)) for layout in self.sym.inputs)
        return sum(tensor.numel() for tensor in tensors_in(inputs)) / given if given else 1.0

    def hold(self, model: nn.Module, inputs: object) -> dict[At, Units]:
        """Return what A's units do at every site, in memory of its own."""
        held: dict[At, Units] = {}

        def hold(site: Site, group: str, units: Units) -> None:
            held[site.name, group] = units
            if isinstance(units, CentredBatch):
                self.shifts[site.name, group] = units.mean.to(units.values.dtype)

        self._look(model, inputs, hold, lambda at: partial(centre, shift=self.shifts.get(at)))
        return held

    def compare(self, number: int, held: dict[At, Units], model_b: nn.Module, inputs: object) -> None:
        """Run B on what A was run on, and take in each site as it is seen.

        Args:
            number: of the pair of checkpoints.
            held: what `hold` returned; each site is taken out of it.
            model_b: the checkpoint of B.
            inputs: of both models.
        """

        def take(site: Site, group: str, of_b: Units) -> None:
            of_a = held.pop((site.name, group), None)
            _check_alike(site, of_a, of_b, inputs)
            if isinstance(of_a, CentredBatch) and isinstance(of_b, CentredBatch):
                moments = self.moments.setdefault((site.name, group), [])
                if len(moments) == number:
                    moments.append(PairMoments(len(of_a.mean), len(of_b.mean), of_a.mean.device))
                moments[number].update(of_a, _on(of_b, of_a.values.device))
            elif isinstance(of_a, ScaledUnits) and isinstance(of_b, ScaledUnits):
                pairs = self.scaled.setdefault((site.name, group), [])
                if len(pairs) == number:
                    pairs.append((of_a, of_b))

        self._look(model_b, inputs, take, lambda _: centred)
        every = [(site.name, group) for site in self.sites for group in self.groups_at[site.name]]
        known = self.moments | self.scaled
        if lost := [at[0] for at in every if at in held or len(known.get(at, ())) <= number]:
            raise AlignmentError(
                f"site '{lost[0]}' was not reached on a batch of {described(inputs)}: discover the symmetry on inputs "
                "like these"
            )

    def _look(
        self,
        model: nn.Module,
        inputs: object,
        on_units: Callable[[Site, str, Units], None],
        centre_at: Callable[[At], Centre],
    ) -> None:
        """Run a model once and show the units of every group at every site as it is computed."""

        examples = examples_in(inputs)

        def on_site(site: Site, tensor: Tensor) -> None:
            for group in self.groups_at[site.name]:
                on_units(site, group, self._units(site, tensor, group, centre_at((site.name, group)), examples))

        def on_next(site: Site, before: Site, module: nn.Module) -> bool:
            if (known := self.known.get((id(model), site.name))) is None:
                known = self.known[id(model), site.name] = self._scaled_units(site, before, module)
            for group, units in known.items():
                on_units(site, group, units)
            return bool(known)

        look_inside(self.inside, model, inputs, on_site)
        with torch.no_grad(), capture(model, self.sites, on_site, on_next):
            call(model, inputs)

    def _units(self, site: Site, tensor: Tensor, group: str, centre: Centre, examples: int) -> CentredBatch:
        """Return what the units do at a site where it is looked at, without samples that a mask takes out.

        Masks come in by functional calls, and may then be met anywhere. Whether there is one costs a GPU a wait.
        """
        rows = thinned(site.units(tensor, group, self.views[group].along), examples, self.positions, self.place)
        if rows.is_complex():  # real and imaginary parts are samples like any other
            rows = torch.view_as_real(rows).flatten(-2)
        rows = rows.reshape(-1, rows.shape[-1])
        if not (site.operator or self.masked):
            return centre(rows)
        units = centre_unmasked(rows, centre)
        self.masked |= units.unmasked is not None
        return units

    def _scaled_units(self, site: Site, source: Site, module: nn.Module) -> dict[str, ScaledUnits]:
        """Return how the units of every group at a site are scaled, none where one of them must be measured."""
        found: dict[str, ScaledUnits] = {}
        scaling = scaling_of(module)
        if scaling is None or site.module not in (self.norms or ()):
            return found
        for group in self.groups_at[site.name]:
            shape, along = (1, -1, *(1 for _ in site.layout[2:])), self.views[group].along
            both = [site.units(one.view(shape), group, along) for one in (scaling.factor, scaling.shift)]
            factor, shift = (rows.reshape(-1, rows.shape[-1]) for rows in both)
            alike = bool((factor == factor[:, :1]).all()) and bool((shift == shift[:, :1]).all())
            if not alike or group not in self.groups_at.get(source.name, ()):
                return {}
            found[group] = ScaledUnits(source.name, factor[:, 0], shift[:, 0])
        return found

    def permutations(self, score: Score) -> dict[str, Permutation]:
        """Return the best permutation of every group on what was seen so far."""
        return self.forest(score).assign()

    def forest(self, score: Score) -> GroupForest:
        """Return the groups with their scores on what was seen so far."""
        direct, conditional = (
            {group: SimilarityScores(views.along, self._scores(group, score)) for group, views in some.items()}
            for some in (self.direct, self.conditional)
        )
        return GroupForest(self.sym, direct, conditional)

    def _moments(self, site: str, group: str) -> list[PairMoments]:
        """Return the moments at a site, those that follow from another's included."""
        pairs = self.scaled.get((site, group))
        if pairs is None:
            return self.moments[site, group]
        sources = self.moments[pairs[0][0].source, group]
        return [source.scaled(*pair) for source, pair in zip(sources, pairs, strict=True)]

    def still(self) -> dict[str, tuple[int, int]]:
        """Return for each group how many units of A and of B do not vary anywhere, where there are any.

        Raises:
            AlignmentError: when no unit of any group varies in one of the networks, as where there is one example.
        """
        found: dict[str, tuple[int, int]] = {}
        for group, views in self.views.items():
            every = [moments for site in views.sites for moments in self._moments(site.name, group)]
            still = [torch.stack([side.constant for side in sides]).all(dim=0) for sides in _sides(every)]
            found[group] = (int(still[0].sum()), int(still[1].sum()))
        for side in (0, 1):
            if found and all(found[group][side] == self.units(group) for group in found):
                raise AlignmentError(
                    f"on {self.examples} example{'s' if self.examples != 1 else ''} no unit of {'AB'[side]} varies, so "
                    "nothing tells them apart: give more examples, that differ"
                )
        return {group: both for group, both in found.items() if any(both)}

    def empty(self) -> "MomentAccumulator":
        """Return one that has seen nothing, and knows what is known of the models here."""
        found = copy.copy(self)
        found.before, found.examples, found.batches = self.before + self.examples, 0, 0
        found.moments, found.scaled = {}, {}
        return found

    def merged(self, other: "MomentAccumulator") -> "MomentAccumulator":
        """Return what was seen here and there together, on different examples of the same models."""
        found = copy.copy(self)
        found.examples, found.batches = self.examples + other.examples, self.batches + other.batches
        found.masked, found.scaled = self.masked | other.masked, self.scaled | other.scaled
        found.moments = {at: self.moments.get(at, []) for at in self.moments | other.moments}
        for at, pairs in other.moments.items():
            mine = found.moments[at]
            found.moments[at] = [one.merged(more) for one, more in zip(mine, pairs, strict=True)] if mine else pairs
        return found

    def _scores(self, group: str, score: Score) -> Float64[Tensor, "..."]:
        return self.scores(group, score).reshape(2 * self.shape(group))

    def scores(self, group: str, score: Score) -> Float64[Tensor, "a b"]:
        """Return how alike each unit of A is to each unit of B on what was seen so far, at all positions of parents.

        Raises:
            AlignmentError: when activations are not finite.
        """
        names = [site.name for site in self.views[group].sites]
        scores = pooled(score, [moments for name in names for moments in self._moments(name, group)])
        if not scores.isfinite().all():
            where = next(n for n in names if not all(score(m).isfinite().all() for m in self._moments(n, group)))
            raise AlignmentError(
                f"activations at site '{where}' are not finite: give models that have not diverged, and batches "
                "as they were trained on"
            )
        return scores.cpu()


def _sides(every: Sequence[PairMoments]) -> tuple[list[Moments], list[Moments]]:
    return [moments.a for moments in every], [moments.b for moments in every]


def thinned(rows: Tensor, examples: int, positions: int | None, before: int = 0) -> Tensor:
    """Return samples at even distances, at most so many of an example, or all for None.

    The distance has no factor in common with the number of positions, so that every position has its turn, and goes on
    from one part of the data to the next.

    Args:
        rows: a sample in each column of the last axis, those of one example after the other.
        examples: how many there are.
        positions: of an example to leave, at most.
        before: examples that were seen before these.

    >>> thinned(torch.arange(12), 2, 3).tolist(), thinned(torch.arange(6), 1, 3, before=1).tolist()
    ([0, 5, 10], [4])
    """
    each, rest = divmod(rows.shape[-1], examples)
    if positions is None or each <= positions or rest:
        return rows
    distance = -(-each // positions)
    while math.gcd(distance, each) > 1:
        distance += 1
    return rows[..., min(-before * each % distance, rows.shape[-1] - 1) :: distance]


def take_together(
    accumulators: Sequence[MomentAccumulator],
    models_a: Sequence[nn.Module],
    each_b: Sequence[Sequence[nn.Module]],
    inputs: object,
) -> None:
    """Run A once and every B once on a batch, in parts where A's activations would be more than is allowed.

    Args:
        accumulators: one for each B, of one symmetry.
        models_a: checkpoints of A.
        each_b: checkpoints of every B.
        inputs: of all models.
    """
    for one in accumulators:
        if one.norms is None:
            one.norms = scaling_in([*models_a, *(model for models in each_b for model in models)])
    size = accumulators[0].at_once(models_a[0], inputs)
    for number, model_a in enumerate(models_a):
        for one in accumulators:
            one.place = one.before + one.examples
        for part in parts(inputs, size):
            _take(accumulators, number, model_a, [models[number] for models in each_b], part)
    for one in accumulators:
        one.batches += 1
        one.examples += examples_in(inputs)


def _take(
    accumulators: Sequence[MomentAccumulator],
    number: int,
    model_a: nn.Module,
    models_b: Sequence[nn.Module],
    inputs: object,
) -> None:
    """Run A, then each B, once on the same examples; only A's activations are held.

    Heads merged into a batch of one look like heads alone: where a larger batch fits no site, it is run in parts of the
    example's size.
    """
    first = accumulators[0]
    try:
        held = first.hold(model_a, inputs)
    except SymmetryError:
        at_most = next((layout[0].size for layout in first.sym.inputs if layout), 1)
        if examples_in(inputs) <= at_most:
            raise
        for one in accumulators:
            one.at_most = at_most
        for part in parts(inputs, at_most):
            _take(accumulators, number, model_a, models_b, part)
        return
    for one, model_b in zip(accumulators, models_b, strict=True):
        one.masked |= first.masked
        one.compare(number, held if one is accumulators[-1] else dict(held), model_b, inputs)
        one.place += examples_in(inputs)


def scaling_in(models: Sequence[nn.Module]) -> frozenset[str]:
    """Return the paths of modules that are BatchNorms in evaluation mode in every model, watched by nobody."""
    found = [
        {path for path, module in model.named_modules() if not module._forward_hooks and scaling_of(module) is not None}
        for model in models
    ]
    return frozenset(set.intersection(*found))


def _check_alike(site: Site, of_a: Units | None, of_b: Units, inputs: object) -> None:
    """Refuse what A and B compute in other ways: other steps, or other masks."""
    scaled = [isinstance(one, ScaledUnits) for one in (of_a, of_b)]
    if of_a is None or scaled[0] is not scaled[1] or _samples(of_a) != _samples(of_b):
        seen = ["nothing" if one is None else _samples(one) for one in (of_a, of_b)]
        raise AlignmentError(
            f"site '{site.name}' shows {seen[0]} in model_a and {seen[1]} in model_b on {described(inputs)}: both must "
            "compute the same steps on a batch"
        )
    if isinstance(of_a, CentredBatch) and isinstance(of_b, CentredBatch) and not _equally_masked(of_a, of_b):
        raise AlignmentError(
            f"site '{site.name}' has other masked samples in model_a than in model_b on {described(inputs)}: masks "
            "must be made of the inputs alone"
        )


def _samples(units: Units) -> str:
    return f"{units.samples} samples" if isinstance(units, CentredBatch) else f"'{units.source}' scaled"


def _equally_masked(a: CentredBatch, b: CentredBatch) -> bool:
    if a.unmasked is None or b.unmasked is None:
        return a.unmasked is b.unmasked
    return torch.equal(a.unmasked, b.unmasked.to(a.unmasked.device))


def _on(batch: CentredBatch, device: torch.device) -> CentredBatch:
    return CentredBatch(batch.values.to(device), batch.mean.to(device), batch.rest.to(device), batch.squares.to(device))
