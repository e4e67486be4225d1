"""Keys of the digits preset: a change of any of them orphans stored results, so it has to be meant."""

from reticket.experiment import Task
from reticket.tasks.blueprint import Blueprint
from reticket.tasks.cells import Cell
from reticket.tasks.checks.barriers import BarrierCell
from reticket.tasks.networks import Facts
from reticket.tasks.presets import load_config

FACTS = Facts("0" * 64, 1297, tuple("0123456789"), (64,))


def digits() -> Blueprint:
    return Blueprint(load_config("digits")[1], FACTS)


def test_ten_keys_are_pinned() -> None:
    plan = digits()
    tasks: dict[str, Task] = {
        "symmetry": plan.networks.symmetry,
        "dense": plan.runs[Cell("dense", None, None)][0],
        "imp": plan.runs[Cell("imp", 0.9, None)][0],
        "lth": plan.runs[Cell("lth", 0.98, "5ep")][0],
        "permuted": plan.runs[Cell("permuted", 0.98, "5ep", "end")][1],
        "naive": plan.runs[Cell("naive", 0.98, "0ep")][1],
        "random-permutation": plan.runs[Cell("random-permutation", 0.9, "0ep")][0],
        "match": plan.of("matching")["end"][2],
        "barrier": plan.of("barriers")[BarrierCell("dense A to IMP A", True, 0.95)][0],
        "overlap": plan.of("overlap")[0.98][4],
    }
    assert {name: task.key[:12] for name, task in tasks.items()} == PINNED


PINNED: dict[str, str] = {
    "symmetry": "1d228e66b40d",
    "dense": "ff465dcf1eec",
    "imp": "25711c1aa82c",
    "lth": "08919326a23a",
    "permuted": "3eb33ed5bcc7",
    "naive": "6ab6e9a4d5f2",
    "random-permutation": "8a5fe334c679",
    "match": "642d10a6326b",
    "barrier": "e0cfbaa8112f",
    "overlap": "8d07a4c708be",
}
