"""Two frames, one problem: moving the mask to B, or B's initialisation to the mask, trains the same function."""

import pytest
import torch
from torch import Tensor

from reticket.data import load_dataset
from reticket.models import build_model
from reticket.rng import generator_for
from reticket.symmetry import Alignment, discover, load_into, random_alignment
from reticket.tickets import MethodInputs, SparseStart, Ticket, get_method, prune_magnitude
from reticket.training import Recipe, train

SIZES = {"in_features": 64, "hidden": (16, 12), "classes": 10}


def trained_outputs(start: SparseStart, x: Tensor) -> Tensor:
    model = build_model("mlp", **SIZES).double()
    load_into(model, start.weights)
    data = load_dataset("digits", train_size=400)
    recipe = Recipe(epochs=20, batch_size=40, lr=0.1, weight_decay=1e-3)
    load_into(model, train(model, data, recipe, rng_label=("B", 0), mask=start.mask).weights)
    with torch.no_grad():
        return model(x)


@pytest.fixture(scope="module")
def parts() -> tuple[Ticket, dict[str, Tensor], Alignment, Tensor]:
    a, b = (build_model("mlp", generator=generator_for(name), **SIZES).double() for name in "AB")
    x = torch.randn(50, 64, generator=generator_for("x"), dtype=torch.float64)
    alignment = random_alignment(discover(a, x[:2]), generator_for("pi"))
    ticket = Ticket.of(a.state_dict(), prune_magnitude(a, density=0.3))
    return ticket, dict(b.state_dict()), alignment, x


@pytest.mark.parametrize("name", ["permuted", "signed"])
def test_both_frames_train_the_same_function(
    name: str, parts: tuple[Ticket, dict[str, Tensor], Alignment, Tensor]
) -> None:
    ticket, rewound_b, alignment, x = parts
    method = get_method(name)
    outputs = {}
    for frame in ("init", "mask"):
        start = method(MethodInputs(ticket=ticket, rewound_b=rewound_b, alignment=alignment, frame=frame))
        outputs[frame] = trained_outputs(start, x)
    torch.testing.assert_close(outputs["init"], outputs["mask"], rtol=1e-10, atol=1e-10)
    assert start.mask == ticket.mask, "in the mask's frame the mask stays as it is"


def test_another_permutation_trains_another_function(
    parts: tuple[Ticket, dict[str, Tensor], Alignment, Tensor],
) -> None:
    ticket, rewound_b, alignment, x = parts
    method = get_method("permuted")
    right = method(MethodInputs(ticket=ticket, rewound_b=rewound_b, alignment=alignment))
    wrong = method(MethodInputs(ticket=ticket, rewound_b=rewound_b, alignment=alignment.inverse(), frame="mask"))
    with pytest.raises(AssertionError, match="not close"):
        torch.testing.assert_close(trained_outputs(right, x), trained_outputs(wrong, x), rtol=1e-10, atol=1e-10)
