"""The tables of the benchmarks of transfers: means and paired differences of the rows that are there."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import reticket as rt
from benchmarks import asymmetric, cifar10_hour, soups, sparse_runs, width_transfer
from benchmarks.sparse_runs import TABLE_ALONE, initial
from reticket.data.registry import describe
from reticket.tasks.config import Config
from reticket.tasks.presets import load_config
from reticket.training import Recipe, train


def framed(dense: float, naive: float) -> dict:
    shifts = (0.0, 0.2, -0.2)
    values = {"dense": dense, "lth": 96.0, "permuted": 95.0, "naive": naive}
    row = {method: [value + shift for shift in shifts] for method, value in values.items()}
    return {**row, "in place": [0.5, 0.25, 0.75], "differ": {"permuted": [1.0] * 3, "naive": [2.0, 3.0, 4.0]}}


def test_the_table_of_frames_pairs_seeds_with_the_ordinary_networks() -> None:
    cases = {"digits, ordinary": framed(97.5, 93.0), "digits, share 0.5": framed(97.0, 94.5)}
    cases |= {"fashion-conv, ordinary": framed(83.0, 79.0), "fashion-conv, share 0.5": framed(82.0, 79.0)}
    head, _, ordinary, share, _, other = asymmetric.table({**cases, "begun, share 0.5": framed(82.0, 79.0)})
    assert len(head.split("|")) == len(share.split("|"))
    assert ordinary == (
        "| digits | ordinary | 3 | 97.50 |  | 96.00 | 93.00 | +3.00 [+3.00, +3.00] | -2.00 [-2.00, -2.00] | 50 % "
        "| 3.0 % |"
    )
    assert "| -0.50 [-0.50, -0.50] | 96.00 | 94.50 | +1.50 [+1.50, +1.50] | -0.50 [-0.50, -0.50] |" in share
    assert other.startswith("| fashion-conv | share 0.5 | 3 | 82.00 | -1.00 [-1.00, -1.00] |")


@pytest.mark.parametrize("case", asymmetric.CASES)
@pytest.mark.parametrize("frame", [None, *asymmetric.FRAMES.values()])
def test_frames_are_of_experiments_that_there_are(case: str, frame: Mapping[str, Any] | None) -> None:
    _, config = asymmetric.config_of(case, frame, 2)
    assert (config.grid.methods, config.grid.seeds) == (asymmetric.METHODS, (0, 1))
    assert config.model.params.get("asymmetric") == frame


@pytest.mark.parametrize("case", soups.CASES.values(), ids=str)
def test_soups_are_of_experiments_whose_schedule_can_be_stretched(case: soups.Case) -> None:
    settings = [f"grid.sparsities=[{case.sparsity}]", f'grid.rewinds=["{case.rewind}"]', *TABLE_ALONE]
    recipe = load_config(case.preset, settings)[1].sparse_recipe
    assert (recipe.schedule, recipe.warmup_epochs) == ("cosine", 0)


def test_the_table_of_widths_holds_the_pairs_that_were_measured() -> None:
    accuracies = dict.fromkeys(width_transfer.METHODS, 90.0)
    row = {f"{s:.0%}": {**accuracies, "widened": 92.0, "imp-b": 93.5} for s in (0.9, 0.95, 0.98)}
    names = ("x2, seed 0", "x2, seed 1", "x4, seed 0", "fashion-conv, x4, seed 0", "fashion-conv, x4, seed 1")
    head, rule, *rows = width_transfer.table(dict.fromkeys(names, row))
    assert [one.split("|")[1:5] for one in rows] == [
        [" digits ", " x2 ", " 95% ", " 2 "],
        [" digits ", " x2 ", " 98% ", " 2 "],
        [" fashion-conv ", " x4 ", " 90% ", " 2 "],
    ]
    assert len({len(one.split("|")) for one in (head, rule, *rows)}) == 1
    assert rows[0].endswith(
        "| +2.00 [+2.00, +2.00] | +2.00 [+2.00, +2.00] | +2.00 [+2.00, +2.00] | +1.50 [+1.50, +1.50] |"
    )


@pytest.mark.parametrize("name", width_transfer.CASES)
def test_widths_are_those_of_networks_that_there_are(name: str) -> None:
    case = width_transfer.CASES[name]
    for factor in (1, *width_transfer.FACTORS):
        config = case.config(factor, 0)
        model = initial(config, "A", 0)
        assert [group.size for group in rt.discover(model, example_of(config)).groups.values()] == [
            factor * width for width in case.narrow
        ]


def example_of(config: Config) -> torch.Tensor:
    return torch.zeros(2, *describe(config.data.name).input_shape)


SMALL = """
[data]
name = "digits"
train_size = 200

