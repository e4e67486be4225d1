"""How much of the true freedom is found: random tiny networks that have some, against all permutations of all axes.

Run `python -m tests.fuzz.probe --networks 50`. Counted are the tuples of one permutation for each axis of each
parameter that keep the function; freedom beyond these, as an order for each group of a grouped convolution, is not.
"""

import argparse
import itertools
import math
import random
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from reticket.symmetry import discover
from tests.fuzz.programs import Program, write_program
from tests.fuzz.steps import FIRST, STEPS

LARGEST = 6000
TOLERANCE = 1e-9


def tiny_programs(begin: int) -> Iterator[tuple[int, Program]]:
    """Random programs whose permutations can all be tried."""
    for number in itertools.count(begin):
        draw = random.Random(number)
        program = write_program(
            lambda options, draw=draw: draw.choice(list(options)),
            STEPS,
            first=FIRST,
            longest=8,
            sizes=(2, 2, 3),
            dims=(2, 2, 3),
        )
        model = program.build()
        axes = [size for p in model.parameters() for size in p.shape]
        count = math.prod(math.factorial(size) for size in axes)
        if axes and count <= LARGEST and not list(model.buffers()):
            yield number, program


def run(model: nn.Module, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """All outputs in one vector."""
    return torch.cat([y.flatten() for y in torch.func.functional_call(model, weights, (x,))])


def every_weight_counts(model: nn.Module, weights: dict[str, Tensor], x: Tensor) -> bool:
    """Whether every parameter changes the outputs: what has no effect may be permuted for no reason."""
    reference = run(model, weights, x)
    return all(
        not torch.allclose(run(model, {**weights, name: w + torch.rand_like(w)}, x), reference)
        for name, w in weights.items()
    )


def true_order(model: nn.Module, weights: dict[str, Tensor], x: Tensor) -> int:
    """Number of tuples of axis permutations that keep the function."""
    axes = [(name, axis) for name, w in weights.items() for axis in range(w.dim())]
    reference, kept = run(model, weights, x), 0
    for tuples in itertools.product(*(list(itertools.permutations(range(weights[n].shape[a]))) for n, a in axes)):
        moved = dict(weights)
        for (name, axis), order in zip(axes, tuples, strict=True):
            moved[name] = moved[name].index_select(axis, torch.tensor(order))
        error = (run(model, moved, x) - reference).abs().max() / reference.abs().max()
        kept += bool(error <= TOLERANCE)
    return kept


def main() -> None:
    """Print the freedom found and the true one, network by network and in all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=50)
    parser.add_argument("--begin", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="print the programs in which the two differ")
    given = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    found, true, complete, tried = 0.0, 0.0, 0, 0
    for number, program in tiny_programs(given.begin):
        model = program.build()
        weights = {name: p.detach() for name, p in model.named_parameters()}
        x = program.example()
        if not every_weight_counts(model, weights, x):
            continue
        order = math.log10(true_order(model, weights, x))
        if not order:
            continue
        own = discover(program.build(), program.example(), verify=False).log10_order
        tried, found, true = tried + 1, found + min(own, order), true + order
        complete += own > order - 1e-6
        if own < order - 1e-6 or own > order + 1e-6:
            print(f"program {number}: found {10**own:.0f} of {10**order:.0f}")
            print(program if given.show else "", end="")
        if tried == given.networks:
            break
    print(f"{complete} of {tried} networks complete; log10 of the freedom found {found:.2f} of {true:.2f}")


if __name__ == "__main__":
    main()
