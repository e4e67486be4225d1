"""The memory that matching takes is told before it begins, and is what torch's allocator hands out at the most."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import reticket as rt
from reticket import progress as shown_progress
from reticket.errors import InputError
from reticket.matching import match, match_each
from reticket.models import build_model
from reticket.rng import generator_for
from tests.generic_models import SHAPES, generic


def peak(work: Callable[[], object]) -> int:
    """Return how much more than before torch's allocator holds at the most while something is done, in bytes."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    raw: Any = seen.profiler
    every = [event for event in raw.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(every, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def networks(name: str, count: int, examples: int) -> tuple[list[nn.Module], Tensor]:
    """Return networks of one architecture and a batch of inputs."""
    if name == "vit":
        every = [build_model("vit", generator=generator_for(k)) for k in range(count)]
        return every, torch.randn(examples, 64, generator=generator_for("images"))
    batch = torch.randn(examples, *SHAPES[name], generator=generator_for("batch"))
    return [generic(name, str(k)).eval() for k in range(count)], batch


CASES: list[tuple[str, int, int, dict[str, Any]]] = [
    ("mlp", 5000, 1, {}),
    ("conv-small", 400, 1, {"stop": "never"}),
    ("conv-small", 400, 3, {}),
    ("conv-small", 400, 1, {"stop": 0.1}),
    ("conv-small", 400, 1, {"positions": 16}),
    ("resnet20", 128, 1, {}),
    ("resnet20", 128, 2, {"held_bytes": 2**22}),
    ("vit", 200, 1, {}),
]


@pytest.mark.slow_cases(but=["mlp-5000-1-options0"])
@pytest.mark.parametrize(("name", "examples", "others", "options"), CASES)
def test_what_is_told_is_what_is_taken(name: str, examples: int, others: int, options: dict[str, Any]) -> None:
    (a, *every_b), batch = networks(name, 1 + others, examples)
    sym = rt.discover(a, batch[:2], verify=False)
    told = rt.matching_memory(a, sym, batch, others=others, **options)
    taken = peak(lambda: match_each(a, every_b, sym, [batch, batch], **options))
    assert told == pytest.approx(taken, rel=0.1)


def test_wide_layers_take_what_their_products_take() -> None:
    a, b = (build_model("mlp", hidden=(700, 700), generator=generator_for(k)) for k in "ab")
    batch = torch.randn(16, 64, generator=generator_for("few"))
    sym = rt.discover(a, batch[:2], verify=False)
    told = rt.matching_memory(a, sym, batch, checkpoints=2)
    assert told == pytest.approx(peak(lambda: match([a, a], [b, b], sym, [batch])), rel=0.1)
    assert told > 4 * 2 * 8 * 700**2  # four sites of 700 units, twice


def test_the_caller_sees_nothing_of_the_trial() -> None:
    (a,), batch = networks("conv-small", 1, 8)
    sym, seen = rt.discover(a, batch[:2], verify=False), list[object]()
    before = {name: (one.data_ptr(), one.stride()) for name, one in a.state_dict().items()}
    a.register_forward_hook(lambda module, args, output: seen.append(output))
    rt.matching_memory(a.train(), sym, batch)
    assert not seen
    assert a.training
    assert before == {name: (one.data_ptr(), one.stride()) for name, one in a.state_dict().items()}


@pytest.mark.slow
def test_a_bar_says_how_much(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    monkeypatch.setattr(shown_progress, "_is_watched", lambda: True)
    (a, b), batch = networks("mlp", 2, 5000)
    sym = rt.discover(a, batch[:2], verify=False)
    says = f"matching, {rt.matching_memory(a, sym, batch) / 1e6:.0f} MB at its peak"
    match(a, b, sym, [batch], progress=True)
    match_each(a, [b], sym, [batch], progress=True)
    match(a, b, sym, [batch], method="combined", progress=True)
    said = capsys.readouterr().err
    assert says in said
    assert "matching:" in said  # of a method that cannot tell


def test_an_option_that_matching_does_not_have_is_refused() -> None:
    (a,), batch = networks("mlp", 1, 8)
    with pytest.raises(InputError, match=r"has no option 'stopp', did you mean 'stop'"):
        rt.matching_memory(a, rt.discover(a, batch[:2], verify=False), batch, stopp=1)
