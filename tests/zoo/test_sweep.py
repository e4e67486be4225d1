"""The wide sweep's own parts: a wrong claim is called unsound, a blind check blind, and the page says so."""

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from reticket.symmetry import Symmetry, discover
from tests.zoo import measure, sweep
from tests.zoo.entries import Family, Size, Timm, images
from tests.zoo.page import FAILED, page
from tests.zoo.soundness import ALLOWED, elsewhere


class Pooled(nn.Module):
    """Convolutions; beyond 8 pixels their mean is weighed by a table, in an order that the example does not show."""

    def __init__(self, *, table: bool = False) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Linear(6, 4)
        self.table = table

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.first(x)).relu()
        if self.table and x.shape[-1] > 8:
            y = y * torch.arange(6.0, dtype=x.dtype)[:, None, None]
        return self.last(y.mean((2, 3)))


def draw(batch: int, size: Size, generator: Generator) -> Tensor:
    return images(batch, size, 3, generator)


def claimed(model: nn.Module) -> Symmetry:
    return discover(model, torch.randn(2, 3, 8, 8), verify=False)


def test_a_true_symmetry_is_kept_at_every_batch_and_size_and_half_of_it_is_not() -> None:
    model = Pooled()
    found = elsewhere(claimed(model), model, draw, 8, (11, (4, 9)))
    assert found.ran == ((2, 8), (1, 8), (3, 8), (2, 11), (2, (4, 9)))
    assert found.refused == ()
    assert found.error < 1e-12
    assert found.control > 0.01
    assert found.sound
    assert not found.blind


def test_a_claim_that_holds_at_the_examples_size_alone_is_unsound() -> None:
    model = Pooled(table=True)
    symmetry = claimed(model)
    assert elsewhere(symmetry, model, draw, 8, (7,)).sound
    found = elsewhere(symmetry, model, draw, 8, (7, 11))
    assert found.error > 0.01
    assert not found.sound


@pytest.mark.parametrize("left_out", ["norm.running_mean", "norm.weight", "norm.bias", "first.bias", "last.weight"])
def test_a_claim_that_forgets_one_tensor_is_unsound(left_out: str) -> None:
    """Every one of these is constant in a new model, or hardly matters there: the check draws weights anew."""
    model = Pooled()
    symmetry = claimed(model)
    axes = symmetry.to_axes()
    wrong = Symmetry.from_axes({name: axis for name, axis in axes.items() if name != left_out}, model)
    assert elsewhere(wrong, model, draw, 8, ()).error > 100 * ALLOWED


def test_a_check_that_sees_nothing_is_blind() -> None:
    model = Pooled()
    symmetry = claimed(model)

    def nothing(batch: int, size: Size, generator: Generator) -> Tensor:
        return torch.zeros(batch, 5, 8, 8)

    found = elsewhere(symmetry, model, nothing, 8, (11,))
    assert found.ran == ()
    assert found.blind


def test_what_a_model_asks_to_have_in_float32_is_computed_in_float64() -> None:
    class Narrow(Pooled):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.to(torch.float32)).float() + torch.zeros(1, dtype=torch.float32)

    model = Narrow()
    assert elsewhere(claimed(model), model, draw, 8, (11,)).error < 1e-12


