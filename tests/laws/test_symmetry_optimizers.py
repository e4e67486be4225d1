"""Whatever an optimizer keeps for a parameter is moved rightly or refused; an equal shape is no proof of a layout."""

from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reticket.errors import AlignmentError
from reticket.rng import generator_for
from reticket.symmetry import Alignment, Symmetry, discover, load_into, random_alignment
from tests.models_for_symmetry import mlp

X = torch.randn(9, 8, generator=generator_for("x"), dtype=torch.float64)
TORCHS = ["Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Adadelta", "Adagrad", "ASGD", "RMSprop", "Rprop", "SGD", "Muon"]
TORCHS.append("Adafactor")  # refused
Keep = Callable[[Tensor, Tensor], dict[str, Any]]  # (parameter, gradient) -> state


@cache
def symmetry(hidden: int) -> Symmetry:
    return discover(mlp(8, hidden, 3).double(), X[:2], verify=False)


def pair(hidden: int = 8) -> tuple[nn.Module, nn.Module, Alignment]:
    torch.manual_seed(0)
    model, twin = mlp(8, hidden, 3).double(), mlp(8, hidden, 3).double()
    alignment = random_alignment(symmetry(hidden), generator_for("optimizers"))
    load_into(twin, alignment.apply(model.state_dict()))
    assert not alignment.permutations["0.weight"].is_identity
    return model, twin, alignment


def gradients(model: nn.Module) -> dict[str, Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(model(X).square().mean(), parameters), strict=True))


def state_of(model: nn.Module, keep: Keep, wanted: str = "0.weight") -> dict[str, Any]:
    """Return the state_dict of an optimizer that has kept something for one parameter."""
    optimizer = torch.optim.SGD(model.named_parameters(), lr=0.1)
    found = gradients(model)
    for name, parameter in model.named_parameters():
        if name == wanted:
            optimizer.state[parameter] = keep(parameter.detach(), found[name])
    return optimizer.state_dict()


ENTRIES: dict[str, Keep] = {
    "plain": lambda p, g: {"momentum_buffer": g.clone(), "step": torch.tensor(3.0), "count": 5, "note": None},
    "one number in a vector": lambda p, g: {"exp_avg": g, "step": torch.ones(1)},
    "second moment": lambda p, g: {"exp_avg": g, "exp_avg_sq": g * g, "max_exp_avg_sq": 2 * g * g},
}
NOT_SQUARE: dict[str, Keep] = {
    "list": lambda p, g: {"history": [g, p * g], "steps": [1, 2]},
    "tuple": lambda p, g: {"history": (g, None)},
    "dict": lambda p, g: {"slow": {"weights": p, "speed": {"mean": g}, "on": True}},
    "any name": lambda p, g: {"of_mine": g - p},
}
AXES: dict[str, Keep] = {
    "factor of the rows": lambda p, g: {"preconditioner": g @ g.T},
    "factor of the columns": lambda p, g: {"right": g.T @ g},
    "factors in a list": lambda p, g: {"exp_avg": g, "GG": [g @ g.T, g.T @ g]},
    "eigenbases": lambda p, g: {"exp_avg": g, "exp_avg_sq": g * g, "Q": [torch.linalg.qr(g @ g.T).Q]},
    "triangular factors": lambda p, g: {"Q": {"left": (g @ g.T).triu()}},
    "means of rows": lambda p, g: {"row": g.mean(1), "col": g.mean(0)},
    "kept rows": lambda p, g: {"row": g.square().mean(1, keepdim=True), "col": g.square().mean(0, keepdim=True)},
    "flat": lambda p, g: {"flat": g.flatten()},
    "turned": lambda p, g: {"of_mine": g.T.contiguous()},
}
OBJECTS: dict[str, Keep] = {
    "set": lambda p, g: {"seen": {1, 2}},
    "queue": lambda p, g: {"history": deque([g])},
    "module": lambda p, g: {"projector": nn.Linear(2, 2)},
    "array": lambda p, g: {"history": g.numpy()},
}


def assert_moved_rightly(model: nn.Module, twin: nn.Module, alignment: Alignment, keep: Keep) -> None:
    """Moving A's state gives what the twin, which computes the same with moved weights, would have kept."""
    ours, theirs = alignment.apply(state_of(model, keep))["state"], state_of(twin, keep)["state"]
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("keep", ENTRIES)
@pytest.mark.parametrize("hidden", [8, 6])
def test_state_kept_entry_by_entry_is_moved(keep: str, hidden: int) -> None:
    assert_moved_rightly(*pair(hidden), ENTRIES[keep])


@pytest.mark.parametrize("keep", NOT_SQUARE)
def test_nested_state_of_a_weight_that_is_not_square_is_moved(keep: str) -> None:
    assert_moved_rightly(*pair(6), NOT_SQUARE[keep])


