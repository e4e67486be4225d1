"""Laws of shards: moving tensor by tensor gives the same files as moving all at once, with few tensors in memory."""

import gc
import json
import os
import weakref
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from reticket.cli import main
from reticket.cli.aligning import apply_file, apply_to_shards, transfer_file, transfer_to_shards
from reticket.errors import AlignmentError, InputError, MaskError
from reticket.symmetry import Alignment, Symmetry, discover, random_alignment
from reticket.tickets import Mask, Ticket
from reticket.tickets.sharded import INDEX_NAME, save_shards, transfer_shards
from reticket.weight_files import read_weights
from reticket.weight_files.shards import Shard, index_at

WIDTH = 24


def network() -> nn.Sequential:
    layers = [layer for _ in range(5) for layer in (nn.Linear(WIDTH, WIDTH), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 3))


def ticket(model: nn.Module, *, signed: bool) -> Ticket:
    draw = torch.Generator().manual_seed(1)
    weights = {name: torch.randn(p.shape, generator=draw) for name, p in model.named_parameters()}
    mask = Mask({name: torch.rand(p.shape, generator=draw) < 0.3 for name, p in weights.items()})
    return Ticket.of(weights, mask) if signed else Ticket(mask)


def part_of(whole: Ticket, names: Sequence[str]) -> Ticket:
    return whole.with_tensors({name: whole.tensors()[name] for name in names})


@cache
def shuffle() -> Alignment:
    return random_alignment(discover(network(), torch.randn(2, WIDTH), verify=False), 3)


@pytest.fixture
def alignment(tmp_path: Path) -> Alignment:
    found = shuffle()
    found.save(tmp_path / "al.safetensors")
    return found


@pytest.mark.parametrize("signed", [False, True])
def test_shards_of_a_ticket_move_to_the_bytes_that_each_moved_whole_gives(
    alignment: Alignment, tmp_path: Path, signed: bool
) -> None:
    whole = ticket(network(), signed=signed)
    names = list(whole.mask)
    save_shards((part_of(whole, names[at : at + 5]) for at in range(0, len(names), 5)), tmp_path / "a")
    counted = transfer_to_shards(tmp_path / "a" / INDEX_NAME, tmp_path / "al.safetensors", tmp_path / "b")
    assert (counted.kept, counted.numel) == (whole.mask.kept, whole.mask.numel)
    shards = sorted(path.name for path in (tmp_path / "a").glob("*.safetensors"))
    assert shards == [f"mask-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    moved: dict[str, Tensor] = {}
    for name in shards:
        transfer_file(tmp_path / "a" / name, tmp_path / "al.safetensors", tmp_path / "alone.safetensors")
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "alone.safetensors").read_bytes()
        moved |= Ticket.load(tmp_path / "b" / name).tensors()
    expected = alignment.apply(whole).tensors()
    assert all(torch.equal(moved[name], expected[name]) for name in names)
    assert not all(torch.equal(moved[name], whole.tensors()[name]) for name in names), "the proof that something moved"
    assert (tmp_path / "b" / INDEX_NAME).read_bytes() == (tmp_path / "a" / INDEX_NAME).read_bytes()


def hub(folder: Path, weights: dict[str, Tensor], *, lost: str = "", invented: str = "") -> Path:
    """Write weights as three shards of the Hub; one may be lost, or the index name a tensor that there is not."""
    folder.mkdir()
    names, shard_of = list(weights), {}
    for number in range(3):
        shard = f"model-0000{number + 1}-of-00003.safetensors"
        mine = names[number::3]
        save_file({name: weights[name] for name in mine}, folder / shard, metadata={"format": "pt"})
        shard_of |= dict.fromkeys(mine, shard)
    if invented:
        shard_of[invented] = "model-00002-of-00003.safetensors"
    if lost:
        (folder / lost).unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": shard_of}))
    return index


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_shards_of_weights_move_to_the_bits_that_moving_all_gives(
    alignment: Alignment, tmp_path: Path, dtype: torch.dtype
) -> None:
    weights = {f"model.{name}": one.detach().to(dtype) for name, one in network().named_parameters()}
    weights |= {"model.steps": torch.tensor(7)} if dtype == torch.float32 else {}
    index = hub(tmp_path / "a", weights)
    assert index_at(tmp_path / "a") == index_at(index) == index
    if "model.steps" in weights:  # a single number stands still whatever it is called
        expected = apply_file(tmp_path / "al.safetensors", tmp_path / "a")
    else:
        expected = {
            name: alignment.tensor(name.removeprefix("model."), one.view(torch.uint8 if one.itemsize == 1 else dtype))
            for name, one in weights.items()
        }
    assert apply_to_shards(tmp_path / "al.safetensors", index, tmp_path / "b") == len(weights)
    moved = read_weights(tmp_path / "b")
    assert moved.keys() == weights.keys()
    for name, one in moved.items():
        assert one.dtype == weights[name].dtype
        assert torch.equal(one.view(torch.uint8) if one.itemsize == 1 else one, expected[name])
    apply_to_shards(tmp_path / "al.safetensors", tmp_path / "b" / index.name, tmp_path / "back", inverse=True)
    for path in (tmp_path / "a").iterdir():
        assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes()


