"""What discovery finds, against freedom derived by hand and against every permutation of tiny networks."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from reticket.errors import VerificationError
from reticket.models import build_model
from reticket.rng import generator_for
from reticket.symmetry import Alignment, discover, identity_alignment, load_into, rule, verify
from reticket.symmetry.graph import Inputs
from reticket.symmetry.rules import RULES, Operator
from reticket.symmetry.rules.operator import RegisteredRule
from reticket.symmetry.terms import Fixed, Layout
from reticket.symmetry.verify import CHANGES, guilty_groups
from reticket.types import Permutation
from tests.models_for_symmetry import CASES, NoRule, ResidualBatchNorm, family, features, image, mlp, orders, solved


@pytest.mark.slow_cases("depthwise", "channel-shuffle", "lstm")
@pytest.mark.parametrize("name", CASES)
def test_freedom_equals_the_hand_derived(name: str) -> None:
    case, (model, symmetry) = CASES[name], solved(name)
    assert symmetry.log10_order == pytest.approx(case.log10_order)
    verify(symmetry, model, case.example())


RESNET50 = [64] + [w for w, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)) for w in [4 * w, *[w] * (2 * blocks)]]
FAMILIES = {
    "mlp": ("mlp", None, [128, 128]),
    "vgg11": ("vgg11", None, [64, 128, 256, 256, 512, 512, 512, 512]),
    "airbench": ("airbench", None, [24, 64, 64, 256, 256, 256, 256]),
    "resnet20": ("resnet20", None, [w for w in (16, 32, 64) for _ in range(4)]),
    "resnet20x4": ("resnet20", 4, [w for w in (64, 128, 256) for _ in range(4)]),
}


@pytest.mark.slow_cases(but=["mlp"])
@pytest.mark.parametrize("name", FAMILIES)
def test_freedom_of_the_model_families(name: str) -> None:
    model_name, width, sizes = FAMILIES[name]
    model, example, symmetry = family(model_name, width)
    assert sorted(g.size for g in symmetry.groups.values()) == sorted(sizes)
    assert symmetry.log10_order == pytest.approx(orders(*sizes))
    assert not symmetry.notes
    verify(symmetry, model, example, draws=2)


@pytest.mark.slow
def test_freedom_of_resnet50() -> None:
    model, example = build_model("resnet50"), torch.randn(2, 3, 64, 64, generator=generator_for("resnet50"))
    symmetry = discover(model, example, verify=False)
    assert sorted(g.size for g in symmetry.groups.values()) == sorted(RESNET50)
    assert not symmetry.notes
    verify(symmetry, model, example, draws=1)


def oracle(model: nn.Module, x: Tensor, widths: tuple[int, ...]) -> int:
    """Count the hidden permutations of a bias-free two-layer network that keep its function, by trying all."""
    (n,) = widths
    kept, reference = 0, model(x)
    weights = model.state_dict()
    for rows, columns in itertools.product(itertools.permutations(range(n)), repeat=2):
        moved = {"0.weight": weights["0.weight"][list(rows)], "2.weight": weights["2.weight"][:, list(columns)]}
        kept += bool(torch.allclose(torch.func.functional_call(model, moved, (x,)), reference, atol=1e-12))
    return kept


def test_claimed_group_is_the_whole_group_of_a_tiny_network() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2, bias=False)).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    symmetry = discover(model, x[:2], verify=False)
    assert 10**symmetry.log10_order == pytest.approx(oracle(model, x, (4,)))


@pytest.mark.parametrize(
    "name", ["concat", "grouped", "channel-shuffle", "pixel-shuffle", "pad-shortcut", "shared-twice"]
)
def test_every_claimed_permutation_of_every_group_keeps_the_function(name: str) -> None:
    (model, symmetry), (twin, _) = solved(name), solved(name)
    model, twin = model.double().eval(), twin.double().eval()
    x = CASES[name].example().double()
    reference = model(x)
    for group in symmetry.groups.values():
        for order in itertools.islice(itertools.permutations(range(group.size)), 130):
            moved = torch.arange(group.size).repeat(*symmetry.parent_sizes(group), 1).reshape(-1, group.size)
            moved[0] = torch.tensor(order)
            index = moved.reshape(*symmetry.parent_sizes(group), group.size)
            alignment = Alignment(
                symmetry, {**identity_alignment(symmetry).permutations, group.name: Permutation(index)}
            )
            load_into(twin, alignment.apply(model.state_dict()))
            torch.testing.assert_close(twin(x), reference, rtol=0, atol=1e-10)


def deaf(op: Operator) -> Layout:
    """A linear layer whose rule forgets that it contracts its input."""
    return (*op.layout("input")[:-1], *op.layout("weight")[:-1])


@pytest.mark.slow
def test_proof_catches_a_rule_broken_on_purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setitem(RULES, "aten.linear", RegisteredRule(deaf, structural=False))
    model = mlp(6, 8, 4)
    broken = discover(model, features(), verify=False)
    for draws in (1, 8):
        with pytest.raises(VerificationError, match="changes the function of Sequential"):
            verify(broken, model, features(), draws=draws)
    repaired = discover(model, features())
    assert repaired.pinned_by_verify
    assert "numerical proof" in repaired.explain(repaired.pinned_by_verify[0])
    verify(repaired, model, features())


def test_proof_names_exactly_the_guilty_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setitem(
        RULES, "aten.tanh", RegisteredRule(lambda op: tuple(op.fresh(n) for n in op.shape), structural=False)
    )
    model = nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 4)
    )
    broken = discover(model, features(), verify=False)
    assert set(broken.groups) == {"0.weight", "2.weight", "4.weight", "4.weight:1"}
    with pytest.raises(VerificationError, match=r"permuting 2\.weight, 4\.weight:1 changes"):
        verify(broken, model, features())


def test_a_forgotten_buffer_shows() -> None:
    """Fresh running statistics are equal for all channels: only a proof that randomises them sees the mistake."""
    model, symmetry = solved("residual-batchnorm")
    for buffer in ("running_mean", "running_var"):
        forgotten = {**symmetry.layouts, f"bn1.{buffer}": (Fixed(7),)}
        wrong = replace(symmetry, layouts=forgotten)
        assert guilty_groups(wrong, model, Inputs.of(image()))[0] == {"conv1.weight": CHANGES}


def test_model_is_left_as_it_was() -> None:
    model = ResidualBatchNorm().train()
    model.fc.eval()
    model(image()).sum().backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    modes = [m.training for m in model.modules()]
    attributes = [sorted(m.__dict__) for m in model.modules()]
    rng, dtype = torch.get_rng_state(), torch.get_default_dtype()
    discover(model, image())
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    torch.testing.assert_close([p.grad for p in model.parameters()], grads, rtol=0, atol=0)
    assert modes == [m.training for m in model.modules()]
    assert attributes == [sorted(m.__dict__) for m in model.modules()]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    torch.testing.assert_close(torch.get_rng_state(), rng)
    assert torch.get_default_dtype() == dtype


def test_inputs_may_be_a_tensor_a_tuple_or_a_dict() -> None:
    model = mlp(6, 8, 4)
    ways = [discover(model, given, verify=False) for given in (features(), (features(),), {"input": features()})]
    assert ways[0] == ways[1] == ways[2]


def test_free_inputs_and_outputs_add_their_groups() -> None:
    torch.manual_seed(0)
    model = mlp(6, 8, 4)
    symmetry = discover(model, features(), free=["input0:1", "output0:1"])
    assert symmetry.log10_order == pytest.approx(orders(6, 8, 4))
    assert not symmetry.pinned_by_verify
    verify(symmetry, model, features())


class PerPosition(nn.Module):
    """Products over the columns of each row: the columns of every row may have an order of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.randn(1, 2, 5, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x + self.shift
        return (y.mT @ y) * torch.tensor([1.0, 2.0])[:, None, None]


def test_free_columns_have_an_order_for_every_pinned_row() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 2, 5, 3)
    symmetry = discover(PerPosition(), x, free=["input0:1", "input0:2"])
    assert symmetry.log10_order == pytest.approx(2 * orders(5))
    assert not symmetry.pinned_by_verify


