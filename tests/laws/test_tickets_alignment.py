"""A real alignment moves masks and signed tickets like the weights they are indexed like."""

from functools import cache

import pytest
import torch
from torch import Tensor, nn

from reticket.symmetry import Alignment, discover, random_alignment
from reticket.tickets import METHODS, MethodInputs, Ticket, prune_magnitude


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 5, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5 * 9, 8),
        nn.ReLU(),
        nn.Linear(8, 3),
    )


@cache
def an_alignment() -> Alignment:
    return random_alignment(discover(cnn(), torch.randn(2, 3, 9, 9)), torch.Generator().manual_seed(0))


def weights_of_seed(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {name: tensor.detach().clone() for name, tensor in cnn().state_dict().items()}


@pytest.mark.parametrize("signed", [False, True])
def test_pruning_commutes_with_moving(signed: bool) -> None:
    model = cnn()
    alignment = an_alignment()
    state = weights_of_seed(1)
    mask = prune_magnitude(model, 0.3)
    moved = alignment.apply(mask)
    assert moved != mask
    assert moved.kept == mask.kept
    ticket = Ticket.of(state, mask) if signed else Ticket(mask)
    assert alignment.apply(ticket).mask == moved
    assert alignment.inverse().apply(alignment.apply(ticket)) == ticket
    for name, tensor in moved.apply_to(alignment.apply(state)).items():
        torch.testing.assert_close(tensor, alignment.apply(mask.apply_to(state))[name], rtol=0, atol=0)
    if signed:
        assert alignment.apply(ticket) == Ticket.of(alignment.apply(state), moved)


@pytest.mark.parametrize("name", ["permuted", "signed"])
def test_both_frames_compute_the_same_function(name: str) -> None:
    model, x = cnn(), torch.randn(4, 3, 9, 9)
    alignment = an_alignment()
    mask = prune_magnitude(model, 0.3)
    outputs: list[Tensor] = []
    for frame in ("init", "mask"):
        ticket = Ticket.of(weights_of_seed(1), mask)
        start = METHODS[name](
            MethodInputs(ticket=ticket, rewound_b=weights_of_seed(2), alignment=alignment, frame=frame)
        )
        model.load_state_dict(start.weights)
        outputs.append(model.double()(x.double()).detach())
        model.float()
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-9, atol=1e-9)
