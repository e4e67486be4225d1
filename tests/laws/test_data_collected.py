"""Anybody's torch data sets in memory: what they are is seen, whatever puts their items together, and trained on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import reticket as rt
from reticket.data import collected, open_dataset
from reticket.errors import ConfigError, DataError
from reticket.tasks.planning import plan_experiment
from reticket.tasks.presets import load_config
from reticket.training import evaluate

HERE = __name__
TINY = Path(__file__).parents[1] / "e2e" / "tiny.toml"


def drawn(*shape: int, high: int = 0, seed: str = "x") -> Tensor:
    """Return numbers, or whole ones below `high`."""
    generator = rt.generator_for("collected", seed, *shape)
    return torch.randint(high, shape, generator=generator) if high else torch.randn(shape, generator=generator)


class Rows(Dataset):
    """Items as mappings, with names of classes."""

    classes = ("cat", "dog", "owl")

    def __init__(self, n: int) -> None:
        self.x, self.y = drawn(n, 6), drawn(n, high=3)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, at: int) -> Mapping[str, Any]:
        return {"values": self.x[at], "label": self.y[at]}


KINDS: dict[str, tuple[Any, Any, tuple[int, ...], int]] = {
    "images of bytes": (drawn(20, 3, 8, 8, high=256).to(torch.uint8), drawn(20, high=4), (3, 8, 8), 4),
    "floating images": (drawn(20, 3, 8, 8).double(), drawn(20, high=4), (3, 8, 8), 4),
    "features": (drawn(20, 6), drawn(20, high=4), (6,), 4),
    "sequences of features": (drawn(20, 5, 6), drawn(20, high=4), (5, 6), 4),
    "tokens": (drawn(20, 5, high=11), drawn(20, 5, high=11, seed="y"), (5,), 11),
    "numbers to be predicted": (drawn(20, 6), drawn(20, 2, seed="y"), (6,), 2),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loader", [False, True])
def test_what_the_items_are_is_seen(kind: str, loader: bool) -> None:
    x, y, shape, classes = KINDS[kind]
    part: Any = TensorDataset(x, y)
    if loader:
        part = DataLoader(part, batch_size=3, shuffle=True)  # the order is no part of a data set
    found = collected("mine", (part, part))
    assert (found.input_shape, len(found.classes)) == (shape, classes)
    assert found.is_tokens == (kind == "tokens")
    assert found.is_classified == (kind not in ("tokens", "numbers to be predicted"))
    assert_close(found.train_y, y if y.dtype == torch.int64 else y.float())
    ready = found.normalise(found.train_x)
    if kind == "images of bytes":
        assert_close(ready.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-4)
        assert_close(ready.std((0, 2, 3), correction=0), torch.ones(3), rtol=0, atol=1e-3)
    else:
        assert_close(ready, x if kind == "tokens" else x.float())
    assert found.fingerprint() == collected("mine", (part, part)).fingerprint()


def test_a_mapping_and_its_classes_are_understood() -> None:
    found = collected("rows", {"train": Rows(30), "validation": Rows(10)})
    assert found.classes == ("cat", "dog", "owl")
    assert torch.equal(found.train_x, Rows(30).x)
    assert torch.equal(found.test_y, Rows(10).y)


def load_rows(folder: Path | None, *, n: int = 300) -> tuple[Rows, Rows]:
    """Return torch data sets, as a loader of one's own may."""
    return Rows(n), Rows(60)


def load_texts(folder: Path | None) -> tuple[TensorDataset, TensorDataset]:
    """Return tokens of which each is followed by its double, modulo 11."""
    first = drawn(160, 1, high=11)
    x = torch.cat([first * 2**place % 11 for place in range(6)], 1)
    return TensorDataset(x[:120, :-1], x[:120, 1:]), TensorDataset(x[120:, :-1], x[120:, 1:])


def load_numbers(folder: Path | None) -> tuple[TensorDataset, TensorDataset]:
    """Return features and their sum."""
    x = drawn(200, 6)
    return TensorDataset(x[:150], x[:150].sum(1)), TensorDataset(x[150:], x[150:].sum(1))


def test_a_loader_of_ones_own_may_return_them_and_a_part_is_taken() -> None:
    found = open_dataset(f"{HERE}:load_rows", params={"n": 90}, train_size=30)
    assert found.labels("train").bincount().tolist() == [10, 10, 10]
    text = open_dataset(f"{HERE}:load_texts", train_size=50, test_size=7)
    assert (text.size("train"), text.size("test")) == (50, 7)
    assert text.labels("test").shape == (7, 5)
    with pytest.raises(DataError, match="121 inputs cannot be taken of 120; choose from 1 to 120"):
        open_dataset(f"{HERE}:load_texts", train_size=121)


class NextToken(nn.Module):
    """Tokens in, logits of the next ones out."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embed, self.wide, self.out = (
            nn.Embedding(vocabulary, width),
            nn.Linear(width, 32),
            nn.Linear(32, vocabulary),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, tokens, vocabulary)."""
        return self.out(torch.relu(self.wide(self.embed(x))))


def next_token(vocabulary: int = 11, width: int = 16) -> NextToken:
    """Return such a network."""
    return NextToken(vocabulary, width)


