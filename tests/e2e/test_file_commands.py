"""`prune`, `apply`, `barrier`, `repair` and `merge` on files say and write what the same calls from Python give."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import reticket as rt
from reticket.cli import file_commands
from reticket.data import Reading, open_dataset
from reticket.tasks.presets import load_config
from tests.e2e.test_files import reticket
from tests.zoo.torchvision_operators import named_operators

OPERATORS = named_operators()  # transformers imports torchvision where it is installed

DIGITS = {"in_features": 64, "hidden": [128, 128], "classes": 10}
ON_DIGITS = ("--model", "digits", "--data", "digits")


class Tagger(nn.Module):
    """A model of keyword inputs with a loss of its own, as those of transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.fc, self.out = nn.Embedding(9, 6), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, ids: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.out(torch.relu(self.fc(self.words(ids).mean(1))))
        return {"logits": logits, **({} if labels is None else {"loss": nn.functional.cross_entropy(logits, labels)})}


def plain(generator: torch.Generator | None = None) -> nn.Module:
    """A model without an example input."""
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 3))


def with_spare() -> nn.Module:
    """A model with a matrix that nothing computes with."""
    model = plain()
    model.spare = nn.Parameter(torch.ones(4, 4))
    return model


def tagger() -> nn.Module:
    return Tagger()


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must do well and return what it printed."""

    def run(*arguments: str | Path) -> str:
        assert reticket(monkeypatch, *arguments) == 0
        return capsys.readouterr().out

    return run


def mlp(seed: int) -> nn.Module:
    return rt.build_model("mlp", generator=seed, **DIGITS)


def shuffled(model: nn.Module, seed: int) -> tuple[rt.Alignment, dict[str, Any]]:
    """Return a draw from the model's symmetry and its weights moved through it."""
    alignment = rt.random_alignment(rt.discover(model, torch.randn(2, 64, generator=rt.generator_for("x"))), seed)
    return alignment, alignment.apply(dict(model.state_dict()))


def same(found: Any, expected: Any) -> None:
    torch.testing.assert_close(dict(found), dict(expected), rtol=0, atol=0)


def test_prune_makes_the_ticket_that_python_does(call: Callable[..., str], tmp_path: Path) -> None:
    model = mlp(0)
    torch.save(
        {"state_dict": {f"model.{name}": tensor for name, tensor in model.state_dict().items()}}, tmp_path / "a.ckpt"
    )
    base = ("prune", tmp_path / "a.ckpt", "--model", "digits", "--density", "0.1", "-o", tmp_path / "t.safetensors")
    said = call(*base, "--exclude", "first", "--scope", "erk", "--max-sparsity", "0.95")
    names = rt.prunable(model, exclude="first")
    ticket = rt.Ticket.load(tmp_path / "t.safetensors")
    assert ticket == rt.Ticket.of(
        model, rt.prune(model, 0.1, names=names, scope="erk", max_sparsity=0.95), ticket.provenance
    )
    assert ticket.signs is not None
    assert (ticket.provenance["criterion"], ticket.provenance["density"]) == ("magnitude", 0.1)
    assert "matrices left as they are: 'layers.0.weight' 31.7 %" in said
    assert str(rt.coverage(ticket.mask, model)) in said
    assert f"density {ticket.mask.density:.4g}, {ticket.mask.kept} of 17664 weights" in said


def test_prune_says_what_it_cannot_judge(call: Callable[..., str], tmp_path: Path) -> None:
    save_file(with_spare().state_dict(), tmp_path / "a.safetensors")
    base = ("prune", tmp_path / "a.safetensors", "--model", f"{__name__}:with_spare", "--density", "0.5")
    said = call(*base, "--input-shape", "2,5", "-o", tmp_path / "t")
    assert "prunes 88.9 % of the weights in matrices to density 0.5: true density 0.5556" in said
    assert "not known to be matrices, counted as kept: 'spare' 11.1 %" in said


