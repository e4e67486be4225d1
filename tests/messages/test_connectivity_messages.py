"""One clear sentence for each wrong call of the connectivity functions."""

import pytest
import torch
from torch import Tensor, nn

from reticket.connectivity import BarrierCurve, barrier, interpolate, repair
from reticket.errors import InputError, ModelError


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def state() -> dict[str, Tensor]:
    return dict(net().state_dict())


X, Y = torch.ones(6, 4), torch.zeros(6, dtype=torch.int64)


def test_states_of_different_models() -> None:
    with pytest.raises(ModelError, match=r"'0\.bias' is in a only"):
        interpolate(state(), {k: v for k, v in state().items() if k != "0.bias"}, 0.5)
    with pytest.raises(ModelError, match=r"'0\.weight' has shape \(5, 4\) in a and \(6, 4\) in b"):
        barrier(net(), state(), dict(state(), **{"0.weight": torch.zeros(6, 4)}), [(X, Y)])
    with pytest.raises(ModelError, match="not one of this Sequential"):
        barrier(nn.Sequential(nn.Linear(9, 9)), state(), state(), [(X, Y)])


@pytest.mark.parametrize("alpha", [float("inf"), float("nan")])
def test_alpha_off_the_line(alpha: float) -> None:
    with pytest.raises(InputError, match=r"alpha is a position on the line .* must be a number, got"):
        interpolate(state(), state(), alpha)


@pytest.mark.parametrize("alphas", [(0.0, 0.5), (0.5, 1.0), (0.0, 0.7, 0.3, 1.0), (0.0, 0.5, 0.5, 1.0), (0.0,), ()])
def test_grid_without_both_ends_or_out_of_order(alphas: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="alphas must increase and have 0 and 1 among them"):
        barrier(net(), state(), state(), [(X, Y)], alphas)


def test_curves_of_another_length() -> None:
    with pytest.raises(InputError, match="2 alphas, 3 losses and 2 metrics"):
        BarrierCurve((0.0, 1.0), (1.0, 2.0, 3.0), (1.0, 2.0))


def test_no_batches() -> None:
    with pytest.raises(InputError, match="barrier got no batches"):
        barrier(net(), state(), state(), [])
    with pytest.raises(InputError, match="REPAIR got no batches"):
        repair(net(), (state(), state()), 0.5, iter([]))


def test_batches_that_do_not_fit() -> None:
    with pytest.raises(ModelError, match=r"Sequential cannot run on a batch of float32 \(6, 7\)"):
        repair(net(), (state(), state()), 0.5, [torch.ones(6, 7)])
    with pytest.raises(InputError, match=r"batches of \(inputs, labels\), got float32 \(6, 4\)"):
        barrier(net(), state(), state(), [X])
    with pytest.raises(InputError, match=r"labels of shape \(5,\)"):
        barrier(net(), state(), state(), [(X, Y[:5])])


def test_batchnorm_with_one_value_per_channel() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
    ends = (dict(model.state_dict()), dict(model.state_dict()))
    with pytest.raises(ModelError, match="more than 1 value per channel when training"):
        repair(model, ends, 0.5, [X[:1]])


def test_weights_that_cannot_be_rescaled() -> None:
    model = net()
    nn.utils.parametrizations.weight_norm(model[0])
    ends = (dict(model.state_dict()), dict(model.state_dict()))
    with pytest.raises(ModelError, match=r"layer '0': it has no plain parameter 'weight'"):
        repair(model, ends, 0.5, [X])
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3))
    tied[1].weight = tied[0].weight
    ends = (dict(tied.state_dict()), dict(tied.state_dict()))
    with pytest.raises(ModelError, match=r"'1\.weight': it is tied to '0\.weight'"):
        repair(tied, ends, 0.5, [X])
