"""`reticket store`: a store looked after, and a run that goes from one folder to another as one file."""

import hashlib
import sys
from pathlib import Path

import pytest

from reticket.cli import main
from reticket.experiment import FolderStore, Output
from tests.database_store import DatabaseStore

KEYS = [hashlib.sha256(bytes([number])).hexdigest() for number in range(4)]


def reticket(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["reticket", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs on one store; the last result is nobody's."""
    monkeypatch.chdir(tmp_path)
    store = FolderStore("shared")
    for name, keys in (("a", KEYS[:2]), ("b", KEYS[1:3])):
        Path("runs", name).mkdir(parents=True)
        for file in ("results.json", "config.toml"):
            Path("runs", name, file).write_text(f"# {name}")
        store.enter(str(tmp_path / "runs" / name), keys)
    for key in KEYS:
        store.put(key, Output({"key": key}), {"task": {"kind": "dense"}})
    return tmp_path


def kept(store: str) -> set[str]:
    return set(FolderStore(store).keys())


def test_garbage_goes_and_what_a_run_needs_stays(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reticket(monkeypatch, "store", "gc", "shared", "--dry-run") == 0
    assert "1 results would go" in capsys.readouterr().out
    assert kept("shared") == set(KEYS)
    assert reticket(monkeypatch, "store", "gc", "shared", "--forget", "runs/c") == 2
    assert "knows no run 'runs/c'" in capsys.readouterr().err
    assert reticket(monkeypatch, "store", "gc", "shared") == 0
    assert kept("shared") == set(KEYS[:3])
    assert reticket(monkeypatch, "store", "gc", "shared", "--forget", "runs/b") == 0
    assert "1 results removed" in capsys.readouterr().out
    assert kept("shared") == set(KEYS[:2])


def test_use_and_damage_are_told(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # so that no path is broken
    assert reticket(monkeypatch, "store", "check", "shared") == 0
    assert "4 results are whole, 0 damaged" in capsys.readouterr().out
    assert reticket(monkeypatch, "store", "du", "shared") == 0
    told = capsys.readouterr().out
    assert "dense" in told
    assert "runs/b" in told
    (here / "shared" / "results" / KEYS[0][:2] / KEYS[0] / "values.json").write_text('{"key": 1}')
    assert reticket(monkeypatch, "store", "check", "shared") == 1
    assert "3 results are whole, 1 damaged" in capsys.readouterr().out


def test_copies(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert reticket(monkeypatch, "store", "copy", "shared", "one", "--run", "runs/a") == 0
    assert kept("one") == set(KEYS[:2])
    assert reticket(monkeypatch, "store", "copy", "shared", "one") == 0
    assert "2 results copied, 2 were there" in capsys.readouterr().out
    assert FolderStore("one").runs() == FolderStore("shared").runs()
    assert reticket(monkeypatch, "store", "gc", "one", "--dry-run") == 0  # its runs came along


def test_a_run_goes_into_another_folder_as_one_file(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reticket(monkeypatch, "store", "export", "runs/a", "-o", "a.tar") == 2  # its own store is not there
    assert "runs/a has no store of its own; name the one" in capsys.readouterr().err
    assert reticket(monkeypatch, "store", "export", "runs/a", "-o", "a.tar", "--store", "shared") == 0
    assert "(2 results" in capsys.readouterr().out
    assert reticket(monkeypatch, "store", "import", "a.tar", "--out", "copy") == 0
    assert kept("copy/store") == set(KEYS[:2])
    assert Path("copy/config.toml").read_text() == "# a"
    assert FolderStore("copy/store").runs() == {str(here / "copy"): tuple(sorted(KEYS[:2]))}
    assert reticket(monkeypatch, "store", "import", "a.tar", "--out", "copy") == 0  # the same run again
    assert reticket(monkeypatch, "store", "import", "a.tar", "--out", "runs/b") == 2
    assert "runs/b holds the results of another experiment" in capsys.readouterr().err
    assert Path("runs/b/config.toml").read_text() == "# b"
    Path("a.tar").write_bytes(b"no archive")
    assert reticket(monkeypatch, "store", "import", "a.tar", "--out", "new") == 2
    assert not Path("new").exists()


@pytest.mark.parametrize("command", ["check", "du", "gc"])
def test_what_is_no_store_is_named_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert reticket(monkeypatch, "store", command, "nowhere") == 2
    assert "'nowhere' is no store" in capsys.readouterr().err
    assert not Path("nowhere").exists()


def test_a_store_without_a_list_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("reticket.cli.store_keeping.folder_of", lambda place: None)
    monkeypatch.setattr("reticket.cli.store_keeping.named_store", DatabaseStore)
    assert reticket(monkeypatch, "store", "du", "database.db") == 2
    assert "has no list of its results" in capsys.readouterr().err
