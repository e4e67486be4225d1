"""Wrong calls of pruning by a criterion: one sentence of what, where and what to do."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from reticket.errors import InputError, MaskError
from reticket.tickets import Movement, criterion, prune
from reticket.tickets.criteria import CRITERIA


class Single(nn.Linear):
    """A layer that takes float32 alone, as some kernels do."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return super().forward(input.float())


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3))


BATCHES = [(torch.randn(2, 4), torch.tensor([0, 1]))]
CALLS: dict[str, tuple[Callable[[], Any], str]] = {
    "unknown": (lambda: prune(net(), 0.5, "snipp"), "unknown criterion 'snipp', did you mean 'snip'?"),
    "missing": (lambda: prune(net(), 0.5, "snip"), "criterion 'snip' needs batches=; give them by keyword"),
    "option": (
        lambda: prune(net(), 0.5, "magnitude", batches=BATCHES),
        "criterion 'magnitude' has no option 'batches'; it has none",
    ),
    "slip": (
        lambda: prune(net(), 0.5, "snip", batch=BATCHES),
        "criterion 'snip' has no option 'batch', did you mean 'batches'?; it has batches, loss",
    ),
    "no batch": (lambda: prune(net(), 0.5, "snip", batches=[]), "batches holds no batch, expected at least one"),
    "state_dict": (
        lambda: prune(net().state_dict(), 0.5, "snip", names="0.weight", batches=BATCHES),
        "criterion 'snip' looks at the model itself, weights by name were given; give it",
    ),
    "computed": (
        lambda: prune(nn.Sequential(parametrizations.weight_norm(net()[0])), 0.5, "snip", batches=BATCHES),
        "'0.weight' is computed from other tensors, so the loss has no gradient by it; make its pruning or",
    ),
    "float64": (
        lambda: prune(Single(4, 3), 0.5, "synflow", example_inputs=torch.ones(1, 4)),
        "Single does not run in float64 on ones, which 'synflow' needs (mat1 and mat2 must have the same dtype",
    ),
    "movement": (
        lambda: prune(net(), 0.5, "movement", movement={}),
        "criterion 'movement' gives '0.weight' none, expected a score for each of its (3, 4) weights",
    ),
    "shape": (
        lambda: prune(net(), 0.5, "movement", movement={"0.weight": torch.ones(3)}),
        "criterion 'movement' gives '0.weight' one of shape (3,), expected a score for each of its (3, 4) weights",
    ),
    "not finite": (
        lambda: prune(net(), 0.5, "movement", movement={"0.weight": torch.full((3, 4), float("nan"))}),
        "criterion 'movement' gives '0.weight' 12 NaN or infinite scores, which have no rank",
    ),
    "detached": (
        lambda: prune(net(), 0.5, "snip", batches=BATCHES, loss=lambda model, batch: model(batch[0]).detach().sum()),
        "does not depend on the weights, so it has no gradient; compute it from what the model gives",
    ),
    "watched": (
        lambda: Movement(net(), "1.weight", torch.optim.SGD(net().parameters())),
        "Sequential has no weight '1.weight'; the names belong to another model",
    ),
    "parameters": (
        lambda: prune(net(), 0.5, lambda weights, power: weights),
        "has the parameters (weights, power); it gets model and weights where it names them, and options",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_wrong_calls(name: str) -> None:
    call, message = CALLS[name]
    with pytest.raises(InputError) as raised:
        call()
    assert message in str(raised.value)


def test_a_name_that_is_taken() -> None:
    with pytest.raises(MaskError, match="criterion 'snip' is registered already; choose another name"):
        criterion("snip")(lambda weights: weights)
    assert all(one.description for one in CRITERIA.values())
