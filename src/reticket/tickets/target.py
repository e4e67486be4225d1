"""What pruning is to reach, as one value: how many weights are kept, of which, compared where, in which pattern."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from reticket.tickets.counts import kept_count
from reticket.tickets.mask import Mask
from reticket.tickets.prune import prune
from reticket.tickets.ranking import Budget, Scope
from reticket.types import StateDict


@dataclass(frozen=True)
class Target:
    """The mask that an experiment's pruning asks for, whichever network and criterion it is found by.

    Args:
        density: fraction of the named weights that is kept, in (0, 1].
        names: weights that are pruned.
        scope: compare scores over all layers or inside each.
        pattern: which weights may be kept together, as of `prune`; None for any.

    Raises:
        MaskError: when the density is out of range, or the scope or the pattern is unknown.

    >>> import torch
    >>> Target(0.25, ("w",)).mask_of({"w": torch.tensor([0.1, -3.0, 2.0, 0.0]), "b": torch.ones(4)})["w"]
    tensor([False,  True, False, False])
    """

    density: float
    names: tuple[str, ...]
    scope: Scope = "global"
    pattern: str | None = None

    def __post_init__(self) -> None:
        kept_count(self.density, 1)  # refuses what is out of range
        Budget(self.density, self.scope, pattern=self.pattern)

    def mask_of(
        self,
        network: nn.Module | StateDict,
        criterion: str | Callable[..., Mapping[str, Tensor]] = "magnitude",
        **options: Any,
    ) -> Mask:
        """Return the mask of the weights of a network that score highest, as `prune` does.

        Args:
            network: a module, or weights by name where the criterion looks at nothing else.
            criterion: by name, or a function of one's own.
            **options: of the criterion.

        Raises:
            MaskError: as `prune`.
        """
        return prune(
            network, self.density, criterion, names=self.names, scope=self.scope, pattern=self.pattern, **options
        )
