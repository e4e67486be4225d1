"""No random network changes its function: what the rules alone leave free is a symmetry, at other lengths too.

`make test` tries 25 networks, `make test-all` 100, `make fuzz` 5,000; `RETICKET_FUZZ` is their number,
`RETICKET_FUZZ_SEED` that of the first one, so that a run goes on where another one stopped.
"""

import math
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, fx

from reticket.errors import VerificationError
from reticket.rng import generator_for
from reticket.symmetry import Symmetry, random_alignment
from reticket.symmetry.discover import without
from reticket.symmetry.reading import ReadingAnalysis
from reticket.symmetry.rules import RULES, Operator
from reticket.symmetry.rules.operator import RegisteredRule
from reticket.symmetry.terms import Key, Layout
from reticket.symmetry.verify import CHANGES
from tests.fuzz.more_steps import LENGTHS, STATE
from tests.fuzz.programs import Program, write_program
from tests.fuzz.steps import FIRST, STEPS
from tests.together import Findings, Together

NETWORKS = int(os.environ.get("RETICKET_FUZZ", "25"))
BEGIN = int(os.environ.get("RETICKET_FUZZ_SEED", "0"))
EACH = 25
PROOF_ALONE = frozenset({2063, 3587, 4253})
"""Programs that cut a table, or an axis into groups, by a length, in a way that a trace at one length cannot tell from
what is always so (docs/symmetry.md): what the proof leaves of their symmetry is tried, not what the rules claim."""
DRAWS = 4
TOLERANCE = 1e-7


def program_of(number: int) -> Program:
    """The random program of a number; every second one reads in part, keeps state and has several lengths."""
    draw = random.Random(number)
    more = number % 2 == 1
    steps = STEPS + (3 if more else 0) * (LENGTHS + STATE)
    return write_program(lambda options: draw.choice(list(options)), steps, first=FIRST, lengths=more)


def free_axes(several: Sequence[Program]) -> list[str]:
    """Every axis of the inputs and outputs of the programs that want them free."""
    names, outputs = list[str](), 0
    for i, program in enumerate(several):
        with torch.no_grad():
            results = program.build()(program.example())
        if program.free:
            names += [f"input{i}:{axis}" for axis in range(len(program.shape))]
            names += [f"output{outputs + j}:{axis}" for j, y in enumerate(results) for axis in range(y.dim())]
        outputs += len(results)
    return names


def wrong(several: Sequence[Program], *, proven: bool = False) -> list[str]:
    """The programs, with the groups to blame, whose function changes; those with modules are traced apart, twice.

    Claimed by the rules alone, or with what the proof refuses taken out.
    """
    parts = [[program for program in several if ("self.m" in program.source) == modules] for modules in (False, True)]
    return [text for part in parts if part for text in _wrong(part, proven)]


def _wrong(several: Sequence[Program], proven: bool) -> list[str]:
    named = {str(i): program for i, program in enumerate(several)}
    models, examples = {k: p.build() for k, p in named.items()}, {k: p.example() for k, p in named.items()}
    found = Findings(models, examples, free=free_axes(several))
    others = changed(several, without(found.symmetry, found.guilty) if proven else found.symmetry)
    blamed = {name: ", ".join(found.wrong(name, CHANGES)) or others[name] for name in named}
    return [f"{blamed[name]} in\n{program}" for name, program in named.items() if blamed[name]]


