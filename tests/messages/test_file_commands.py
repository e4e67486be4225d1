"""Wrong inputs to the commands on files: one sentence each, exit code 2, and nothing is written."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import reticket as rt
from tests.messages.test_cli import call

MLP = ("--model", "mlp")
DIGITS = ("--data", "digits")

# `{}` is the folder with a.safetensors, b.pt (two networks in one checkpoint), small.pt (of another model), al (an
# alignment of a), x.npy (inputs alone) and text.txt
SLIPS: dict[str, tuple[list[str], str]] = {
    "prune nothing there": (
        ["prune", "{}/none.pt", *MLP, "--density", "0.1"],
        "none.pt: cannot be read as weights (No",
    ),
    "prune another model's": (["prune", "{}/small.pt", *MLP, "--density", "0.1"], "small.pt: cannot load "),
    "prune density": (
        ["prune", "{}/a.safetensors", *MLP, "--density", "10"],
        "density 10.0 is not in (0, 1]; give the",
    ),
    "prune criterion": (
        ["prune", "{}/a.safetensors", *MLP, "--density", "0.1", "--criterion", "snp"],
        "unknown criterion 'snp', did you mean 'snip'?",
    ),
    "prune without data": (
        ["prune", "{}/a.safetensors", *MLP, "--density", "0.1", "--criterion", "snip"],
        "criterion 'snip' looks at batches, and there is none; name it with --data",
    ),
    "prune by a training": (
        ["prune", "{}/a.safetensors", *MLP, "--density", "0.1", "--criterion", "movement"],
        "criterion 'movement' looks at movement, and there is none; prune from Python with rt.prune",
    ),
    "prune scope": (
        ["prune", "{}/a.safetensors", *MLP, "--density", "0.1", "--scope", "layers"],
        "unknown scope 'layers', did you mean 'layer'?; choose from global, layer, erk",
    ),
    "prune without labels": (
        ["prune", "{}/a.safetensors", *MLP, "--density", "0.1", "--criterion", "snip", "--data", "{}/x.npy"],
        "x.npy: has inputs and no labels, which a loss needs; give a data set, or a .npz",
    ),
    "apply several": (["apply", "{}/al", "{}/b.pt"], "nested weights in 'one', 'two', expected one state_dict"),
    "apply another model's": (
        ["apply", "{}/al", "{}/small.pt"],
        "small.pt: 'layers.0.weight' has shape (3, 4), expected",
    ),
    "apply no alignment": (
        ["apply", "{}/a.safetensors", "{}/a.safetensors"],
        "a.safetensors' is no alignment of version",
    ),
    "transfer a mask by weights": (
        ["transfer", "{}/t", "{}/a.safetensors", "-o", "{}/out"],
        "a.safetensors' holds weights, or tensors of something else, not an alignment; write TICKET first",
    ),
    "transfer the wrong way round": (
        ["transfer", "{}/al", "{}/t", "-o", "{}/out"],
        "al' holds an alignment, not a ticket or a mask; ALIGNMENT '",
    ),
    "transfer weights": (
        ["transfer", "{}/a.safetensors", "{}/al", "-o", "{}/out"],
        "a.safetensors' holds weights, or tensors of something else, not a ticket or a mask; write TICKET first",
    ),
    "apply no key": (["apply", "{}/al", "{}/b.pt#tow"], "b.pt#tow: there is no 'tow', did you mean 'two'?"),
    "barrier no labels": (
        ["barrier", "{}/a.safetensors", "{}/a.safetensors", *MLP, "--data", "{}/x.npy"],
        "x.npy: has inputs and no labels, which a loss needs; give a data set, or a .npz or .safetensors file with",
    ),
    "barrier no data set": (
        ["barrier", "{}/a.safetensors", "{}/a.safetensors", *MLP, "--data", "digts"],
        "--data digts: expected a data set (cifar10,",
    ),
    "barrier loss": (
        ["barrier", "{}/a.safetensors", "{}/a.safetensors", *MLP, *DIGITS, "--loss", "clasification"],
        "unknown objective 'clasification', did you mean 'classification'?",
    ),
    "barrier metric alone": (
        ["barrier", "{}/a.safetensors", "{}/a.safetensors", *MLP, *DIGITS, "--metric", "accuracy"],
        "a metric stands beside a loss",
    ),
    "barrier split": (
        ["barrier", "{}/a.safetensors", "{}/a.safetensors", *MLP, *DIGITS, "--split", "val"],
        "--split val: expected a part of a data set, train or test",
    ),
    "barrier points": (
        ["barrier", "{}/a.safetensors", "{}/a.safetensors", *MLP, *DIGITS, "--points", "2"],
        "Invalid value for '--points'",
    ),
    "repair another model's": (
        ["repair", "{}/a.safetensors", "{}/small.pt", *MLP, *DIGITS],
        "small.pt: cannot load into MLP: 2 tensors missing",
    ),
    "repair alignment": (
        ["repair", "{}/a.safetensors", "{}/a.safetensors", *MLP, *DIGITS, "--alignment", "{}/none"],
        "none' cannot be read (No such file or directory",
    ),
    "repair data of another shape": (
        ["repair", "{}/a.safetensors", "{}/a.safetensors", *MLP, "--data", "{}/x.npy"],
        "MLP cannot run on a batch of float32 (8, 5)",
    ),
    "repair alpha": (
        ["repair", "{}/a.safetensors", "{}/a.safetensors", *MLP, *DIGITS, "--alpha", "nan"],
        "alpha is a position on the line from a (0) to b (1) and must be a number, got nan",
    ),
    "merge one": (["merge", "{}/a.safetensors", *MLP, *DIGITS], "a.safetensors alone, but two networks or more were"),
    "merge weights": (
        ["merge", "{}/a.safetensors", "{}/a.safetensors", *MLP, *DIGITS, "--weights", "half"],
        "--weights half: expected numbers with commas, for instance 0.5,0.25,0.25",
    ),
    "merge weights' sum": (
        ["merge", "{}/a.safetensors", "{}/a.safetensors", *MLP, *DIGITS, "--weights", "0.5,0.6"],
        "got the weights [0.5, 0.6] for 2 networks; give one for each, none below 0, with sum 1",
    ),
    "merge without data": (
        ["merge", "{}/a.safetensors", "{}/a.safetensors", *MLP],
        "REPAIR looks at inputs, and there are none; name them with --data, or leave it with --no-repair",
    ),
    "merge ending": (
        ["merge", "{}/a.safetensors", "{}/a.safetensors", *MLP, *DIGITS, "-o", "{}/out.pt"],
        "out.pt: weights are written as .safetensors; give such a name with -o, or a folder with / at its end",
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    a = rt.build_model("mlp", generator=0)
    save_file(a.state_dict(), tmp_path / "a.safetensors")
    torch.save({"one": dict(a.state_dict()), "two": rt.build_model("mlp").state_dict()}, tmp_path / "b.pt")
    small = rt.build_model("mlp", in_features=4, hidden=[3], classes=2)
    torch.save(small.state_dict(), tmp_path / "small.pt")
    symmetry = rt.Symmetry.from_axes({"layers.0.weight": ("units", None)}, dict(a.state_dict()))
    rt.identity_alignment(symmetry).save(tmp_path / "al")
    rt.Ticket(rt.prune_magnitude(a, density=0.5)).save(tmp_path / "t")
    np.save(tmp_path / "x.npy", np.ones((8, 5), "float32"))
    return tmp_path


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_is_one_sentence_and_code_2(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, expected = SLIPS[name]
    before = sorted(folder.iterdir())
    output = [] if arguments[0] == "barrier" or "-o" in arguments else ["-o", "{}/out.safetensors"]
    assert call(monkeypatch, *(argument.replace("{}", str(folder)) for argument in (*arguments, *output))) == 2
    said = capsys.readouterr()
    assert expected in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert said.out == ""
    assert sorted(folder.iterdir()) == before