@pytest.mark.slow
def test_prune_gives_a_criterion_what_it_looks_at(call: Callable[..., str], tmp_path: Path) -> None:
    model = plain()
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(300, 5)).astype("float32"), generator.integers(0, 3, 300).astype("uint8")
    np.savez(tmp_path / "d.npz", x=x, y=y)
    batches = [(torch.tensor(x), torch.tensor(y).long())]
    base = (
        "prune",
        tmp_path / "a.safetensors",
        "--model",
        f"{__name__}:plain",
        "--density",
        "0.5",
        "-o",
        tmp_path / "t",
    )
    options: dict[str, dict[str, Any]] = {
        "snip": {"batches": batches},
        "synflow": {"example_inputs": batches[0][0][:2]},
        "random": {"generator": 3},
    }
    for criterion, given in options.items():
        call(*base, "--criterion", criterion, "--data", tmp_path / "d.npz", "--seed", "3", "--rounds", "2")
        names = rt.prunable(model, batches[0][0][:2])
        assert rt.Ticket.load(tmp_path / "t").mask == rt.prune(model, 0.5, criterion, names=names, rounds=2, **given)
    call(*base)  # no data and no example: the layers that are known
    assert rt.Ticket.load(tmp_path / "t").mask == rt.prune_magnitude(model, 0.5)


def test_apply_moves_an_average_of_torch(call: Callable[..., str], tmp_path: Path) -> None:
    model = mlp(0)
    alignment, moved = shuffled(model, 1)
    alignment.save(tmp_path / "al")
    torch.save(torch.optim.swa_utils.AveragedModel(nn.Sequential(model)).state_dict(), tmp_path / "ema.pt")
    call("apply", tmp_path / "al", f"{tmp_path / 'ema.pt'}#module.0", "-o", tmp_path / "b.safetensors")
    same(load_file(tmp_path / "b.safetensors"), moved)
    torch.save(torch.optim.swa_utils.AveragedModel(model).state_dict(), tmp_path / "ema.pt")
    call("apply", tmp_path / "al", tmp_path / "ema.pt", "-o", tmp_path / "b.safetensors")
    named = {f"module.{name}": tensor for name, tensor in moved.items()}
    same(load_file(tmp_path / "b.safetensors"), {"n_averaged": torch.tensor(0), **named})


@pytest.mark.parametrize("prefix", ["", "module.", "model._orig_mod."])
def test_apply_and_its_inverse_give_the_file_back_bit_by_bit(
    prefix: str, call: Callable[..., str], tmp_path: Path
) -> None:
    model = mlp(0)
    alignment, moved = shuffled(model, 1)
    alignment.save(tmp_path / "al")
    named = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(named, tmp_path / "a.safetensors", metadata={"format": "pt"})
    said = call("apply", tmp_path / "al", tmp_path / "a.safetensors", "-o", tmp_path / "b.safetensors")
    assert said == f"written: {tmp_path}/b.safetensors (6 tensors, 26122 numbers)\n"
    same(load_file(tmp_path / "b.safetensors"), {f"{prefix}{name}": tensor for name, tensor in moved.items()})
    call("apply", tmp_path / "al", tmp_path / "b.safetensors", "--inverse", "-o", f"{tmp_path}/back/")
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == (tmp_path / "a.safetensors").read_bytes()
    assert (tmp_path / "b.safetensors").read_bytes() != (tmp_path / "a.safetensors").read_bytes()


def test_a_choice_among_weights_is_said_beside_the_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model, path, out = mlp(0), tmp_path / "a.pt", tmp_path / "out.safetensors"
    shuffled(model, 1)[0].save(tmp_path / "al")
    torch.save({"model": model.state_dict(), "ema": mlp(1).state_dict()}, path)
    assert reticket(monkeypatch, "apply", tmp_path / "al", path, "-o", out) == 0
    said = capsys.readouterr()
    assert said.err == f"reticket: {path}: 'model' is taken; it also holds 'ema', which is {path}#ema\n"
    assert said.out == f"written: {out} (6 tensors, 26122 numbers)\n"


@pytest.fixture
def two(tmp_path: Path) -> tuple[nn.Module, nn.Module, rt.Alignment]:
    """Two networks as files `a` and `b`, and an alignment `al` of the one."""
    a, b = mlp(0), mlp(1)
    save_file(a.state_dict(), tmp_path / "a.safetensors")
    torch.save({"model": b.state_dict(), "epoch": 3}, tmp_path / "b.pt")
    alignment, _ = shuffled(a, 2)
    alignment.save(tmp_path / "al")
    return a, b, alignment


