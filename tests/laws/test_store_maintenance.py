"""Laws of looking after a store: what a run needs stays, damage is not copied, an archive is what it was."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from reticket.errors import InputError, ReticketError, StoreError
from reticket.experiment import FolderStore, KeptStore, MissingResult, Output, Store
from reticket.experiment.archive import export_archive, import_archive
from reticket.experiment.maintenance import check_store, copy_results, unneeded, usage_of

KEYS = [hashlib.sha256(bytes([number])).hexdigest() for number in range(6)]
FILES = {"results.json": b'{"schema": 1}', "width-4/config.toml": b"title = 'x'\n"}


def filled(folder: Path, keys: Sequence[str] = KEYS) -> FolderStore:
    store = FolderStore(folder)
    for number, key in enumerate(keys):
        kind = "dense" if number % 2 else "sparse"
        store.put(
            key, Output({"n": number}, {"w": torch.full((10,), float(number))}), {"task": {"kind": kind}}, durable=False
        )
    return store


def same(one: Store, other: Store, keys: Sequence[str]) -> bool:
    pairs = [(one.get(key), other.get(key)) for key in keys]
    return all(
        a.values == b.values and a.provenance == b.provenance and torch.equal(a.tensors["w"], b.tensors["w"])
        for a, b in pairs
    )


def damage(store: FolderStore, key: str) -> None:
    path = store.root / "results" / key[:2] / key / "tensors.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_folder_can_be_looked_after(tmp_path: Path) -> None:
    store = filled(tmp_path)
    assert isinstance(store, KeptStore)
    assert sorted(store.keys()) == sorted(KEYS)
    assert {kind: one.results for kind, one in usage_of(store).items()} == {"sparse": 3, "dense": 3}
    on_disk = sum(file.stat().st_size for file in (tmp_path / "results").rglob("*") if file.is_file())
    assert sum(one.bytes for one in usage_of(store).values()) == on_disk


def test_how_large_a_store_is_can_be_told_without_reading_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each key is listed once and each manifest read once: what takes room is not read to see how much it takes."""
    store = filled(tmp_path)
    opened: list[str] = []
    real = open

    def noted(path: object, *arguments: Any, **options: Any) -> Any:
        opened.append(Path(str(path)).name)
        return real(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("builtins.open", noted)
    assert sum(one.results for one in usage_of(FolderStore(tmp_path)).values()) == len(KEYS)
    assert opened == ["manifest.json"] * len(KEYS)
    opened.clear()
    assert list(FolderStore(tmp_path).keys()) == sorted(KEYS)
    assert not opened, "listing reads nothing"
    monkeypatch.undo()
    with pytest.raises(MissingResult, match="holds no whole result"):
        store.provenance("0" * 64)


def test_a_check_names_what_is_damaged_and_moves_it_aside(tmp_path: Path) -> None:
    filled(tmp_path)
    damage(FolderStore(tmp_path), KEYS[2])
    seen: list[tuple[int, int]] = []
    found = check_store(FolderStore(tmp_path), lambda done, total: seen.append((done, total)))
    assert (found.whole, list(found.damaged)) == (5, [KEYS[2]])
    assert "tensors.safetensors does not match its checksum" in found.damaged[KEYS[2]]
    assert seen[-1] == (6, 6)
    assert sorted(FolderStore(tmp_path).keys()) == sorted(set(KEYS) - {KEYS[2]})


def test_what_any_run_needs_stays(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.enter("/runs/a", KEYS[:2])
    store.enter("/runs/b", KEYS[1:4])
    filled(tmp_path)
    assert store.knows_all_runs
    found = unneeded(store)
    assert (sorted(found.keys), found.kept) == (sorted(KEYS[4:]), 4)
    assert sorted(unneeded(store, without=["/runs/b"]).keys) == sorted(KEYS[2:])
    store.enter("/runs/a", KEYS[:1])  # its configuration was changed
    store.forget("/runs/b")
    assert sorted(unneeded(store).keys) == sorted(KEYS[1:])
    assert [store.remove(key) for key in KEYS[1:]] == [True] * 5
    assert list(FolderStore(tmp_path).keys()) == KEYS[:1]
    assert not store.has(KEYS[1])
    assert not store.remove(KEYS[1])


def test_a_task_under_way_loses_nothing(tmp_path: Path) -> None:
    store = filled(tmp_path)
    with FolderStore(tmp_path).claim(KEYS[0]):
        assert not store.remove(KEYS[0])
    assert store.has(KEYS[0])


def test_what_unknown_runs_may_need_is_not_taken_for_unneeded(tmp_path: Path) -> None:
    store = filled(tmp_path)
    with pytest.raises(InputError, match="no run of this store is known"):
        unneeded(store)
    store.enter("/runs/a", KEYS[:2])
    with pytest.raises(InputError, match="from before its runs were noted"):
        unneeded(store)
    assert sorted(unneeded(store, even_of_unknown_runs=True).keys) == sorted(KEYS[2:])


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format": 2, "run": "a", "keys": []}', '{"format": 1}', "[" * 9999]
)
def test_a_damaged_entry_ends_every_removal(tmp_path: Path, content: str) -> None:
    store = FolderStore(tmp_path)
    store.enter("/runs/a", KEYS[:2])
    next((tmp_path / "runs").glob("*.json")).write_text(content)
    with pytest.raises(StoreError, match="does not say what a run needs"):
        unneeded(store)


def test_copies_are_what_was_put_and_damage_is_not_copied(tmp_path: Path) -> None:
    source, target = filled(tmp_path / "a"), filled(tmp_path / "b", KEYS[:1])
    damage(source, KEYS[3])
    wanted = [*KEYS[:5], "f" * 64]
    copied = copy_results(FolderStore(tmp_path / "a"), target, wanted)
    assert (copied.new, copied.there, copied.missing) == (3, 1, (KEYS[3], "f" * 64))
    assert same(source, FolderStore(tmp_path / "b"), [KEYS[0], KEYS[1], KEYS[2], KEYS[4]])


def test_an_archive_gives_back_what_it_was_made_of(tmp_path: Path) -> None:
    source = filled(tmp_path / "a")
    path = tmp_path / "run.tar"
    copied = export_archive(path, "digits", source, [*KEYS[:4], "f" * 64], FILES)
    assert (copied.new, copied.missing) == (4, ("f" * 64,))
    target = FolderStore(tmp_path / "b")
    archive, files, copied = import_archive(path, lambda archive, files: target)
    assert (archive.name, set(archive.keys), files, copied.new) == ("digits", set(KEYS[:4]), FILES, 4)
    assert same(source, FolderStore(tmp_path / "b"), KEYS[:4])
    again = tmp_path / "again.tar"
    export_archive(again, "digits", target, KEYS[:4], FILES)
    assert again.read_bytes() == path.read_bytes()
    assert {entry.name for entry in tmp_path.iterdir()} == {"a", "b", "run.tar", "again.tar"}  # no parts are left


def rewritten(path: Path, change: dict[str, bytes | None], extra: Sequence[tarfile.TarInfo] = ()) -> None:
    """Replace members of an archive by other contents, or leave them out."""
    with tarfile.open(path) as tar:
        members = [(one.name, (tar.extractfile(one) or io.BytesIO()).read()) for one in tar]
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            new = change.get(name, content)
            if new is not None:
                member = tarfile.TarInfo(name)
                member.size = len(new)
                tar.addfile(member, io.BytesIO(new))
        for member in extra:
            tar.addfile(member)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def index(**changed: object) -> bytes:
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    return json.dumps({"format": 1, "run": "digits", "files": sums, "keys": sorted(KEYS), **changed}).encode()


def tampered() -> Iterator[tuple[str, dict[str, bytes | None], list[tarfile.TarInfo], str]]:
    result = f"store/results/{KEYS[0][:2]}/{KEYS[0]}"
    yield "a file of the run", {"run/results.json": b"{}"}, [], "not what was exported"
    yield "a file left out", {"run/results.json": None}, [], "not what was exported"
    yield "a result", {f"{result}/values.json": b'{\n "n": 7\n}\n'}, [], "results are damaged or missing"
    yield "a result left out", {f"{result}/manifest.json": None}, [], "results are damaged or missing"
    yield "no index", {"archive.json": None}, [], "does not begin with archive.json"
    yield "another format", {"archive.json": index(format=2)}, [], "format 2"
    yield "a name that leads out", {"archive.json": index(run="../x")}, [], "does not begin"
    yield "a file that leads out", {"archive.json": index(files={"../x": ""})}, [], "does not begin"
    yield "keys of no list", {"archive.json": index(keys=3)}, [], "does not begin"
    yield "a link", {}, [link("run/x", "/etc/passwd")], "no plain file"
    yield "a hard link", {}, [link("run/x", "archive.json", tarfile.LNKTYPE)], "no plain file"
    yield "a pipe", {}, [link("run/x", "", tarfile.FIFOTYPE)], "no plain file"
    yield "a path", {}, [tarfile.TarInfo("../../x")], "which no export writes"
    yield "an absolute path", {}, [tarfile.TarInfo("/x")], "which no export writes"
    yield "an unknown file", {}, [tarfile.TarInfo("run/x")], "which no export writes"


@pytest.mark.parametrize(("change", "extra", "says"), [pytest.param(*rest, id=name) for name, *rest in tampered()])
def test_what_is_not_as_it_was_exported_is_refused_and_changes_nothing(
    tmp_path: Path, change: dict[str, bytes | None], extra: list[tarfile.TarInfo], says: str
) -> None:
    path = tmp_path / "run.tar"
    export_archive(path, "digits", filled(tmp_path / "a"), KEYS, FILES)
    rewritten(path, change, extra)
    with pytest.raises(InputError, match=says):
        import_archive(path, lambda archive, files: pytest.fail("a store was opened"))


@pytest.mark.slow
def test_every_cut_and_many_flips_are_noticed_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "run.tar"
    source = filled(tmp_path / "a", KEYS[:2])
    export_archive(path, "digits", source, KEYS[:2], FILES)
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        for content in (whole[:place], whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :]):
            path.write_bytes(content)
            target = FolderStore(tmp_path / "b", verify=True)
            try:
                _, files, _ = import_archive(path, lambda archive, files, to=target: to)
            except ReticketError:
                assert list(target.keys()) == []
                continue
            assert files == FILES  # what was hit is padding, or a date
            assert same(source, target, KEYS[:2])
            for key in KEYS[:2]:
                target.remove(key)
