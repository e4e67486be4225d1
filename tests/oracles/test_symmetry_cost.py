"""What discovery spares: taking graphs apart, a second trace, large inputs; and that nothing is lost by it."""

import math

import pytest
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.nn import functional as F

from reticket.rng import generator_for
from reticket.symmetry import discover, random_alignment
from reticket.symmetry.calls import calls_of, differs_in_training
from reticket.symmetry.graph import Inputs, trace
from reticket.symmetry.verify import Proof


class Parts(nn.Module):
    """A part of a fresh tensor is written to, as GhostNet's blocks do; nobody else sees that memory."""

    def __init__(self, *, read_before: bool = False) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(4, 5), nn.Linear(5, 2)
        self.read_before = read_before

    def forward(self, x: Tensor) -> Tensor:
        whole = self.a(x)
        part = whole[:, :5]
        if self.read_before:
            part += self.b(x)
            return self.c(part) + whole.sum(1, keepdim=True)
        part += self.b(x)
        return self.c(part.relu())


class Windows(nn.Module):
    """Writes a mask through slices, one by one, and reads or writes it through other views before and after."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.a, self.c, self.how = nn.Linear(4, 6), nn.Linear(6, 2), how

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        mask = torch.zeros(5, 6) if self.how != "of the input" else torch.zeros_like(h)
        corner = mask[:3, :4]
        if self.how == "read before":
            h = h + corner.sum()
        mask[0:2, 0:3] = 1.0
        mask[2:, :] = mask[:1]
        if self.how == "a view written":
            corner[2:] += 2
        if self.how == "a view read":
            h = h + corner.sum()
        if self.how == "kept":
            part = mask[1:].mul_(3)
            part += 1
        if self.how == "steps":
            mask[::2] = 4
        return self.c((h + mask.sum(0)).relu()) * mask.sum()


@pytest.mark.slow_cases("a view written", "a view read", "kept")
@pytest.mark.parametrize("how", ["of the input", "read before", "a view written", "a view read", "kept", "steps", ""])
def test_a_write_into_slices_is_its_functional_form(how: str) -> None:
    """The graph computes what the model computes, whether its writes are replaced or it is taken apart."""
    model, x = Windows(how), torch.randn(3, 4)
    found = trace(model, Inputs.of(x), train=False, known=lambda _: True)
    given = [model.state_dict()[found.state[n.name]] if n.name in found.state else found.held.get(n.name, x)
             for n in found.graph.nodes if n.op == "placeholder"]  # fmt: skip
    [result] = fx.Interpreter(fx.GraphModule({}, found.graph)).run(*given)
    torch.testing.assert_close(result, model(x))
    assert not any(node.target._schema.is_mutable for node in found.graph.nodes if node.op == "call_function")


def test_a_write_into_slices_takes_nothing_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ExportedProgram, "run_decompositions", refuse)
    for how in ("", "read before"):
        assert discover(Windows(how), torch.randn(3, 4)).pinned_by_verify == ()


class Converted(nn.Module):
    """Operators that say what they need by another tensor, and copies that may be none."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.scale, self.c = nn.Linear(4, 6), nn.Parameter(torch.randn(6)), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.a(x).contiguous().to(torch.float64).to(x)
        hidden = hidden * self.scale.expand_as(hidden)
        return self.c(torch.min(hidden, hidden.reshape_as(hidden).view_as(hidden).relu()))


def refuse(*_: object) -> None:
    raise AssertionError("decomposed")


def test_graphs_whose_operators_are_known_are_not_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ExportedProgram, "run_decompositions", refuse)
    assert discover(Converted(), torch.randn(3, 4)).log10_order == pytest.approx(math.log10(720))
    assert discover(Parts(), torch.randn(3, 4)).log10_order == pytest.approx(math.log10(120))


def test_a_write_that_another_view_shows_is_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[object] = []
    original = ExportedProgram.run_decompositions
    monkeypatch.setattr(ExportedProgram, "run_decompositions", lambda self, t: taken.append(t) or original(self, t))
    symmetry = discover(Parts(read_before=True), torch.randn(3, 4))
    assert taken
    assert symmetry.log10_order == pytest.approx(math.log10(120))
    assert symmetry.pinned_by_verify == ()


