"""What `reticket bench` says of a wrong call, before anything is computed."""

import json
import sys
from pathlib import Path

import pytest

from reticket.bench import read_benches, write_bench
from reticket.bench.page import BEGIN, END
from reticket.bench.record import bench_of
from reticket.cli import main
from reticket.errors import InputError
from tests.bench_tasks import bench_task, results


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
        (("--from", "a.json", "--task", "digits"), "--from computes nothing; leave --task out"),
        (("--from", "a.json", "--budget", "0", "--jobs", "2", "--out", "x"), "leave --out, --jobs and --budget out"),
        (("--from", "a.json", "--tier", "gpu", "--set", "grid.seeds=1"), "leave --tier and --set out"),
        (("--from", "a.json", "--debug", "--page", "none.md"), "--page none.md: no such file"),
        (("--from", "."), ".: is a folder; give the ticketbench.json that"),
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


def test_results_of_a_run_are_no_record_and_the_record_beside_them_is_named(said, tmp_path: Path) -> None:
    run = tmp_path / "b1" / "digits"
    run.mkdir(parents=True)
    (run / "results.json").write_text(json.dumps(results().to_json()))
    sentence = "b1/digits/results.json: is of one run and no record of TicketBench; give {}"
    asked = sentence.format("the ticketbench.json that `reticket bench` wrote")
    assert asked in said("--from", "b1/digits/results.json")
    write_bench(bench_of([bench_task()]), tmp_path / "b1" / "ticketbench.json")
    assert sentence.format("b1/ticketbench.json") in said("--from", "b1/digits/results.json")
    assert "b1: is a folder; give b1/ticketbench.json" in said("--from", "b1")


def test_two_records_of_one_task_are_not_merged_in_silence(said, tmp_path: Path) -> None:
    first, second = bench_task(), bench_task(seeds=(0, 1, 2))
    elsewhere = first.model_copy(update={"results": {**first.results, "environment": {"date": "later"}, "cost": []}})
    for name, task in (("a", first), ("same", elsewhere), ("b", second)):
        write_bench(bench_of([task]), tmp_path / f"{name}.json")
    sentence = "a.json and b.json both have results of task 'made-up', and they are not the same; give one of them"
    assert sentence in said("--from", "a.json", "--from", "same.json", "--from", "b.json")
    assert read_benches([tmp_path / "same.json", tmp_path / "a.json"]) == bench_of([first])


def test_another_experiment_in_the_folder_is_replaced_by_force_alone(
    said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out" / "digits"
    folder.mkdir(parents=True)
    for name in ("results.json", "environment.json"):
        (folder / name).write_text("{}")
    (folder / "config.toml").write_text("[grid]\nseeds = 77\n")
    call = ("--task", "digits", "--out", "out")
    assert "out/digits holds the results of another experiment" in (sentence := said(*call))
    assert "or --force to replace its report" in sentence
    assert (folder / "results.json").is_file()
    assert "unknown executor 'nowhere'" in said(*call, "--force", "--executor", "nowhere")
    assert (folder / "results.json").is_file(), "a slip is said before results go"

    def stopped(*args: object, out: Path, **more: object) -> None:
        raise InputError(f"{sorted(path.name for path in out.iterdir())} when it begins")

    monkeypatch.setattr("reticket.bench.running.run", stopped)
    assert "['config.toml', 'environment.json'] when it begins" in said(*call, "--force")


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
