"""What a user reads after a slip with symmetries and alignments."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from reticket.errors import AlignmentError, ModelError, SymmetryError
from reticket.rng import generator_for
from reticket.symmetry import (
    Alignment,
    Quality,
    Symmetry,
    discover,
    identity_alignment,
    load_into,
    random_alignment,
)
from reticket.types import Permutation
from tests.models_for_symmetry import features, mlp, solved


@pytest.fixture(scope="module")
def symmetry() -> Symmetry:
    return solved("residual-batchnorm")[1]


def test_explain_names_groups_reasons_lines_and_remedies(symmetry: Symmetry) -> None:
    text = symmetry.explain("fc.weight")
    assert "axis 0: fixed (4)\n    pinned: an axis of the model's output, output0:1\n    to free it: if whoever" in text
    assert "pass free=['output0:1'] to discover" in text
    assert "axis 1: moves by group stem.weight[5]" in text
    text = symmetry.explain("conv1.weight")
    assert (
        "axes 2, 3: fixed (3, 3)\n    pinned: a window slides along this axis (aten.conv2d.default in conv1 at" in text
    )
    assert "to free it: nothing does: in another order" in text
    assert "with bn1.weight[0], bn1.bias[0], bn1.running_mean[0], bn1.running_var[0], conv2.weight[1]" in text
    text = symmetry.explain("stem.weight")
    assert "pinned: moves with a pinned axis: the channels a convolution reads (aten.conv2d.default in stem at" in text
    assert "free=['inputN:AXIS']" in text
    assert "a scalar" in symmetry.explain("bn1.num_batches_tracked")
    with pytest.raises(
        SymmetryError, match=r"no tensor or group 'fc9\.weight' in .*, did you mean 'fc\.weight'\?; it has"
    ):
        symmetry.explain("fc9.weight")


def test_explain_tells_a_cut_from_a_pin() -> None:
    text = solved("conv-flatten-linear")[1].explain("fc.weight")
    assert "axis 1: moves by conv.weight[6] x 9\n    in part pinned: moves with a pinned axis: contracted axes" in text
    text = solved("grouped")[1].explain("mid.weight")
    assert "    cut: outputs are made group by group (aten.conv2d.default in mid at" in text
    assert "    mid.weight:1: with mid.bias[0] part 1, last.weight[1] part 1" in text


def test_explain_knows_groups_by_name() -> None:
    text = solved("grouped")[1].explain("mid.weight:1")
    assert text.startswith("group mid.weight:1: 4 units")
    assert "stands in mid.weight[0] part 1, mid.bias[0] part 1, last.weight[1] part 1" in text
    assert "is seen at mid" in text


@pytest.mark.parametrize(
    ("case", "tensor", "reason", "remedy"),
    [
        ("positions", "table", "not read for these inputs", "give discover an example that reads all of it"),
        (
            "no-rule",
            "fc1.weight",
            "no rule for aten.special_hermite_polynomial_h.n_scalar",
            "write a rule for the operator",
        ),
        ("tied", "embed.weight", "rows of an embedding are addressed by their ids", "nothing does"),
    ],
)
def test_every_kind_of_reason_says_what_frees_the_axis(case: str, tensor: str, reason: str, remedy: str) -> None:
    text = solved(case)[1].explain(tensor)
    assert f"pinned: {reason}" in text
    assert f"to free it: {remedy}" in text


def test_an_alignment_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"\x80\x04nothing")
    with pytest.raises(AlignmentError, match=r"the alignment '.*' cannot be read"):
        Alignment.load(tmp_path / "a.safetensors")


def test_wrong_tensors_are_refused(symmetry: Symmetry) -> None:
    alignment = random_alignment(symmetry, generator_for("messages"))
    with pytest.raises(AlignmentError, match=r"'layer9\.weight' is no tensor of this symmetry, which has stem\.weight"):
        alignment.apply({"layer9.weight": torch.zeros(3, 3)})
    with pytest.raises(AlignmentError, match=r"'fc\.weight' has shape \(4, 6\), expected \(4, 5\)"):
        alignment.apply({"fc.weight": torch.zeros(4, 6)})
    with pytest.raises(AlignmentError, match="cannot apply an alignment to list: expected a module, a state_dict, a"):
        alignment.apply([torch.zeros(3)])


def test_permutations_must_fit_the_symmetry(symmetry: Symmetry) -> None:
    right = dict(identity_alignment(symmetry).permutations)
    with pytest.raises(AlignmentError, match=r"1 missing \['conv1.weight'\], 0 unknown"):
        Alignment(symmetry, {"stem.weight": right["stem.weight"]})
    with pytest.raises(AlignmentError, match=r"'conv1\.weight' needs an index of shape \(7,\), got \(3,\)"):
        Alignment(symmetry, {**right, "conv1.weight": Permutation.identity(3)})
    with pytest.raises(AlignmentError, match="cannot combine alignments of different symmetries"):
        identity_alignment(solved("concat")[1]).after(identity_alignment(symmetry))


def test_quality_travels_with_the_file(symmetry: Symmetry, tmp_path: Path) -> None:
    plain = random_alignment(symmetry, generator_for("quality"))
    alignment = Alignment(symmetry, plain.permutations, {"stem.weight": Quality(0.75, 0.25)})
    alignment.save(tmp_path / "a.safetensors")
    assert dict(Alignment.load(tmp_path / "a.safetensors").quality) == {"stem.weight": Quality(0.75, 0.25)}


def test_optimizers_without_names_or_with_odd_state() -> None:
    model = mlp(6, 8, 4)
    alignment = random_alignment(discover(model, features(), verify=False), generator_for("optimizer"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(features()).sum().backward()
    optimizer.step()
    with pytest.raises(AlignmentError, match="does not name its parameters: build the optimizer from"):
        alignment.apply(optimizer.state_dict())
    with pytest.raises(AlignmentError, match="names= has 1 names for 4 parameters"):
        alignment.apply(optimizer.state_dict(), names=["0.weight"])
    names = [name for name, _ in model.named_parameters()]
    moved = alignment.apply(optimizer.state_dict(), names=names)
    index = alignment.permutations["0.weight"].index
    expected = optimizer.state_dict()["state"][0]["momentum_buffer"][index]
    torch.testing.assert_close(moved["state"][0]["momentum_buffer"], expected)
    state = optimizer.state_dict()
    state["state"][0]["row_means"] = torch.zeros(8)
    with pytest.raises(
        AlignmentError, match=r"'row_means' of '0\.weight' has shape \(8,\), expected a scalar or \(8, 6\)"
    ):
        alignment.apply(state, names=names)


class Rows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x[x[:, 0] > 0])


def test_models_that_cannot_be_traced_or_run() -> None:
    with pytest.raises(
        ModelError,
        match=r"torch\.export cannot trace Rows in eval mode: the shape of aten.index.Tensor at test_.*remove control",
    ):
        discover(Rows(), features())
    with pytest.raises(ModelError, match="Sequential does not run on the example inputs: RuntimeError"):
        discover(mlp(6, 8, 4), torch.zeros(2, 5))


class Cache:
    """Something that torch.export cannot take apart."""


class Caching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Cache]:
        return self.fc(x), Cache()


def test_an_output_that_is_no_tensor() -> None:
    with pytest.raises(ModelError, match=r"its output holds a Cache, .*; have it return tensors.*use_cache = False"):
        discover(Caching(), features())


def test_names_of_fixed_and_free_axes() -> None:
    with pytest.raises(SymmetryError, match=r"fixed='conv\.weight' matches no tensor or axis of the model"):
        discover(mlp(6, 8, 4), features(), fixed=["conv.weight"])
    with pytest.raises(SymmetryError, match="free='input1:0' is no axis of a tensor input or output"):
        discover(mlp(6, 8, 4), features(), free=["input1:0"])


def test_loading_is_all_or_nothing() -> None:
    model, other = mlp(6, 8, 4), mlp(6, 9, 4)
    before = {name: w.clone() for name, w in model.state_dict().items()}
    with pytest.raises(
        AlignmentError, match=r"cannot load '0\.weight': it has shape \(9, 6\), the model's is \(8, 6\)"
    ):
        load_into(model, other.state_dict())
    with pytest.raises(AlignmentError, match=r"1 tensors missing \['2\.bias'\], 0 unknown"):
        load_into(model, {name: w for name, w in before.items() if name != "2.bias"})
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
