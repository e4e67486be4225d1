"""`python -m benchmarks.planted`: how often a planted permutation is found, exact copies and copies with 1 % noise.

A network is drawn, its units are put in a random order, and in half of the cases noise of 1 % of the spread of each
tensor is added. A draw counts as found when every unit that varies is matched to its copy.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import reticket as rt
from benchmarks.contenders import CONTENDERS, Batches, Contender
from reticket.experiment import ExecutionConfig
from reticket.models.gpt import build_gpt
from reticket.rng import generator_for
from reticket.symmetry import capture
from reticket.tasks.running import environment_of

HERE = Path(__file__).parent
EXAMPLES, NOISE = 128, 0.01


class Recurrent(nn.Module):
    """Two layers of an LSTM between linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm, self.fc = nn.Linear(8, 16), nn.LSTM(16, 32, 2, batch_first=True), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores at the last step."""
        return self.fc(self.lstm(self.embed(x))[0][:, -1])


def _drawn(*shape: int) -> Callable[[int], Tensor]:
    return lambda count: torch.randn(count, *shape, generator=generator_for("planted inputs", *shape))


def _tokens(count: int) -> Tensor:
    return torch.randint(64, (count, 32), generator=generator_for("planted tokens"))


@dataclass(frozen=True)
class Case:
    """A network and inputs of it."""

    build: Callable[[], nn.Module]
    inputs: Callable[[int], Tensor]

    def batches(self) -> Batches:
        """Return what is matched on; no contender that is measured here looks at labels."""
        inputs = self.inputs(EXAMPLES)
        return list(zip(inputs.split(64), torch.zeros(EXAMPLES).long().split(64), strict=True))


def _built(name: str, **params: Any) -> Callable[[], nn.Module]:
    return lambda: rt.build_model(name, **params)


CASES = {
    "MLP 64-128-128-10": Case(_built("mlp"), _drawn(64)),
    "VGG11, width 0.25": Case(_built("vgg11", width=0.25), _drawn(3, 32, 32)),
    "conv 16-32-32-64": Case(_built("conv-small"), _drawn(1, 28, 28)),
    "ResNet20": Case(_built("resnet20"), _drawn(3, 32, 32)),
    "ViT 2 x 48": Case(_built("vit"), _drawn(64)),
    "GPT 2 x 32": Case(lambda: build_gpt(64, 32, 32, 2, 4), _tokens),
    "LSTM 2 x 32": Case(Recurrent, _drawn(6, 8)),
}


def measure(case: Case, contender: Contender, noise: float, draws: int) -> dict[str, Any]:
    """Return how often the planted permutation was found, of what share of units, and processor seconds a draw."""
    found, shares, seconds = 0, 0.0, 0.0
    for draw in range(draws):
        model, other, planted = planted_pair(case, noise, draw)
        symmetry, batches = _symmetry(case), case.batches()
        begun = time.process_time()
        alignment = contender(model, other, symmetry, batches)
        seconds += time.process_time() - begun
        share = _share(alignment, planted, _varying(model, symmetry, case))
        found, shares = found + (share == 1), shares + share
    return {"found": found, "draws": draws, "units": shares / draws, "seconds": round(seconds / draws, 4)}


def planted_pair(case: Case, noise: float, draw: int) -> tuple[nn.Module, nn.Module, rt.Alignment]:
    """Return a network of a case, its copy in another order with noise in it, and the order.

    Args:
        case: what is drawn.
        noise: in spreads of each tensor.
        draw: number of the draw.
    """
    with torch.random.fork_rng():
        torch.manual_seed(draw)
        model = case.build().eval()
    planted = rt.random_alignment(_symmetry(case), draw)
    other = copy.deepcopy(model)
    rt.load_into(other, planted.apply(model.state_dict()))
    _disturb(other, noise, draw)
    return model, other, planted


_known: dict[int, rt.Symmetry] = {}


def _symmetry(case: Case) -> rt.Symmetry:
    if id(case) not in _known:
        _known[id(case)] = rt.discover(case.build(), case.inputs(2))
    return _known[id(case)]


def _disturb(model: nn.Module, noise: float, draw: int) -> None:
    with torch.no_grad():
        for number, tensor in enumerate(model.parameters()):
            drawn = torch.randn(tensor.shape, generator=generator_for("planted noise", draw, number))
            tensor += noise * tensor.std(unbiased=False) * drawn


def _varying(model: nn.Module, symmetry: rt.Symmetry, case: Case) -> dict[str, Tensor]:
    """Return by group which units ever change, where the group stands alone in an activation; all where it does not."""
    found: dict[str, Tensor] = {}

    def look(site: Any, tensor: Tensor) -> None:
        for name in site.groups:
            if not symmetry.groups[name].parents and set(site.companions(name)) == {frozenset()}:
                rows = site.units(tensor, name)
                varies = rows.amax(dim=-1) > rows.amin(dim=-1)
                found[name] = found.get(name, torch.zeros_like(varies)) | varies

    with torch.no_grad(), capture(model, symmetry.sites, look):
        model(case.inputs(EXAMPLES))
    return found


def _share(alignment: rt.Alignment, planted: rt.Alignment, varying: dict[str, Tensor]) -> float:
    """Return the share of the units that vary which were matched to their copy."""
    right = []
    for name, permutation in planted.permutations.items():
        equal = alignment.permutations[name].index == permutation.index
        moves = varying[name][permutation.index] if name in varying else torch.ones_like(equal)
        right.append(equal[moves])
    return float(torch.cat(right).double().mean())


def main() -> None:
    """Measure every network by both methods, print a table and keep it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planted", description=__doc__)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--method", action="append", choices=["activation", "weight"])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "planted.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads(arguments.out.read_text("utf-8")) if arguments.out.exists() else {"cases": {}}
    for name in arguments.case or CASES:
        for method in arguments.method or ("activation", "weight"):
            for noise in (0.0, NOISE):
                row = measure(CASES[name], CONTENDERS[method], noise, arguments.draws)
                found["cases"][f"{name}, {method}, noise {noise:g}"] = row
                found["environment"] = environment_of(ExecutionConfig())
                arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
                print(
                    f"{name:20} {method:10} noise {noise:4g}: {row['found']} of {row['draws']}, {row['seconds']} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
