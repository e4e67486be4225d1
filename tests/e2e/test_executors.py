"""One experiment, whatever carries it out: the same keys, and the same bytes of every stored tensor and every value.

What differs between two runs, their times, stands in the manifests alone. Another executor is one more line of `WAYS`.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from reticket.experiment import ExecutionConfig
from reticket.tasks.presets import load_config
from reticket.tasks.running import run_experiment
from tests.e2e.test_killed import SMALL, TINY

SIZES: Mapping[str, Sequence[str]] = {"small": SMALL, "whole": ()}
FILES = ("values.json", "tensors.safetensors")


@dataclass(frozen=True)
class Way:
    """A way to carry a plan out; one whose package `needs` is missing is skipped."""

    executor: str
    jobs: int
    options: Sequence[tuple[str, Any]] = ()
    needs: str | None = None


WAYS = {
    "processes": Way("local", 2),
    "threads": Way("threads", 2),
    "ray": Way("ray", 2, needs="ray"),  # a cluster of its own, started and stopped
    "slurm": Way("slurm", 2, (("cluster", "local"),), needs="submitit"),  # the jobs of an array as processes
}


def stored(way: Way, size: str, out: Path) -> dict[str, bytes]:
    """Carry the experiment out and return every file of every result but the manifests."""
    execution = ExecutionConfig(jobs=way.jobs, executor=way.executor, options=dict(way.options))
    summary = run_experiment(load_config(TINY, SIZES[size])[1], out, execution=execution)
    assert summary.complete
    assert not summary.cached
    results = out / "store" / "results"
    found = {str(path.relative_to(results)): path.read_bytes() for name in FILES for path in results.rglob(name)}
    assert {Path(name).parent.name for name in found} == set(summary.done)
    return found


@pytest.fixture(scope="module")
def by_one_process(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The experiment of a size, carried out by one process, once."""
    return functools.cache(lambda size: stored(Way("local", 1), size, tmp_path_factory.mktemp(size)))


@pytest.mark.slow_cases(but=["small-ray"])
@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("size", SIZES)
def test_every_executor_stores_the_same(size: str, name: str, tmp_path: Path, by_one_process: Any) -> None:
    way = WAYS[name]
    if way.needs is not None and find_spec(way.needs) is None:
        pytest.skip(f"{way.needs} is not installed")
    expected, found = by_one_process(size), stored(way, size, tmp_path)
    assert found.keys() == expected.keys()
    assert [file for file in found if found[file] != expected[file]] == []
    assert len({Path(file).parent for file in found}) == (165 if size == "whole" else 16)
