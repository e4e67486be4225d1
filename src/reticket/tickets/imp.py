"""Iterative magnitude pruning (IMP): which densities are visited, what a round starts from, and a driver over both.

Training is the caller's. The driver and an experiment that runs each round as its own task share `chain`, `STYLES` and
`prune_round`, and so find the same tickets.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from reticket.errors import MaskError
from reticket.progress import Progress, shown
from reticket.tickets.by_name import select
from reticket.tickets.mask import Mask
from reticket.tickets.patterns import check_density
from reticket.tickets.prunable import named_weights
from reticket.tickets.prune import pruned_to
from reticket.tickets.ranking import Budget, Scope
from reticket.tickets.start import SparseStart
from reticket.types import StateDict
from reticket.weights import Weights, state_of

StyleName = Literal["finetune", "weight-rewind", "lr-rewind"]
MOST_ROUNDS = 10_000  # more are a slip: each trains the network once


@dataclass(frozen=True)
class Style:
    """What a round of IMP does with the weights and the learning rate (Renda et al. 2020, section 3).

    Args:
        name: as in a configuration.
        weights: the round starts from the weights as "trained" so far, or "rewound" to those of the rewind point k.
        schedule: the round trains at its own small learning rate ("finetune"), or replays the "dense" schedule from k.
        description: one line for a report.
    """

    name: StyleName
    weights: Literal["trained", "rewound"]
    schedule: Literal["finetune", "dense"]
    description: str


STYLES: Mapping[str, Style] = MappingProxyType(
    {
        style.name: style
        for style in (
            Style("finetune", "trained", "finetune", "keep the weights, train on at a small constant learning rate"),
            Style("weight-rewind", "rewound", "dense", "return to the weights of step k, replay the schedule from k"),
            Style("lr-rewind", "trained", "dense", "keep the weights, replay the learning-rate schedule from k"),
        )
    }
)


@dataclass(frozen=True)
class ChainLeaf:
    """A target density and the round it branches from.

    Args:
        density: fraction of weights kept, exactly.
        branches_from: the last round whose density is above it.
    """

    density: float
    branches_from: int


@dataclass(frozen=True)
class Chain:
    """The densities IMP visits: a common chain of rounds, and a leaf for every target.

    Args:
        rate: fraction of the remaining weights pruned in a round, in (0, 1).
        densities: `densities[n]` after n rounds, (1 - rate)^n; `densities[0]` is 1, the dense network.
        leaves: one for each target, from dense to sparse.
    """

    rate: float
    densities: tuple[float, ...]
    leaves: tuple[ChainLeaf, ...]


@dataclass(frozen=True)
class Round:
    """One round of pruning and retraining.

    Args:
        number: rounds of the chain up to and with this one; for a leaf, one more than the round it branches from.
        density: fraction of weights kept after it.
        is_leaf: whether it ends at a target, or the chain goes on from it.
    """

    number: int
    density: float
    is_leaf: bool


Retrain = Callable[[StateDict, Mask, Round], StateDict]


def chain(targets: Iterable[float], rate: float = 0.2) -> Chain:
    """Plan IMP for several target densities.

    The rounds are (1 - rate)^n whatever the targets. A target is a leaf: from the last round above it, prune to the
    exact count and retrain once, while the chain goes on from the unbranched round. The chain ends at the last round
    that a leaf needs.

    Args:
        targets: densities, fractions kept in (0, 1).
        rate: fraction of the remaining weights pruned in a round, in (0, 1).

    Returns:
        The chain, leaves sorted from dense to sparse, equal targets once.

    Raises:
        MaskError: when there is no target, or a number is out of range.

    >>> plan = chain([0.7, 0.55])
    >>> [round(density, 3) for density in plan.densities]
    [1.0, 0.8, 0.64]
    >>> plan.leaves
    (ChainLeaf(density=0.7, branches_from=1), ChainLeaf(density=0.55, branches_from=2))
    """
    check_rate(rate)
    if not isinstance(targets, Iterable) or isinstance(targets, str):
        raise MaskError(f"the target densities are a {type(targets).__name__}; give numbers in (0, 1), as [0.5, 0.2]")
    wanted = sorted(dict.fromkeys(targets), reverse=True)
    if not wanted:
        raise MaskError("iterative magnitude pruning needs at least one target density, got none")
    outside = [target for target in wanted if not 0 < target < 1]
    if outside:
        raise MaskError(
            f"target density {outside[0]} is not in (0, 1); give the fraction of weights to keep (1 - sparsity)"
        )
    if (rounds := math.log(wanted[-1]) / math.log1p(-rate)) > MOST_ROUNDS:
        raise MaskError(
            f"a pruning rate of {rate} takes {rounds:.3g} rounds to a density of {wanted[-1]:.3g}, but at most "
            f"{MOST_ROUNDS:,} are carried out; give a higher rate, as 0.2"
        )
    densities, leaves = [1.0], []
    for target in wanted:
        # (1 - rate)^n carries rounding: a target that is a round itself branches from the round before.
        while (next_density := (1 - rate) ** len(densities)) > target * (1 + 1e-9):
            densities.append(next_density)
        leaves.append(ChainLeaf(target, len(densities) - 1))
    return Chain(rate, tuple(densities), tuple(leaves))


def check_rate(rate: float) -> None:
    """Refuse a share to prune in a round that is none.

    Raises:
        MaskError: when it is not in (0, 1).
    """
    if not 0 < rate < 1:
        raise MaskError(
            f"pruning rate {rate} is not in (0, 1); give the fraction of weights to prune in a round, as 0.2"
        )


def check_style(style: str) -> None:
    """Refuse a style that is no key of `STYLES`.

    Raises:
        MaskError: with those that there are.
    """
    if style not in STYLES:
        raise MaskError(f"unknown style of iterative magnitude pruning '{style}'; choose from {', '.join(STYLES)}")


def prune_round(
    trained: Weights,
    density: float,
    *,
    names: Iterable[str] | None = None,
    within: Mask | None = None,
    style: StyleName = "finetune",
    rewound: Weights | None = None,
    scope: Scope = "global",
    pattern: str | None = None,
) -> SparseStart:
    """Prune once and return what the round is retrained from.

    Args:
        trained: weights at the end of the round before (of the dense network, at first), by name or as a module.
        density: fraction of the named weights kept after this round, in (0, 1].
        names: weights that are pruned, or one of them; needed where `trained` is no module, `prunable(trained)` else.
        within: mask of the round before; None for the dense network.
        style: what the round starts from, a key of `STYLES`.
        rewound: weights at the rewind point k; needed by "weight-rewind".
        scope: compare magnitudes over all layers or inside each.
        pattern: which weights may be kept together, as of `prune`. N:M keeps as many of every M as the density says, at
            least N, so that rounds come to it.

    Returns:
        Mask and masked weights, by the names of the model inside a wrapper. Buffers come from where the weights do.

    Raises:
        MaskError: as `prune_magnitude`, for an unknown style, or when the rewound weights are missing.
    """
    check_style(style)
    start = trained if STYLES[style].weights == "trained" else rewound
    if start is None:
        raise MaskError(f"style '{style}' needs the weights of the rewind point; give rewound=")
    mask = pruned_to(Budget(density, scope, pattern=pattern), trained, names=names, within=within)
    return SparseStart(mask.apply_to(start), mask)


def iterative_magnitude_pruning(
    trained: Weights,
    targets: float | Iterable[float],
    retrain: Retrain,
    *,
    names: Iterable[str] | None = None,
    rate: float = 0.2,
    style: StyleName = "finetune",
    rewound: Weights | None = None,
    scope: Scope = "global",
    pattern: str | None = None,
    progress: Progress = False,
) -> dict[float, SparseStart]:
    """Prune and retrain, round by round, to every target density.

    Args:
        trained: the trained dense network, or its weights by name.
        targets: densities, fractions kept in (0, 1), or one of them.
        retrain: (weights, mask, round) -> retrained weights, in which pruned weights are still 0.
        names: weights that are pruned, or one of them; by default `prunable(trained)`, where that is a module.
        rate: fraction of the remaining weights pruned in a round.
        style: a key of `STYLES`; `retrain` is to use the learning rates that its `schedule` says.
        rewound: weights at the rewind point k; needed by "weight-rewind".
        scope: compare magnitudes over all layers or inside each.
        pattern: which weights may be kept together, as of `prune`, in every round.
        progress: True for a bar, or a function of the rounds done and how many there are.

    Returns:
        Target density -> pruned and retrained network, from dense to sparse.

    Raises:
        MaskError: as `chain` and `prune_round`, or when `retrain` returns pruned weights that are not 0.
    """
    plan = chain([targets] if isinstance(targets, float | int) else targets, rate)
    for leaf in plan.leaves:
        check_density(pattern, leaf.density)
    names = tuple(named_weights(trained, names, None))

    dense = state_of(trained, "trained")
    network = SparseStart(dense, Mask.full(select(dense, names)))
    found: dict[float, SparseStart] = {}
    with shown(progress, "pruning", len(plan.densities) - 1 + len(plan.leaves)) as show:
        done = itertools.count(1)

        def advance(before: SparseStart, step: Round) -> SparseStart:
            start = prune_round(
                before.weights,
                step.density,
                names=names,
                within=before.mask,
                style=style,
                rewound=rewound,
                scope=scope,
                pattern=pattern,
            )
            pruned = SparseStart(retrain(start.weights, start.mask, step), start.mask)
            show(next(done))
            return pruned

        for number, density in enumerate(plan.densities):
            if number > 0:
                network = advance(network, Round(number, density, is_leaf=False))
            for leaf in plan.leaves:
                if leaf.branches_from == number:
                    found[leaf.density] = advance(network, Round(number + 1, leaf.density, is_leaf=True))
    return found
