"""Long calls say how far they are: to a function, as a bar where somebody sees it move, and not at all by default."""

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

import reticket as rt
from reticket import progress as shown_progress
from reticket.progress import Tracked, shown

X = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
Y = torch.zeros(20, dtype=torch.int64)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


A = net()


@cache
def symmetry() -> rt.Symmetry:
    return rt.discover(A, X[:2])


CALLS: dict[str, tuple[Callable[[Any], object], list[tuple[int, int | None]]]] = {
    "match": (lambda how: rt.match(A, A, symmetry(), [X, X, X], progress=how), [(1, 3), (2, 3), (3, 3)]),
    "match of a generator": (
        lambda how: rt.match(A, A, symmetry(), iter([X, X]), progress=how),
        [(1, None), (2, None)],
    ),
    "barrier": (lambda how: rt.barrier(A, A, A, [(X, Y)], (0, 0.5, 1), progress=how), [(1, 3), (2, 3), (3, 3)]),
    "imp": (
        lambda how: rt.iterative_magnitude_pruning(A, [0.7, 0.5], lambda weights, *_: weights, progress=how),
        [(number, 5) for number in range(1, 6)],
    ),
    "discover": (lambda how: rt.discover(A, X[:2], progress=how), [(1, 3), (2, 3), (3, 3)]),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_function_is_told_what_is_done(call: str) -> None:
    told: list[tuple[int, int | None]] = []
    CALLS[call][0](lambda done, total: told.append((done, total)))
    assert told == CALLS[call][1]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("how", [False, True])
def test_nothing_is_shown_where_nobody_looks(call: str, how: bool, capfd: pytest.CaptureFixture[str]) -> None:
    CALLS[call][0](how)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("installed", [True, False])
def test_a_bar_is_shown_on_a_terminal(
    installed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if installed:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
        monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes what it writes to for a terminal
    monkeypatch.setattr(shown_progress, "_is_watched", lambda: True)
    rt.match(A, A, symmetry(), [X, X], progress=True)
    assert "matching" in capsys.readouterr().err


def test_items_are_tracked_anew_each_time() -> None:
    told: list[int] = []
    items = Tracked([1, 2], lambda done, total: told.append(done), "reading")
    assert [*items, *items] == [1, 2, 1, 2]
    assert told == [1, 2, 1, 2]
    with shown(False, "reading") as show:
        assert show(1) is None
