"""Bad input to discovery and to alignments: one clear sentence each, and nothing is changed."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reticket.errors import AlignmentError, InputError, ModelError, SymmetryError, VerificationError
from reticket.rng import generator_for
from reticket.symmetry import Symmetry, discover, random_alignment, verify
from tests.models_for_symmetry import ResidualBatchNorm, features, image, mlp, solved


class NotExportable(nn.Module):
    """Goes through Python data that no trace can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm = nn.Linear(6, 6), nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.norm(self.fc(x)).detach().numpy()).sum(1)


class LongComplaint(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("this model wants two inputs\nand says so\nin three lines")


def state_of(model: nn.Module) -> Any:
    """All that a failed call must leave alone."""
    modes = [module.training for module in model.modules()]
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    grads = [parameter.grad for parameter in model.parameters()]
    return copy.deepcopy(dict(model.state_dict())), modes, hooks, grads, torch.get_rng_state()


Slip = tuple[Callable[[], nn.Module], Any, type[InputError], str]
SLIPS: dict[str, Slip] = {
    "features too many": (
        lambda: mlp(6, 8, 4),
        torch.zeros(2, 5),
        ModelError,
        "Sequential does not run on the example inputs: RuntimeError: mat1 and mat2 shapes cannot be multiplied",
    ),
    "inputs too many": (
        lambda: mlp(6, 8, 4),
        (features(), features()),
        ModelError,
        "Sequential does not run on the example inputs: TypeError: ",
    ),
    "unknown keyword": (
        lambda: ResidualBatchNorm(),
        {"image": image()},
        ModelError,
        "ResidualBatchNorm does not run on the example inputs: TypeError: .*got an unexpected keyword argument 'image'",
    ),
    "no tensor": (
        lambda: mlp(6, 8, 4),
        "features",
        ModelError,
        "pass what model.* takes, a tensor, a tuple of positional inputs or a dict of keyword inputs",
    ),
    "integers for floats": (
        lambda: mlp(6, 8, 4),
        torch.zeros(2, 6, dtype=torch.int64),
        ModelError,
        "Sequential does not run on the example inputs: RuntimeError",
    ),
    "long complaint": (LongComplaint, features(), ModelError, "ValueError: this model wants two inputs; pass what"),
    "not exportable": (NotExportable, features(), ModelError, "NotExportable"),
}


@pytest.mark.parametrize("name", SLIPS)
def test_bad_example_inputs_are_one_sentence_and_leave_the_model(name: str) -> None:
    build, example, error, message = SLIPS[name]
    model = build().train()
    before = state_of(model)
    with pytest.raises(error, match=message) as caught:
        discover(model, example)
    assert "\n" not in str(caught.value)
    torch.testing.assert_close(state_of(model), before, rtol=0, atol=0)


def test_an_alignment_of_another_model_changes_nothing() -> None:
    alignment = random_alignment(solved("residual-batchnorm")[1], generator_for("slips"))
    model = mlp(6, 8, 4)
    before = state_of(model)
    with pytest.raises(AlignmentError, match=r"'0\.weight' is no tensor of this symmetry, .*; is it another model's\?"):
        alignment.apply(model.state_dict())
    torch.testing.assert_close(state_of(model), before, rtol=0, atol=0)


def test_a_symmetry_of_another_model_is_not_proven() -> None:
    found = discover(mlp(6, 8, 4), features(), verify=False)
    with pytest.raises(AlignmentError, match=r"'0\.weight' has shape \(9, 6\), expected \(8, 6\) as in the symmetry"):
        verify(found, mlp(6, 9, 4), features())


def test_an_edited_file_that_claims_too_much_is_refused_by_the_proof() -> None:
    model, found = solved("residual-batchnorm")
    text = found.to_json()
    wrong = Symmetry.from_json(text.replace('"bn1.running_mean": ["conv1.weight"]', '"bn1.running_mean": [7]'))
    before = state_of(model)
    with pytest.raises(VerificationError, match=r"permuting conv1\.weight changes the function of ResidualBatchNorm"):
        verify(wrong, model, image())
    torch.testing.assert_close(state_of(model), before, rtol=0, atol=0)


def test_names_that_stand_for_nothing() -> None:
    with pytest.raises(SymmetryError, match=r"fixed='0\.weight:2' matches no tensor or axis"):
        discover(mlp(6, 8, 4), features(), fixed=["0.weight:2"])
    with pytest.raises(SymmetryError, match="free='output0:7' is no axis"):
        discover(mlp(6, 8, 4), features(), free=["output0:7"])
