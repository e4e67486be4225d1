"""The check of how far a matching can be trusted says what matching the stored networks again says."""

from pathlib import Path
from typing import Any

import pytest

import reticket as rt
from reticket.experiment import Context, FolderStore, Task
from reticket.symmetry import Symmetry
from reticket.tasks.checks.trust import Trust
from reticket.tasks.forecast import work_of
from reticket.tasks.inputs import dataset_for, network_of, reading_for
from reticket.tasks.planning import plan_experiment
from reticket.tasks.presets import load_config
from reticket.tasks.tensors import WEIGHTS, alignment_in, mask_in, stripped
from reticket.tasks.work import Sizes, Work

TINY = Path(__file__).parents[1] / "e2e" / "tiny.toml"
SETTINGS = ("grid.seeds=2", "sparsities=[0.7]", 'rewinds=["1ep"]', 'methods=["permuted"]', "checks.barriers=false",
            "overlap=false", "diversity_members=0", "trust_halves=3", "trust_samples=120",
            "matching.batch_size=12")  # fmt: skip


def planned_tasks(*settings: str) -> tuple[Task, ...]:
    (planned,) = plan_experiment(load_config(TINY, settings)[1])
    return planned.blueprint.of("trust").get("end", ())


@pytest.mark.slow
def test_it_says_what_matching_the_stored_networks_again_says(tmp_path: Path) -> None:
    results = rt.run(TINY, out=tmp_path, settings=SETTINGS)
    assert not results.failures
    rows, tasks = results.of(Trust), planned_tasks(*SETTINGS)
    assert [(row.group, row.units, row.match_at) for row in rows] == [("layers.0.weight", 16, "end")]
    store = FolderStore(tmp_path / "store")
    for seed, task in enumerate(tasks):
        earlier, signs = by_hand(task, {name: store.get(one.key) for name, one in task.inputs.items()})
        assert rows[0].changed_earlier.values[seed] == pytest.approx(100 * earlier)
        assert rows[0].signs.values[seed] == pytest.approx(100 * signs)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "How far the matching can be trusted" in text
    assert (tmp_path / "tables" / "trust.csv").read_text().startswith("group,units,match_at,correlation_mean,")


def by_hand(task: Task, stored: dict[str, Any]) -> tuple[float, float]:
    """Return the share of units with another partner earlier, on all inputs of the check, and of signs that agree."""
    sym = Symmetry.from_json(stored["symmetry"].values["symmetry"])
    alignment = alignment_in(stored["alignment"], sym)
    a, b = (stripped(stored[side].tensors, WEIGHTS) for side in "ab")
    mask = mask_in(stored["kept"])
    assert mask is not None
    context = Context(1, "cpu", Path())
    before_a, before_b = (network_of(task, stored[f"earlier_{side}"]) for side in "ab")
    batches = reading_for(task, dataset_for(task, context), "train", context)
    index = rt.match(before_a, before_b, sym, batches).permutations["layers.0.weight"].index
    earlier = float((index != alignment.permutations["layers.0.weight"].index).double().mean())
    alike = kept = 0
    for name in ("layers.0.weight", "layers.1.weight"):
        there = alignment.tensor(name, mask[name])
        alike += int((alignment.tensor(name, a[name]).sign() == b[name].sign())[there].sum())
        kept += int(there.sum())
    return earlier, alike / kept


def test_it_is_planned_where_it_is_asked_for_and_the_table_moves_tickets() -> None:
    assert planned_tasks(*SETTINGS[:-3]) == ()
    assert planned_tasks(*SETTINGS, 'methods=["lth"]') == ()
    task = planned_tasks(*SETTINGS)[1]
    assert {"a", "b", "earlier_a", "earlier_b", "kept", "alignment", "symmetry"} == set(task.inputs)
    assert (task.spec["halves"], task.spec["samples"], task.spec["batch_size"]) == (3, 120, 12)
    assert work_of(task, None, Sizes(300, 500)) == Work(evaluated=2 * (1 + 1.5 + 1) * 120)
    assert "earlier_a" not in planned_tasks(*SETTINGS, 'rewinds=["0it"]')[0].inputs
