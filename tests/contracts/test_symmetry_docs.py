"""The page on what is pinned is true: every reason that the code can print is explained there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import reticket.symmetry
from reticket.symmetry.reasons import KINDS, ORDER, read_reasons
from reticket.symmetry.unify import LINKED, UNCUT

SOURCE = Path(reticket.symmetry.__file__).parent
DOCS = Path(__file__).parents[2] / "docs"
PINNED = (DOCS / "pinned.md").read_text(encoding="utf-8")


def texts(call: ast.Call, constants: dict[str, str]) -> Iterator[str]:
    """Yield the texts among the arguments of a call, an ellipsis for every value put into one."""
    for argument in call.args:
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield argument.value
        elif isinstance(argument, ast.Name) and argument.id in constants:
            yield constants[argument.id]
        elif isinstance(argument, ast.JoinedStr):
            yield "".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in argument.values)


def reasons(*functions: str) -> list[str]:
    """Return every text that some call of one of these functions in the package's source passes."""
    found: dict[str, None] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {
            node.targets[0].id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                found.update(dict.fromkeys(texts(node, constants) if name in functions else ()))
    return list(found)


@pytest.mark.parametrize("reason", reasons("pin", "Cause", "Refusal"))
def test_every_reason_that_pins_is_explained(reason: str) -> None:
    assert f"`{reason}`" in PINNED, f"add a line on '{reason}' to docs/pinned.md, in the section of its kind"


@pytest.mark.slow
def test_the_search_for_reasons_finds_them() -> None:
    assert "a window slides along this axis" in reasons("pin")
    assert "not read for these inputs" in reasons("Cause")
    assert "named dimensions have no rule" in reasons("Refusal")
    assert len(reasons("pin", "Cause", "Refusal")) > 25


def test_every_reason_in_the_page_is_in_the_source() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    section = PINNED.partition("### order")[2].partition("### caller")[0]
    for text in re.findall(r"^\| `([^`]+)`", section, flags=re.MULTILINE):
        assert text in source, f"docs/pinned.md explains '{text}', which nothing prints"


@pytest.mark.parametrize("kind", [*KINDS, ORDER], ids=lambda kind: kind.name)
def test_every_kind_has_a_section(kind) -> None:
    section = PINNED.partition(f"\n### {kind.name}\n")[2].partition("\n###")[0]
    assert section
    for text in kind.begins:
        assert f"`{text}" in section, f"section '{kind.name}' of docs/pinned.md does not say '{text}'"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f"{LINKED}: anything at all (aten.linear.default in fc at net.py:3)", "linked"),
        (f"{UNCUT}: a view splits this axis (aten.view.default at net.py:3)", "cut"),
        ("no rule for aten.fft_fft.default: add one with reticket.symmetry.rule (aten.fft_fft.default)", "no rule"),
        ("the rule does not cover this call: named dimensions have no rule (aten.sum.default)", "not covered"),
        ("a window slides along this axis (aten.conv2d.default in conv at net.py:3)", "order"),
        ("fixed by the caller with 'fc.weight'", "caller"),
    ],
)
def test_reasons_are_told_apart(text: str, kind: str) -> None:
    (reason,) = read_reasons(text)
    assert reason.kind.name == kind
    assert "(" not in reason.text
