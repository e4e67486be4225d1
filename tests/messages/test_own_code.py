"""What a user reads when code of their own raises: its error, file and line, in one sentence."""

import re
import sys
from pathlib import Path

import pytest

from reticket.cli.dry_run import show
from reticket.data import open_dataset
from reticket.errors import DataError, ModelError, ReticketError
from reticket.experiment import ExecutionConfig
from reticket.models import build_model
from reticket.tasks.presets import load_config

CODE = """
import torch
from torch import nn
from reticket.errors import DataError

def forgotten(folder=None):
    return {}["train"]  # line 7

class Part:
    def __len__(self):
        return 3
    def __getitem__(self, number):
        raise OSError(f"item {number} is torn")  # line 13

def torn(folder=None):
    return Part(), Part()

def refused(folder=None):
    raise DataError("scans.npy is not there; download it")

def deep(folder=None):
    return torch.zeros(2) @ torch.zeros(3)  # line 22

def good(folder=None):
    pairs = [(torch.ones(2), 0), (torch.zeros(2), 1)] * 8
    return pairs, pairs

def unbuilt(in_features=2):
    raise RuntimeError("no weights yet")  # line 29

class Net(nn.Linear):
    def forward(self, x):
        raise RuntimeError("not written yet")  # line 33

def unwritten(in_features=2, classes=2):
    return Net(in_features, classes)

def absent(folder=None):
    raise SystemExit(0)  # line 39

def ending(in_features=2):
    raise SystemExit("no licence")  # line 42
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_code.py").write_text(CODE)
    (tmp_path / "own_slip.py").write_text("x = 1\ny = unknown_thing\n")
    monkeypatch.delitem(sys.modules, "own_code", raising=False)
    return tmp_path


def dry_run(*settings: str) -> None:
    _, config = load_config("digits", settings)
    show("digits", config, ExecutionConfig(), "absent")


LOADERS = {
    "forgotten": "data set 'own_code:forgotten' cannot be loaded: its loader raised KeyError: 'train' (FILE, line 7)",
    "torn": "data set 'own_code:torn' cannot be loaded: its loader raised OSError: item 0 is torn (FILE, line 13)",
    "absent": "data set 'own_code:absent' cannot be loaded: its loader raised SystemExit: 0 (FILE, line 39)",
    "refused": "scans.npy is not there; download it",
}


@pytest.mark.parametrize("loader", LOADERS)
def test_a_loaders_own_error_is_shown(own: Path, loader: str) -> None:
    expected = LOADERS[loader].replace("FILE", str(own / "own_code.py"))
    for call in (lambda: open_dataset(f"own_code:{loader}"), lambda: dry_run(f"data.name=own_code:{loader}")):
        with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
            call()


def test_the_line_is_that_of_the_loader_and_not_of_what_it_calls(own: Path) -> None:
    with pytest.raises(DataError, match=r"its loader raised RuntimeError: .*own_code\.py, line 22\)$"):
        open_dataset("own_code:deep")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            "unbuilt",
            r"cannot be built \(RuntimeError: no weights yet \(.*own_code\.py, line 29\)\); change its parameters",
        ),
        ("ending", r"cannot be built \(SystemExit: no licence \(.*own_code\.py, line 42\)\); change its parameters"),
        (
            "unwritten",
            r"does not train on inputs of shape \(2,\): RuntimeError: not written yet \(.*own_code\.py, line 33\)$",
        ),
    ],
)
def test_a_models_own_error_is_shown(own: Path, model: str, expected: str) -> None:
    settings = ("data.name=own_code:good", f"model.name=own_code:{model}", "model.params={}", "dense.batch_size=4")
    settings += ("grid.sparsities=[0.5]", "checks.diversity_sparsity=0.5")
    with pytest.raises(ModelError, match=expected):
        dry_run(*settings)


def test_a_module_that_raises_is_named_with_its_line(own: Path) -> None:
    expected = r"cannot be imported: own_slip raised NameError: .*unknown_thing.* \(.*own_slip\.py, line 2\); mend it"
    with pytest.raises(ReticketError, match=f"model 'own_slip:build' {expected}"):
        build_model("own_slip:build")
    (own / "own_script.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(ReticketError, match=r"own_script raised SystemExit: 0 \(.*own_script\.py, line 2\); mend it"):
        build_model("own_script:build")


def test_why_published_data_could_not_be_opened_is_said(
    own: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    _, config = load_config("fashion-mlp", ("grid.seeds=1", 'methods=["dense"]', "checks.diversity_members=0"))
    show("fashion-mlp", config, ExecutionConfig(data=own), "absent")
    said = capsys.readouterr().out
    assert re.search(
        r"as published: they could not be opened here.*\n.*fashion-mnist.* was not found \(looked in", said
    )
