"""Matchers that look at nothing: what a matching is worth is seen beside them."""

from collections.abc import Sequence

from torch import nn

from reticket.matching.forest import drawn
from reticket.matching.registry import matcher
from reticket.rng import generator_for
from reticket.symmetry import Alignment, Symmetry, identity_alignment


@matcher("identity")
def match_nothing(models_a: Sequence[nn.Module], models_b: Sequence[nn.Module], sym: Symmetry) -> Alignment:
    """Control: leave every unit where it is."""
    return identity_alignment(sym)


@matcher("random")
def match_at_random(
    models_a: Sequence[nn.Module], models_b: Sequence[nn.Module], sym: Symmetry, *, seed: int = 0
) -> Alignment:
    """Control: a permutation drawn at random, the same for the same seed whatever the networks."""
    return drawn(sym, generator_for("random matching", seed))
