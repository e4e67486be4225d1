"""Which weights are kept by their scores: exact counts, over all layers or inside each, with a least for a layer."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reticket.errors import MaskError
from reticket.lookup import nearest
from reticket.tickets.counts import erk_quotas, kept_count, raised, refuse_empty, share_out
from reticket.tickets.mask import Mask
from reticket.tickets.patterns import Blocks, ConstantFanIn, NOfM, outputs_first, pattern_of

Scope = Literal["global", "layer", "erk"]
"""Where scores are compared: over all layers, or inside each, at one density for all or those of `erk_counts`."""
SCOPES = get_args(Scope)


def check_scope(scope: object) -> None:
    """Raise unless a scope is one.

    Raises:
        MaskError: with the nearest name.
    """
    if scope not in SCOPES:
        raise MaskError(
            f"unknown scope {scope!r}{nearest(str(scope).lower(), SCOPES)}; choose from {', '.join(SCOPES)}"
        )


@dataclass(frozen=True)
class Budget:
    """How many weights are kept, and where scores compete for them.

    Args:
        density: fraction kept of all weights, in (0, 1].
        scope: compare over all layers or inside each.
        max_sparsity: fraction of a layer that may be pruned at most, in [0, 1), for all layers or by patterns of their
            names, of which the first that fits counts.
        pattern: that every weight's mask is to have, as of `pattern_of`; None for any.

    Raises:
        MaskError: when a number is out of range, the scope or the pattern is unknown, or both say how much of a layer
            is kept.
    """

    density: float
    scope: Scope = "global"
    max_sparsity: float | Mapping[str, float] | None = None
    pattern: str | None = None

    def __post_init__(self) -> None:
        check_scope(self.scope)
        wanted = None if self.pattern is None else pattern_of(self.pattern)
        if isinstance(wanted, NOfM | ConstantFanIn) and self.max_sparsity is not None:
            raise MaskError(f"pattern {wanted} and max_sparsity both say what a layer keeps; leave one out")
        if isinstance(wanted, NOfM) and self.density < wanted.density - 1e-6:
            raise MaskError(
                f"pattern {wanted} keeps {wanted.density:g} of the weights and no fewer, but density {self.density:g} "
                "was asked for; make them agree"
            )
        for most in self._limits().values():
            if not 0 <= most < 1:
                raise MaskError(f"max_sparsity {most} is not in [0, 1); give the fraction of a layer to prune at most")

    def keep(self, scores: Mapping[str, Tensor], within: Mask | None = None, transposed: Collection[str] = ()) -> Mask:
        """Return the mask of the weights of largest score; of equal ones the first, as `prune` says.

        Args:
            scores: name -> finite numbers in the shape of the weight, on the CPU.
            within: only what it keeps can be kept.
            transposed: names of weights that stand inputs first, which a pattern has to know.

        Raises:
            MaskError: when a layer or all would keep nothing, or `within`, `max_sparsity` or the pattern leave no room.
        """
        if self.pattern is None:
            return self._free(scores, within)
        wanted = pattern_of(self.pattern)
        if isinstance(wanted, NOfM):
            wanted = wanted.on_the_way(self.density)

        def laid(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: outputs_first(tensor, name in transposed) for name, tensor in tensors.items()}

        of_outputs, allowed = laid(scores), None if within is None else Mask(laid(within))
        for name, score in of_outputs.items():
            wanted.check(name, tuple(score.shape))
        kept = self._patterned(wanted, of_outputs, allowed)
        if within is not None and (odd := [name for name, flags in kept.items() if not wanted.follows(flags)]):
            raise MaskError(
                f"`within` keeps too little of '{odd[0]}' for pattern {wanted}; prune it by the same pattern from the "
                "beginning"
            )
        return Mask(laid(kept))

    def _patterned(
        self, wanted: NOfM | Blocks | ConstantFanIn, scores: Mapping[str, Tensor], within: Mask | None
    ) -> dict[str, Tensor]:
        """Return what is kept of weights that stand outputs first."""
        if isinstance(wanted, Blocks):  # a block is one weight, the sum of its own
            whole = (
                None
                if within is None
                else Mask({n: wanted.summed(k.float()) == wanted.size for n, k in within.items()})
            )
            blocks = replace(self, pattern=None)._free({n: wanted.summed(score) for n, score in scores.items()}, whole)
            return {name: wanted.whole(flags) for name, flags in blocks.items()}
        allowed = scores if within is None else {n: s.masked_fill(~within[n], -math.inf) for n, s in scores.items()}
        if isinstance(wanted, NOfM):
            return {name: wanted.largest(score) for name, score in allowed.items()}
        counts = {name: int(flags.sum()) for name, flags in self._free(scores, within).items()}
        return {name: wanted.largest(score, counts[name]) for name, score in allowed.items()}

    def _free(self, scores: Mapping[str, Tensor], within: Mask | None) -> Mask:
        """Return the mask of the weights of largest score, in whatever pattern they stand."""
        flat = {name: score.reshape(-1) for name, score in scores.items()}
        if within is not None:
            flat = {n: score.masked_fill(~within[n].reshape(-1), -math.inf) for n, score in flat.items()}
        sizes = {name: score.numel() for name, score in flat.items()}
        total, least = self._total(sizes, within), self._least(sizes, within)
        if sum(least.values()) > total:
            raise MaskError(
                f"max_sparsity keeps at least {sum(least.values())} weights, but density {self.density} only {total}; "
                f"allow more sparsity, or a density of {sum(least.values()) / sum(sizes.values()):.3g}"
            )
        if self.scope == "global":
            flags = _over_all(flat, total, least)
        else:
            counts = self._counts(scores, total, least, within)
            flags = {name: keep_largest(score, counts[name]) for name, score in flat.items()}
        return Mask({name: flags[name].reshape(score.shape) for name, score in scores.items()})

    def _total(self, sizes: Mapping[str, int], within: Mask | None) -> int:
        total = kept_count(self.density, sum(sizes.values()))
        if total == 0:
            refuse_empty({"all layers": 0}, {"all layers": sum(sizes.values())}, self.density)
        if within is not None and total > within.kept:
            raise MaskError(
                f"density {self.density} keeps {total} weights, but `within` only has {within.kept}; prune further"
            )
        return total

    def _limits(self) -> Mapping[str, float]:
        if self.max_sparsity is None:
            return {}
        return self.max_sparsity if isinstance(self.max_sparsity, Mapping) else {"*": self.max_sparsity}

    def _least(self, sizes: Mapping[str, int], within: Mask | None) -> dict[str, int]:
        """Return how many weights layers keep at least; those of which nothing is said are not in it."""
        found: dict[str, int] = {}
        limits = self._limits()
        for pattern in limits:
            if not any(fnmatchcase(name, pattern) for name in sizes):
                raise MaskError(
                    f"max_sparsity '{pattern}' fits none of the {len(sizes)} weights{nearest(pattern, sizes)}"
                )
        for name, size in sizes.items():
            most = next((most for pattern, most in limits.items() if fnmatchcase(name, pattern)), None)
            if most is not None:
                found[name] = math.ceil(round((1 - most) * size, 6))
                if within is not None and found[name] > (there := int(within[name].sum())):
                    raise MaskError(
                        f"max_sparsity {most} keeps {found[name]} weights in '{name}', but `within` only has {there}"
                    )
        return found

    def _counts(
        self, scores: Mapping[str, Tensor], total: int, least: Mapping[str, int], within: Mask | None
    ) -> dict[str, int]:
        """Return how many weights each layer keeps; they add up to the total."""
        sizes = {name: score.numel() for name, score in scores.items()}
        quotas = {name: self.density * size for name, size in sizes.items()}
        if self.scope == "erk":
            quotas = erk_quotas({name: tuple(score.shape) for name, score in scores.items()}, total)
        counts = share_out(raised(quotas, least, total) if least else quotas, total, sizes)
        refuse_empty(counts, sizes, self.density)
        for name, count in counts.items():
            if within is not None and count > int(within[name].sum()):
                raise MaskError(
                    f"density {self.density} keeps {count} weights in '{name}', but `within` only has "
                    f"{int(within[name].sum())} there; prune further, or with scope='global' as before"
                )
        return counts


def keep_largest(scores: Float[Tensor, " n"], kept: int) -> Bool[Tensor, " n"]:
    """Return True for exactly `kept` of the largest entries; of equal ones the first are kept.

    Args:
        scores: numbers, none of them NaN.
        kept: how many, in [0, n].
    """
    n = scores.numel()
    if kept in (0, n):
        return torch.full((n,), kept == n, device="cpu")
    values = scores.numpy()
    threshold = np.partition(values, n - kept)[n - kept]  # five times as fast as torch.kthvalue on 25 million
    keep = values > threshold
    ties = np.flatnonzero(values == threshold)
    keep[ties[: kept - int(keep.sum())]] = True
    return torch.from_numpy(keep)


def _over_all(flat: Mapping[str, Tensor], total: int, least: Mapping[str, int]) -> dict[str, Tensor]:
    """Compare over all layers; the least that a layer keeps, its own largest, stands before all others."""
    ranked = {
        name: score.masked_fill(keep_largest(score, least[name]), math.inf) if name in least else score
        for name, score in flat.items()
    }
    flags = keep_largest(torch.cat(list(ranked.values())), total)
    return dict(zip(flat, flags.split([score.numel() for score in flat.values()]), strict=True))
