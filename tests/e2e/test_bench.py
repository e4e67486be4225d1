"""`reticket bench` on a tiny task: interrupted, gone on with, its record read again into a page."""

import json
import sys
from pathlib import Path

import pytest

from reticket.bench.page import BEGIN, END
from reticket.cli import main
from reticket.cli.progress import Display
from reticket.experiment import Event

METHODS = "grid.methods=['dense', 'imp', 'lth', 'permuted', 'naive']"
SMALL = ("grid.seeds=2", "data.train_size=200", "model.params.hidden=[8]", "dense.epochs=5", "prune.rate=0.7", METHODS)
SMALL += ("grid.rewinds=['0ep', '1ep']", "grid.match_at=['1ep', 'end']", "grid.sparsities=[0.6]", "prune.epochs=1")
SMALL += ("checks.diversity_members=2", "checks.diversity_tickets=1")


def bench(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["reticket", "bench", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.mark.slow
def test_a_bench_is_interrupted_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["--task", "digits", "--out", tmp_path / "out", *(text for one in SMALL for text in ("--set", one))]
    show, ended = Display.show, []

    def interrupt(display: Display, event: Event) -> None:
        ended.append(event.kind)
        if ended.count("task-done") == 15:
            raise KeyboardInterrupt
        show(display, event)

    with monkeypatch.context() as patch:
        patch.setattr(Display, "show", interrupt)
        assert bench(monkeypatch, *call) == 130
    assert "run the same command again to resume" in capsys.readouterr().err

    assert bench(monkeypatch, *call, "--budget", "0") == 0
    assert "some of it is still missing: run the same command again to go on" in capsys.readouterr().out
    early = json.loads((tmp_path / "out" / "ticketbench.json").read_text())

    assert bench(monkeypatch, *call) == 0
    whole = json.loads((tmp_path / "out" / "ticketbench.json").read_text())
    out = capsys.readouterr().out
    assert "digits: TicketBench: an MLP on scikit-learn's digits, 98 % pruned" in out
    assert "26 tasks computed, 15 taken from the store" in out
    for bench_record, complete in ((early, False), (whole, True)):
        (task,) = bench_record["tasks"]
        assert (task["name"], task["seeds"], task["results"]["complete"]) == ("digits", 2, complete)
        assert len(task["claims"]) == 2 * 2 * 2
    assert {claim["n"] for claim in whole["tasks"][0]["claims"]} == {2}
    assert {claim["n"] for claim in early["tasks"][0]["claims"]} < {0, 1, 2}

    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    assert bench(monkeypatch, "--from", tmp_path / "out" / "ticketbench.json", "--page", page) == 0
    assert "8 claims: " in page.read_text()
    assert "**Not the task as it ships**: `data.train_size` 200 (there null), " in page.read_text()
    assert (tmp_path / "images" / "ticketbench-digits.svg").is_file()
