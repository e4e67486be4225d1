"""The GPT and its texts: causal, matched head by head, and made of the same rows on every reading."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import reticket as rt
from reticket.data import Dataset, open_dataset
from reticket.errors import DataError
from reticket.models.gpt import GPT, build_gpt

NAME = "reticket.models.gpt:build_gpt"


def tokens(n: int, length: int = 12) -> torch.Tensor:
    return torch.randint(20, (n, length), generator=rt.generator_for("tokens"))


def small() -> GPT:
    built = rt.build_model(NAME, vocabulary=20, context=12, width=24, depth=2, heads=3)
    assert isinstance(built, GPT)
    for p in built.parameters():  # larger than at the beginning, so that everything shows in the logits
        p.data.mul_(4).add_(0.3 * torch.randn(p.shape, generator=rt.generator_for("larger", *p.shape)))
    return built.eval()


def test_a_token_is_predicted_from_those_before_it_alone() -> None:
    model, x = small(), tokens(3)
    changed = x.clone()
    changed[:, 7] = (x[:, 7] + 1) % 20
    before, after = model(x), model(changed)
    assert before.shape == (3, 12, 20)
    assert_close(before[:, :7], after[:, :7])
    assert bool((before[:, 7] != after[:, 7]).any(-1).all())
    assert bool((before[:, 8:] != after[:, 8:]).any())


@pytest.mark.slow
def test_heads_are_groups_and_are_found_again() -> None:
    model = small()
    sym = rt.discover(model, tokens(2))
    sizes = {name: (group.size, group.copies) for name, group in sym.groups.items()}
    assert sizes == {
        "positions": (24, 1),
        **{f"blocks.{n}.attention.query.weight": (3, 1) for n in (0, 1)},
        **{f"blocks.{n}.attention.{what}.weight:1": (8, 3) for n in (0, 1) for what in ("query", "value")},
        **{f"blocks.{n}.widen.weight": (96, 1) for n in (0, 1)},
    }
    planted = rt.random_alignment(sym, rt.generator_for("planted"))
    scrambled = small()
    rt.load_into(scrambled, planted.inverse().apply(model.state_dict()))
    found = rt.match(scrambled, model, sym, [tokens(200)])
    assert all(torch.equal(found.permutations[n].index, planted.permutations[n].index) for n in sym.groups)


def test_texts_of_the_user_are_cut_into_rows_that_follow_on_each_other(tmp_path: Path) -> None:
    for name, text in (("b.txt", "0123456789" * 20), ("a.txt", "abcdé" * 20), ("c.md", "never read")):
        (tmp_path / name).write_text(text)
    data = open_dataset("reticket.data.text:load_text", folder=tmp_path, params={"context": 7})
    assert isinstance(data, Dataset)
    assert "".join(data.classes) == "0123456789abcdé\ufffd"
    first = data.split("test")  # every tenth row, from the first on
    assert "".join(data.classes[c] for c in first[0][0]) == "abcdéab"
    assert "".join(data.classes[c] for c in first[1][0]) == "bcdéabc"
    assert (data.size("test"), data.size("train")) == (5, 37)
    assert torch.equal(data.train_x[:8, -1], data.train_y[:8, -2])
    assert (
        data.fingerprint()
        == open_dataset("reticket.data.text:load_text", folder=tmp_path, params={"context": 7}).fingerprint()
    )


def test_what_is_rare_is_unknown_and_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ab" * 200_000 + "ö" + "ab" * 200)
    data = open_dataset("reticket.data.text:load_text", folder=tmp_path)
    assert data.classes == ("a", "b", "\ufffd")
    with pytest.raises(DataError, match=r"40 characters make 0 rows of 64; 10 are needed, give more text"):
        open_dataset("reticket.data.text:load_text", folder=tmp_path, params={"characters": 40})
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"has no \.txt files; name a folder of texts with --data"):
        open_dataset("reticket.data.text:load_text", folder=tmp_path / "empty")


def test_the_sources_of_python_are_there() -> None:
    data = open_dataset("reticket.data.text:load_text", params={"context": 32, "characters": 20_000})
    assert {"d", "e", "f", " ", "\n"} < set(data.classes)
    assert data.size("train") + data.size("test") == 19_999 // 32
    assert build_gpt().positions.shape == (64, 64)
