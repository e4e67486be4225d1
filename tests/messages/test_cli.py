"""What a user reads after a slip: one sentence, exit code 2, and nothing is written."""

import gzip
import sys
from pathlib import Path

import pytest
import torch

from reticket.cli import main


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["reticket", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    assert isinstance(end.value.code, int)
    return end.value.code


SLIPS = {
    "unknown preset": (["run", "digts"], "unknown preset 'digts', did you mean 'digits'?"),
    "a folder": (["run", "tests"], "'tests' is a folder without a config.toml; give a TOML file, or a preset's name"),
    "unknown model": (["inspect", "resnet19"], "unknown model 'resnet19'"),
    "misspelt key": (["run", "--set", "grid.sparsites=[0.9]"], "did you mean 'grid.sparsities'?"),
    "misspelt last part": (["run", "--set", "learnin_rate=1"], "unknown key"),
    "ambiguous key": (["run", "--set", "epochs=3"], "could mean dense.epochs, prune.epochs"),
    "no value": (["run", "--set", "epochs"], "expected key=value"),
    "sparsity 1.2": (["run", "--set", "sparsities=[1.2]"], "'grid.sparsities.0' is 1.2"),
    "no sparsity": (["run", "--set", "sparsities=[]"], "sparsities is empty"),
    "rewind past the end": (
        ["run", "--set", "dense.epochs=7", "--set", 'rewinds=["7ep"]'],
        "7ep is step 147, at or past the end of training at step 147",
    ),
    "no position": (["run", "--set", 'rewinds=["soon"]'], "'grid.rewinds.0' is 'soon'"),
    "unknown method": (["run", "--set", 'methods=["permutd"]'], "did you mean 'permuted'?"),
    "unknown data set": (["run", "--set", "data.name=digts"], "digits"),
    "unknown list": (["list", "preset"], "did you mean 'presets'?"),
    "unknown option": (["run", "--ouT", "x"], "No such option"),
    "unknown logger": (
        ["run", "--log", "csv", "--log", "tensorbord"],
        "unknown logger 'tensorbord', did you mean 'tensorboard'?; known are csv",
    ),
    "unknown store": (
        ["run", "--store", "foldr:x"],
        "unknown store 'foldr', did you mean 'folder'?; known are folder, cache, s3, gs, az; a folder of this name",
    ),
    "one run to compare": (["compare", "runs/a"], "runs/a is one run; give two or more to compare"),
    "table of no run": (["export", "runs/a", "--table", "loss"], "runs/a: no such directory"),
    "store that is a file": (["run", "--store", "pyproject.toml"], "pyproject.toml"),
    "a store of no place": (
        ["run", "--store", "cache:"],
        "the store 'cache:' names no place; give a folder, or NAME:TEXT",
    ),
    "unknown executor": (["run", "--executor", "locl"], "unknown executor 'locl', did you mean 'local'?"),
    "missing file": (["run", "absent.toml"], "absent.toml' cannot be read"),
    "shape": (["verify", "mlp", "--input-shape", "a,b"], "--input-shape a,b: expected positive sizes"),
    "shape of ids": (
        ["inspect", "mlp", "--vocabulary", "9"],
        "--vocabulary needs the shape of the ids: add --input-shape",
    ),
    "no example": (
        ["inspect", "tests.laws.test_cli_inspect:no_example"],
        "has no example input; give its shape with --input-shape 2,3,224,224 (ids: with --vocabulary), or set",
    ),
    "example that does not fit": (
        ["inspect", "mlp", "--input-shape", "2,5"],
        "MLP does not run on the example inputs: RuntimeError: mat1 and mat2 shapes cannot be multiplied",
    ),
    "no folder for the drawing": (
        ["inspect", "digits", "--no-verify", "--svg", "no/folder/net.svg"],
        "no/folder/net.svg' cannot be written (No such file or directory); name a file in a folder that exists",
    ),
    "nothing of that name to explain": (
        ["inspect", "digits", "--no-verify", "--explain", "layers.0.wieght"],
        "no tensor or group 'layers.0.wieght' in this symmetry, did you mean 'layers.0.weight'?",
    ),
    "no jobs": (["run", "--jobs", "0"], "Invalid value for '--jobs'"),
}


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_is_one_sentence_and_code_2(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments, expected = SLIPS[name]
    out = ["--out", str(tmp_path / "out")] if arguments[0] == "run" else []
    assert call(monkeypatch, *arguments, *out) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_a_slip_beside_force_loses_no_results(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "results.json").write_text("{}")
    assert call(monkeypatch, "run", "digits", "--out", tmp_path, "--force", "--store", "memroy:x") == 2
    assert "unknown store 'memroy'" in capsys.readouterr().err
    assert (tmp_path / "results.json").read_text() == "{}"


def test_missing_data_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, "run", "fashion-mlp", "--data", tmp_path, "--out", tmp_path / "out") == 2
    assert "apt install dataset-fashion-mnist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_truncated_idx_file_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (60000, 28, 28))
    for part in ("train-images-idx3", "t10k-images-idx3", "train-labels-idx1", "t10k-labels-idx1"):
        (tmp_path / f"{part}-ubyte.gz").write_bytes(gzip.compress(header + bytes(1000)))
    assert call(monkeypatch, "run", "fashion-mlp", "--data", tmp_path, "--out", tmp_path / "out") == 2
    assert "-ubyte.gz" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert call(monkeypatch, "run", "--out", tmp_path / "file" / "out") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_pickle_in_place_of_a_mask_is_not_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    torch.save({"w": torch.ones(3)}, tmp_path / "mask.pt")
    code = call(monkeypatch, "transfer", tmp_path / "mask.pt", tmp_path / "al.safetensors", "-o", tmp_path / "out")
    assert code == 2
    assert "pickle" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_weights_that_hold_more_than_tensors_are_not_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    torch.save(Path("x"), tmp_path / "a.pt")
    files = (tmp_path / "a.pt", tmp_path / "a.pt")
    options = ("--model", "digits", "--data", "digits", "-o", tmp_path / "al")
    code = call(monkeypatch, "match", *files, *options)
    assert code == 2
    assert "not unpickled" in capsys.readouterr().err


def test_a_timm_that_cannot_be_imported_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, name)
    assert call(monkeypatch, "inspect", "timm:resnet18") == 2
    said = capsys.readouterr().err
    assert "timm is installed, but cannot be imported (RuntimeError: operator torchvision::nms does not exist)" in said
    assert "install the torchvision that belongs to torch" in said
