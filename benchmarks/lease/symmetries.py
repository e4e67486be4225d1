"""Seconds of discovering the symmetry of some networks, in a process beside everything else, and of matching them."""

import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.pool import AsyncResult
from typing import Any

import torch
from torch import Tensor

from reticket.matching import match
from reticket.models import build_model
from reticket.rng import generator_for
from reticket.symmetry import Symmetry, discover

NETWORKS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "resnet20": ("resnet20", {"width": 1}, (3, 32, 32)),
    "resnet20 x4": ("resnet20", {"width": 4}, (3, 32, 32)),
    "resnet50": ("resnet50", {}, (3, 64, 64)),
}
TINY = {"resnet20": ("resnet20", {"width": 0.25}, (3, 32, 32))}
BATCHES, BATCH = 8, 256


class Discoveries:
    """Symmetries that a process of its own discovers on the CPU.

    Args:
        tiny: a rehearsal, with a small network.
    """

    def __init__(self, tiny: bool) -> None:
        self._networks = TINY if tiny else NETWORKS
        self._examples = (2, 8) if tiny else (BATCHES, BATCH)
        self._pool = multiprocessing.get_context("spawn").Pool(1)
        self._found: dict[str, AsyncResult[tuple[str, float]]] = {
            name: self._pool.apply_async(_discover, network) for name, network in self._networks.items()
        }

    def matched(self, device: str, wait: float) -> dict[str, Any]:
        """Return for every network the seconds of discovery and of matching two of it on the device.

        Args:
            device: where the networks run.
            wait: seconds that one is waited for.
        """
        answers: dict[str, Any] = {}
        for name, found in self._found.items():
            try:
                text, seconds = found.get(wait)
                answers[name] = {"discover_s": seconds, **self._match(name, Symmetry.from_json(text), device)}
            except multiprocessing.TimeoutError:
                answers[name] = {"skipped": f"not discovered within {wait:.0f} s"}
            except Exception as error:  # the other networks are worth having
                answers[name] = {"error": f"{type(error).__name__}: {str(error)[:500]}"}
        return answers

    def close(self) -> None:
        """End the process."""
        self._pool.terminate()
        self._pool.join()

    def _match(self, name: str, symmetry: Symmetry, device: str) -> dict[str, Any]:
        model, params, shape = self._networks[name]
        a, b = (build_model(model, generator=generator_for("lease", n), **params).to(device) for n in range(2))
        match(a, b, symmetry, self._batches(shape, device, 1))
        _wait(device)
        begun = time.perf_counter()
        match(a, b, symmetry, self._batches(shape, device, self._examples[0]), stop=None)
        _wait(device)
        return {"match_s": time.perf_counter() - begun, "match_examples": self._examples[0] * self._examples[1]}

    def _batches(self, shape: tuple[int, ...], device: str, many: int) -> Iterator[Tensor]:
        for number in range(many):
            generator = generator_for("lease", "inputs", number)
            yield torch.randn((self._examples[1], *shape), generator=generator).to(device)


def _discover(model: str, params: dict[str, Any], shape: tuple[int, ...]) -> tuple[str, float]:
    torch.set_num_threads(2)
    network = build_model(model, generator=generator_for("lease"), **params)
    begun = time.perf_counter()
    found = discover(network, torch.randn((2, *shape), generator=generator_for("lease", "example")))
    return found.to_json(), time.perf_counter() - begun


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
