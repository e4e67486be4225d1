"""The tasks that make networks: dense trajectories, chains of pruning, the matching of two networks.

One network's training run is a **trajectory**: one task for each position whose weights somebody needs, each of which
resumes the one before. One chain of pruning rounds serves every sparsity, rewind point and method.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from reticket.errors import ConfigError
from reticket.experiment import Task
from reticket.experiment.frozen import SharedSpec
from reticket.models import build_model, model_params
from reticket.rng import generator_for
from reticket.tasks.config import Config, MatchingConfig, StartConfig
from reticket.tasks.matchers import check_matching, looks_at_tickets, matcher_spec, trained_on
from reticket.tasks.pruned_weights import check_pruning, prunable_spec
from reticket.tasks.recipes import recipe_spec
from reticket.tasks.work import Sizes, Work
from reticket.tickets.imp import STYLES, chain
from reticket.training import Recipe, parse_position, steps_per_epoch
from reticket.training.norms import norm_beginnings
from reticket.training.recipe import warms_up_past_milestone

SYMMETRY_COST = 1.0  # in model-epochs; in truth seconds, of whatever model
DATALESS_COST = 0.3  # of a matcher that looks at no data


@dataclass(frozen=True)
class Facts:
    """What planning must know of the data: who it is, how much of it there is, and the shape of one input.

    `model_code` stands for the code of a model that is not this package's own: who edits it gets new keys. Where inputs
    are tokens, the classes are the vocabulary; where numbers are to be predicted, the names of these.
    """

    fingerprint: str
    train_size: int
    classes: tuple[str, ...]
    input_shape: tuple[int, ...]
    model_code: str = ""
    is_tokens: bool = False
    is_classified: bool = True
    test_size: int = 0  # for costs alone

    @property
    def sizes(self) -> Sizes:
        """How many inputs there are."""
        return Sizes(self.train_size, self.test_size)


class Networks:
    """The networks of an experiment as tasks, each made once however often it is asked for.

    Args:
        config: the checked configuration.
        facts: what the data are.
        threads: the threads a task computes with; part of every key, because it changes bits.

    Raises:
        ConfigError: for a position past the end, an unknown matcher or a recipe that cannot be.
    """

    def __init__(self, config: Config, facts: Facts, *, threads: int = 1) -> None:
        self.config = config
        self.facts = facts
        self.params = model_params(config.model.name, facts.input_shape, len(facts.classes), **config.model.params)
        model = {"name": config.model.name, "params": self.params, "code": facts.model_code}
        self.common: Mapping[str, Any] = {
            "data": SharedSpec({**config.data.decisive(), "fingerprint": facts.fingerprint}, "data"),
            "model": SharedSpec(model, "model"),
            "threads": threads,
            **({} if facts.is_classified else {"objective": config.dense.objective}),  # which judges them too
        }
        self.epoch = steps_per_epoch(facts.train_size, config.dense.batch_size)
        self.end = config.dense.epochs * self.epoch
        check_matching(config.matching)
        if config.dense.interpolate_norms or config.sparse_recipe.interpolate_norms:
            norm_beginnings(build_model(config.model.name, **self.params))
        self.rewinds = {text: self._position(text, "grid.rewinds") for text in config.grid.rewinds}
        self._prune_rewind = self._position(config.prune.rewind, "prune.rewind")
        self._matched = {text: self._matched_steps(text) for text in config.grid.match_at}
        self._chain = chain_of(config)
        self.recipe = cache(_shared_recipe)
        self.at = cache(self._make_at)
        self.pruned = cache(self._make_pruned)
        self.round = cache(self._make_round)
        self.match = cache(self._make_match)

    @cached_property
    def symmetry(self) -> Task:
        """Return the discovery of the model's permutation symmetry."""
        spec = {"model": self.common["model"], "input_shape": list(self.facts.input_shape)}
        if self.facts.is_tokens:
            spec["vocabulary"] = len(self.facts.classes)
        return Task(kind="symmetry", version=1, spec=spec, inputs={}, label="symmetry of the model", cost=SYMMETRY_COST)

    def training_version(self, recipe: Recipe, start: int) -> int:
        """Return the version of a task that trains: 2 where version 1 warmed up to the full rate past a milestone."""
        return 2 if warms_up_past_milestone(recipe, start, self.epoch) else 1

    def training_cost(self, epochs: int | float) -> float:
        """Return the cost of a training and of judging the network at its end."""
        work = Work(trained=epochs * self.facts.train_size, evaluated=self.facts.test_size)
        return work.cost(self.facts.train_size)

    @cached_property
    def rounds(self) -> tuple[float, ...]:
        """Return the densities of the pruning rounds that a target needs, without the targets themselves."""
        return max((plan[:-1] for plan in self._chain.values()), key=len)

    def dense(self, network: str, seed: int) -> Task:
        """Return the end of the dense training of A or B of `seed`."""
        return self.at((network, seed), self.end)

    def _make_at(self, network: tuple[str, int], at: int) -> Task:
        """Return a network's dense training up to the step `at`."""
        earlier = [p for p in self._positions[network[0]] if p < at]
        before = earlier[-1] if earlier else 0
        spec = {
            **self.common,
            "recipe": self.recipe(self.config.dense),
            "network": list(network),
            "order": rng_label_of(network, 0),
            "at": at,
        }
        return Task(
            kind="dense",
            version=self.training_version(self.config.dense, 0),
            spec=spec,
            inputs={},
            resumes=(self.at(network, before),) if at else (),
            label=f"dense {network[0]}{network[1]} to step {at} of {self.end}",
            cost=self.training_cost((at - before) / self.epoch),
        )

    def _make_pruned(self, network: tuple[str, int], density: float) -> Task:
        """Return a network pruned to a target density: the leaf of its chain of rounds."""
        plan = self._chain[density]
        return self._retrained(network, self.round(network, len(plan) - 1), len(plan), density)

    def _make_round(self, network: tuple[str, int], number: int) -> Task:
        """Return a network after this many rounds of the chain; after none it is the dense network."""
        if number == 0:
            return self.at(network, self.end)
        return self._retrained(network, self.round(network, number - 1), number, self.rounds[number - 1])

    def _retrained(self, network: tuple[str, int], previous: Task, number: int, density: float) -> Task:
        prune = self.config.prune
        inputs = {"previous": previous}
        style = STYLES[prune.style]
        replay = style.schedule == "dense"
        if style.weights == "rewound":
            inputs["rewound"] = self.at(network, self._prune_rewind)
        recipe = self.config.dense if replay else self.config.finetuning_recipe
        spec = {
            **self.common,
            **self.pruning,
            "recipe": self.recipe(recipe),
            "start": self._prune_rewind if replay else 0,
            "density": density,
            "order": [*rng_label_of(network, 0), "round", number],
        }
        epochs = (self.end - self._prune_rewind) / self.epoch if replay else prune.epochs
        return Task(
            kind="prune-round",
            version=self.training_version(recipe, spec["start"]),
            spec=spec,
            inputs=inputs,
            label=f"IMP {network[0]}{network[1]} round {number}, density {density:.3g}",
            cost=self.training_cost(epochs),
        )

    @cached_property
    def pruning(self) -> dict[str, Any]:
        """What the keys of rounds hold of pruning and of the weights that are pruned; the model is built for it."""
        prune, own_training = self.config.prune, self.config.dense.train is not None
        model = build_model(self.config.model.name, generator=generator_for("structure", "init"), **self.params)
        names = prunable_spec(model, prune)
        if any(method != "dense" for method in self.config.grid.methods):  # checks may prune too, and fail alone
            check_pruning(self.config.model.name, model, prune, min(self._chain), frozen=own_training)
        return {"prune": SharedSpec(prune.decisive(), "prune"), **names}

    def target(self, density: float) -> dict[str, Any]:
        """Return what decides which weights one pruning to a density keeps, beside the scores."""
        chosen = {key: one for key, one in self.config.prune.decisive().items() if key not in ("style", "rate")}
        return {"density": density, **chosen, **{key: one for key, one in self.pruning.items() if key != "prune"}}

    def _make_match(self, a: int, b: int, match_at: str, ticket: tuple[float, int] | None = None) -> Task:
        """Return the matching of A onto B at one of the grid's positions, or at several by consensus.

        Args:
            a, b: the seeds.
            match_at: the position.
            ticket: density of A's mask that will be moved and the step from which B will train sparse, where they are
                known; a matcher that looks at them is given both.
        """
        of_a, of_b = self._matched[match_at]
        names = [("a", "b")] if len(of_b) == 1 else [(f"a{n}", f"b{n}") for n in range(len(of_b))]
        inputs = {"symmetry": self.symmetry}
        for (name_a, name_b), step_a, step_b in zip(names, of_a, of_b, strict=True):
            inputs |= {name_a: self.at(("A", a), step_a), name_b: self.at(("B", b), step_b)}
        label = f"matching A{a} to B{b}{matched_text(match_at)}"
        config = self.config.matching
        if config.start is not None:
            inputs["start"] = self._matched_by(config.start, inputs, f"{label}, the start")
        if ticket is not None and looks_at_tickets(config):
            density, step = ticket
            inputs |= {"ticket": self.pruned(("A", a), density), "rewound_b": self.at(("B", b), step)}
            label += f", ticket of density {density:.3g}"
        return self._matched_by(config, inputs, label)

    def _matched_by(self, chosen: MatchingConfig | StartConfig, inputs: Mapping[str, Task], label: str) -> Task:
        spec = {**self.common, **matcher_spec(self.config.matching, chosen)}
        work = matching_work(spec, inputs, self.facts.sizes)
        cost = work.cost(self.facts.train_size) or DATALESS_COST
        return Task(kind="match", version=2, spec=spec, inputs=dict(inputs), label=label, cost=cost)

    # ---------------------------------------------------------------- positions

    @cached_property
    def _positions(self) -> dict[str, tuple[int, ...]]:
        """Return by network the positions somebody may need, in order."""
        wanted = {0, self.end, *self.rewinds.values()}
        if STYLES[self.config.prune.style].weights == "rewound":
            wanted.add(self._prune_rewind)
        matched = [{step for places in self._matched.values() for step in places[side]} for side in (0, 1)]
        return {"A": tuple(sorted(wanted | matched[0])), "B": tuple(sorted(wanted | matched[1]))}

    def _matched_steps(self, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the steps at which A and B are taken to be matched at one of `grid.match_at`."""
        of_b = tuple(self._place(place, "grid.match_at") for place in text.split("+"))
        a_at = self.config.matching.a_at
        of_a = of_b if a_at == "same" else (self._place(a_at, "matching.a_at"),)
        return (of_a if len(of_b) == 1 else of_b), of_b

    def _place(self, text: str, where: str) -> int:
        """Return the step of a position on a trajectory, its end included."""
        step = self.end if text == "end" else parse_position(text, self.epoch)
        if step > self.end:
            raise ConfigError(
                f"{where}: {text} is step {step}, past the end of training at step {self.end} "
                f"({self.config.dense.epochs} epochs of {self.epoch} steps); choose an earlier one, or 'end'"
            )
        return step

    def _position(self, text: str, where: str) -> int:
        step = parse_position(text, self.epoch)
        if step >= self.end:
            raise ConfigError(
                f"{where}: rewind point {text} is step {step}, at or past the end of training at step {self.end} "
                f"({self.config.dense.epochs} epochs of {self.epoch} steps); choose an earlier one"
            )
        return step


def _shared_recipe(recipe: Recipe) -> SharedSpec:
    return SharedSpec(recipe_spec(recipe), "recipe")


def chain_of(config: Config) -> dict[float, tuple[float, ...]]:
    """Return for every target density the densities of the rounds that lead to it, the target last."""
    plan = chain([density_of(s) for s in config.grid.sparsities], config.prune.rate)
    return {leaf.density: (*plan.densities[1 : leaf.branches_from + 1], leaf.density) for leaf in plan.leaves}


def density_of(sparsity: float) -> float:
    """Return the fraction kept, free of the last bits of 1 - sparsity.

    >>> density_of(0.9)
    0.1
    """
    return round(1 - sparsity, 12)


def sparsity_of(density: float) -> float:
    """Return the fraction pruned by a round, free of the last bits of a power.

    >>> sparsity_of(0.8**2)
    0.36
    """
    return round(1 - density, 12)


def rng_label_of(network: tuple[str, int], repeat: int) -> list[str | int]:
    """Return the label of a training's random numbers: whose it is, and 0 or the number of a fresh order."""
    return [*network, "order", repeat]


def matched_text(place: str | None) -> str:
    """Return what a label adds for a network that was not matched at the end."""
    return "" if place in (None, "end") else f" matched at {place}"


def matching_work(spec: Mapping[str, Any], inputs: Collection[str], sizes: Sizes) -> Work:
    """Return which images a matching passes through networks; none where the matcher looks at none.

    It may stop before it has seen every image that it is allowed; they are counted in full.

    Args:
        spec: of its task.
        inputs: their names.
        sizes: of the data.
    """
    if "samples" not in spec:
        return Work()
    seen = len(set(inputs) - {"symmetry", "start"}) * min(spec["samples"] or sizes.train, sizes.train)
    return Work(trained=trained_on(spec), evaluated=seen)
