"""Matching a network to a wider one of the same architecture: every unit of A gets several units of B."""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float64, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from reticket.errors import AlignmentError
from reticket.forward import evaluating, inputs_for
from reticket.matching.accumulated import MomentAccumulator, scaling_in
from reticket.matching.assignment import correlation
from reticket.matching.fit import check_fits
from reticket.nested import checked_batches, examples_in
from reticket.symmetry import Symmetry
from reticket.symmetry.widening import Widening, check_wider
from reticket.weights import module_of
from reticket.wrapped import inside

NEVER = -4.0  # below every sum of two correlations


def match_wider(
    model_a: nn.Module,
    model_b: nn.Module,
    narrow: Symmetry,
    wide: Symmetry,
    batches: Iterable[object],
    *,
    to_inputs: Callable[[object], object] | None = None,
) -> Widening:
    """Match every unit of a wider B to a unit of A by what both respond to, so that each unit of A gets its share.

    With n units of A and m of B in a group, q = floor(m / n) and r = m mod n, the sources s maximise
    `sum_j R[s(j), j]` among all that take r units of A q + 1 times and the others q times, R being the correlation of
    activations averaged over the sites of the group: a linear assignment problem with A's units repeated. For m = n it
    is that of `match(..., method="activation", stop="never")`.

    Args:
        model_a: the narrow model, trained.
        model_b: the wide model.
        narrow: symmetry of A, as `discover` finds it.
        wide: symmetry of B, whose groups have the names of A's.
        batches: inputs, or what `to_inputs` makes inputs of; read once, to the end.
        to_inputs: makes of a batch what the models take.

    Returns:
        The widening, with the correlation of what was matched.

    Raises:
        AlignmentError: when the two models do not correspond, a group is seen nowhere on its own, or there are no
            batches.

    >>> import reticket as rt
    >>> a, b = (rt.build_model("mlp", generator=n, in_features=4, hidden=(3 * n,), classes=2) for n in (1, 2))
    >>> x = torch.randn(64, 4)
    >>> match_wider(a, b, rt.discover(a, x), rt.discover(b, x), [x])
    Widening(layers.0.weight 3 -> 6)
    """
    check_wider(narrow, wide)
    of_a, of_b = inside(module_of(model_a)), inside(module_of(model_b))
    check_fits(of_a, narrow, "model_a")
    check_fits(of_b, wide, "model_b")
    seen_a, seen_b = MomentAccumulator(narrow), MomentAccumulator(wide)
    if unseen := [name for name in wide.groups if name not in seen_b.direct or name not in seen_a.direct]:
        raise AlignmentError(
            f"group '{unseen[0]}' is seen on its own in no activation, so it cannot be matched to a wider one"
        )
    for one in (seen_a, seen_b):
        one.norms = scaling_in([of_a, of_b])
    with evaluating(of_a, of_b):
        for batch in checked_batches(batches, "matching"):
            inputs = inputs_for(wide, batch, to_inputs)
            seen_b.compare(0, seen_a.hold(of_a, inputs), of_b, inputs)
            seen_b.batches += 1
            seen_b.examples += examples_in(inputs)
    if not seen_b.batches:
        raise AlignmentError("matching got no batches: give at least one batch of inputs, or a fresh iterator")
    scores = {name: seen_b.scores(name, correlation) for name in wide.groups}
    sources = {name: assign_repeated(one) for name, one in scores.items()}
    means = {name: float(one.gather(0, sources[name][None]).mean()) for name, one in scores.items()}
    return Widening(narrow, wide, sources, means)


def assign_repeated(scores: Float64[Tensor, "n m"]) -> Int64[Tensor, " m"]:
    """Return for every column a row so that the sum of scores is largest and each row is taken as often as others.

    Every row stands floor(m / n) times in a square problem, and one time more; for as many of the last as are not
    needed there are columns that only these may fill.

    Args:
        scores: in [-1, 1], of n rows and m >= n columns.

    >>> scores = torch.tensor([[0.9, 0.8, 0.7, 0.1], [0.3, 0.2, 0.5, 0.0]], dtype=torch.float64)
    >>> assign_repeated(scores)
    tensor([0, 0, 1, 1])
    """
    n, m = scores.shape
    often, more = divmod(m, n)
    rows = torch.arange(n, device="cpu").repeat(often + (more > 0))
    cost = scores.cpu()[rows].T
    if more:
        spare = torch.full((n - more, len(rows)), NEVER, dtype=cost.dtype, device="cpu")
        spare[:, often * n :] = 0
        cost = torch.cat([cost, spare])
    _, chosen = linear_sum_assignment(cost.numpy(), maximize=True)
    return rows[torch.as_tensor(chosen, device="cpu")[:m]]