@dataclass(frozen=True)
class Small:
    """An entry of the sweep that needs no library."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    source: str = "timm"
    size: Size = 8
    others: tuple[Size, ...] = (11, (9, 4))

    def build(self) -> nn.Module:
        return Pooled(**self.options)

    def inputs(self, batch: int, size: Size, generator: Generator) -> Tensor:
        return images(batch, size, 3, generator)


class Parcel:
    """What `torch.export` cannot take apart."""


class Opaque(Pooled):
    def forward(self, x: Tensor) -> Any:
        super().forward(x)
        return Parcel()


def test_a_row_has_the_figures_of_its_model() -> None:
    row = measure.measured(Small("right"))
    assert row["verdict"] == "sound"
    assert row["groups"] == 1
    assert row["log10_order"] == pytest.approx(math.log10(math.factorial(6)))
    assert row["movable"] == pytest.approx(1 - 4 / (6 * 27 + 6 + 4 * 6 + 24 + 4))  # last.bias stays; scalars no count
    assert row["parameters"] == 6 * 27 + 6 + 2 * 6 + 24 + 4
    assert row["pinned"] == row["ruleless"] == []
    assert row["phases"].keys() == {"tracing", "solving", "proving"}
    assert sum(row["phases"].values()) <= row["seconds"]
    assert 0.01 < row["before"] <= row["gigabytes"] < 100
    json.dumps(row)


def test_a_model_that_acts_otherwise_elsewhere_fails_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    unproven = lambda model, inputs: discover(model, inputs, verify=False)  # noqa: E731 (the proof would find it)
    monkeypatch.setattr(measure, "discover", unproven)
    row = measure.measured(Small("wrong", {"table": True}))
    assert row["verdict"] == "unsound"
    assert row["verdict"] in FAILED


def test_what_the_proof_refuses_at_other_sizes_counts_as_pinned() -> None:
    row = measure.measured(Small("wrong", {"table": True}))
    assert row["verdict"] == "pinned"
    assert "first.weight" in row["pinned"]


def test_a_model_that_cannot_be_traced_gives_its_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Small, "build", lambda self: Opaque())
    row = measure.measured(Small("opaque"))
    assert row["verdict"] == "untraced"
    assert row["verdict"] not in FAILED
    assert row["sentence"].startswith("torch.export cannot trace Opaque in eval mode: its output holds a Parcel")


def test_the_page_counts_and_names_what_failed() -> None:
    right = measure.measured(Small("right"))
    wrong = right | {"name": "wrong", "verdict": "unsound", "error": 0.5, "ran": ((2, 8), (1, 8)), "seconds": 3.25}
    pinned = right | {"name": "held", "verdict": "pinned", "pinned": ["a.weight"], "ruleless": ["aten.odd"]}
    untraced = {"name": "odd", "source": "timm", "verdict": "untraced", "sentence": "torch.export cannot", "seconds": 1}
    text = page([right, wrong, pinned, untraced], "make it", {"torch": "9.9"})
    for line in (
        "Made by `make it` (torch 9.9, Python",
        "| models | 4 |",
        "| unsound elsewhere | 1 |",
        "| with groups pinned by the proof | 1 |",
        "| not traced | 1 |",
        "| largest error elsewhere | 5.0e-01 |",
        "| with an operator without a rule | 1 |",
        "- **odd** (untraced): torch.export cannot",
        "- no rule for `aten.odd`: held",
    ):
        assert line in text
    rows = {line.split(" ")[1]: line.split(" | ") for line in text.splitlines() if line.startswith("| ")}
    assert rows["right"][1:7] == ["208", "1", "2.9", "98.1%", "0", "0"]
    assert rows["wrong"][0] == "| wrong **unsound**"
    assert rows["wrong"][7:9] == ["5e-01", "1"]
    assert rows["wrong"][11] == "3.2"
    assert rows["held"][5:7] == ["1", "a.weight"]


def test_a_kept_row_is_taken_for_the_same_code_and_model_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Timm("resnet18")
    monkeypatch.setitem(sweep.ENTRIES, entry.name, entry)
    monkeypatch.setattr(sweep, "measured", lambda entry: {"name": entry.name, "source": "timm", "verdict": "sound"})
    monkeypatch.setattr(sweep.resource, "setrlimit", lambda *_: None)
    sweep.measure(entry.name, tmp_path)
    rows = sweep.sweep([entry], tmp_path, jobs=1)  # starts no process: the row is there
    assert rows == [{"name": "resnet18", "source": "timm", "verdict": "sound"}]
    assert sweep.digest(entry) != sweep.digest(replace(entry, size=64))
    assert sweep.digest(entry) != sweep.digest(Timm("resnet34"))


def test_the_sweep_is_as_wide_as_the_page_says() -> None:
    timm = [entry.name for entry in sweep.VARIANTS]
    families = [entry.name for entry in sweep.FAMILIES]
    assert len(set(timm)) == len(timm) >= 60
    assert len({(family.config, family.head) for family in sweep.FAMILIES}) >= 40
    assert len(sweep.ENTRIES) == len(timm) + len(families)
    assert all(isinstance(entry, Family) and entry.options for entry in sweep.FAMILIES)