@pytest.mark.parametrize("hidden", [8, 6])
@pytest.mark.parametrize("keep", AXES)
def test_factors_and_other_layouts_are_refused(keep: str, hidden: int) -> None:
    model, _, alignment = pair(hidden)
    with pytest.raises(AlignmentError, match=r"of '0\.weight' has shape .* so start that optimizer afresh"):
        alignment.apply(state_of(model, AXES[keep]))


@pytest.mark.parametrize("keep", NOT_SQUARE)
def test_a_square_weight_asks_for_names_that_are_known(keep: str) -> None:
    model, _, alignment = pair(8)
    with pytest.raises(AlignmentError, match="of the weight and of a factor of one axis alike, expected a name"):
        alignment.apply(state_of(model, NOT_SQUARE[keep]))


@pytest.mark.parametrize("keep", OBJECTS)
def test_objects_are_refused(keep: str) -> None:
    model, _, alignment = pair(6)
    with pytest.raises(AlignmentError, match=r"of '0\.weight' is a .*, expected numbers and tensors"):
        alignment.apply(state_of(model, OBJECTS[keep]))


def test_believing_an_equal_shape_would_be_wrong() -> None:
    model, twin, alignment = pair(8)
    factor, wanted = (gradients(net)["0.weight"] @ gradients(net)["0.weight"].T for net in (model, twin))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(alignment.tensor("0.weight", factor), wanted)
    index = alignment.permutations["0.weight"].index
    torch.testing.assert_close(factor[index][:, index], wanted)  # both axes of a factor of the rows move alike


def test_tensors_that_belong_to_no_parameter_are_refused() -> None:
    model, _, alignment = pair(6)
    state = state_of(model, ENTRIES["plain"])
    slow = {**state, "slow_state": {0: {"slow": torch.zeros(6, 8)}}}
    with pytest.raises(AlignmentError, match=r"'slow_state' holds a tensor of shape \(6, 8\) that belongs to no one"):
        alignment.apply(slow)
    state["param_groups"][0]["lr"] = torch.tensor(0.1)
    assert alignment.apply(state)["param_groups"] == state["param_groups"]
    state["param_groups"][0]["scales"] = [torch.ones(6)]
    with pytest.raises(AlignmentError, match="'param_groups' holds a tensor"):
        alignment.apply(state)


def search(parameters: Any) -> torch.optim.LBFGS:
    return torch.optim.LBFGS(parameters, lr=0.3, max_iter=4)


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model(X) - 1).square().mean()
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)  # pyright: ignore[reportCallIssue, reportArgumentType]


def test_flat_vectors_over_several_parameters_are_refused_and_over_one_vector_moved() -> None:
    model, _, alignment = pair(6)
    optimizer = search(model.named_parameters())
    descend(model, optimizer, 1)
    with pytest.raises(AlignmentError, match=r"of '0\.weight' has shape \(\d+,\), expected a scalar or \(6, 8\)"):
        alignment.apply(optimizer.state_dict())

    model, twin, alignment = pair(6)
    ours, theirs = (search([("0.bias", net.get_parameter("0.bias"))]) for net in (model, twin))
    descend(model, ours, 1)
    load_into(twin, alignment.apply(model.state_dict()))
    theirs.load_state_dict(alignment.apply(ours.state_dict()))
    for net, optimizer in ((model, ours), (twin, theirs)):
        descend(net, optimizer, 1)
    torch.testing.assert_close(dict(twin.state_dict()), dict(alignment.apply(model.state_dict())), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", TORCHS)
def test_torchs_optimizers_are_moved_also_for_square_weights_or_refused(name: str) -> None:
    model, twin, alignment = pair(8)
    make = getattr(torch.optim, name, None)
    if make is None:
        pytest.skip("not in this torch")
    options: dict[str, Any] = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
    parameters = [[(n, p) for n, p in net.named_parameters() if p.dim() == 2] for net in (model, twin)]
    ours, theirs = (make(named, lr=1e-3, **options) for named in parameters)
    descend(model, ours, 3)
    load_into(twin, alignment.apply(model.state_dict()))
    if name == "Adafactor":
        with pytest.raises(AlignmentError, match="start that optimizer afresh"):
            alignment.apply(ours.state_dict())
        return
    theirs.load_state_dict(alignment.apply(ours.state_dict()))
    for net, optimizer in ((model, ours), (twin, theirs)):
        descend(net, optimizer, 3)
    tolerance = 1e-3 if name == "Muon" else 1e-9  # Muon computes in bfloat16
    moved = alignment.apply(model.state_dict())
    torch.testing.assert_close(dict(twin.state_dict()), dict(moved), rtol=tolerance, atol=tolerance)