class Attention(nn.Module):
    """Which kernel attention takes, and with it whether `contiguous` copies, depends on its dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(12, 12) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).view(*x.shape[:2], 3, 4).transpose(1, 2) for f in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=0.1 if self.training else 0.0)
        return self.o(mixed.transpose(1, 2).contiguous().view(*x.shape))


def test_a_second_trace_is_spared_whichever_kernel_dropout_takes() -> None:
    model, inputs = Attention(), Inputs.of(torch.randn(2, 5, 12))
    assert not differs_in_training(model, inputs, calls_of(model, inputs, train=False))


class Dropped(nn.Module):
    """Drops paths in train mode, or does something else with numbers that it draws."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.a, self.b, self.c, self.how = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2), how

    def noise(self, x: Tensor) -> Tensor:
        shape = (x.shape[0], *(1 for _ in x.shape[1:]))
        if self.how == "channels":
            return x.new_empty(1, x.shape[1]).bernoulli_(0.5)
        if self.how == "filled":
            return x.new_empty(shape).fill_(0.5)
        empty = x.new_empty(shape) if self.how != "torchvision" else torch.empty(shape, dtype=x.dtype)
        drawn = empty.bernoulli_(p=0.5) if self.how == "keyword" else empty.bernoulli_(0.5)
        return drawn.cumsum(0) if self.how == "read" else drawn.div_(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        branch = self.b(x).relu()
        if self.training:
            branch = branch * self.noise(branch)
        elif self.how == "keyword":
            branch = branch * x.new_empty(1).bernoulli_(p=1.0) * x.new_empty(1).bernoulli_().ge(0)
        return self.c(x + branch)


@pytest.mark.slow_cases(but=["timm"])
@pytest.mark.parametrize("how", ["timm", "torchvision", "channels", "filled", "read", "keyword"])
def test_a_second_trace_is_spared_where_train_mode_drops_paths(how: str) -> None:
    model, inputs = Dropped(how), Inputs.of(torch.randn(3, 4))
    differs = how not in ("timm", "torchvision")
    assert differs_in_training(model, inputs, calls_of(model, inputs, train=False)) is differs
    free = 0.0 if how == "channels" else math.log10(720)
    assert discover(model, torch.randn(3, 4)).log10_order == pytest.approx(free)


class Reading(nn.Module):
    """Reads a value of the input; in train mode, when asked to, another one."""

    def __init__(self, *, differs: bool) -> None:
        super().__init__()
        self.a, self.c, self.differs = nn.Linear(4, 6), nn.Linear(6, 2), differs

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.a(x)
        limit = 1e9 if self.differs and self.training else -1e9
        return self.c(hidden.relu() if bool((x > limit).all()) else hidden.cumsum(1))


@pytest.mark.parametrize("differs", [False, True])
def test_a_second_trace_is_spared_where_the_same_values_are_read(differs: bool) -> None:
    model, inputs = Reading(differs=differs), Inputs.of(torch.randn(3, 4))
    assert differs_in_training(model, inputs, calls_of(model, inputs, train=False)) is differs
    assert discover(model, torch.randn(3, 4)).log10_order == pytest.approx(0.0 if differs else math.log10(720))


class Pooled(nn.Module):
    """BatchNorm over the two values of a channel that a batch of two leaves at 16 pixels."""

    def __init__(self) -> None:
        super().__init__()
        blocks = [[nn.Conv2d(3 if i == 0 else 6, 6, 2, 2), nn.BatchNorm2d(6), nn.ReLU()] for i in range(4)]
        self.body = nn.Sequential(*[layer for block in blocks for layer in block])
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


def proof_of(model: nn.Module, inputs: Tensor) -> Proof:
    return Proof(discover(model, inputs, verify=False), model, Inputs.of(inputs))


@pytest.mark.slow
def test_train_mode_is_tried_on_the_smallest_inputs_where_rounding_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    proof = proof_of(Pooled(), torch.randn(2, 3, 16, 16))
    assert proof._training is not None
    assert proof._trials[proof._training].shapes == ((2, 3, 16, 16),)  # at 12 pixels nothing is left to normalise

    def rounding(self: Proof, trial: int, train: bool, shakes: int = 1) -> dict[int, float]:
        return {0: 1e-13 if self._trials[trial].shapes[0][2] >= 32 else 1e-3}

    monkeypatch.setattr(Proof, "_rounding", rounding)
    proof = proof_of(Pooled(), torch.randn(2, 3, 16, 16))
    assert proof._training is not None
    assert proof._trials[proof._training].shapes == ((2, 3, 32, 32),)
    tried = [proof._modes(trial) for trial in range(proof._drawn_on)]
    assert all(modes == ((trial, False), (proof._training, True)) for trial, modes in enumerate(tried))


@pytest.mark.slow
def test_every_draw_is_tried_in_train_mode() -> None:
    class Forgetful(nn.Module):
        """Train mode, and it alone, tells the units apart."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm, self.c = nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.norm(self.a(x)))

    model = Forgetful()
    proof = proof_of(model, torch.randn(8, 4))
    tell_apart = torch.arange(1.0, 4.0)
    model.a.register_forward_hook(lambda module, args, out: tell_apart * out if module.training else out)  # type: ignore
    broken = Proof(proof.symmetry, model, Inputs.of(torch.randn(8, 4)))
    errors = [[p.error(tuple(p.symmetry.groups), draw) for draw in range(4)] for p in (proof, broken)]
    moving = [not torch.equal(draw_of(proof, draw), torch.arange(3)) for draw in range(4)]
    assert max(errors[0]) <= 1e-9
    assert [error > 1e-9 for error in errors[1]] == moving


def draw_of(proof: Proof, draw: int) -> Tensor:
    names = tuple(proof.symmetry.groups)
    return random_alignment(proof.symmetry, generator_for("verify", "draw", draw, *names)).permutations[names[0]].index


class ByShape(nn.Module):
    """Takes a slice for its shape alone, which no graph needs, and pads by nothing before a view."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.a(x)
        ones = torch.ones(hidden[:, -1].shape)
        return self.c(F.pad(hidden, (0, 0)).view(-1, 6)) + ones[:, None]


def test_a_slice_taken_for_its_shape_cuts_no_axis() -> None:
    assert discover(ByShape(), torch.randn(3, 4), verify=False).log10_order == pytest.approx(math.log10(720))


@pytest.mark.slow
def test_a_difference_is_held_against_a_symmetry_only_after_several_shakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """BatchNorm over few values enlarges some last bits by far more than others: one shake may say too little."""
    proof = proof_of(Pooled(), torch.randn(2, 3, 16, 16))
    names = tuple(proof.symmetry.groups)
    monkeypatch.setattr(proof, "_shift", lambda *_, shake=0: {0: 1e-3 if shake == 2 else 0.0})
    monkeypatch.setattr(type(proof._reference(0, False)), "differences", lambda *_: {0: 5e-7})
    proof._shaken.clear()
    assert proof.error(names, 0) == 0.0
    monkeypatch.setattr(proof, "_shift", lambda *_, shake=0: {0: 0.0})
    proof._shaken.clear()
    assert proof.error(names, 0) == 5e-7
