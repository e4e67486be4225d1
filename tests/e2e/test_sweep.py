"""A sweep through the command line: a folder for each value, one store, and nothing computed twice."""

import json
import sys
from pathlib import Path

import pytest

import reticket as rt
from reticket.cli import main

TINY = Path(__file__).with_name("tiny.toml")
SETTINGS = (
    *("sweep.model.params.hidden=[[6], [9]]", "seeds=1", "sparsities=[0.5]", "rewinds=['1ep']"),
    *("methods=['lth', 'permuted', 'naive']", "diversity_members=0", "barriers=['permuted A to B']", "overlap=false"),
)


def reticket(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["reticket", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_a_sweep_runs_resumes_and_runs_from_its_own_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "swept"
    settings = [text for setting in SETTINGS for text in ("--set", setting)]
    assert reticket(monkeypatch, "run", TINY, *settings, "--out", out) == 0
    found = json.loads((out / "sweep.json").read_text())
    folders = ["hidden-6", "hidden-9"]
    assert (found["key"], found["preset"]) == ("model.params.hidden", "tiny")
    assert found["variants"] == [{"value": [6], "folder": folders[0]}, {"value": [9], "folder": folders[1]}]
    keys: list[str] = []
    for folder in folders:
        assert {path.name for path in (out / folder).iterdir()} >= {"config.toml", "results.json", "report.html"}
        results = json.loads((out / folder / "results.json").read_text())
        assert results["complete"] is True
        assert {row["method"] for row in results["rows"]} == {"lth", "permuted", "naive"}
        keys += [key for row in results["rows"] for key in row["keys"]]
        hidden = rt.Results.load(out / folder).weights(method="lth", sparsity=0.5)["layers.0.weight"]
        assert hidden.shape == (int(folder[-1]), 64), "the store stands beside sweep.json"
    assert len(set(keys)) == 6, "three methods at two sizes"
    swept = rt.Results.load(out)
    assert (list(swept.variants), swept.folder, swept.complete, swept.rows) == (folders, out, True, ())
    assert swept.variants["hidden-9"].weights(method="lth", sparsity=0.5)["layers.0.weight"].shape == (9, 64)
    assert [part.splitlines()[0] for part in capsys.readouterr().out.split("\n\n")[1:]] == [
        f"{folder}: test accuracy (%), mean ± sd, n = 1" for folder in folders
    ]
    assert reticket(monkeypatch, "run", out / "config.toml", "--out", out) == 0
    assert "0 tasks computed" in capsys.readouterr().out
    assert (
        reticket(monkeypatch, "run", out / folders[1] / "config.toml", "--store", out / "store", "--out", out / "x")
        == 0
    )
    assert "0 tasks computed" in capsys.readouterr().out


@pytest.mark.slow_cases("whole", "failed")
@pytest.mark.parametrize(
    ("more", "code"), [((), 0), (("--budget", "0"), 0), (("--set", "sweep.model.params.hidden=[[6]]"), 0),
                       (("--set", "dense.lr=1e30"), 1)], ids=["whole", "stopped", "one value", "failed"],
)  # fmt: skip
def test_a_sweep_ends_with_files_that_are_there(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    more: tuple[str, ...],
    code: int,
) -> None:
    only = [text for setting in (*SETTINGS, "methods=['dense']", "barriers=[]") for text in ("--set", setting)]
    assert reticket(monkeypatch, "run", TINY, *only, *more, "--out", tmp_path / "swept") == code
    said = capsys.readouterr().out
    named = [Path(line.split()[1]) for line in said.splitlines() if line.startswith(("report:", "results:"))]
    assert named == [tmp_path / "swept" / name for name in ("report.html", "sweep.json")]
    assert all(path.is_file() for path in named)
