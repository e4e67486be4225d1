"""`python -m benchmarks.noise`: how much of a planted permutation is found as noise grows, by every contender.

As `benchmarks.planted`, but with noise from 1 % of the spread of each tensor to four times it. What of the contenders
takes many steps of training, or only begins otherwise, is left out.
"""

import argparse
from pathlib import Path

import torch

from benchmarks.contenders import CONTENDERS, PLAIN, REBASIN, Contender, why_not
from benchmarks.kept import Kept, Row
from benchmarks.planted import CASES, Case, measure

OUT = Path(__file__).parent / "results" / "noise.json"
NETWORKS = ("MLP 64-128-128-10", "conv 16-32-32-64", "ResNet20", "ViT 2 x 48")
MATCHED_BY = ("activation", PLAIN, "weight", REBASIN, "frank-wolfe", "combined, weights 1")
LEVELS = (0.01, 0.1, 0.3, 0.6, 1.0, 2.0, 4.0)  # in spreads of each tensor
SLOW = {"ResNet20": 2, "ViT 2 x 48": 2}  # draws of what takes longest


def main() -> None:
    """Measure what the file does not have."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noise", description=__doc__)
    parser.add_argument("--draws", type=int, default=5, help="of the smaller networks")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kept = Kept(arguments.out)
    for network in NETWORKS:
        draws = SLOW.get(network) or arguments.draws
        for contender in MATCHED_BY:
            if reason := why_not(contender, CASES[network].build()):
                kept.row(f"{network}, {contender}", lambda reason=reason: {"not measured": reason})
                continue
            for level in LEVELS:
                one = (CASES[network], CONTENDERS[contender], level, draws)
                kept.row(f"{network}, {contender}, noise {level:g}", lambda one=one: _row(*one))


def _row(case: Case, contender: Contender, level: float, draws: int) -> Row:
    try:
        return measure(case, contender, level, draws)
    except ValueError as error:
        return {"not measured": str(error)}


if __name__ == "__main__":
    main()
