"""Packed models: the masked model's outputs and gradients, whatever the format, and one packing for all weights."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

import reticket as rt
from reticket.errors import InputError, MaskError, ModelError
from reticket.packed import FORMATS, PackedConvolution, PackedLinear, compile_sparse, load_packed
from reticket.rng import generator_for
from reticket.tickets import Ticket

NAMES = list(FORMATS)


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(8, 16, 1, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.Flatten(),
            nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16, bias=False),
        ).eval()  # fmt: skip


def images(count: int) -> Tensor:
    return torch.randn(count, 8, 7, 7, generator=generator_for("images", count))


def masked(model: nn.Module, mask: rt.Mask) -> nn.Module:
    model = copy.deepcopy(model)
    rt.load_into(model, mask.apply_to(model.state_dict()))
    return model


def ticket(pattern: str | None = None) -> rt.Mask:
    return rt.prune(network(), 0.25, scope="layer", pattern=pattern)


@pytest.mark.parametrize("samples", [1, 3, 20])
@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_gradients_are_those_of_the_masked_model(name: str, samples: int) -> None:
    mask, x = ticket("4x4"), images(samples)
    formats = [name, "dense"] if name == "blocks" else name
    packed, choices = compile_sparse(network(), mask, x, formats=formats)
    for layer in (one for one in packed.modules() if isinstance(one, PackedLinear)):
        if FORMATS[name].suits(layer.entries):
            layer.use(name)
    plain = masked(network(), mask)
    assert [choice.layer for choice in choices] == ["0", "5", "7"]
    with torch.no_grad():
        torch.testing.assert_close(packed(x), plain(x), rtol=1e-5, atol=1e-5)
    given = [x.clone().requires_grad_() for _ in range(2)]
    for one, own in zip((packed, plain), given, strict=True):
        one(own).square().sum().backward()
    torch.testing.assert_close(given[0].grad, given[1].grad, rtol=1e-4, atol=1e-5)
    for path in ("0", "5", "7"):
        layer, dense = packed.get_submodule(path), plain.get_submodule(path)
        assert isinstance(layer, PackedLinear)
        slope, whole = layer.values.grad, dense.weight.grad
        assert isinstance(whole, Tensor)
        torch.testing.assert_close(slope, layer.entries.values_of(whole), rtol=1e-4, atol=1e-5)
        if layer.bias is not None:
            torch.testing.assert_close(layer.bias.grad, dense.bias.grad, rtol=1e-4, atol=1e-5)


def test_a_mask_with_rows_of_nothing_and_rows_of_all() -> None:
    kept = torch.zeros(6, 10, dtype=torch.bool)
    kept[2], kept[5, 3] = True, True
    weight, x = (torch.randn(n, 10, generator=generator_for("rows", n)) for n in (6, 9))
    for name in (one for one in NAMES if one != "blocks"):
        layer = PackedLinear(weight, kept, None, name)
        given, plain = x.clone().requires_grad_(), x.clone().requires_grad_()
        torch.testing.assert_close(layer(given), F.linear(plain, weight * kept))
        layer(given).square().sum().backward()
        F.linear(plain, weight * kept).square().sum().backward()
        torch.testing.assert_close(given.grad, plain.grad)


def test_steps_of_training_are_those_of_sparse_training() -> None:
    mask, x = ticket(), images(20)
    packed, _ = compile_sparse(network(), mask, x, formats="condensed")
    plain = masked(network(), mask)
    ours = torch.optim.SGD(packed.parameters(), lr=0.01, momentum=0.9)
    theirs = torch.optim.SGD(plain.parameters(), lr=0.01, momentum=0.9)
    with rt.sparse(plain, mask, theirs):
        for _ in range(5):
            for model, optimizer in ((packed, ours), (plain, theirs)):
                optimizer.zero_grad()
                model(x).square().mean().backward()
                optimizer.step()
    linear = packed.get_submodule("5")
    assert isinstance(linear, PackedLinear)
    torch.testing.assert_close(linear.weight, plain.get_parameter("5.weight").detach(), rtol=1e-4, atol=1e-6)
    kernel = getattr(packed.get_submodule("3"), "weight")  # noqa: B009
    torch.testing.assert_close(kernel, plain.get_parameter("3.weight"), rtol=1e-4, atol=1e-6)
    assert not kernel[~mask["3.weight"]].any()


def test_one_packing_serves_other_weights() -> None:
    mask, x = ticket(), images(4)
    packed, _ = compile_sparse(network(1), Ticket.of(network(1), mask), x, formats="csr")
    load_packed(packed, network(2))
    with torch.no_grad():
        torch.testing.assert_close(packed(x), masked(network(2), mask)(x), rtol=1e-5, atol=1e-5)
    layer = packed.get_submodule("0")
    assert isinstance(layer, PackedConvolution)
    assert torch.equal(layer.weight, network(2)[0].weight.detach() * mask["0.weight"])  # type: ignore[index]


def test_entries_of_another_mask_are_refused() -> None:
    """With a constant fan-in all shapes agree."""
    one, other = (rt.prune(network(seed), 0.25, scope="layer", pattern="fan-in") for seed in (1, 2))
    packed, _ = compile_sparse(network(), one, images(2), formats="csr")
    same, _ = compile_sparse(network(3), one, images(2), formats="condensed")
    same.load_state_dict(packed.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(same(images(2)), packed(images(2)), rtol=1e-5, atol=1e-5)
    with pytest.raises(MaskError, match="these weights were packed by another mask, in which other entries are kept"):
        compile_sparse(network(), other, images(2), formats="csr")[0].load_state_dict(packed.state_dict())


def test_tied_weights_are_refused() -> None:
    a, b = nn.Linear(8, 8), nn.Linear(8, 8)
    b.weight = a.weight
    model = nn.Sequential(a, b)
    with pytest.raises(
        MaskError, match=r"'0\.weight' and '1\.weight' are one tensor, which packing would part; leave it"
    ):
        compile_sparse(model, rt.prune(model, 0.5), torch.randn(2, 8))


def test_the_fastest_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = {"dense": 3.0, "csr": 1.0, "condensed": 2.0}
    monkeypatch.setattr(
        "reticket.packed.compiling._seconds",
        lambda product, values, x: taken[next(n for n, one in FORMATS.items() if isinstance(product, one.build))],  # type: ignore[arg-type]
    )
    _, choices = compile_sparse(network(), ticket(), images(4), formats=list(taken))
    assert {choice.format for choice in choices} == {"csr"}
    assert str(choices[1]) == "5: csr, 3.00 times as fast as dense on 4 rows"


def test_a_product_that_is_wrong_is_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        """A product that is quick and wrong."""

        def __init__(self, entries: object) -> None: ...

        def __call__(self, values: Tensor, x: Tensor) -> Tensor:
            return x.new_zeros(len(x), 1)

    monkeypatch.setattr(
        FORMATS, "_members", {"wrong": FORMATS["csr"].__class__("wrong", Wrong, lambda *_: True), **FORMATS}
    )
    with pytest.raises(InputError, match=r"none of the sparse formats wrong suits layer '0'; add dense"):
        compile_sparse(network(), ticket(), images(2), formats="wrong")
    _, choices = compile_sparse(network(), ticket(), images(2), formats=["wrong", "csr"])
    assert {choice.format for choice in choices} == {"csr"}


def test_the_model_is_left_as_it_was() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    compile_sparse(model, ticket(), images(2), formats="csr")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("strides", [(512, 2), (1, 1), (1, 0)])
def test_one_sample_may_lie_in_memory_as_it_likes(name: str, strides: tuple[int, int]) -> None:
    """As a row of a larger batch, a column, or one number for all: its product is one with a vector."""
    layer = nn.Linear(256, 64)
    mask = rt.prune(nn.Sequential(layer), 0.2, pattern="16x16", scope="layer")
    packed, _ = compile_sparse(nn.Sequential(layer), mask, torch.randn(1, 256), formats=name)
    weight = (layer.weight * mask["0.weight"]).detach()
    x = torch.randn(600).as_strided((1, 256), strides)
    with torch.no_grad():
        torch.testing.assert_close(packed(x), F.linear(x, weight, layer.bias), rtol=1e-4, atol=1e-5)
    own, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    packed(own).sum().backward()  # whose gradient is one number for all outputs
    F.linear(other, weight, layer.bias).sum().backward()
    torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-5)


class ByKeyword(nn.Module):
    """Layers that are called by keyword, as torch's may be, one of them in both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(input=self.first(input=self.first(x).relu()).relu())


