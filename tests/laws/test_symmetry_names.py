"""Folding names loses none: written out again they are the same names."""

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from reticket.symmetry.names import folded


def written_out(name: str) -> list[str]:
    """Return the names that a folded one stands for."""
    pieces = []
    for piece in re.split(r"(\{[^}]*\})", name):
        if re.fullmatch(r"\{\d+-\d+\}", piece):
            first, last = map(int, piece[1:-1].split("-"))
            pieces.append([str(n) for n in range(first, last + 1)])
        else:
            pieces.append(piece[1:-1].split(",") if piece.startswith("{") else [piece])
    return ["".join(combination) for combination in itertools.product(*pieces)]


NUMBERS = st.integers(0, 4)
NAMES = st.builds(
    lambda form, a, b: form.format(a, b),
    st.sampled_from(["h.{}.up", "layer{}.{}.conv", "stem", "x{}"]),
    NUMBERS,
    NUMBERS,
)
PAIRS = st.lists(st.tuples(NAMES, st.sampled_from(["", "[0]", "[1] part 2"])), max_size=40)


@given(PAIRS)
def test_no_name_is_lost_or_made_up(pairs: list[tuple[str, str]]) -> None:
    names = [name for text in folded(pairs) for name in written_out(text)]
    assert sorted(names) == sorted({f"{name}{ending}" for name, ending in pairs})


def test_a_whole_grid_becomes_one_name() -> None:
    assert folded([(f"a.{i}.{j}", "[0]") for i in range(3) for j in (0, 5)]) == ["a.{0-2}.{0,5}[0]"]
