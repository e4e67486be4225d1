"""What a model reads of its tables and projections: the part that is cut off may not move, whatever stands between.

The oracle is the function itself: a symmetry found on sequences of one length must hold on all that the model takes.
"""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from reticket.symmetry import Symmetry, discover, load_into, random_alignment
from reticket.symmetry.reading import ReadingAnalysis
from reticket.symmetry.terms import Fixed
from tests.models_for_symmetry import orders
from tests.together import Together

SOURCE = Path(__file__).read_text().splitlines()
ROWS, LENGTH, OTHERS = 16, 5, (3, 4, 12, 16)
ORDER = orders(6)  # only the hidden units: the steps of the input do not move, nor do the rows that they meet
Cut = Callable[["Table", int], Tensor]
CUTS: dict[str, Cut] = {
    "plain": lambda t, n: t.rows[:n],
    "clone": lambda t, n: t.rows.clone()[:n],
    "dropout": lambda t, n: F.dropout(t.rows, 0.1, t.training)[:n],
    "scale": lambda t, n: (2 * t.rows)[:n],
    "activation": lambda t, n: torch.tanh(t.rows).narrow(0, 0, n),
    "layer_norm": lambda t, n: t.norm(t.rows)[:n],
    "softmax_of_columns": lambda t, n: t.rows.softmax(0)[:n],
    "standardised_columns": lambda t, n: ((t.rows - t.rows.mean(0)) / t.rows.std(0))[:n],
    "attention": lambda t, n: F.scaled_dot_product_attention(t.rows, t.rows, t.rows)[:n],
    "mlp": lambda t, n: t.down(F.gelu(t.up(t.rows)))[:n],
    "product": lambda t, n: (t.rows @ t.square)[:n],
    "transposed": lambda t, n: t.rows.T.exp()[:, :n].T,
    "batch_axis": lambda t, n: t.rows[None].sin()[:, :n][0],
    "split": lambda t, n: t.rows.relu().split([n, ROWS - n])[0],
    "last_rows": lambda t, n: t.rows.relu()[ROWS - n :],
    "row_by_row": lambda t, n: torch.stack([row.relu() for row in t.rows.unbind()][:n]),
    "joined": lambda t, n: torch.cat([t.first, t.rows]).relu()[:n],
    "sum_of_two": lambda t, n: (t.rows + t.others)[:n],
    "viewed": lambda t, n: t.rows.cos().view(ROWS, 2, 3)[:n].flatten(1),
    "overwritten": lambda t, n: torch.slice_scatter(t.rows, t.others[: ROWS - n], 0, n, ROWS)[:n],
}
# further axes of six units: the columns of a table that is multiplied, the hidden units of an MLP
BETWEEN = {"product": 1, "mlp": 2}


class Table(nn.Module):
    """Adds as many rows of a table as the input has steps."""

    def __init__(self, cut: Cut) -> None:
        super().__init__()
        self.inward, self.outward, self.cut = nn.Linear(4, 6), nn.Linear(6, 2), cut
        self.rows, self.others = nn.Parameter(torch.randn(ROWS, 6)), nn.Parameter(torch.randn(ROWS, 6))
        self.first, self.square = nn.Parameter(torch.randn(1, 6)), nn.Parameter(torch.randn(6, 6))
        self.norm, self.up, self.down = nn.LayerNorm(6), nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.outward(torch.tanh(self.inward(x) + self.cut(self, x.shape[1])))


def example(length: int = LENGTH) -> Tensor:
    return torch.linspace(-2, 2, 2 * length * 4, dtype=torch.float64).reshape(2, length, 4).sin()


def found() -> tuple[Together, Symmetry]:
    """All the models in one, and what the rules alone find for it on sequences of five steps."""
    torch.manual_seed(0)
    model = Together({name: Table(cut) for name, cut in CUTS.items()}).double().eval()
    return model, discover(model, tuple(example() for _ in CUTS), verify=False)


