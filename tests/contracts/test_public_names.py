"""The public surface: small, documented, cheap to import."""

import inspect
import subprocess
import sys

import pytest

import reticket as rt


def test_it_is_small_and_every_name_is_there() -> None:
    assert len(rt.__all__) <= 60
    assert sorted(rt.__all__) == list(rt.__all__)
    assert {"Alignment", "match", "run", "sparse"} <= set(rt.__all__) <= set(dir(rt))


@pytest.mark.parametrize("name", rt.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    value = getattr(rt, name)
    text = inspect.getdoc(value) or ""
    assert len(text) > 20, name
    if inspect.isfunction(value):
        parameters = [p for p in inspect.signature(value).parameters if not p.startswith("_")]
        assert all(p in text for p in parameters), f"{name}: {[p for p in parameters if p not in text]}"


def test_import_loads_nothing_heavy_but_torch() -> None:
    code = "import sys, torch; before = set(sys.modules); import reticket; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"scipy", "sklearn", "matplotlib", "pydantic", "typer", "rich", "jinja2", "safetensors"}
    assert not heavy & {name.partition(".")[0] for name in loaded}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'transfer'"):
        _ = rt.transfer  # pyright: ignore[reportAttributeAccessIssue]
