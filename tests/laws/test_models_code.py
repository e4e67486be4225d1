"""Whoever edits a model gets new keys, wherever in the model's own package the edit is."""

import hashlib
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reticket.models import code_of

NUMBER = itertools.count()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write a package of a fresh name: `net` imports `.layers`, which imports `parts.act` inside a function."""
    folder = tmp_path / f"mine_{next(NUMBER)}"
    (folder / "parts").mkdir(parents=True)
    for name, text in {
        "__init__": "",
        "net": "import torch\nimport other_of_mine\nfrom .layers import layer\ndef build(): return layer()\n",
        "layers": f"def layer():\n    from {folder.name}.parts import act\n    return act.relu()\n",
        "parts/__init__": "",
        "parts/act": "from torch import nn\ndef relu(): return nn.ReLU()\n",
        "unrelated": "x = 1\n",
    }.items():
        (folder / f"{name}.py").write_text(text)
    (tmp_path / "other_of_mine.py").write_text("y = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] in (folder.name, "other_of_mine")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("edited", "counts"),
    [
        ("layers.py", True),
        ("parts/act.py", True),
        ("parts/__init__.py", True),
        ("unrelated.py", False),
        ("../other_of_mine.py", False),
    ],
)
def test_an_edit_counts_where_the_model_imports_it_from_its_own_package(
    package: Path, edited: str, counts: bool
) -> None:
    before = code_of(f"{package.name}.net:build")
    path = package / edited
    path.write_text(path.read_text() + "# edited\n")
    assert (code_of(f"{package.name}.net:build") != before) is counts


def test_modules_beside_a_module_that_is_in_no_package_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loose_net.py").write_text("import json\nfrom loose_layers import relu\ndef build(): return relu()\n")
    (tmp_path / "loose_layers.py").write_text("from torch import nn\nrelu = nn.ReLU\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = code_of("loose_net:build")
    (tmp_path / "loose_layers.py").write_text("from torch import nn\nrelu = nn.GELU\n")
    assert code_of("loose_net:build") != before


def test_a_module_alone_has_the_digest_of_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from torch import nn\ndef build(): return nn.ReLU()\n"
    (tmp_path / "lonely_net.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert code_of("lonely_net:build") == hashlib.sha256(source.encode()).hexdigest()


def test_models_of_the_package_are_named_by_their_name() -> None:
    assert code_of("resnet20") == ""