def wrong(model: Together, symmetry: Symmetry) -> set[str]:
    """The models whose function a random draw changes at some other length."""
    alignment = random_alignment(symmetry, torch.Generator().manual_seed(3))
    moved = copy.deepcopy(model)
    load_into(moved, alignment.apply(model.state_dict()))
    names = set[str]()
    for length in (LENGTH, *OTHERS):
        inputs = tuple(example(length) for _ in CUTS)
        with torch.no_grad():
            results = zip(CUTS, model(*inputs), moved(*inputs), strict=True)
            names |= {name for name, want, have in results if float((want - have).abs().max()) > 1e-9}
    return names


@pytest.mark.slow
def test_a_symmetry_found_on_one_length_holds_on_all() -> None:
    model, symmetry = found()
    assert wrong(model, symmetry) == set()
    for i, name in enumerate(CUTS):
        prefix = f"models.{i}."
        sizes = [g.size for g in symmetry.groups.values() if g.name.startswith(prefix) for _ in range(g.copies)]
        allowed = ORDER + orders(6) * BETWEEN.get(name, 0)
        assert orders(*sizes) == pytest.approx(allowed), f"{name}: {sizes}"
        layout = symmetry.layouts[f"{prefix}rows"]
        assert layout[0] == Fixed(ROWS), name
        reason = "a slice cuts this axis" if name == "row_by_row" else "not read for these inputs"
        assert reason in symmetry.reasons[f"{prefix}rows"][0], name


@pytest.mark.slow
def test_the_oracle_sees_a_table_that_an_operator_has_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """If an operator's arguments were read in full, all but the plain cut and its like would be wrong."""

    def everything(self: ReadingAnalysis, graph: fx.Graph) -> frozenset:
        return frozenset().union(*(self._all(node) for node in graph.nodes))

    monkeypatch.setattr(ReadingAnalysis, "keys", everything)
    model, symmetry = found()
    assert wrong(model, symmetry) >= set(CUTS) - {"row_by_row"}


