"""Which parameters multiply activations, worked out by hand for models that hold every way of doing so."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from reticket.symmetry.multiplied import multiplied


def matrix(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))


class Bare(nn.Module):
    """Parameters of its own: matrices, a sum of a matrix and a product, stacked experts, and what is no matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.position, self.table, self.matrix = matrix(2, 4), matrix(7, 4), matrix(4, 5)
        self.base, self.down, self.up = matrix(5, 5), matrix(5, 2), matrix(2, 5)
        self.experts, self.scale, self.unread = matrix(3, 5, 6), matrix(3, 1, 6), matrix(3, 3)

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        x = (x + self.position + self.table[ids]) @ self.matrix
        x = x @ (self.base + self.down @ self.up).T
        return torch.einsum("bd,edh->ebh", x, self.experts) * self.scale


def test_bare_parameters_are_told_apart_by_what_is_done_with_them() -> None:
    found = multiplied(Bare(), (torch.randn(2, 4), torch.tensor([1, 2])))
    assert found.matrices == ("matrix", "base", "down", "up", "experts")
    assert (found.tables, found.others, found.unclear) == (("table",), ("position", "scale"), ())


class Routed(nn.Module):
    """Experts chosen by index, of which whole matrices are taken, and a table of which rows are."""

    def __init__(self) -> None:
        super().__init__()
        self.experts, self.words, self.turned = matrix(3, 4, 5), matrix(3, 4), matrix(5, 4)
        self.order = nn.Buffer(torch.tensor([4, 0, 3, 1, 2]))

    def forward(self, ids: Tensor) -> Tensor:
        rows = torch.bmm(self.words[ids].unsqueeze(1), self.experts[ids]).squeeze(1)
        return rows @ self.turned[self.order]


def test_rows_that_are_looked_up_are_a_table_and_chosen_matrices_are_not() -> None:
    found = multiplied(Routed(), torch.tensor([2, 0]))
    assert (found.matrices, found.tables) == (("experts", "turned"), ("words",))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.words(ids))


def test_a_table_that_is_the_output_layer_too_is_a_table() -> None:
    found = multiplied(Tied(), torch.tensor([2, 0]))
    assert (found.matrices, len(found.tables)) == ((), 1)


class Latent(nn.Module):
    """Learned tokens ask: they are projected like activations, and are no weights."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.ask, self.tell = matrix(3, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.ask(self.tokens) @ self.tell(x).transpose(-2, -1)
        return scores.softmax(-1) @ x


def test_learned_tokens_are_not_weights() -> None:
    found = multiplied(Latent(), torch.randn(2, 5, 4))
    assert found.matrices == ("ask.weight", "tell.weight")
    assert "tokens" in found.others


class Standardised(nn.Module):
    """A convolution whose weights are standardised and scaled in every forward."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.gain = matrix(4, 3, 3, 3), nn.Parameter(torch.ones(4, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return nn.functional.conv2d(x, centred * self.gain)


def test_what_scales_a_weight_is_no_matrix() -> None:
    found = multiplied(Standardised(), torch.randn(1, 3, 5, 5))
    assert (found.matrices, found.others) == (("weight",), ("gain",))


@pytest.mark.parametrize(
    ("wrap", "matrix"),
    [
        (parametrizations.weight_norm, "parametrizations.weight.original1"),
        (parametrizations.spectral_norm, "parametrizations.weight.original"),
        (parametrizations.orthogonal, "parametrizations.weight.original"),
    ],
)
def test_a_parametrization_is_looked_through(wrap: Callable[[nn.Module], nn.Module], matrix: str) -> None:
    assert multiplied(wrap(nn.Linear(6, 5)), torch.randn(2, 6)).matrices == (matrix,)


@pytest.mark.parametrize(
    ("model", "inputs", "expected"),
    [
        (nn.LSTM(4, 3, proj_size=2), torch.randn(5, 2, 4), ("weight_ih_l0", "weight_hh_l0", "weight_hr_l0")),
        (nn.GRUCell(4, 3), torch.randn(5, 4), ("weight_ih", "weight_hh")),
        (nn.MultiheadAttention(8, 2), (torch.randn(2, 3, 8),) * 3, ("in_proj_weight", "out_proj.weight")),
        (nn.Bilinear(3, 4, 5), (torch.randn(2, 3), torch.randn(2, 4)), ("weight",)),
        (nn.ConvTranspose1d(3, 4, 2), torch.randn(1, 3, 5), ("weight",)),
    ],
)
def test_layers_of_torch(model: nn.Module, inputs: object, expected: tuple[str, ...]) -> None:
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    assert multiplied(model, inputs).matrices == expected
    assert model.training
    torch.testing.assert_close(dict(model.named_parameters()), before, rtol=0, atol=0)


@torch.library.custom_op("reticket_tests::folded", mutates_args=())
def folded(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply, in an operator that nobody has a rule for."""
    return x @ weight


@folded.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight


class Folded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.odd, self.plain = matrix(4, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.plain(folded(x, self.odd))


def test_an_operator_without_a_rule_leaves_it_unclear() -> None:
    found = multiplied(Folded(), torch.randn(2, 4))
    assert (found.matrices, found.unclear) == (("plain.weight",), ("odd",))