class Counting:
    """An alignment that counts how many of the tensors that it was given and gave are still there."""

    def __init__(self, alignment: Alignment) -> None:
        self._alignment = alignment
        self._seen: list[weakref.ref[Tensor]] = []
        self.most = 0

    def owner_of(self, name: str, shape: Sequence[int]) -> str:
        return self._alignment.owner_of(name, shape)

    def tensor(self, name: str, tensor: Tensor) -> Tensor:
        moved = self._alignment.tensor(name, tensor)
        self._seen += [weakref.ref(tensor), weakref.ref(moved)]
        self.most = max(self.most, sum(one() is not None for one in self._seen))
        return moved


def test_one_tensor_at_a_time_is_in_memory(alignment: Alignment, tmp_path: Path) -> None:
    """Counted without the collector of cycles, which might come too late: before the move, after it, and no other."""
    save_shards([ticket(network(), signed=False)], tmp_path / "a")
    counting = Counting(alignment)
    gc.disable()
    try:
        transfer_shards(tmp_path / "a" / INDEX_NAME, counting, tmp_path / "b")
        assert counting.most == 2
        kept = Counting(alignment)
        held = [kept.tensor(name, one) for name, one in ticket(network(), signed=False).mask.items()]
        assert kept.most >= len(held), "the proof that more would be counted"
    finally:
        gc.enable()


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_does_not_fit_is_one_sentence_and_leaves_nothing(alignment: Alignment, tmp_path: Path) -> None:
    weights = {name: one.detach() for name, one in network().named_parameters()}
    lost = hub(tmp_path / "lost", weights, lost="model-00002-of-00003.safetensors")
    invented = hub(tmp_path / "invented", weights, invented="9.weight")
    shape = hub(tmp_path / "shape", weights | {"2.weight": torch.zeros(WIDTH, 7)})
    other = hub(tmp_path / "other", {f"x{n}": torch.zeros(2) for n in range(3)})
    cut = hub(tmp_path / "cut", weights)
    (tmp_path / "cut" / "model-00001-of-00003.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    before = left(tmp_path)
    for index, problem, error in (
        (lost, r"names the shard 'model-00002-of-00003.safetensors', which is not there; download", InputError),
        (invented, r"does not fit its shard 'model-00002.*': the shard lacks '9.weight'; download", InputError),
        (shape, r"'2.weight' has shape \(24, 7\), expected \(24, 24\) as in the symmetry", AlignmentError),
        (other, r"'x0' is no tensor of this symmetry", AlignmentError),
        (cut, r"model-00001-of-00003.safetensors'?: the shard lacks|does not fit its shard", InputError),
    ):
        with pytest.raises(error, match=problem) as raised:
            apply_to_shards(tmp_path / "al.safetensors", index, tmp_path / "out")
        assert "\n" not in str(raised.value)
        assert left(tmp_path) == before
    with pytest.raises(MaskError, match="is a safetensors file, but neither a mask nor a ticket of reticket"):
        transfer_to_shards(cut.parent.parent / "other" / cut.name, tmp_path / "al.safetensors", tmp_path / "out")
    assert left(tmp_path) == before


def test_a_move_that_ends_half_way_leaves_nothing(
    alignment: Alignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_shards([ticket(network(), signed=False)], tmp_path / "a")
    before = left(tmp_path)
    seen: list[set[str]] = []
    whole = Shard.bytes_of

    def failing(self: Shard, slot: object) -> object:
        seen.append(left(tmp_path) - before)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return whole(self, slot)  # type: ignore[arg-type]

    monkeypatch.setattr(Shard, "bytes_of", failing)
    with pytest.raises(KeyboardInterrupt):
        transfer_to_shards(tmp_path / "a" / INDEX_NAME, tmp_path / "al.safetensors", tmp_path / "out")
    assert all(name.startswith(".out.") for names in seen for name in names), "what is half-written is hidden"
    assert left(tmp_path) == before


def test_shards_go_into_a_new_folder_alone(alignment: Alignment, tmp_path: Path) -> None:
    save_shards([ticket(network(), signed=False)], tmp_path / "a")
    with pytest.raises(
        InputError, match=r"'[^']*' is there already, and shards are written into a folder without weights"
    ):
        transfer_to_shards(tmp_path / "a" / INDEX_NAME, tmp_path / "al.safetensors", tmp_path / "a")
    with pytest.raises(InputError, match="a ticket in shards is written as shards into a folder; give a folder"):
        transfer_to_shards(tmp_path / "a" / INDEX_NAME, tmp_path / "al.safetensors", tmp_path / "b.safetensors")
    (tmp_path / "empty").mkdir()
    transfer_to_shards(tmp_path / "a" / INDEX_NAME, tmp_path / "al.safetensors", tmp_path / "empty")
    assert left(tmp_path / "empty") == left(tmp_path / "a")


def test_shards_go_beside_a_configuration_all_or_none(
    alignment: Alignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_shards([ticket(network(), signed=False)], tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "config.json").write_text("{}")
    moved, rename = list[str](), os.rename

    def failing(source: Path, target: Path) -> None:
        moved.append(target.name)
        if target.name == INDEX_NAME:
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr("reticket.weight_files.shards.os.rename", failing)
    with pytest.raises(InputError, match="cannot be written"):
        transfer_to_shards(tmp_path / "a" / INDEX_NAME, tmp_path / "al.safetensors", tmp_path / "b")
    assert moved[-1] == INDEX_NAME
    assert len(moved) > 1
    assert left(tmp_path / "b") == {"config.json"}
    monkeypatch.undo()
    transfer_to_shards(tmp_path / "a" / INDEX_NAME, tmp_path / "al.safetensors", tmp_path / "b")
    assert left(tmp_path / "b") == {"config.json"} | left(tmp_path / "a")
    assert (tmp_path / "b" / "config.json").read_text() == "{}"


def test_the_commands_take_shards(
    alignment: Alignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = ticket(network(), signed=False)
    save_shards([whole], "a")
    hub(tmp_path / "w", {name: one.detach() for name, one in network().named_parameters()})
    for line in ("transfer a al.safetensors -o b", "apply al.safetensors w -o moved/"):
        monkeypatch.setattr("sys.argv", ["reticket", *line.split()])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code in (0, None)
    said = capsys.readouterr().out
    assert f"written: b (density {whole.mask.density:.4g}, {whole.mask.kept} of {whole.mask.numel} weights)" in said
    assert "written: moved/ (12 tensors in shards)" in said
    assert left(tmp_path / "moved") == left(tmp_path / "w")


def test_parts_of_a_mask_are_given_once_each(tmp_path: Path) -> None:
    part = Mask({"w": torch.tensor([True, False])})
    with pytest.raises(MaskError, match="two parts hold 'w'; give each weight once"):
        save_shards([part, part], tmp_path / "a")
    with pytest.raises(MaskError, match="would hold no mask; give at least one part"):
        save_shards([], tmp_path / "a")
    assert not left(tmp_path)


def test_a_symmetry_is_known_by_shapes_alone() -> None:
    """As for a model that is too large to be built: tensors without storage have shapes."""
    shapes = {name: torch.empty(p.shape, device="meta") for name, p in network().named_parameters()}
    assert Symmetry.from_axes({"0.weight": ("g", None)}, shapes).groups["g"].size == WIDTH
