"""`evaluate` on batches and by any objective is what the loss and the metric are on all examples at once."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import reticket as rt
from reticket.errors import InputError
from reticket.rng import generator_for

X = torch.randn(30, 6, generator=generator_for("x"))
Y = torch.randint(4, (30,), generator=generator_for("y"))
LOADER = DataLoader(TensorDataset(X, Y), batch_size=8)


def net(outputs: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, outputs))


def test_a_loader_of_pairs_is_a_classification() -> None:
    model = net()
    found = rt.evaluate(model, LOADER)
    assert model.training
    logits = model.eval()(X)
    assert found.loss == pytest.approx(F.cross_entropy(logits, Y).item(), rel=1e-6)
    assert found.metric == pytest.approx(100 * (logits.argmax(1) == Y).float().mean().item())
    assert (found.items, found.objective.name) == (30, "classification")


def test_weights_may_be_a_module_in_a_wrapper() -> None:
    model, other = net(), net()
    with torch.no_grad():
        other[0].weight.mul_(2)  # pyright: ignore[reportIndexIssue, reportCallIssue, reportArgumentType]
    wanted = rt.evaluate(other, LOADER).loss
    assert wanted != rt.evaluate(model, LOADER).loss
    for weights in (other, nn.DataParallel(other), other.state_dict(), nn.DataParallel(other).state_dict()):
        assert rt.evaluate(model, LOADER, weights=weights).loss == wanted
    assert rt.evaluate(nn.DataParallel(model), LOADER, weights=other).loss == wanted


def test_any_objective() -> None:
    model = net(1)
    found = rt.evaluate(model, [(X, X[:, 0])], loss="regression")
    off = (model.eval()(X)[:, 0] - X[:, 0]).square().mean().item()
    assert (found.loss, found.metric) == (pytest.approx(off, rel=1e-6), pytest.approx(math.sqrt(off), rel=1e-6))

    def absolute(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return (model(batch[0])[:, 0] - batch[1]).abs()

    own = rt.evaluate(model, [(X[:10], X[:10, 0]), (X[10:], X[10:, 0])], loss=absolute)
    assert own.loss == pytest.approx((model(X)[:, 0] - X[:, 0]).abs().mean().item(), rel=1e-6)
    assert own.metric is None


def test_a_data_set_by_an_objective_is_what_it_is_by_itself() -> None:
    data, model = rt.load_dataset("digits"), rt.build_model("mlp", in_features=64, hidden=[16], classes=10)
    plain = rt.evaluate(model, data)
    judged = rt.evaluate(model, data, loss="classification")
    assert (judged.loss, judged.metric) == (pytest.approx(plain.loss), plain.accuracy)
    assert plain.metric == plain.accuracy


def test_wrong_calls() -> None:
    with pytest.raises(InputError, match="evaluate got no batches"):
        rt.evaluate(net(), [])
    with pytest.raises(InputError, match="a metric stands beside a loss"):
        rt.evaluate(net(), LOADER, metric="accuracy")
