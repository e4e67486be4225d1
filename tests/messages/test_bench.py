"""What `reticket bench` says of a wrong call, before anything is computed."""

import json
import sys
from pathlib import Path

import pytest

from reticket.bench import write_bench
from reticket.bench.page import BEGIN, END
from reticket.bench.record import bench_of
from reticket.cli import main
from tests.bench_tasks import bench_task


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Return a function from arguments to what a call that has to be mended says."""

    def call(*arguments: str | Path) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["reticket", "bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2
        assert not (tmp_path / "runs").exists()
        return capsys.readouterr().err.strip()

    return call


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--tier", "minute"), "--tier: unknown tier 'minute', did you mean 'minutes'?"),
        (("--tier", "x"), "--tier: unknown tier 'x'; there are minutes, hour, gpu"),
        (("--task", "resnet"), "--task: unknown task 'resnet', did you mean 'resnet20'?"),
        (("--page", "none.md"), "--page none.md: no such file; make it, with the lines"),
        (("--from", "none.json"), "none.json: no such file; give the ticketbench.json that `reticket bench` wrote"),
        (("--from", "a.json", "--task", "digits"), "--from computes nothing; leave --task, --set and --dry-run out"),
        (("--task", "digits", "--set", "grid.seds=3"), "did you mean 'grid.seeds'?"),
        (("--jobs", "2", "--executor", "nowhere"), "unknown executor 'nowhere'"),
    ],
)
def test_wrong_calls(said, arguments: tuple[str, ...], sentence: str) -> None:
    assert sentence in said(*arguments)


def test_a_page_needs_both_marks_in_order(said, tmp_path: Path) -> None:
    for text in ("no marks", BEGIN, f"{BEGIN}{END}{END}", f"{END}\n{BEGIN}"):
        (tmp_path / "page.md").write_text(text)
        assert "are needed once each, in this order; add them" in said("--page", "page.md")


def test_damaged_records_are_named(said, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_bench(bench_of([bench_task()]), file)
    values = json.loads(file.read_text())
    for change, sentence in (
        ({"schema": 7}, "a.json: has schema 7, this version reads schema 1 of TicketBench"),
        ({"tsks": []}, "a.json: unknown key 'tsks', did you mean 'tasks'?"),
        ({"tasks": [{**values["tasks"][0], "results": {"schema": 1, "rows": 3}}]}, "a.json: task 'made-up': damaged"),
    ):
        file.write_text(json.dumps({**values, **change}))
        assert sentence in said("--from", "a.json")
    file.write_text("{")
    assert "a.json: is not JSON" in said("--from", "a.json")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ticketbench.json").write_text("{")
    assert "is not JSON (line 1" in (sentence := said("--task", "digits", "--out", "out"))
    assert "move it away: the runs beside it are kept" in sentence
