"""Matching that was ended early goes on to the result of one call, in another process too."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import reticket as rt
from reticket.errors import AlignmentError, InputError
from reticket.matching import MatchedAlignment, match, match_each
from tests.generic_models import generic
from tests.laws.test_matching_laws import batches, symmetry


def assert_same(one: rt.Alignment, other: rt.Alignment) -> None:
    assert isinstance(one, MatchedAlignment)
    assert isinstance(other, MatchedAlignment)
    assert one.permutations == other.permutations
    assert (one.examples, one.batches, one.still) == (other.examples, other.batches, other.still)
    for group, quality in one.quality.items():
        assert quality.correlation == pytest.approx(other.quality[group].correlation, abs=1e-6)
        assert quality.margin == pytest.approx(other.quality[group].margin, abs=1e-6)


@pytest.mark.slow_cases(but=["1e-09-mlp"])
@pytest.mark.parametrize("name", ["mlp", "conv-small"])
@pytest.mark.parametrize("stop", ["never", 1e-9])
def test_two_calls_find_what_one_does(name: str, stop: Any, tmp_path: Path) -> None:
    a, b, sym, data = generic(name, "a"), generic(name, "b"), symmetry(name), batches(name, 6)
    seen = rt.Activations(sym)
    match(a, b, sym, data[:2], stop=stop, seen=seen)
    seen.save(tmp_path / "seen.safetensors")
    loaded = rt.Activations.load(tmp_path / "seen.safetensors")
    assert repr(loaded) == repr(seen) == f"Activations({sum(map(len, data[:2]))} examples in 2 batches)"
    whole = match(a, b, sym, data, stop=stop)
    assert_same(match(a, b, sym, data[2:], stop=stop, seen=loaded), whole)
    assert_same(match(a, b, sym, [], stop=stop, seen=loaded), whole)  # nothing more: what was seen
    assert seen.batches == 2


def test_checkpoints_are_gone_on_from_too() -> None:
    a, b = [generic("mlp", f"a{k}") for k in range(2)], [generic("mlp", f"b{k}") for k in range(2)]
    seen, data = rt.Activations(symmetry("mlp")), batches("mlp", 4)
    match(a, b, symmetry("mlp"), data[:3], seen=seen)
    assert_same(match(a, b, symmetry("mlp"), data[3:], seen=seen), match(a, b, symmetry("mlp"), data))


@pytest.mark.slow_cases(but=["1e-09-never"])
@pytest.mark.parametrize("before", ["never", 1e-9])
@pytest.mark.parametrize("after", ["never", 1e-9])
def test_another_way_to_stop_goes_on_as_well(before: Any, after: Any) -> None:
    a, b, sym, data = generic("mlp", "a"), generic("mlp", "b"), symmetry("mlp"), batches("mlp", 5)
    seen = rt.Activations(sym)
    match(a, b, sym, data[:3], stop=before, seen=seen)
    assert_same(match(a, b, sym, data[3:], stop=after, seen=seen), match(a, b, sym, data, stop="never"))


@pytest.mark.parametrize("stop", ["never", 1e-9])
def test_what_interrupts_a_call_costs_the_batch_that_was_looked_at(stop: Any) -> None:
    a, b, sym = generic("conv-small", "a"), generic("conv-small", "b"), symmetry("conv-small")
    data = batches("conv-small", 4)
    seen, runs = rt.Activations(sym), list[int]()

    def interrupt(module: object, args: object) -> None:
        runs.append(1)
        if len(runs) == 3:  # in the middle of B's third batch
            raise KeyboardInterrupt

    layer = next(name for name, module in b.named_modules() if isinstance(module, torch.nn.Linear))
    handle = b.get_submodule(layer).register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        match(a, b, sym, data, stop=stop, seen=seen)
    handle.remove()
    assert seen.batches == 2
    assert_same(match(a, b, sym, data[seen.batches :], stop=stop, seen=seen), match(a, b, sym, data, stop=stop))


def test_other_networks_and_other_sites_are_refused() -> None:
    a, b, c, sym = generic("mlp", "a"), generic("mlp", "b"), generic("conv-small", "c"), symmetry("mlp")
    seen = rt.Activations(sym)
    match(a, b, sym, batches("mlp", 1), seen=seen)
    with pytest.raises(AlignmentError, match=r"seen is of other networks, or of others' weights"):
        match(b, a, sym, batches("mlp", 1), seen=seen)
    with pytest.raises(AlignmentError, match=r"seen is of another symmetry or of other sites"):
        match(c, c, symmetry("conv-small"), [], seen=seen)
    with pytest.raises(InputError, match=r"match_each takes no seen="):
        match_each(a, [b], sym, batches("mlp", 1), seen=seen)


def damaged(path: Path) -> Iterator[tuple[dict[str, Tensor], str]]:
    """Yield tensors of a file with something wrong, and what is said of it."""
    tensors = load_file(path)
    yield {**tensors, "0/0/cross": tensors["0/0/cross"][:2]}, r"'0/0/cross' is torch.float64 of shape"
    yield {**tensors, "0/0/mean_a": tensors["0/0/mean_a"].float()}, r"'0/0/mean_a' is torch.float32"
    yield {name: one for name, one in tensors.items() if name != "0/0/squares_b"}, r"squares_b"


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    a, b, sym, path = generic("mlp", "a"), generic("mlp", "b"), symmetry("mlp"), tmp_path / "seen.safetensors"
    seen = rt.Activations(sym)
    match(a, b, sym, batches("mlp", 1), seen=seen)
    seen.save(path)
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata()
    for tensors, said in damaged(path):
        save_file(tensors, tmp_path / "odd", metadata)
        with pytest.raises(AlignmentError, match=rf"are damaged: .*{said}"):
            rt.Activations.load(tmp_path / "odd")
    with pytest.raises(AlignmentError, match=r"cannot be read .*; name a file that Activations.save wrote"):
        rt.Activations.load(tmp_path / "nothing")
    save_file(load_file(path), tmp_path / "bare")
    with pytest.raises(AlignmentError, match=r"holds no activations of version 1"):
        rt.Activations.load(tmp_path / "bare")
