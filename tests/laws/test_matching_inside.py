"""Matching inside torch's own modules: attention, transformer and recurrent layers, masks, heads in the batch."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reticket.errors import AlignmentError
from reticket.matching import MatchedAlignment, accumulated, match
from reticket.rng import generator_for
from reticket.symmetry import Alignment, Inside, Symmetry, discover, load_into, random_alignment, traced
from reticket.symmetry.graph import Inputs

INFINITE, SMALLEST = float("-inf"), torch.finfo(torch.float32).min


class Around(nn.Module):
    """A module between two layers; of several results the first goes on."""

    def __init__(self, inner: nn.Module, width: int = 6) -> None:
        super().__init__()
        self.inlet, self.inner, self.head = nn.Linear(3, 6), inner, nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(self.inlet(x))
        return self.head(y[0] if isinstance(y, tuple) else y)


class Itself(nn.Module):
    """Attention of a sequence to itself."""

    def __init__(self, *, weights: bool = False, **options: Any) -> None:
        super().__init__()
        self.attention, self.weights = nn.MultiheadAttention(6, 2, **options), weights

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=self.weights)[0]


class Across(nn.Module):
    """Attention to, or decoding with, the first part of the same sequence."""

    def __init__(self, inner: nn.Module, key: int = 6, value: int = 6) -> None:
        super().__init__()
        self.inner, self.key, self.value = inner, nn.Linear(6, key), nn.Linear(6, value)

    def forward(self, x: Tensor) -> Any:
        if isinstance(self.inner, nn.MultiheadAttention):
            return self.inner(x, self.key(x[:, :3]), self.value(x[:, :3]))
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return self.inner(x, self.key(x[:, :3]), tgt_mask=mask, tgt_is_causal=True)


class LastState(nn.Module):
    """The last state of the last layer, as classifiers of sequences use it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        states = self.inner(x)[1]
        return (states[0] if isinstance(states, tuple) else states)[-1]


class Padded(nn.Module):
    """An encoder that is told which positions are padding; in evaluation mode it may compute with nested tensors."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        padding = (x[:, :, 0] > 0.3) & (torch.arange(x.shape[1]) > 0)
        return self.inner(x, src_key_padding_mask=padding)


class Merged(nn.Module):
    """Two heads as further examples of the batch, batch first or, as fairseq has it, time first; masked or not."""

    def __init__(self, mask: float, *, time_first: bool = False) -> None:
        super().__init__()
        self.mask, self.time_first = mask, time_first
        self.q, self.k, self.v, self.out = (nn.Linear(6, 6) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        q, k, v = (self.split(layer(x)) for layer in (self.q, self.k, self.v))
        scores = torch.bmm(q, k.transpose(1, 2)).view(batch, 2, time, time)
        scores = scores + torch.full((time, time), self.mask).triu(1)
        y = torch.bmm(scores.view(batch * 2, time, time).softmax(-1), v)
        if self.time_first:
            return x + self.out(y.transpose(0, 1).reshape(time, batch, width).transpose(0, 1))
        return x + self.out(y.view(batch, 2, time, 3).transpose(1, 2).reshape(batch, time, width))

    def split(self, x: Tensor) -> Tensor:
        batch, time, _ = x.shape
        if self.time_first:
            return x.transpose(0, 1).reshape(time, batch * 2, 3).transpose(0, 1)
        return x.view(batch, time, 2, 3).transpose(1, 2).reshape(batch * 2, time, 3)


class Blind(nn.Module):
    """What comes of the first query is not a number, as where a mask leaves it no key, and is thrown away."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.after, self.norm = Merged(0.0), nn.Linear(6, 6), nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        blind = torch.zeros(y.shape[1], 1).masked_fill(torch.arange(y.shape[1])[:, None] == 0, torch.nan)
        return self.norm(self.after(y + blind))[:, 1:]


MODELS: dict[str, Callable[[], nn.Module]] = {
    "attention": lambda: Around(Itself(batch_first=True)),
    "attention, time first, weights, extra key": lambda: Around(Itself(weights=True, add_bias_kv=True)),
    "attention across": lambda: Around(
        Across(nn.MultiheadAttention(6, 2, batch_first=True, bias=False, kdim=5, vdim=7), key=5, value=7)
    ),
    "padded encoder": lambda: Around(
        Padded(nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 7, batch_first=True), 1))
    ),
    "decoder": lambda: Around(Across(nn.TransformerDecoderLayer(6, 2, 7, batch_first=True, norm_first=True))),
    "lstm": lambda: Around(nn.LSTM(6, 4, 2, batch_first=True), 4),
    "lstm, both ways, projected": lambda: Around(nn.LSTM(6, 5, 2, bidirectional=True, proj_size=3), 6),
    "gru, last state": lambda: Around(LastState(nn.GRU(6, 4, 2, batch_first=True)), 4),
    "rnn, both ways": lambda: Around(nn.RNN(6, 4, 2, nonlinearity="relu", bidirectional=True), 8),
    "heads in the batch": lambda: Around(Merged(0.0)),
    "heads in the batch, time first, infinite mask": lambda: Around(Merged(INFINITE, time_first=True)),
    "heads in the batch, mask of the smallest number": lambda: Around(Merged(SMALLEST)),
    "rows that are no numbers": lambda: Around(Blind()),
}


def inputs(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 4, 3, generator=generator_for("inside", count, seed))


def filled(name: str) -> nn.Module:
    model = MODELS[name]().eval()
    for label, tensor in model.named_parameters():
        tensor.data.normal_(0, 0.6, generator=generator_for(name, label))
    return model


