"""What every registry does, and what an installed package has to write so that its members are found by name."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reticket.errors import DataError
from reticket.registry import Registry

PLUGIN = '''
"""A package beside reticket, with one member of every kind."""
import torch
from reticket.data import Dataset, dataset
from reticket.matching import matcher
from reticket.models import model
from reticket.symmetry import identity_alignment
from reticket.tickets import SparseStart, method

@matcher("still")
def still(models_a, models_b, sym, batches):
    """Move nothing."""
    return identity_alignment(sym)

@method("as-it-is")
def as_it_is(rewound_b, ticket):
    """B as it is, with A's mask."""
    return SparseStart(ticket.mask.apply_to(rewound_b), ticket.mask)

@model("line", input_shape=lambda width, **_: (width,))
def line(width: int = 3, classes: int = 2):
    """Return one linear layer."""
    return torch.nn.Linear(width, classes)

@dataset("two-points")
def two_points(folder=None):
    """Return two points."""
    raise NotImplementedError
'''
KINDS = {"matchers": "still", "methods": "as-it-is", "models": "line", "datasets": "two-points"}


def install(folder: Path, name: str, code: str, announced: dict[str, str]) -> None:
    """Put a distribution into a folder as pip does: a module, and what it announces by entry points.

    Args:
        folder: on Python's search path.
        name: of the distribution and of its module.
        code: of the module.
        announced: names of members by group of entry points.
    """
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    lines = [f"[reticket.{group}]\n{member} = {name}\n" for group, member in announced.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))


def python(folder: Path, code: str) -> str:
    """Return what a fresh interpreter prints that finds the packages in a folder."""
    path = os.pathsep.join([str(folder), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry[int]]:
    """Return a registry with one member of its own, and a search path with nothing on it yet."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    registry = Registry[int]("thing", "reticket.things", DataError, says=lambda number: f"The number {number}.")
    monkeypatch.setattr("reticket.registry.things", registry, raising=False)  # where the modules below find it
    registry.add("one", 1)
    yield registry
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_names_and_their_errors(things: Registry[int]) -> None:
    assert things.register("two")(2) == 2
    assert (list(things), len(things), "two" in things, "three" in things) == (["one", "two"], 2, True, False)
    assert things.descriptions() == {"one": "The number 1.", "two": "The number 2."}
    with pytest.raises(DataError, match=r"^thing 'one' is registered already; choose another name$"):
        things.add("one", 3)
    with pytest.raises(DataError, match=r"^unknown thing 'onee', did you mean 'one'\?; known are one, two$"):
        things.named("onee")
    with pytest.raises(KeyError):
        things["three"]
    assert (things["one"], things.get("three")) == (1, None)


def test_an_announced_member_is_imported_when_it_is_asked_for(things: Registry[int], tmp_path: Path) -> None:
    install(tmp_path, "theirs", "from reticket import registry\nregistry.things.add('four', 4)", {"things": "four"})
    assert list(things) == ["one", "four"]
    assert ("four" in things, "theirs" in sys.modules) == (True, False)
    assert (things.named("four"), "theirs" in sys.modules) == (4, True)
    assert things.descriptions() == {"one": "The number 1.", "four": "The number 4."}


BROKEN = {
    "cannot be imported": ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    "raises": ("raise SyntaxError('what a package may do')", "SyntaxError: what a package may do"),
    "registers nothing": ("", "InputError: it registers no thing of this name"),
    "takes a name": (
        "from reticket import registry\nregistry.things.add('one', 5)",
        "DataError: thing 'one' is registered already; choose another name",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_package_is_named_and_breaks_no_other(kind: str, things: Registry[int], tmp_path: Path) -> None:
    code, words = BROKEN[kind]
    install(tmp_path, "broken", code, {"things": "bad"})
    install(tmp_path, "theirs", "from reticket import registry\nregistry.things.add('four', 4)", {"things": "four"})
    sentence = (
        f"thing 'bad' of the installed package broken 1.2 cannot be used ('broken': {words}); repair or remove that "
        f"package"
    )
    assert things.descriptions() == {"one": "The number 1.", "bad": sentence, "four": "The number 4."}
    with pytest.raises(DataError) as info:
        things.named("bad")
    assert str(info.value) == sentence
    assert (things.named("one"), things.named("four")) == (1, 4)


def test_the_packages_own_name_is_not_taken_over(things: Registry[int], tmp_path: Path) -> None:
    install(tmp_path, "theirs", "raise RuntimeError", {"things": "one"})
    assert (list(things), things["one"], things.descriptions()) == (["one"], 1, {"one": "The number 1."})


def test_a_package_adds_a_matcher_a_method_a_model_and_a_data_set(tmp_path: Path) -> None:
    install(tmp_path, "plugin", PLUGIN, KINDS)
    install(tmp_path, "broken", "import no_such_module", dict.fromkeys(KINDS, "bad"))
    said = python(
        tmp_path,
        """
import sys, torch
import reticket as rt
from reticket.cli.listing import listing
from reticket.models import code_of, example_input
from reticket.tickets import get_method
for kind in ("matchers", "methods", "models", "datasets"):
    assert "bad" in listing(kind)
print("plugin" in sys.modules, listing("matchers")["still"], listing("datasets")["two-points"])
print(rt.build_model("line", width=4), example_input("line", width=4).shape, len(code_of("line")), code_of("mlp"))
print(get_method("as-it-is").needs)
model = rt.build_model("mlp", in_features=2, hidden=(3,), classes=2)
moved = rt.match(model, model, rt.discover(model, torch.ones(2, 2)), [], method="still")
print(moved.permutations["layers.0.weight"].index.tolist())
""",
    )
    assert said.splitlines() == [
        "True Move nothing. Return two points.",
        "Linear(in_features=4, out_features=2, bias=True) torch.Size([2, 4]) 64 ",
        "('rewound_b', 'ticket')",
        "[0, 1, 2]",
    ]


@pytest.mark.slow
def test_nothing_of_a_package_is_imported_at_the_start(tmp_path: Path) -> None:
    install(tmp_path, "plugin", "raise RuntimeError", KINDS)
    said = python(
        tmp_path,
        """
import sys
import reticket as rt
from reticket.cli import main
rt.build_model("mlp"); rt.load_dataset("digits")
from reticket.matching import MATCHERS
from reticket.tickets import METHODS
MATCHERS.named("activation"); METHODS.named("lth")
print("plugin" in sys.modules, "still" in MATCHERS, "as-it-is" in METHODS)
""",
    )
    assert said == "False True True\n"
