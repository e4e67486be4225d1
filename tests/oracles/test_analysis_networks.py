"""The diversity of networks on batches: that of their logits, whatever the objective."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reticket.analysis import diversity
from reticket.errors import InputError
from reticket.rng import generator_for

X = torch.randn(30, 6, generator=generator_for("x"))
Y = torch.randint(4, (30,), generator=generator_for("y"))
TEXT = torch.randint(5, (4, 7), generator=generator_for("text"))


def net(seed: int, inputs: int = 6, outputs: int = 4) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, outputs))


class Words(nn.Module):
    """Logits of the next token, given as models of transformers do."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.table = nn.Embedding(5, 5)

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Any]:
        logits = self.table(input_ids)
        if labels is None:
            return {"logits": logits}
        return {"logits": logits, "loss": F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())}


def parts(found: object) -> list[float]:
    return [getattr(found, name) for name in ("mean_accuracy", "ensemble_accuracy", "disagreement", "kl", "js")]


@pytest.mark.parametrize("cuts", [(30,), (7, 23), (10, 10, 10)])
def test_networks_are_as_diverse_as_their_logits(cuts: tuple[int, ...]) -> None:
    members = [net(seed) for seed in range(3)]
    before = [member.training for member in members]
    with torch.no_grad():
        logits = torch.stack([member.eval()(X) for member in members])
    for member, mode in zip(members, before, strict=True):
        member.train(mode)
    batches = list(zip(X.split(cuts), Y.split(cuts), strict=True))
    found = diversity([members[0], members[1].state_dict(), nn.DataParallel(members[2])], batches)
    assert parts(found) == pytest.approx(parts(diversity(logits, Y)), rel=1e-5)
    assert found.loss == pytest.approx(sum(F.cross_entropy(one, Y).item() for one in logits) / 3, rel=1e-5)
    assert (found.metric_name, found.metric) == ("accuracy", pytest.approx(found.mean_accuracy))
    assert [member.training for member in members] == before


def test_tokens_are_examples() -> None:
    members = [Words(seed) for seed in range(2)]
    with torch.no_grad():
        logits = torch.stack([member(TEXT)["logits"][:, :-1].flatten(0, 1) for member in members])
    next_tokens = TEXT[:, 1:].flatten()
    found = diversity(members, [{"input_ids": TEXT[:1]}, {"input_ids": TEXT[1:]}], loss="language-model")
    assert parts(found) == pytest.approx(parts(diversity(logits, next_tokens)), rel=1e-5)
    perplexities = [math.exp(F.cross_entropy(one, next_tokens).item()) for one in logits]
    assert (found.metric_name, found.metric) == ("perplexity", pytest.approx(sum(perplexities) / 2, rel=1e-5))


def test_a_loss_of_the_models_own_tells_tokens_apart_but_not_which_are_right() -> None:
    members = [Words(seed) for seed in range(2)]
    with torch.no_grad():
        logits = torch.stack([member(TEXT)["logits"].flatten(0, 1) for member in members])
    found = diversity(members, [{"input_ids": TEXT, "labels": TEXT}])
    assert (found.mean_accuracy, found.ensemble_accuracy) == (None, None)
    assert parts(found)[2:] == pytest.approx(parts(diversity(logits, TEXT.flatten()))[2:], rel=1e-5)


def test_pixels_are_examples() -> None:
    members = [nn.Conv2d(2, 3, 1) for _ in range(2)]
    images = torch.randn(2, 2, 4, 4, generator=generator_for("images"))
    labels = torch.randint(3, (2, 4, 4), generator=generator_for("labels"))
    with torch.no_grad():
        logits = torch.stack([one(images).movedim(1, -1).flatten(0, -2) for one in members])
    found = diversity(members, [(images, labels)], loss="segmentation")
    assert parts(found) == pytest.approx(parts(diversity(logits, labels.flatten())), rel=1e-5)


def test_what_tells_no_classes_apart_is_judged_alone() -> None:
    members, wanted = [net(seed, outputs=1).eval() for seed in range(2)], X[:, 0]
    off = [(member(X)[:, 0] - wanted).square().mean().item() for member in members]
    found = diversity(members, [(X, wanted)], loss="regression")
    assert parts(found) == [None] * 5
    assert found.loss == pytest.approx(sum(off) / 2, rel=1e-5)
    own = diversity(members, [(X, wanted)], loss=lambda model, batch: (model(batch[0])[:, 0] - batch[1]).square())
    assert (own.loss, own.metric, own.metric_name) == (pytest.approx(found.loss, rel=1e-5), None, "")


def test_what_is_no_ensemble_is_said() -> None:
    with pytest.raises(InputError, match="diversity got no networks"):
        diversity([], [(X, Y)])
    with pytest.raises(InputError, match="diversity got no batches"):
        diversity([net(0)], [])
    with pytest.raises(InputError, match=r"members\[0\] and all others are weights alone"):
        diversity([net(0).state_dict()], [(X, Y)])
    with pytest.raises(InputError, match="diversity of logits takes their labels, a tensor, and nothing else"):
        diversity(torch.zeros(2, 3, 4), [(X, Y)])  # pyright: ignore[reportCallIssue, reportArgumentType]
