"""`reticket match` and `transfer` on files: A is B with its units shuffled, so the ticket must land exactly."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import reticket as rt
from reticket.cli import main


def reticket(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["reticket", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_match_and_transfer_undo_a_shuffle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    b = rt.build_model("mlp", in_features=64, hidden=[128, 128], classes=10, generator=rt.generator_for("b"))
    symmetry = rt.discover(b, torch.randn(2, 64, generator=rt.generator_for("x")))
    shuffle = rt.random_alignment(symmetry, rt.generator_for("shuffle"))
    weights_a = shuffle.inverse().apply(b.state_dict())
    save_file(weights_a, tmp_path / "a.safetensors")
    torch.save(b.state_dict(), tmp_path / "b.pt")
    mask_b = rt.prune_magnitude(b, density=0.1)
    mask_a = shuffle.inverse().apply(mask_b)
    rt.Ticket(mask_a).save(tmp_path / "ticket.safetensors")

    al = tmp_path / "al.safetensors"
    files = (tmp_path / "a.safetensors", tmp_path / "b.pt")
    assert reticket(monkeypatch, "match", *files, "--model", "digits", "--data", "digits", "-o", al) == 0
    moved = tmp_path / "moved.safetensors"
    assert reticket(monkeypatch, "transfer", tmp_path / "ticket.safetensors", al, "-o", moved) == 0
    assert rt.Ticket.load(moved).mask == mask_b
    assert rt.Ticket.load(moved).mask != mask_a

    settings = ("--set", "leave_out=0.25", "--set", 'fixed=["layers.1.weight"]', "--method", "weight")
    assert reticket(monkeypatch, "match", *files, "--model", "digits", *settings, "-o", al) == 0
    partial = rt.Alignment.load(al)
    assert (partial.permutations["layers.1.weight"].is_identity, int(partial.left_out["layers.0.weight"].sum())) == (
        True,
        32,
    )
    assert reticket(monkeypatch, "transfer", tmp_path / "ticket.safetensors", al, "-o", moved) == 2
    given = ("--weights", tmp_path / "b.pt", "-o", moved)
    assert reticket(monkeypatch, "transfer", tmp_path / "ticket.safetensors", al, *given) == 0
    assert rt.Ticket.load(moved).mask == rt.transfer(mask_a, partial, b)


def test_a_ticket_of_another_model_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    small = rt.build_model("mlp", in_features=4, hidden=[3], classes=2)
    large = rt.build_model("mlp", in_features=64, hidden=[3], classes=2)
    symmetry = rt.discover(large, torch.randn(2, 64, generator=rt.generator_for("x")))
    rt.identity_alignment(symmetry).save(tmp_path / "al.safetensors")
    rt.Ticket(rt.prune_magnitude(small, density=0.5)).save(tmp_path / "ticket.safetensors")
    files = (tmp_path / "ticket.safetensors", tmp_path / "al.safetensors")
    assert reticket(monkeypatch, "transfer", *files, "-o", tmp_path / "out") == 2
    assert "shape" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_inspect_and_verify_speak_of_the_groups(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reticket(monkeypatch, "inspect", "digits") == 0
    assert "2 groups" in capsys.readouterr().out
    assert reticket(monkeypatch, "verify", "digits") == 0
    assert "the function is kept" in capsys.readouterr().out
    assert reticket(monkeypatch, "inspect", "digits", "--explain", "layers.0.weight") == 0
    assert "axis 0: moves by group layers.0.weight[128]" in capsys.readouterr().out


def test_inspect_writes_json_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    svg, saved = tmp_path / "net.svg", tmp_path / "net.json"
    options = ("--no-verify", "--json", "--svg", svg, "--save", saved)
    assert reticket(monkeypatch, "inspect", "tests.laws.test_cli_inspect:two_inputs", *options) == 0
    output = capsys.readouterr()
    data = json.loads(output.out)
    symmetry = rt.Symmetry.load(saved)
    assert [group["name"] for group in data["groups"]] == list(symmetry.groups) == ["embed.weight", "fc.weight"]
    assert len(symmetry.inputs) == 2
    assert f"written: {svg}" in output.err
    assert svg.read_text().startswith("<svg ")


def test_inspect_takes_ids_by_shape(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shape = ("--input-shape", "2,4", "--vocabulary", "9")
    assert reticket(monkeypatch, "inspect", "tests.laws.test_cli_inspect:ids_only", *shape) == 0
    assert "2 groups" in capsys.readouterr().out
