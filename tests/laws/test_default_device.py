"""A default device of the user's is none of ours: results are the same under it, and it is the same afterwards."""

import copy
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import reticket as rt
from reticket.data import Dataset
from reticket.matching import forest
from reticket.symmetry import untouched, verify
from reticket.tickets import control
from reticket.training import Recipe
from reticket.types import Permutation

X, LABELS = torch.linspace(-1, 1, 96).reshape(16, 6), torch.arange(16) % 3
CPU = torch.device("cpu")


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3)
    return nn.Sequential(*layers).eval()


class Attending(nn.Module):
    """Grouped freedom: heads, and units inside each."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.words, self.attend, self.out = (
            nn.Embedding(10, 8),
            nn.MultiheadAttention(8, 2, batch_first=True),
            nn.Linear(8, 3),
        )

    def forward(self, ids: Tensor) -> Tensor:
        z = self.words(ids)
        return self.out(self.attend(z, z, z)[0].mean(1))


A, B, HEADS, IDS = net(1), net(2), Attending().eval(), (torch.arange(20) * 7 % 10).reshape(4, 5)
ENDS = A.state_dict(), B.state_dict()
MASK = rt.prune_magnitude(A, 0.5)
DIGITS_NET = rt.build_model("mlp", in_features=12, hidden=(5,), classes=4)
DIGITS = Dataset(
    "noise",
    torch.arange(50 * 12).view(50, 3, 2, 2).mul(37).remainder(251).to(torch.uint8),
    torch.arange(50) % 4,
    torch.arange(8 * 12).view(8, 3, 2, 2).to(torch.uint8),
    torch.arange(8) % 4,
    tuple("abcd"),
    (0.5,) * 3,
    (0.25,) * 3,
    augmentation="flip-crop",
)
RECIPE = Recipe(epochs=1, batch_size=16, lr=0.05)


@cache
def symmetry() -> rt.Symmetry:
    return rt.discover(A, X)


@cache
def symmetry_of_heads() -> rt.Symmetry:
    return rt.discover(HEADS, IDS, verify=False)


def drawn() -> rt.Alignment:
    return rt.random_alignment(symmetry_of_heads(), rt.generator_for("default device"))


def loaded() -> dict[str, Tensor]:
    model = copy.deepcopy(HEADS)
    rt.load_into(model, drawn().inverse().after(drawn()).apply(model.state_dict()))
    return model.state_dict()


def pruned() -> Any:
    found = rt.iterative_magnitude_pruning(
        ENDS[0], [0.5, 0.25], lambda state, mask, round_: state, names=["0.weight", "4.weight"]
    )
    return {density: dict(start.mask) for density, start in found.items()}


CALLS: dict[str, Callable[[], Any]] = {
    "discover heads": lambda: (
        rt.discover(HEADS, IDS, verify=False).layouts
    ),  # torch looks at modes, so its sites differ
    "verify": lambda: verify(symmetry(), A, X),
    "random_alignment": lambda: drawn().apply(HEADS.state_dict()),
    "load_into": loaded,
    "match": lambda: rt.match(A, B, symmetry(), [X]).apply(ENDS[1]),
    "interpolate": lambda: rt.interpolate(*ENDS, 0.25),
    "barrier": lambda: rt.barrier(A, *ENDS, [(X, LABELS)], (0, 0.5, 1), repair=True),
    "repair": lambda: rt.repair(A, ENDS, 0.5, [X]),
    "prune_magnitude": lambda: dict(rt.prune_magnitude(A, 0.5)),
    "erk_mask": lambda: dict(rt.erk_mask(MASK, 0.5, rt.generator_for("mask"))),
    "random_mask": lambda: dict(rt.random_mask(MASK, 0.5, rt.generator_for("mask"))),
    "evaluate": lambda: rt.evaluate(DIGITS_NET, DIGITS).logits,
    "train": lambda: rt.train(copy.deepcopy(DIGITS_NET), DIGITS, RECIPE, rng_label=("device",)).weights,
    "imp": pruned,
    "permutation": lambda: Permutation.identity(3).after(Permutation(torch.tensor([1, 2, 0], device=CPU))).index,
    "generator_for": lambda: torch.rand(3, generator=rt.generator_for("a"), device=CPU),
}


def same(a: Any, b: Any) -> bool:
    """Whether two results are equal to the last bit, and on one device."""
    if isinstance(a, Tensor):
        return a.device == b.device and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


@pytest.fixture
def default() -> Iterator[Callable[[str | None], None]]:
    """Set a default device, and put none in its place afterwards."""
    yield torch.set_default_device
    torch.set_default_device(None)


@pytest.mark.slow_cases("discover heads", "verify", "random_alignment", "load_into", "match", "repair")
@pytest.mark.parametrize("call", CALLS)
def test_results_are_the_same_under_another_default_device(call: str, default: Callable[[str | None], None]) -> None:
    before = CALLS[call]()
    default("meta")
    now = CALLS[call]()
    assert torch.get_default_device() == torch.device("meta")
    assert same(now, before)


def test_what_is_built_lands_on_the_default_device(default: Callable[[str | None], None]) -> None:
    with torch.device("meta"):
        built = rt.build_model("mlp", in_features=4, hidden=(3,), classes=2)
    assert {p.device for p in built.parameters()} == {torch.device("meta")}


@pytest.mark.parametrize("call", ["match", "random_mask"])
def test_the_assertion_sees_what_is_made_on_the_default_device(
    call: str, default: Callable[[str | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    symmetry()
    for module, name in ((forest, "torch"), (control, "torch")):
        monkeypatch.setattr(module, name, Careless())
    default("meta")
    with pytest.raises((RuntimeError, NotImplementedError)):
        CALLS[call]()


class Careless:
    """torch, with `zeros` that forgets where it shall be."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def zeros(self, *args: Any, device: Any, **kwargs: Any) -> Tensor:
        return torch.zeros(*args, **kwargs)


class Sets(nn.Module):
    """Sets torch's default device while it runs, and may then fail."""

    def __init__(self, *, fails: bool) -> None:
        super().__init__()
        self.inner, self.fails = net(1), fails

    def forward(self, x: Tensor) -> Tensor:
        torch.set_default_device("meta")
        if self.fails:
            raise RuntimeError("half way")
        return self.inner(x)


@pytest.mark.slow_cases(but=["None-True"])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("before", [None, "cpu:0"])
def test_the_default_device_is_put_back(before: str | None, fails: bool, default: Callable[[str | None], None]) -> None:
    model, default_now = Sets(fails=fails), untouched._device_set
    symmetry = rt.discover(Sets(fails=False), X, verify=False)
    default(before)
    wanted = default_now()
    for call in (
        lambda: rt.discover(model, X, verify=before is None),
        lambda: rt.barrier(model, model.state_dict(), model.state_dict(), [(X, LABELS)], (0, 1)),
        lambda: rt.match(model, copy.deepcopy(model), symmetry, [X]),
    ):
        if fails:
            with pytest.raises(rt.ReticketError, match="half way"):
                call()
        else:
            call()
        assert default_now() == wanted, "None stays None: a default of 'cpu' would outlive the caller's own blocks"
    if before is None and not fails:  # torch itself refuses set_default_device in a block under another default
        with torch.device("meta"):
            rt.discover(model, X, verify=False)
            assert torch.zeros(1).is_meta
        assert not torch.zeros(1).is_meta