def test_fixed_by_the_caller() -> None:
    model = mlp(6, 8, 7, 4)
    symmetry = discover(model, features(), fixed=["0.weight:0"])
    assert symmetry.log10_order == pytest.approx(orders(7))
    assert discover(model, features(), fixed=["*.weight"], verify=False).log10_order == 0


def test_a_users_rule_frees_what_was_pinned() -> None:
    torch.manual_seed(0)
    model = NoRule()
    assert "no rule for aten.special_hermite_polynomial_h.n_scalar" in solved("no-rule")[1].explain("fc1.weight")
    try:
        rule("aten.special_hermite_polynomial_h")(lambda op: op.layout("x"))
        symmetry = discover(model, features())
    finally:
        del RULES["aten.special_hermite_polynomial_h"]
    assert symmetry.log10_order == pytest.approx(orders(8, 5))


def test_what_is_not_read_is_pinned() -> None:
    _, symmetry = solved("positions")
    assert "not read for these inputs" in symmetry.explain("table")


def test_a_group_lists_every_place_of_its_units() -> None:
    _, symmetry = solved("conv-mean-linear")
    assert not symmetry.notes
    assert [m.tensor for m in symmetry.groups["conv.weight"].members] == ["conv.weight", "conv.bias", "fc.weight"]


def test_batch_of_one_is_proven_in_eval_mode_and_says_so() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    symmetry = discover(model, features()[:1])
    assert symmetry.log10_order == pytest.approx(orders(8))
    assert any("train mode" in note or "eval mode only" in note for note in symmetry.notes)