def test_layers_that_are_called_by_keyword_are_packed_as_any() -> None:
    model, x = ByKeyword().eval(), torch.randn(5, 8)
    mask = rt.prune(model, 0.25, scope="layer")
    packed, choices = compile_sparse(model, mask, x)
    assert [choice.layer for choice in choices] == ["first", "last"]
    torch.testing.assert_close(packed(x), masked(model, mask)(x))


def test_wrong_calls_are_refused() -> None:
    model, x = network(), images(2)
    with pytest.raises(InputError, match=r"unknown sparse format 'cs', did you mean 'csr'"):
        compile_sparse(model, ticket(), x, formats="cs")
    with pytest.raises(InputError, match=r"none of the sparse formats blocks suits layer '0'; add dense"):
        compile_sparse(model, ticket(), x, formats="blocks")
    with pytest.raises(MaskError):
        compile_sparse(nn.Linear(3, 3), ticket(), x)
    with pytest.raises(ModelError, match=r"Sequential cannot run on a batch of NoneType"):
        compile_sparse(model, ticket(), None)
    packed, _ = compile_sparse(model, ticket(), x, formats="csr")
    with pytest.raises(
        MaskError, match=r"the packed model wants '0.weight' of shape \(16, 8, 1, 1\), but there is none"
    ):
        load_packed(packed, {"a": torch.ones(1)})


