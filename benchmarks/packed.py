"""`python -m benchmarks.packed`: what a packed ticket costs to run and to train, beside the dense network and CSR.

A network of four layers 1024 wide at 90 % sparsity, in every pattern, and batches of 1, 32 and 256; microseconds of
processor time of one thread, the fastest of several turns in which all ways are measured one after another. `--page`
writes the table between the marks of a page.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import reticket as rt
from benchmarks.marks import write_between
from reticket.experiment import ExecutionConfig
from reticket.packed import FORMATS
from reticket.rng import generator_for
from reticket.tasks.running import environment_of

OUT = Path(__file__).parent / "results" / "packed.json"
WIDTH, LAYERS, TURNS, AT_LEAST = 1024, 4, 7, 0.05  # AT_LEAST: seconds of a turn
BATCHES = (1, 32, 256)
PATTERNS = {"fan-in": 0.1, "any": 0.1, "16x16": 0.1, "1:8": 0.125}  # with the density
BEGIN, END = "<!-- packed: written by python -m benchmarks.packed -->", "<!-- end of packed -->"


def network() -> nn.Sequential:
    """Return the dense network."""
    layers = [one for _ in range(LAYERS) for one in (nn.Linear(WIDTH, WIDTH), nn.ReLU())]
    model = nn.Sequential(*layers)
    for number, layer in enumerate(model):
        if isinstance(layer, nn.Linear):
            generator = generator_for("packed", number)
            layer.weight.data = torch.randn(WIDTH, WIDTH, generator=generator) * (2 / WIDTH) ** 0.5
    return model.eval()


def mask_of(model: nn.Module, pattern: str) -> rt.Mask:
    """Return the mask of the largest weights in a pattern."""
    named = None if pattern == "any" else pattern
    return rt.prune(model, PATTERNS[pattern], pattern=named, scope="layer")


def ways(model: nn.Module, mask: rt.Mask, x: Tensor) -> tuple[dict[str, nn.Module], list[str]]:
    """Return the networks that are compared, and the formats that were chosen."""
    packed, choices = rt.compile_sparse(model, mask, x)
    csr, _ = rt.compile_sparse(model, mask, x, formats="csr")
    return {"dense": model, "csr": csr, "packed": packed}, list(dict.fromkeys(choice.format for choice in choices))


def forward(model: nn.Module, x: Tensor) -> Callable[[], object]:
    """Return what runs the network without gradients."""

    def run() -> object:
        with torch.no_grad():
            return model(x)

    return run


def step(model: nn.Module, x: Tensor) -> Callable[[], object]:
    """Return a step of SGD."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)

    def run() -> None:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    return run


def timed(runs: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return microseconds of each, the least of several turns."""
    least = dict.fromkeys(runs, float("inf"))
    for _ in range(TURNS):
        for name, run in runs.items():
            count, begun = 0, time.process_time()
            while (taken := time.process_time() - begun) < AT_LEAST:
                run()
                count += 1
            least[name] = min(least[name], taken / count * 1e6)
    return least


def measure() -> list[dict[str, Any]]:
    """Return a row for every pattern, batch and kind of run."""
    rows = []
    for pattern in PATTERNS:
        model = network()
        mask = mask_of(model, pattern)
        for batch in BATCHES:
            x = torch.randn(batch, WIDTH, generator=generator_for("packed", "x", batch))
            compared, formats = ways(model, mask, x)
            for kind, make in (("forward", forward), ("training step", step)):
                times = timed({name: make(one, x) for name, one in compared.items()})
                rows.append({"pattern": pattern, "batch": batch, "run": kind, "formats": formats, **times})
                print(rows[-1], flush=True)
    return rows


def page(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| pattern | density | batch | run | dense, µs | CSR, µs | packed, µs | format | times as fast as dense |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        pattern, times = row["pattern"], [f"{row[way]:.0f}" for way in ("dense", "csr", "packed")]
        cells = [pattern, PATTERNS[pattern], row["batch"], row["run"], *times, ", ".join(row["formats"])]
        lines += [f"| {' | '.join(map(str, cells))} | {row['dense'] / row['packed']:.2f} |"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.packed", description=__doc__)
    parser.add_argument("--page", type=Path, help="page that the table goes into")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {
        "environment": environment_of(ExecutionConfig()),
        "formats": list(FORMATS),
        "rows": measure(),
    }
    OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if arguments.page is not None:
        write_between(arguments.page, BEGIN, END, page(found["rows"]))


if __name__ == "__main__":
    main()
