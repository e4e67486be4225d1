"""The check of soups says what averaging the stored runs by hand says, and trains nothing that is there."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import reticket as rt
from reticket.errors import ConfigError
from reticket.experiment import Context, FolderStore, Task
from reticket.symmetry import Symmetry
from reticket.tasks.blueprint import Blueprint
from reticket.tasks.cells import Cell
from reticket.tasks.checks.soups import Soup, soups
from reticket.tasks.forecast import work_of
from reticket.tasks.inputs import dataset_for, model_for
from reticket.tasks.planning import plan_experiment
from reticket.tasks.presets import load_config
from reticket.tasks.tensors import WEIGHTS, alignment_in, mask_in, stripped
from reticket.tasks.work import Sizes, Work
from reticket.training import evaluate

TINY = Path(__file__).parents[1] / "e2e" / "tiny.toml"
SETTINGS = ("grid.seeds=2", "sparsities=[0.7]", 'rewinds=["1ep"]', 'methods=["lth", "permuted", "naive", "random"]',
            "checks.barriers=false", "overlap=false", "diversity_members=3", "soup_members=3",
            "soup_tickets=2")  # fmt: skip
FIRST, SECOND = "layers.0.weight", "layers.1.weight"


def planned(*settings: str) -> Blueprint:
    (found,) = plan_experiment(load_config(TINY, settings)[1])
    return found.blueprint


def by_hand(task: Task, stored: dict[str, Any]) -> tuple[list[float], float]:
    """Return the accuracy of each member in A's order of units, and of their mean, by indexing alone."""
    carried = []
    for number in range(3):
        weights = stripped(stored[f"member{number}"].tensors, WEIGHTS)
        if "alignment0" in stored:
            sym = Symmetry.from_json(stored["symmetry"].values["symmetry"])
            index = alignment_in(stored[f"alignment{number}"], sym).permutations[FIRST].index
            back = torch.empty_like(index)
            back[index] = torch.arange(len(index))
            weights = {
                FIRST: weights[FIRST][back],
                "layers.0.bias": weights["layers.0.bias"][back],
                SECOND: weights[SECOND][:, back],
                "layers.1.bias": weights["layers.1.bias"],
            }
        carried.append(weights)
    mask = mask_in(stored["ticket"])
    assert mask is not None
    for weights in carried:
        for name, kept in mask.items():
            assert not weights[name][~kept].any()
    model, dataset = model_for(task, "structure"), dataset_for(task, Context(1, "cpu", Path()))

    def accuracy(weights: dict[str, Tensor]) -> float:
        return evaluate(model, dataset, weights=weights).accuracy

    mean = {name: torch.stack([one[name] for one in carried]).mean(0) for name in carried[0]}
    return [accuracy(one) for one in carried], accuracy(mean)


@pytest.mark.slow
def test_it_says_what_averaging_the_stored_runs_by_hand_says(tmp_path: Path) -> None:
    results = rt.run(TINY, out=tmp_path, settings=SETTINGS)
    assert not results.failures
    rows, store = results.of(Soup), FolderStore(tmp_path / "store")
    assert [(row.method, row.members, row.n) for row in rows] == [("lth", 3, 2), ("permuted", 3, 2), ("naive", 3, 2)]
    for row, tasks in zip(rows, planned(*SETTINGS).of("soups").values(), strict=True):
        for ticket, task in enumerate(tasks):
            stored = {name: store.get(one.key) for name, one in task.inputs.items()}
            members, mean = by_hand(task, stored)
            assert members == [stored[f"member{number}"].values["accuracy"] for number in range(3)]
            assert row.mean_accuracy.values[ticket] == pytest.approx(sum(members) / 3)
            assert row.soup_accuracy.values[ticket] == pytest.approx(mean, abs=0.201)  # an image, by rounding
            kept = store.get(task.key)
            mask = mask_in(kept)
            assert mask is not None
            assert mask == mask_in(stored["ticket"])
            for name, weight in stripped(kept.tensors, WEIGHTS).items():
                assert name not in mask or not weight[~mask[name]].any()
    finding = soups(results)
    assert finding is not None
    assert "permuted" in finding.says[1]
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "Soups of one ticket" in text
    assert (tmp_path / "tables" / "soups.csv").read_text().startswith("method,sparsity,rewind,match_at,members,")


def test_members_are_runs_of_the_table_and_of_its_ensembles() -> None:
    plan = planned(*SETTINGS)
    found = plan.of("soups")
    assert list(found) == [Cell("lth", 0.7, "1ep"), Cell("permuted", 0.7, "1ep", "end"), Cell("naive", 0.7, "1ep")]
    ensembles = {one.cell: {task.key for task in tasks} for one, tasks in plan.of("diversity").items()}
    for cell, (first, second) in found.items():
        members = [{t.key for name, t in task.inputs.items() if name.startswith("member")} for task in (first, second)]
        assert members[0] == ensembles[cell]
        assert len(members[0] | members[1]) == 6
        assert ("alignment2" in first.inputs) is (cell.method == "permuted")
        assert work_of(first, None, Sizes(300, 500)) == Work(evaluated=4 * 300 + 2 * 500)
    assert (
        "alignment0"
        not in planned(*SETTINGS, "grid.frame=mask").of("soups")[Cell("permuted", 0.7, "1ep", "end")][0].inputs
    )
    assert planned(*SETTINGS, "soup_members=0", "soup_tickets=1").of("soups") == {}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (("soup_members=1",), "checks.soup_members is 1, but a soup is of 2 members at least; give more, or 0"),
        (("soup_members=0",), "checks.soup_tickets is 2, but a soup has 0 members; give soup_members, or leave it out"),
        (('methods=["erk"]',), "checks.soup_members is 3, but grid.methods ['erk'] has none whose runs keep the mask"),
        (('methods=["permuted+set"]',), "of A's ticket, lth, permuted, signed, naive, naive-signed; add one, or leave"),
    ],
)
def test_soups_that_there_cannot_be_are_refused(settings: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        planned(*SETTINGS, "diversity_members=0", *settings).of("soups")


def test_more_tickets_than_seeds_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"checks.soup_tickets is 3, but grid.seeds has 2; give more seeds"):
        planned(*SETTINGS, "soup_tickets=3").of("soups")