@functools.cache
def symmetry(name: str, example: int) -> Symmetry:
    return discover(filled(name), inputs(example), verify=False)


def planted(name: str, example: int = 4) -> tuple[nn.Module, nn.Module, Symmetry, Alignment]:
    """Return A, B = pi(A), their symmetry, and pi."""
    a, sym = filled(name), symmetry(name, example)
    pi, b = random_alignment(sym, generator_for("pi")), copy.deepcopy(a)
    load_into(b, pi.apply(a.state_dict()))
    return a, b, sym, pi


@pytest.mark.slow_cases(but=["heads in the batch, time first, infinite mask"])
@pytest.mark.parametrize("name", MODELS)
def test_a_planted_permutation_is_found_inside(name: str) -> None:
    """On batches of another size than the example's; the saved symmetry does as well as the one discovered."""
    a, b, sym, pi = planted(name)
    assert not all(permutation.is_identity for permutation in pi.permutations.values())
    again = Symmetry.from_json(sym.to_json())
    assert again.sites == sym.sites
    found = match(a, b, again, [inputs(24), inputs(24, 1)])
    assert found.permutations == pi.permutations
    assert found.quality.keys() == sym.groups.keys()


def test_the_law_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without leaving masks out nothing is found, and a layer shown for another finds something else."""
    a, b, sym, pi = planted("heads in the batch, mask of the smallest number")
    monkeypatch.setattr(accumulated, "centre_unmasked", lambda rows, centre: centre(rows))
    with pytest.raises(AlignmentError, match="are not finite"):
        match(a, b, sym, [inputs(24)])
    monkeypatch.undo()
    a, b, sym, pi = planted("lstm")
    state = dict(b.state_dict())
    moved = {name: state[name].flip(0) if "l0" in name and "ih" in name else state[name] for name in state}
    load_into(b, moved)
    assert match(a, b, sym, [inputs(24)]).permutations != pi.permutations


def test_heads_merged_into_a_batch_of_one() -> None:
    """They look like heads alone, so that larger batches are taken one example at a time."""
    a, b, sym, pi = planted("heads in the batch", example=1)
    runs = list[int]()
    b.register_forward_pre_hook(lambda module, args: runs.append(len(args[0])))
    found = match(a, b, sym, [inputs(9), inputs(4)])
    assert isinstance(found, MatchedAlignment)
    assert (found.permutations, found.examples, found.batches) == (pi.permutations, 13, 2)
    assert runs == [1] * 13


@pytest.mark.slow
def test_traces_are_shared_by_models_that_differ_in_weights_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One trace a shape of the batch; a model that holds another table is traced on its own."""
    a, b, sym, pi = planted("attention")
    made = list[tuple[int, ...]]()

    def counted(model: nn.Module, example: Inputs, **options: Any) -> Any:
        made.append(tuple(example.args[0].shape))
        return straight(model, example, **options)

    straight = traced.trace
    monkeypatch.setattr(traced, "trace", counted)
    many = [copy.deepcopy(a), copy.deepcopy(b)]
    found = match([a, many[0]], [b, many[1]], sym, [inputs(8), inputs(8, 1), inputs(3)])
    assert found.permutations == pi.permutations
    assert made == [(8, 4, 3), (3, 4, 3)]
    many[1].table = torch.ones(2)  # pyright: ignore
    made.clear()
    match(a, many[1], sym, [inputs(8)])
    assert made == [(8, 4, 3)] * 2


@pytest.mark.slow
def test_what_is_shown_inside_is_what_the_weights_make_of_the_inputs() -> None:
    """The projection of queries, keys and values, by hand, at another batch size, of the model that is asked for."""
    first, second, sym, _ = planted("attention")
    (name,) = [site.name for site in sym.sites if site.operator == "traced.linear" and site.call == 0]
    inside, x = Inside(sym.sites), inputs(9)
    for model in (first, second):
        seen: dict[str, Tensor] = {}
        inside.show(model, Inputs.of(x), lambda site, tensor, seen=seen: seen.update({site.name: tensor}))
        of = model.state_dict()
        y = x @ of["inlet.weight"].T + of["inlet.bias"]
        weight, bias = of["inner.attention.in_proj_weight"], of["inner.attention.in_proj_bias"]
        torch.testing.assert_close(seen[name].transpose(0, 1), y @ weight.T + bias)
        assert set(seen) == {site.name for site in sym.sites if site.traced}


@pytest.mark.slow
def test_looking_inside_leaves_models_and_what_hooks_collect_alone() -> None:
    """Every batch is seen once by the caller's hooks, in real tensors; mode, weights and attributes stay."""
    a, b, sym, _ = planted("attention")
    collected: list[Any] = []
    a.register_forward_hook(lambda module, args, output: collected.append(output))
    a.train()
    before, attributes = dict(copy.deepcopy(a.state_dict())), [dict(vars(module)) for module in a.modules()]
    match(a, b, sym, [inputs(8)])
    assert [(type(one), len(one)) for one in collected] == [(Tensor, 8)]
    assert a.training
    assert attributes == [dict(vars(module)) for module in a.modules()]
    torch.testing.assert_close(dict(a.state_dict()), before, rtol=0, atol=0)


def test_masks_that_differ_are_refused() -> None:
    a, b, sym, _ = planted("heads in the batch, time first, infinite mask")
    assert isinstance(b, Around)
    assert isinstance(b.inner, Merged)
    b.inner.mask = 0.0
    with pytest.raises(AlignmentError, match=r"site 'inner:add' shows .* samples in model_a and .* in model_b"):
        match(a, b, sym, [inputs(8)])