[model]
name = "mlp"
params = { in_features = 64, hidden = [16], classes = 10 }

[dense]
epochs = 3
batch_size = 50
lr = 0.1

[sparse]
lr = 0.1

[prune]
style = "finetune"
rate = 0.5
epochs = 1
lr = 0.02

[matching]
samples = 100

[grid]
sparsities = [0.75]
rewinds = ["1ep"]
methods = ["lth", "permuted", "signed"]
"""


def test_one_run_as_long_as_one_member_is_the_run_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small.toml").write_text(SMALL)
    case = soups.Case(str(tmp_path / "small.toml"), 0.75, "1ep", 2, ("lth", "permuted", "signed"))
    measuring = soups.Measuring(case, 2, tmp_path / "store")
    row = measuring.row(1)
    table = {r.method: r.values[1] for r in measuring.results.rows if r.metric == "accuracy" and r.method != "imp"}
    measuring.case = replace(case, members=1)
    assert {method: measuring.single(method, 1) for method in case.methods} == table
    assert {method: values["one run"] for method, values in row.items() if method != "seconds"} != table
    seen: list[Recipe] = []
    monkeypatch.setattr(sparse_runs, "train", lambda *args, **options: seen.append(args[2]) or train(*args, **options))
    measuring.case = replace(case, members=3)
    measuring.single("permuted", 1)
    assert [recipe.epochs for recipe in seen[-1:]] == [1 + 3 * 2], "epoch 1 on, three times two epochs"
    soup = next(one for one in measuring.results.of(soups.Soup) if one.method == "signed")
    assert row["signed"]["with REPAIR"] == soup.repaired_accuracy.values[1]


def test_the_table_of_soups_has_a_row_a_method_of_the_case() -> None:
    values = dict(zip((*soups.FIELDS, "one run"), (90.0, 80.0, 85.0, 92.0, 91.0), strict=True))
    rows: dict[str, Any] = {
        f"fashion-conv, seed {seed}": dict.fromkeys(("lth", "permuted", "signed"), values) for seed in range(3)
    }
    rows["digits, seed 0"] = {}
    head, _, *lines = soups.table(rows)
    assert [line.split("|")[2].strip() for line in lines] == ["lth", "permuted", "signed"]
    assert lines[0] == (
        "| fashion-conv | lth | 3 | 3 | 90.00 | 80.00 | 85.00 | 92.00 | 91.00 | -5.00 [-5.00, -5.00] | "
        "+6.00 [+6.00, +6.00] |"
    )
    assert len(head.split("|")) == len(lines[0].split("|"))


def test_the_table_of_cifar10_hour_stands_beside_the_cells_of_the_paper() -> None:
    first = {"dense": 85.5, "lth": 85.0, "permuted": 82.0, "naive": 81.0}
    lines = cifar10_hour.table([first, {name: value + 1.0 for name, value in first.items()}])
    assert "| lth | 85.50 ± 0.71 | 91.18 ± 0.27 |" in lines
    assert "| permuted | 82.50 ± 0.71 | 89.23 |" in lines
    assert "| permuted - naive | +1.00 [+1.00, +1.00] | +0.40 |" in lines
    assert len(cifar10_hour.table([first])) == 6, "one pair has no interval"
    grid = load_config(cifar10_hour.PRESET)[1].grid
    assert set(grid.methods) == set(cifar10_hour.METHODS)
    assert (grid.sparsities, grid.rewinds, grid.match_at) == ((0.9,), ("2ep",), ("2ep",))
