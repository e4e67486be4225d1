"""No random network changes its function: what the rules alone leave free is a symmetry.

`make test` tries 100 networks, `make fuzz` 2,000; `RETICKET_FUZZ` is their number, `RETICKET_FUZZ_SEED` the beginning.
"""

import itertools
import math
import os
from collections.abc import Sequence

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from reticket.errors import VerificationError
from reticket.symmetry.rules import RULES, Operator
from reticket.symmetry.rules.operator import Entry
from reticket.symmetry.terms import Layout
from tests.fuzz.programs import Program, write_program
from tests.fuzz.steps import FIRST, STEPS
from tests.together import Findings

NETWORKS = int(os.environ.get("RETICKET_FUZZ", "100"))
BEGIN = int(os.environ.get("RETICKET_FUZZ_SEED", "0"))
TOGETHER, EACH = 10, 25


@st.composite
def programs(draw: st.DrawFn) -> Program | None:
    """A random program; now and then none, which is what a failing list shrinks to."""
    if not draw(st.sampled_from((False, *(True,) * 19))):
        return None
    return write_program(lambda options: draw(st.sampled_from(list(options))), STEPS, first=FIRST)


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


def wrong(several: Sequence[Program]) -> list[str]:
    """The programs, with the groups to blame, whose function changes."""
    named = {str(i): program for i, program in enumerate(several)}
    models, examples = {k: p.build() for k, p in named.items()}, {k: p.example() for k, p in named.items()}
    found = Findings(models, examples, free=free_axes(several))
    return [f"{found.wrong(name)} in\n{program}" for name, program in named.items() if found.wrong(name)]


@pytest.mark.parametrize("part", range(math.ceil(NETWORKS / EACH)))
def test_no_random_network_changes_its_function(part: int) -> None:
    seen = 0

    @given(st.lists(programs(), min_size=TOGETHER, max_size=TOGETHER))
    def check(several: list[Program | None]) -> None:
        nonlocal seen
        real = [program for program in several if program is not None]
        seen += len(real)
        found = wrong(real) if real else []
        assert not found, "\n".join(found)

    check = settings(
        max_examples=1 + EACH // TOGETHER,
        derandomize=False,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )(check)
    for attempt in itertools.count():
        seed(f"{BEGIN + part} {attempt}")(check)()
        if seen >= EACH:
            break


BLIND = Program(
    """import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.p0 = nn.Parameter(torch.randn(6, 3))

    def forward(self, x):
        return [F.linear(x, self.p0).unflatten(-1, (2, 3)).amax(-1) + 9.0]
""",
    (2, 3),
    free=False,
)


def test_a_broken_rule_is_noticed_and_its_program_runs_as_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wrong([BLIND]) == []
    monkeypatch.setitem(RULES, "aten.unflatten.int", Entry(fresh, structural=True))
    monkeypatch.setitem(RULES, "aten.view", Entry(fresh, structural=True))
    (text,) = wrong([BLIND])
    space: dict[str, object] = {}
    with pytest.raises(VerificationError, match=r"permuting p0 changes the function of Net"):
        exec(text.split(" in\n", 1)[1], space)


def fresh(op: Operator) -> Layout:
    """A view that forgets where its units come from."""
    return tuple(op.fresh(size) for size in op.shape)