RECIPE = rt.Recipe(30, 20, 0.01, weight_decay=0.0, optimizer="adamw")


def test_a_model_of_tokens_is_trained_and_evaluated_token_by_token() -> None:
    data, model = open_dataset(f"{HERE}:load_texts"), next_token()
    recipe = rt.Recipe(30, 20, 0.01, weight_decay=0.0, optimizer="adamw", objective="language-model")
    found = evaluate(model, data, weights=rt.train(model, data, recipe).weights)
    assert found.logits.shape == (40 * 5, 11)
    assert found.accuracy > 95
    assert evaluate(model, data).accuracy < 50


def test_numbers_are_predicted() -> None:
    data, model = open_dataset(f"{HERE}:load_numbers"), nn.Linear(6, 1)
    recipe = rt.Recipe(60, 20, 0.05, weight_decay=0.0, optimizer="adamw", objective="regression")
    result = rt.train(model, data, recipe)
    assert result.history[0].loss > 1
    assert result.history[-1].loss < 1e-3


def test_an_experiment_on_tokens_runs_to_its_report(tmp_path: Path) -> None:
    """Accuracy is the share of tokens that are right; barriers are those of the mean loss of a token."""
    settings = [
        f"data.name={HERE}:load_texts", f"model.name={HERE}:next_token", "dense.objective=language-model",
        "dense.optimizer=adamw", "dense.lr=0.02", "sparse.lr=0.02", "grid.seeds=2", "grid.sparsities=[0.5]",
        'grid.rewinds=["0it"]', 'grid.methods=["dense", "imp", "lth", "permuted", "naive"]', "dense.epochs=12",
        "checks.diversity_members=2",
    ]  # fmt: skip
    values = load_config(TINY, ["grid.seeds=1"])[1].model_dump()
    assert values["data"]["train_size"] == 300
    source = tmp_path / "text.toml"
    source.write_text(
        TINY.read_text()
        .replace("train_size = 300\n", "")
        .replace("params = { in_features = 64, hidden = [16], classes = 10 }\n", "")
    )
    config = load_config(source, settings)[1]
    results = rt.run(config, out=tmp_path / "out", name="text")
    assert results.complete, results.failures
    rows = {row.method: row for row in results.rows if row.metric == "accuracy"}
    assert all(value is not None and value > 60 for value in rows["dense"].values)
    barriers = [one for one in results.to_json()["barriers"] if one["pair"] == "A to B"]
    assert all(len(curve) == 3 for curve in barriers[0]["accuracy"])
    assert (results.folder / "report.html").stat().st_size > 10_000


def test_data_that_fit_no_experiment_are_named() -> None:
    text = [f"data.name={HERE}:load_texts", f"model.name={HERE}:next_token"]
    source = load_config(TINY, text)[1].model_copy(
        update={"model": load_config(TINY, text)[1].model.model_copy(update={"params": {}})}
    )
    source = source.model_copy(update={"data": source.data.model_copy(update={"train_size": None})})
    with pytest.raises(
        ConfigError, match=r"has a label for each token, which dense\.objective 'classification' has no use"
    ):
        plan_experiment(source)
    numbers = source.model_copy(update={"data": source.data.model_copy(update={"name": f"{HERE}:load_numbers"})})
    with pytest.raises(
        ConfigError, match=r"has numbers to be predicted, which dense\.objective 'classification' has no use for"
    ):
        plan_experiment(numbers)


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(2), 0


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (3, r"loader 'odd' returned a int, but a reticket\.data\.Dataset was expected, or a training and a test part"),
        (
            (Stream(), Stream()),
            r"has a part that is a Stream, which cannot be read by number; give a data set with __le",
        ),
        (
            ([torch.zeros(2)], [torch.zeros(2)]),
            r"has items that make a Tensor, but inputs and labels as tensors were ex",
        ),
        (
            ([{"a": torch.zeros(2)}], [{"a": torch.zeros(2)}]),
            r"has items that make a mapping of a, but inputs and label",
        ),
        (([], []), r"has a part without items; give at least one"),
    ],
)
def test_what_is_no_data_set_is_named(parts: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        collected("odd", parts)


def test_a_saved_data_set_of_hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets: Any = pytest.importorskip("datasets", reason="a saved data set needs the package datasets")
    names = datasets.ClassLabel(names=["no", "yes"])
    rows = {"x": drawn(8, 3).tolist(), "label": [0, 1] * 4, "id": list(range(8))}
    features = datasets.Features(
        {"x": datasets.Sequence(datasets.Value("float32")), "label": names, "id": datasets.Value("int64")}
    )
    part = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": part, "test": part}).save_to_disk(str(tmp_path / "saved"))
    found = open_dataset("reticket.data.saved:load_saved", folder=tmp_path / "saved", params={"value": "x"})
    assert (found.classes, found.input_shape) == (("no", "yes"), (3,))
    assert_close(next(found.stored("train", 8))[0], drawn(8, 3))
    part.save_to_disk(str(tmp_path / "one"))
    with pytest.raises(DataError, match="holds one part; save a DatasetDict with train and test"):
        open_dataset("reticket.data.saved:load_saved", folder=tmp_path / "one")


def test_that_package_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="a data set of Hugging Face needs the package datasets; install it with pip"):
        open_dataset("reticket.data.saved:load_saved")
