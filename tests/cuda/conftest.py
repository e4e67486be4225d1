"""Where the tests of this folder compute: on a GPU; without one they are skipped, or rehearsed on the CPU."""

import pytest
import torch

from tests.cuda.cases import REHEARSED, RehearsedRun


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> str:
    if REHEARSED:
        monkeypatch.setattr("reticket.training.loop.TrainingRun", RehearsedRun)
        return "cpu"
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU: torch sees none")
    return "cuda"