@pytest.mark.parametrize("name", ["dense", "csr", "condensed", "blocks"])
def test_training_of_this_package_and_values_changed_behind_torchs_count_are_seen(name: str) -> None:
    """An optimiser moves parameters as views of one vector, of which their own counts of changes say nothing."""
    net, data = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)), rt.load_dataset("digits")
    mask = rt.prune(net[0], 0.25, pattern="4x8" if name == "blocks" else None)
    mask = rt.Mask({f"0.{key}": value for key, value in mask.items()})
    x, recipe = data.normalise(data.train_x[:200]), rt.Recipe(2, 64, 0.1)
    packed, choices = compile_sparse(net, mask, x, formats=name)
    assert [one.format for one in choices] == [name]
    packed(x)
    expected = rt.evaluate(net, data, weights=rt.train(net, data, recipe, mask=mask).weights)
    found = rt.evaluate(packed, data, weights=rt.train(packed, data, recipe).weights)
    assert (found.logits - expected.logits).abs().max() < 1e-3
    first = packed.get_submodule("0")
    assert isinstance(first, PackedLinear)
    assert first.bias is not None
    values, bias, same = first.values, first.bias, nn.Sequential(nn.Linear(64, 32), *list(packed.children())[1:])

    def expect(entries: Tensor) -> Tensor:
        whole = torch.zeros(32, 64).masked_scatter_(mask["0.weight"], entries)
        return functional_call(same, {"0.weight": whole, "0.bias": bias}, (x,))

    with torch.no_grad():
        values.data.mul_(2)
        assert torch.allclose(packed(x), expect(values), atol=1e-5)
        for _ in range(10):  # memory that is given back has its address used again
            fresh = torch.randn_like(values)
            assert torch.allclose(functional_call(packed, {"0.values": fresh}, (x,)), expect(fresh), atol=1e-4)
            del fresh
    assert torch.equal(copy.deepcopy(packed)(x), packed(x)), "a copy of one that has computed"
