"""Keys of the digits preset: a change of any of them orphans stored results, so it has to be meant."""

from reticket.experiment import Task
from reticket.tasks.blueprint import BarrierCell, Blueprint, Cell, DataFacts
from reticket.tasks.presets import load_config

FACTS = DataFacts("0" * 64, 1297, tuple("0123456789"), (64,))


def digits() -> Blueprint:
    return Blueprint(load_config("digits")[1], FACTS)


def test_ten_keys_are_pinned() -> None:
    plan = digits()
    tasks: dict[str, Task] = {
        "symmetry": plan.symmetry,
        "dense": plan.runs[Cell("dense", None, None)][0],
        "imp": plan.runs[Cell("imp", 0.9, None)][0],
        "lth": plan.runs[Cell("lth", 0.98, "5ep")][0],
        "permuted": plan.runs[Cell("permuted", 0.98, "5ep")][1],
        "naive": plan.runs[Cell("naive", 0.98, "0ep")][1],
        "random-permutation": plan.runs[Cell("random-permutation", 0.9, "0ep")][0],
        "match": plan.alignments[2],
        "barrier": plan.barriers[BarrierCell("dense A to IMP A", True, 0.95)][0],
        "overlap": plan.overlaps[0.98][4],
    }
    assert {name: task.key[:12] for name, task in tasks.items()} == PINNED


PINNED: dict[str, str] = {
    "symmetry": "8b3dab59492e",
    "dense": "7281e5d3b918",
    "imp": "124446eb8f9f",
    "lth": "10d4b2e0a6b6",
    "permuted": "3fbac1342924",
    "naive": "e6785d5c057e",
    "random-permutation": "c60ec50ddcd3",
    "match": "2f1362cb8f30",
    "barrier": "1a3c9a1a49bd",
    "overlap": "cfc32402a70f",
}