class Registers(nn.Module):
    """Learned tokens that attention sums over, cut off with the rest when the first token is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.registers = nn.Parameter(torch.randn(1, 1, 6)), nn.Parameter(torch.randn(1, 4, 6))
        self.inward, self.outward = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        learned = torch.cat([self.token, self.registers], 1).expand(len(x), -1, -1)
        h = torch.cat([learned, self.inward(x)], 1)
        return self.outward((h + F.scaled_dot_product_attention(h, h, h))[:, 0])


class Gates(nn.Module):
    """Two functions of one projection, each cut to another part of it: between them all of it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.inward, self.outward = nn.Linear(4, 11), nn.Linear(11, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inward(x)
        return self.outward(torch.cat([h.tanh()[..., 5:], h.sigmoid()[..., :5]], -1))


class LastLayer(nn.Module):
    """The last state of two recurrent layers: the units of the first are read by the second alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.outward = nn.LSTM(4, 5, 2, batch_first=True), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.outward(self.layers(x)[1][0][-1])


@pytest.mark.parametrize(
    ("model", "order"), [(Registers, orders(4, 6)), (Gates, orders(5, 6)), (LastLayer, orders(5, 5))]
)
def test_what_is_summed_over_is_read_though_it_is_cut_off(model: type[nn.Module], order: float) -> None:
    torch.manual_seed(0)
    built = model().double().eval()
    symmetry = discover(built, example())
    assert symmetry.log10_order == pytest.approx(order)
    assert symmetry.pinned_by_verify == ()


class Branching(nn.Module):
    """Decides by a size which way to go; past the limit the order of the units counts."""

    def __init__(self, way: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.inward, self.outward, self.way = nn.Linear(4, 6), nn.Linear(6, 2), way

    def forward(self, x: Tensor) -> Tensor:
        return self.outward(self.way(x, self.inward(x)))


def by_statement(x: Tensor, h: Tensor) -> Tensor:
    if x.shape[1] > 512:
        h = h.cumsum(-1)
    return h


def by_expression(x: Tensor, h: Tensor) -> Tensor:
    batch, steps, _ = x.size()
    return h if batch * steps < 1000 else h.cumsum(-1)


def by_remainder(x: Tensor, h: Tensor) -> Tensor:
    if x.size(1) // 100 % 2 == 1:
        return h.cumsum(-1)
    return h


def refused(x: Tensor, h: Tensor) -> Tensor:
    if x.shape[1] > 512:
        raise ValueError("too long")
    assert x.shape[-1] == 4
    return h


@pytest.mark.parametrize("way", [by_statement, by_expression, by_remainder])
def test_a_branch_on_a_size_is_noted(way: Callable[[Tensor, Tensor], Tensor]) -> None:
    (note,) = discover(Branching(way).double(), example()).notes
    line = next(n for n, text in enumerate(SOURCE, 1) if f"def {way.__name__}" in text)
    assert note in {f"holds for inputs whose sizes decide alike at test_symmetry_reading.py:{line + k}" for k in (1, 2)}


def test_a_size_that_is_only_refused_is_not_noted() -> None:
    assert discover(Branching(refused).double(), example()).notes == ()


class Taken(nn.Module):
    """As many rows of a table, or of its product with itself, as the input has steps, padding among them."""

    def __init__(self, *, padded: bool) -> None:
        super().__init__()
        self.rows, self.padded = nn.Parameter(torch.randn(9, 3)), padded

    def forward(self, x: Tensor) -> Tensor:
        if self.padded:
            return (F.pad(x, [0, 0, 1, 2]).mT @ self.rows[: x.shape[1] + 3]).sum(0)
        return (x + (self.rows @ self.rows.mT)[: x.shape[1]].amax(1, keepdim=True)).tanh()


@pytest.mark.slow
@pytest.mark.parametrize(("padded", "free"), [(True, ()), (False, (3,))])
def test_rows_that_only_this_length_leaves_free_are_pinned(padded: bool, free: tuple[int, ...]) -> None:
    """Two rows meet padding, or two are only columns of a product: a longer input takes them out by number."""
    torch.manual_seed(0)
    model = Taken(padded=padded).double()
    example = torch.randn(2, 4 if padded else 7, 3, dtype=torch.float64)
    symmetry = discover(model, example, verify=False)
    assert symmetry.layouts["rows"][0] == Fixed(9)
    assert symmetry.log10_order == pytest.approx(orders(*free))
    assert discover(model, example).pinned_by_verify == ()


class TwoTables(nn.Module):
    """Adds the last rows of two tables one behind the other, as many as the input has steps; the first is a layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.rows, self.last = (nn.Parameter(torch.randn(n, 3)) for n in (5, 6, 5))

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.linear(x, self.before).relu() @ self.last
        return hidden + torch.cat([self.before, self.rows])[-x.shape[1] :]


def test_all_of_a_table_before_a_cut_through_the_next_one_is_taken_by_number() -> None:
    """A longer input reads the first table from its end; four steps read none of it, and a layer leaves it free."""
    symmetry = discover(TwoTables().double(), torch.randn(2, 4, 3, dtype=torch.float64), verify=False)
    assert symmetry.layouts["before"][0] == Fixed(5)
    assert symmetry.layouts["rows"][0] == Fixed(6)


class SummedRows(nn.Module):
    """Multiplies by the sum of as many rows of a table as the input has steps."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.rows[: len(x)].tanh().sum(0)


def test_a_cut_that_goes_with_the_input_is_seen_by_the_proof_alone() -> None:
    """The rules see four rows of which a sum is taken; of three steps three rows are read."""
    model, x = SummedRows(), torch.randn(4, 3)
    claimed = discover(model, x, verify=False)
    assert claimed.log10_order == pytest.approx(orders(4, 4, 4))  # an order of its own for each column
    sym = discover(model, x)
    assert (sym.log10_order, sym.pinned_by_verify) == (0.0, ())
    assert "at other input sizes" in sym.reasons["rows"][0]
