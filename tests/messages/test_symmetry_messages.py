"""What a user reads after a slip with symmetries and alignments."""

import json
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


def test_explain_names_groups_reasons_and_lines(symmetry: Symmetry) -> None:
    text = symmetry.explain("fc.weight")
    assert "axis 0: fixed (4); an axis of the model's output; free it with free=['output0:AXIS']" in text
    assert "axis 1: moves by group stem.weight[5]" in text
    text = symmetry.explain("conv1.weight")
    assert "a window slides along this axis (aten.conv2d.default in conv1 at" in text
    assert "with bn1.weight[0], bn1.bias[0], bn1.running_mean[0], bn1.running_var[0], conv2.weight[1]" in text
    assert "a scalar" in symmetry.explain("bn1.num_batches_tracked")
    with pytest.raises(SymmetryError, match=r"no tensor 'fc9\.weight' in this symmetry; it has stem\.weight"):
        symmetry.explain("fc9.weight")


def test_explain_says_where_a_flattened_axis_is_cut() -> None:
    text = solved("conv-flatten-linear")[1].explain("fc.weight")
    assert "axis 1: moves by conv.weight[6] x 9" in text
    assert "not read for these inputs" in solved("positions")[1].explain("table")


def test_json_round_trip_is_exact_and_one_line_a_tensor(symmetry: Symmetry, tmp_path: Path) -> None:
    for name in ("residual-batchnorm", "concat", "grouped", "pad-shortcut"):
        original = solved(name)[1]
        original.save(tmp_path / "s.json")
        loaded = Symmetry.load(tmp_path / "s.json")
        assert loaded == original
        assert loaded.to_json() == original.to_json()
        assert dict(loaded.groups) == dict(original.groups)
    assert '    "stem.weight": ["stem.weight", 3, 1, 1],' in symmetry.to_json().splitlines()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format="other"), "is not a symmetry"),
        (lambda d: d.update(version=99), "format 99 is not readable here, expected version 1"),
        (lambda d: d.pop("layouts"), "is damaged: KeyError 'layouts'"),
        (lambda d: d["layouts"].update({"fc.bias": ["nobody"]}), "is damaged: KeyError 'nobody'"),
        (lambda d: d["layouts"].update({"fc.bias": [{"power": [2]}]}), "is damaged: ValueError .* is no term"),
        (lambda d: d["layouts"].update({"fc.bias": [4, 4]}), "'fc.bias' has 2 axes and 1 reasons"),
    ],
)
def test_damaged_files_are_refused(symmetry: Symmetry, change, message: str) -> None:
    data = json.loads(symmetry.to_json())
    change(data)
    with pytest.raises(SymmetryError, match=message):
        Symmetry.from_json(json.dumps(data))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(SymmetryError, match="cannot read the symmetry"):
        Symmetry.load(tmp_path / "none.json")
    with pytest.raises(SymmetryError, match="the symmetry is not JSON"):
        Symmetry.from_json("{")
    (tmp_path / "a.safetensors").write_bytes(b"\x80\x04nothing")
    with pytest.raises(AlignmentError, match="cannot read the alignment"):
        Alignment.load(tmp_path / "a.safetensors")


def test_wrong_tensors_are_refused(symmetry: Symmetry) -> None:
    alignment = random_alignment(symmetry, generator_for("messages"))
    with pytest.raises(AlignmentError, match=r"'layer9\.weight' is no tensor of this symmetry, which has stem\.weight"):
        alignment.apply({"layer9.weight": torch.zeros(3, 3)})
    with pytest.raises(AlignmentError, match=r"'fc\.weight' has shape \(4, 6\), expected \(4, 5\)"):
        alignment.apply({"fc.weight": torch.zeros(4, 6)})
    with pytest.raises(AlignmentError, match="cannot apply an alignment to list: expected a state_dict, a Mask"):
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


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) if x.sum() > 0 else self.fc(-x)


def test_models_that_cannot_be_traced_or_run() -> None:
    with pytest.raises(ModelError, match=r"torch\.export cannot trace Branch in eval mode: .*remove control flow"):
        discover(Branch(), features())
    with pytest.raises(ModelError, match="Sequential does not run on the example inputs: RuntimeError"):
        discover(mlp(6, 8, 4), torch.zeros(2, 5))


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
