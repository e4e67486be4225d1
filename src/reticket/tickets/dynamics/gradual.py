"""Gradual pruning: fewer and fewer weights are kept while a network trains."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from reticket.tickets.dynamics.registry import dynamics
from reticket.tickets.mask import Mask
from reticket.tickets.prune import prune_magnitude
from reticket.tickets.ranking import Scope


@dynamics("gradual")
def gradual(
    mask: Mask,
    weights: Mapping[str, Float[Tensor, "..."]],
    progress: float,
    density: float,
    initial: float,
    *,
    scope: Scope | None = None,
) -> Mask:
    """Pruned by magnitude more and more slowly, until the density is that of the sparsity; nothing comes back.

    d_t = d + (d_0 - d) (1 - t)^3 for t from 0 to 1, and round(d_t N) of N weights are kept, those of largest |w| among
    the kept ones; a mask that keeps no more than that stays as it is.

    Args:
        mask: as it is.
        weights: the masked weights by name.
        progress: t, share of the changing part of the training that is done, in (0, 1].
        density: d, fraction kept at the end.
        initial: d_0, fraction kept when the training began.
        scope: compare magnitudes over all layers ("global") or inside each, where no layer that keeps less already
            loses anything; None for what pruning does in the experiment, or else "global".

    Returns:
        The next mask, within this one.

    Zhu & Gupta 2017, arXiv 1710.01878, equation 1, from the first step on. Deviation: layers compete, as everywhere
    here; with scope "layer" each has the same density, as there.

    >>> mask = gradual.function(Mask.full({"w": torch.ones(8)}), {"w": torch.arange(8.0)}, 0.5, 0.25, 1.0)
    >>> mask["w"]
    tensor([False, False, False, False, False,  True,  True,  True])
    """
    wanted = density + (initial - density) * (1 - progress) ** 3
    rooms = [list(mask)] if scope in (None, "global") else [[name] for name in mask]
    found: dict[str, Tensor] = {}
    for names in rooms:
        before = Mask({name: mask[name] for name in names})
        among = {name: weights[name] for name in names}
        found |= prune_magnitude(among, min(wanted, before.density), names=names, within=before)
    return Mask({name: found[name] for name in mask})