@contextmanager
def float64() -> Iterator[None]:
    """Whatever is made here is made in float64."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


def changed(several: Sequence[Program], symmetry: Symmetry) -> dict[str, str]:
    """By how much all groups, drawn at random and loaded into new models, change the results at every shape.

    At sizes of axes whose length a program does not vary the rules cannot tell a cut that is always there from one that
    depends on the input: what the proof refuses there alone is its business (docs/symmetry.md).
    """
    said = dict.fromkeys(map(str, range(len(several))), "")
    generator = generator_for("fuzz", len(several))
    for _ in range(DRAWS):
        for i, shape, error in _errors(several, symmetry, generator):
            if error > TOLERANCE:
                said[str(i)] = f"permuting changes the function by {error:.1e} on an input of {shape}"
    return said


def _errors(
    several: Sequence[Program], symmetry: Symmetry, generator: torch.Generator
) -> Iterator[tuple[int, tuple[int, ...], float]]:
    """By how much one draw changes the results of every program at every shape, in new models: some keep caches."""
    with float64(), torch.no_grad():
        plain, moved = (Together({str(i): p.build() for i, p in enumerate(several)}).eval() for _ in range(2))
        for tensor in plain.state_dict().values():
            if tensor.dim() == 1 and tensor.is_floating_point():
                tensor += 0.3 * torch.rand(tensor.shape, generator=generator)
        moved.load_state_dict(random_alignment(symmetry, generator).apply(plain.state_dict()))
        for i, program in enumerate(several):
            for shape in () if program.free else (program.shape, *program.others):
                x = program.example(shape)
                yield i, shape, difference(plain.models[i](x), moved.models[i](x))


def difference(expected: Sequence[Tensor], got: Sequence[Tensor]) -> float:
    """The largest difference, relative to the largest result."""
    largest = max(float(y.abs().max()) for y in expected)
    return max(float((a - b).abs().max()) for a, b in zip(expected, got, strict=True)) / largest


def shrunk(program: Program) -> str:
    """What is wrong with a program, in the smallest form of it that is still wrong."""
    said = wrong([program])
    for smaller in program.smaller() if said else ():
        try:
            if wrong([smaller]):
                return shrunk(smaller)
        except Exception:  # what lacks a line may not run
            continue
    return "".join(said)


@pytest.mark.parametrize("part", range(math.ceil(NETWORKS / EACH)))
def test_no_random_network_changes_its_function(part: int) -> None:
    begin = BEGIN + part * EACH
    numbers = range(begin, min(begin + EACH, BEGIN + NETWORKS))
    assert [
        text for number in PROOF_ALONE.intersection(numbers) for text in wrong([program_of(number)], proven=True)
    ] == []
    numbers = [number for number in numbers if number not in PROOF_ALONE]
    if together := wrong([program_of(number) for number in numbers]):
        found = {number: shrunk(program_of(number)) for number in numbers if wrong([program_of(number)])}
        alone = [f"network {number}: {said}" for number, said in found.items()]
        pytest.fail("\n".join(alone or ["wrong in one model with the others, none alone", *together]))


BLIND = Program(
    ("self.p0 = nn.Parameter(torch.randn((6, 3)))",),
    ("v0 = F.linear(x, self.p0)", "v1 = x * 2.0"),
    ("v0.unflatten(-1, (2, 3)).amax(-1) + 9.0", "v1 + 3.0"),
    (2, 3),
)


@pytest.mark.slow
def test_a_broken_rule_is_noticed_and_its_program_runs_as_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wrong([BLIND]) == []
    monkeypatch.setitem(RULES, "aten.unflatten.int", RegisteredRule(fresh, structural=True))
    monkeypatch.setitem(RULES, "aten.view", RegisteredRule(fresh, structural=True))
    text = shrunk(BLIND)
    assert "v1" not in text
    space: dict[str, object] = {}
    with pytest.raises(VerificationError, match=r"permuting p0 changes the function of Net"):
        exec(text.split(" in\n", 1)[1], space)


TABLE = Program(
    ("self.p0 = nn.Parameter(torch.randn(9, 3))",),
    ("v0 = (x + (2 * self.p0)[: x.shape[0]]).tanh()",),
    ("v0.sum([1]) + 9.0",),
    (3, 3),
    others=((6, 3),),
)


def test_what_is_wrong_at_another_length_alone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wrong([TABLE]) == []
    monkeypatch.setattr(ReadingAnalysis, "keys", everything)
    (text,) = wrong([TABLE])
    assert "p0" not in text.splitlines()[0]
    assert "on an input of (6, 3)" in text


def everything(reading: ReadingAnalysis, graph: fx.Graph) -> frozenset[Key]:
    """A reading that takes the whole of a table for read."""
    return frozenset().union(*(reading._all(node) for node in graph.nodes if node.op == "placeholder"))


def fresh(op: Operator) -> Layout:
    """A view that forgets where its units come from."""
    return tuple(op.fresh(size) for size in op.shape)