@pytest.mark.slow
def test_barrier_is_that_of_python(
    two: tuple[nn.Module, nn.Module, rt.Alignment], call: Callable[..., str], tmp_path: Path
) -> None:
    a, b, alignment = two
    ends = ("barrier", tmp_path / "a.safetensors", tmp_path / "b.pt", *ON_DIGITS)
    digits = rt.load_dataset("digits")
    test, train = (Reading(digits, part, 500) for part in ("test", "train"))
    moved = alignment.apply(dict(a.state_dict()))
    for options, curve in (
        ((), rt.barrier(a, a, b, test)),
        (("--alignment", tmp_path / "al", "--points", "3"), rt.barrier(a, moved, b, test, (0, 0.5, 1))),
        (
            ("--repair", "--split", "train", "--points", "3"),
            rt.barrier(a, a, b, train, (0, 0.5, 1), repair=True),
        ),
    ):
        found = json.loads(call(*ends, *options, "--json"))
        assert found["loss"] == list(curve.loss)
        assert found["metric"] == list(curve.accuracy)
        assert (found["loss_barrier"], found["metric_barrier"]) == (curve.loss_barrier, curve.accuracy_barrier)
        assert (found["alphas"], found["metric_name"]) == (list(curve.alphas), "accuracy")
    curve = rt.barrier(a, a, b, test, (0, 0.5, 1))
    lines = call(*ends, "--points", "3").splitlines()
    rows = [line.split("│")[1:4] for line in lines if line.startswith("│")]
    wanted = zip(("0", "0.5", "1"), curve.loss, curve.accuracy, strict=True)
    assert [[cell.strip() for cell in row] for row in rows] == [[at, f"{x:.4f}", f"{m:.4g}"] for at, x, m in wanted]
    assert lines[-1].startswith(
        f"loss barrier {curve.loss_barrier:.4g}, accuracy barrier {curve.accuracy_barrier:.4g} (on "
    )


def test_barrier_takes_keyword_inputs_and_any_loss(call: Callable[..., str], tmp_path: Path) -> None:
    a, b = Tagger(), Tagger()
    for name, model in (("a", a), ("b", b)):
        save_file(model.state_dict(), tmp_path / f"{name}.safetensors")
    ids, labels = torch.randint(0, 9, (40, 5)), torch.randint(0, 3, (40,))
    save_file({"ids": ids, "labels": labels}, tmp_path / "d.safetensors")
    ends = (
        "barrier",
        tmp_path / "a.safetensors",
        tmp_path / "b.safetensors",
        "--model",
        f"{__name__}:tagger",
        "--json",
    )
    found = json.loads(call(*ends, "--data", tmp_path / "d.safetensors", "--points", "3"))
    curve = rt.barrier(a, a, b, [{"ids": ids, "labels": labels}], (0, 0.5, 1))
    assert (found["loss"], found["metric"]) == (list(curve.loss), list(curve.accuracy))
    np.save(tmp_path / "ids.npy", ids.numpy())
    found = json.loads(call(*ends, "--data", tmp_path / "ids.npy", "--points", "3", "--loss", f"{__name__}:spread"))
    assert found["loss"] == list(rt.barrier(a, a, b, [ids], (0, 0.5, 1), loss=spread).loss)
    assert "metric" not in found


def spread(model: nn.Module, batch: Tensor) -> Tensor:
    return model(batch)["logits"].var(dim=1)


def test_a_preset_says_how_its_data_are_read(call: Callable[..., str], tmp_path: Path) -> None:
    config = load_config("text-gpt")[1]
    a, b = (rt.build_model(config.model.name, generator=seed, **config.model.params) for seed in range(2))
    for name, model in (("a", a), ("b", b)):
        save_file(model.state_dict(), tmp_path / f"{name}.safetensors")
    text = tmp_path / "text"
    text.mkdir()
    (text / "a.txt").write_text("How many characters are in a row is said by the preset.\n" * 40)
    ends = ("barrier", tmp_path / "a.safetensors", tmp_path / "b.safetensors", "--model", "text-gpt", "--points", "3")
    found = json.loads(call(*ends, "--data", text, "--loss", "language-model", "--json"))
    data = open_dataset(config.data.name, folder=text, params=config.data.params)
    assert data.input_shape == (48,)
    curve = rt.barrier(a, a, b, Reading(data, "test", 500), (0, 0.5, 1), loss="language-model")
    assert (found["loss"], found["metric_name"]) == (list(curve.loss), "perplexity")


