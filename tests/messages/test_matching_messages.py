"""One clear sentence for each wrong call of match."""

import copy
import functools

import pytest
import torch
from torch import Tensor, nn

from reticket.errors import AlignmentError, InputError, ModelError
from reticket.matching import MatchedAlignment, match, matcher
from reticket.matching.activation import match_activations
from reticket.symmetry import Symmetry, discover, random_alignment

X = torch.ones(6, 4)
VARIED = torch.linspace(-2, 2, 24).sin().reshape(6, 4)


def net(hidden: int = 5) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 3))


@functools.cache
def sym() -> Symmetry:
    return discover(net(), X, verify=False)


def test_unknown_names() -> None:
    with pytest.raises(InputError, match="unknown matcher 'activations', did you mean 'activation'"):
        match(net(), net(), sym(), [X], "activations")
    with pytest.raises(
        InputError,
        match=r"'cost' of .* is 'corelation', did you mean 'correlation'\?; expected one of correlation, covar",
    ):
        match(net(), net(), sym(), [X], cost="corelation")
    with pytest.raises(
        InputError,
        match=r"'stop' of .* is 'stabel', did you mean 'stable'\?; expected one of stable, never",
    ):
        match(net(), net(), sym(), [X], stop="stabel")
    with pytest.raises(InputError, match=r"'unmatched' of .* is 'ignore'; expected one of weight, error, identity"):
        match(net(), net(), sym(), [X], unmatched="ignore")
    with pytest.raises(InputError, match="held_bytes must be None or a number of bytes, at least 1, got 0"):
        match(net(), net(), sym(), [X], held_bytes=0)
    with pytest.raises(InputError, match="positions must be None or a number of positions of an example, at least 1"):
        match(net(), net(), sym(), [X], positions=0)
    with pytest.raises(InputError, match="'activation' has no option 'costs', did you mean 'cost'"):
        match(net(), net(), sym(), [X], costs="correlation")
    with pytest.raises(InputError, match="matcher 'activation' is registered already"):
        matcher("activation")(match_activations)


def test_no_batches() -> None:
    with pytest.raises(AlignmentError, match="matching got no batches: give at least one"):
        match(net(), net(), sym(), iter([]))


def test_models_of_another_architecture() -> None:
    with pytest.raises(AlignmentError, match=r"model_b is not of this symmetry: '0\.weight' has shape \(7, 4\)"):
        match(net(), net(7), sym(), [X])
    with pytest.raises(AlignmentError, match=r"model_a is not of this symmetry: '1\.bias' is in model_a only"):
        match(nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3)), net(), sym(), [X])
    with pytest.raises(AlignmentError, match=r"'0\.bias' is missing in model_a"):
        match(nn.Sequential(nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 3)), net(), sym(), [X])


@pytest.mark.parametrize("batch", [torch.ones(6, 7), ("x",), {"inputs": X}, 3])
def test_a_batch_that_does_not_fit(batch: object) -> None:
    with pytest.raises(
        ModelError, match=r"Sequential cannot run on a batch of .*: give batches like the model's example"
    ):
        match(net(), net(), sym(), [batch])


def test_activations_that_are_not_finite() -> None:
    broken = net()
    nn.init.constant_(broken.get_parameter("0.weight"), float("nan"))
    with pytest.raises(AlignmentError, match="activations at site '0' are not finite"):
        match(net(), broken, sym(), [X])


class Meeting(nn.Module):
    """Two free groups that meet in every activation of one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.columns = nn.Parameter(torch.rand(5, 1)), nn.Parameter(torch.rand(1, 6))

    def forward(self, x: Tensor) -> Tensor:
        return x.sum() + torch.tanh(self.rows * self.columns).sum()


def test_a_group_that_is_no_linear_assignment() -> None:
    meeting = discover(Meeting(), X, verify=False)
    assert set(meeting.groups) == {"rows", "columns"}
    with pytest.raises(AlignmentError, match=r"group 'rows' cannot be matched by activations.*unmatched='identity'"):
        match(Meeting(), Meeting(), meeting, [X], unmatched="error")
    with pytest.raises(AlignmentError, match=r"beside groups that are \(nor can 'columns'\); match it by its weights"):
        match(Meeting(), Meeting(), meeting, [X], unmatched="error")
    left = match(Meeting(), Meeting(), meeting, [X], unmatched="identity")
    assert all(permutation.is_identity for permutation in left.permutations.values())
    assert not left.quality
    model, planted = Meeting(), random_alignment(meeting, 1)
    other = copy.deepcopy(model)
    planted.apply(other)
    found = match(model, other, meeting, [X])
    assert isinstance(found, MatchedAlignment)
    assert (found.permutations, found.by_weight) == (planted.permutations, ("rows", "columns"))


@pytest.mark.parametrize("stop", ["stable", 0.5])
def test_examples_that_tell_nothing(stop: str | float) -> None:
    with pytest.raises(AlignmentError, match=r"^on 1 example no unit of A varies, so nothing tells them apart: give "):
        match(net(), net(), sym(), [X[:1]], stop=stop)
    with pytest.raises(AlignmentError, match=r"^on 6 examples no unit of A varies, so nothing tells them apart: give "):
        match(net(), net(), sym(), [X[:1].expand(6, -1)], stop=stop)


def lively() -> nn.Sequential:
    """Return a network whose units all pass their ReLU."""
    model = net()
    with torch.no_grad():
        model.get_parameter("0.bias").fill_(9)
    return model


def test_units_that_do_not_vary_are_counted() -> None:
    dead = lively()
    with torch.no_grad():
        dead.get_parameter("0.weight")[1], dead.get_parameter("0.bias")[1] = 0.0, -1.0
    found = match(dead, lively(), sym(), [VARIED])
    assert isinstance(found, MatchedAlignment)
    assert found.still == {"0.weight": (1, 0)}
    none = match(lively(), lively(), sym(), [VARIED])
    assert isinstance(none, MatchedAlignment)
    assert none.still == {}
