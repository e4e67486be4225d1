"""The law of whole files: whatever fails, what was there is there still, and nothing half-written lies beside it."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import reticket as rt
from reticket import files
from reticket.errors import InputError, MaskError, ReticketError
from reticket.tasks.running import _make_folder
from reticket.weight_files import write_weights

WEIGHTS = {"w": torch.eye(3)}
SYMMETRY = rt.Symmetry.from_axes({"w": ("units", None)}, WEIGHTS)
MASK = rt.Mask({"w": torch.eye(3) > 0})
FILE = "file.safetensors"


def save_weights(path: Path) -> None:
    write_weights(path, WEIGHTS)


SAVERS: dict[str, Callable[[Path], None]] = {
    "Symmetry": SYMMETRY.save,
    "Alignment": rt.identity_alignment(SYMMETRY).save,
    "Mask": MASK.save,
    "Ticket": rt.Ticket(MASK).save,
    "weights": save_weights,
    "text": lambda path: files.write_file(path, "ä", error=InputError, advice="make room"),
    "bytes": lambda path: files.replace_file(path, b"new", durable=True),
}


def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a disk take three bytes of a file and no more."""
    whole = files.write_through

    def cut(path: Path, content: bytes, *, durable: bool) -> None:
        whole(path, content[:3], durable=durable)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write_through", cut)


def kept_on_a_full_disk(save: Callable[[Path], None], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / FILE
    path.write_bytes(b"what was there")
    with monkeypatch.context() as patch:
        full_disk(patch)
        with pytest.raises((OSError, ReticketError), match="No space left on device"):
            save(path)
    assert path.read_bytes() == b"what was there"
    assert [one.name for one in folder.iterdir()] == [FILE]
    save(path)
    assert path.read_bytes() != b"what was there"


@pytest.mark.parametrize("kind", SAVERS)
def test_a_full_disk_costs_nothing_that_was_there(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_on_a_full_disk(SAVERS[kind], tmp_path, monkeypatch)


def test_the_law_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who writes in place is caught."""
    with pytest.raises(AssertionError):
        kept_on_a_full_disk(lambda path: files.write_through(path, b"new", durable=False), tmp_path, monkeypatch)


@pytest.mark.parametrize("kind", [kind for kind in SAVERS if kind not in ("bytes", "weights")])
def test_no_folder_and_a_folder_in_the_way(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none/file' cannot be written \(No such file or directory\); \w+"):
        SAVERS[kind](tmp_path / "none" / "file")
    (tmp_path / "file").mkdir()
    with pytest.raises(InputError, match=r"file' cannot be written \(Is a directory\); \w+"):
        SAVERS[kind](tmp_path / "file")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(MaskError, match=r"cannot be written \(embedded null byte\)"):
        MASK.save("a\0b")


def test_links_and_rights_stay(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to("target")
    files.replace_file(link, b"new")
    assert (link.is_symlink(), target.read_bytes(), target.stat().st_mode & 0o777) == (True, b"new", 0o640)
    dangling = tmp_path / "dangling"
    dangling.symlink_to("later")
    files.replace_file(dangling, b"new")
    assert (dangling.is_symlink(), (tmp_path / "later").read_bytes()) == (True, b"new")


def test_a_link_laid_where_a_new_file_is_to_be_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"theirs")
    (tmp_path / "new").symlink_to("victim")
    with pytest.raises(FileExistsError):
        files.write_through(tmp_path / "new", b"ours", durable=False)
    assert victim.read_bytes() == b"theirs"


def test_a_link_that_waits_for_the_probe_of_a_run_directory_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"theirs")
    for name in (f".writable-{os.getpid()}", ".writable", ".probe"):  # the first was the probe's name once
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / name).symlink_to(victim)
    _make_folder(tmp_path / "run")
    assert victim.read_bytes() == b"theirs"
    assert len(list((tmp_path / "run").iterdir())) == 3, "and nothing is left"


def test_a_pipe_is_written_into_and_not_replaced(tmp_path: Path) -> None:
    path, read = tmp_path / "pipe", []
    os.mkfifo(path)
    with pytest.raises(OSError, match="No such device or address"):  # nobody reads it, and it is not waited for
        files.replace_file(path, b"lost")
    content = bytes(range(256)) * 1000  # more than a pipe holds
    with path.open("r+b", buffering=0) as end, os.fdopen(end.fileno(), "rb", closefd=False) as file:
        # as this end writes too, the reader that comes first waits and does not see the end of the file
        reader = threading.Thread(target=lambda: read.append(file.read(len(content))))
        reader.start()
        files.replace_file(path, content)
        reader.join()
    assert read == [content]
    assert path.is_fifo()


def test_a_text_is_read_or_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_file(tmp_path / "a.txt", "ä\udc80", error=InputError, advice="make room")
    assert files.read_text(path, error=InputError, advice="") == "ä\\udc80"
    path.write_bytes(b"\xff")
    for odd, words in (
        (path, "'utf-8' codec"),
        (tmp_path, "it is a folder, but a plain file was"),
        (tmp_path / "b", "No such"),
    ):
        with pytest.raises(MaskError, match=rf"^the text '{odd}' cannot be read \({words}.*\); write it again$"):
            files.read_text(odd, error=MaskError, advice="write it again", what="the text ")