def test_repair_is_that_of_python(
    two: tuple[nn.Module, nn.Module, rt.Alignment], call: Callable[..., str], tmp_path: Path
) -> None:
    a, b, alignment = two
    batches = Reading(rt.load_dataset("digits"), "train", 500)
    files = ("repair", tmp_path / "a.safetensors", tmp_path / "b.pt", *ON_DIGITS, "-o", tmp_path / "mid.safetensors")
    call(*files, "--alpha", "0.25", "--alignment", tmp_path / "al")
    expected = rt.repair(a, (alignment.apply(dict(a.state_dict())), b), 0.25, batches)
    same(load_file(tmp_path / "mid.safetensors"), expected)


def test_merge_undoes_shuffles(call: Callable[..., str], tmp_path: Path) -> None:
    a = mlp(0)
    save_file(a.state_dict(), tmp_path / "a.safetensors")
    for number, name in enumerate("bc", 1):
        torch.save(shuffled(a, number)[1], tmp_path / f"{name}.pt")
    files = (tmp_path / "a.safetensors", tmp_path / "b.pt", tmp_path / "c.pt")
    out = tmp_path / "m.safetensors"
    said = call("merge", *files, *ON_DIGITS, "--no-repair", "-o", out)
    same(load_file(out), a.state_dict())  # what is equal in all is kept bit by bit
    assert said.count("1.000") == 2
    call("merge", *files, *ON_DIGITS, "--samples", "500", "-o", out)
    torch.testing.assert_close(load_file(out), dict(a.state_dict()))  # REPAIR finds nothing to do


