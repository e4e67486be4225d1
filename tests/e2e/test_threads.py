"""A whole experiment in threads of one process gives the bytes that it gives in processes."""

from pathlib import Path

import pytest

from reticket.experiment import ExecutionConfig, Summary
from reticket.tasks.config import Config
from reticket.tasks.presets import load_config
from reticket.tasks.running import run_experiment

TINY = Path(__file__).with_name("tiny.toml")
SMALLER = ("grid.seeds=2", "grid.rewinds=['1ep']", "checks.diversity_members=0", "grid.sparsities=[0.4]")


def config() -> Config:
    return load_config(TINY, SMALLER)[1]


def carry_out(executor: str, jobs: int, folder: Path) -> tuple[Summary, dict[str, bytes]]:
    summary = run_experiment(config(), folder, execution=ExecutionConfig(jobs=jobs, executor=executor))
    results = folder / "store" / "results"
    files = [path for path in sorted(results.rglob("*")) if path.name in ("values.json", "tensors.safetensors")]
    return summary, {str(path.relative_to(results)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def by_processes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return carry_out("processes", 2, tmp_path_factory.mktemp("processes"))[1]


@pytest.mark.slow
def test_threads_give_the_bytes_of_processes(tmp_path: Path, by_processes: dict[str, bytes]) -> None:
    summary, files = carry_out("threads", 4, tmp_path)
    assert summary.complete
    assert len(summary.done) > 40
    assert files.keys() == by_processes.keys()
    assert [name for name in files if files[name] != by_processes[name]] == []