@pytest.mark.slow
def test_networks_of_keyword_inputs_are_matched_and_merged(call: Callable[..., str], tmp_path: Path) -> None:
    a = Tagger()
    ids, labels = torch.randint(0, 9, (200, 5)), torch.randint(0, 3, (200,))
    alignment = rt.random_alignment(rt.discover(a, {"ids": ids[:2]}), 0)
    save_file(a.state_dict(), tmp_path / "a.safetensors")
    save_file(alignment.apply(dict(a.state_dict())), tmp_path / "b.safetensors")
    save_file({"ids": ids, "labels": labels}, tmp_path / "d.safetensors")
    files = (tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    on = ("--model", f"{__name__}:tagger", "--data", tmp_path / "d.safetensors")
    call("match", *files, *on, "-o", tmp_path / "al")
    assert rt.Alignment.load(tmp_path / "al").permutations == alignment.permutations
    call("merge", *files, *on, "-o", tmp_path / "m.safetensors")
    torch.testing.assert_close(load_file(tmp_path / "m.safetensors"), dict(a.state_dict()))


def test_whole_numbers_are_inputs_of_a_model_of_others(
    two: tuple[nn.Module, nn.Module, rt.Alignment], call: Callable[..., str], tmp_path: Path
) -> None:
    a, b, _ = two
    x, y = torch.randint(0, 17, (60, 64)), torch.randint(0, 10, (60,))
    np.savez(tmp_path / "d.npz", x=x.numpy().astype("int16"), y=y.numpy())
    files = (tmp_path / "a.safetensors", tmp_path / "b.pt", "--model", "digits", "--data", tmp_path / "d.npz")
    found = json.loads(call("barrier", *files, "--points", "3", "--json"))
    assert found["loss"] == list(rt.barrier(a, a, b, [(x.float(), y)], (0, 0.5, 1)).loss)
    call("repair", *files, "-o", tmp_path / "m.safetensors")
    same(load_file(tmp_path / "m.safetensors"), rt.repair(a, (a, b), 0.5, [x.float()]))


@pytest.mark.slow
def test_merge_weighs_and_repairs(
    two: tuple[nn.Module, nn.Module, rt.Alignment], call: Callable[..., str], tmp_path: Path
) -> None:
    a, b, _ = two
    out, files = tmp_path / "m.safetensors", (tmp_path / "a.safetensors", tmp_path / "b.pt")
    call("merge", *files, *ON_DIGITS, "--weights", "0.75,0.25", "-o", out)
    call("match", files[1], files[0], *ON_DIGITS, "-o", tmp_path / "onto")
    moved = rt.Alignment.load(tmp_path / "onto").apply(dict(b.state_dict()))
    batches = list(Reading(rt.load_dataset("digits"), "train", 500))
    same(load_file(out), rt.repair(a, (a, moved), (0.75, 0.25), batches))
    call("merge", *files, *ON_DIGITS, "--no-repair", "--weights", "0.75,0.25", "-o", out)
    same(load_file(out), rt.interpolate([a, moved], [0.75, 0.25]))
    call("merge", *files, *ON_DIGITS, "--how", "least-squares", "-o", out)
    onto = [rt.identity_alignment(rt.Alignment.load(tmp_path / "onto").symmetry), rt.Alignment.load(tmp_path / "onto")]
    same(load_file(out), rt.merge(a, [a, b], onto, batches, how="least-squares"))


@pytest.mark.slow
def test_an_interrupt_leaves_the_file_that_was_there(
    two: tuple[nn.Module, nn.Module, rt.Alignment], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from reticket import files

    def cut(path: Path, content: bytes, *, durable: bool) -> None:
        path.write_bytes(content[:10])
        raise KeyboardInterrupt

    out = tmp_path / "out.safetensors"
    out.write_bytes(b"what was there")
    monkeypatch.setattr(files, "write_through", cut)
    for command in (
        ("apply", tmp_path / "al", tmp_path / "a.safetensors"),
        ("repair", tmp_path / "a.safetensors", tmp_path / "b.pt", *ON_DIGITS),
        ("merge", tmp_path / "a.safetensors", tmp_path / "b.pt", *ON_DIGITS),
        ("prune", tmp_path / "a.safetensors", "--model", "digits", "--density", "0.1"),
    ):
        assert reticket(monkeypatch, *command, "-o", out) == 130
        assert out.read_bytes() == b"what was there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "al", "b.pt", "out.safetensors"]


def test_every_command_shows_how_it_is_called() -> None:
    for command in file_commands.FILE_COMMANDS:
        assert f"Example: reticket {command.__name__} " in (command.__doc__ or "")


def tiny_bert() -> nn.Module:
    from transformers import BertConfig, BertForMaskedLM

    sizes: Any = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 20}
    return BertForMaskedLM(BertConfig(vocab_size=40, **sizes)).eval()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is missing")
def test_folders_of_the_hub_are_read_and_written(call: Callable[..., str], tmp_path: Path) -> None:
    """In shards, the output layer tied to the table; and transformers loads what is written."""
    torch.manual_seed(0)
    a: Any = tiny_bert()
    a.save_pretrained(tmp_path / "a", max_shard_size="5KB")
    assert (tmp_path / "a" / "model.safetensors.index.json").exists()
    symmetry = rt.discover(a, torch.tensor([[3, 5, 7], [1, 2, 4]]))
    alignment = rt.random_alignment(symmetry, 0)
    alignment.save(tmp_path / "al")
    a.config.save_pretrained(tmp_path / "b")
    call("apply", tmp_path / "al", tmp_path / "a", "-o", tmp_path / "b")
    b = type(a).from_pretrained(tmp_path / "b").eval()
    same(b.state_dict(), alignment.apply(dict(a.state_dict())))
    ids = torch.tensor([[3, 5, 7], [1, 2, 4]])
    torch.testing.assert_close(b(ids).logits, a(ids).logits)
    np.savez(tmp_path / "ids.npz", input_ids=ids.numpy(), labels=ids.numpy())
    model = ("--model", f"{__name__}:tiny_bert", "--data", tmp_path / "ids.npz", "--points", "3", "--json")
    ends = ("barrier", tmp_path / "a", tmp_path / "b", *model)
    found = json.loads(call(*ends))
    curve = rt.barrier(a, a, b, [{"input_ids": ids, "labels": ids}], (0, 0.5, 1))
    assert (found["loss"], found["metric_name"]) == (list(curve.loss), "perplexity")
    aligned = json.loads(call(*ends, "--alignment", tmp_path / "al"))
    assert max(aligned["loss"]) - min(aligned["loss"]) < 1e-5 < abs(found["loss"][1] - found["loss"][0])
