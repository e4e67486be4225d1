"""Objectives against plain computations: losses and metrics by name, functions of the user's, outputs of any form."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reticket.errors import InputError
from reticket.objectives import METRICS, OBJECTIVES, Measure, Objective, Prediction, Tally, objective_for, objective_of


class Given(nn.Module):
    """Gives what it was made with, whatever it is called with, and counts its runs."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output, self.runs = output, 0

    def forward(self, *args: object, **kwargs: object) -> Any:
        self.runs += 1
        return self.output


@dataclass
class Answer:
    logits: Tensor
    loss: Tensor | None = None


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), requires_grad=True)


def classes(*shape: int, of: int, seed: int = 1) -> Tensor:
    return torch.randint(of, shape, generator=torch.Generator().manual_seed(seed))


def numbers(objective: Objective, batches: Sequence[tuple[nn.Module, Any]]) -> tuple[float, float]:
    """Return loss and metric over several batches."""
    losses, metrics = zip(*(objective.tallies(Prediction(*one)) for one in batches), strict=True)
    assert objective.metric is not None
    loss, metric = losses[0] + losses[1], metrics[0] + metrics[1]
    return objective.loss.number(loss.kept()), objective.metric.number(metric.kept())


def test_classification() -> None:
    logits, labels = draw(7, 3), classes(7, of=3)
    batches = [(Given(logits[:2]), (0, labels[:2])), (Given(logits[2:]), (0, labels[2:]))]
    loss, accuracy = numbers(objective_of("classification"), batches)
    assert loss == pytest.approx(F.cross_entropy(logits, labels).item())
    assert accuracy == pytest.approx(100 * float((logits.argmax(1) == labels).float().mean()))
    assert [model.runs for model, _ in batches] == [1, 1]


def test_rows_of_probabilities_are_labels_too() -> None:
    logits, soft = draw(5, 3), draw(5, 3, seed=2).softmax(1).detach()
    loss, metric = objective_of("classification").tallies(Prediction(Given(logits), (0, soft)))
    torch.testing.assert_close(loss.mean, F.cross_entropy(logits, soft))
    assert metric is not None
    assert float(metric.mean) == pytest.approx(100 * float((logits.argmax(1) == soft.argmax(1)).float().mean()))


FORMS: dict[str, Callable[[Tensor, Tensor], tuple[Any, Tensor, Tensor]]] = {  # a batch, what is predicted, from where
    "text": lambda logits, text: (text, text[:, 1:], logits[:, :-1]),
    "text in a tuple": lambda logits, text: ((text,), text[:, 1:], logits[:, :-1]),
    "mapping": lambda logits, text: ({"input_ids": text, "labels": text}, text[:, 1:], logits[:, :-1]),
    "mapping without labels": lambda logits, text: ({"input_ids": text}, text[:, 1:], logits[:, :-1]),
    "pair, each label where it is predicted": lambda logits, text: ((text, text), text, logits),
}


@pytest.mark.parametrize("form", FORMS)
def test_language_model(form: str) -> None:
    logits, text = draw(4, 6, 5), classes(4, 6, of=5)
    batch, wanted, given = FORMS[form](logits, text)
    loss, perplexity = numbers(objective_of("language-model"), [(Given(logits), batch)] * 2)
    expected = F.cross_entropy(given.flatten(0, 1), wanted.flatten()).item()
    assert (loss, perplexity) == (pytest.approx(expected), pytest.approx(math.exp(expected)))


def test_tokens_that_do_not_count() -> None:
    logits, text = draw(2, 6, 5), classes(2, 6, of=5)
    kept = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    masked = objective_of("language-model").tallies(
        Prediction(Given(logits), {"input_ids": text, "attention_mask": kept})
    )[0]
    labelled = objective_of("language-model").tallies(
        Prediction(Given(logits), {"input_ids": text, "labels": text.masked_fill(kept == 0, -100)})
    )[0]
    rows = [F.cross_entropy(logits[0, :3], text[0, 1:4], reduction="sum")]
    rows.append(F.cross_entropy(logits[1, :5], text[1, 1:], reduction="sum"))
    for tally in (masked, labelled):
        assert int(tally.items) == 8
        torch.testing.assert_close(tally.mean, (rows[0] + rows[1]) / 8)


@pytest.mark.parametrize("extra", [(), (1,)])
def test_regression(extra: tuple[int, ...]) -> None:
    found, wanted = draw(6, *extra), draw(6, seed=3).detach()
    loss, root = numbers(objective_of("regression"), [(Given(found), (0, wanted))] * 2)
    expected = (found.reshape(6) - wanted).square().mean().item()
    assert (loss, root) == (pytest.approx(expected), pytest.approx(math.sqrt(expected)))


def test_segmentation() -> None:
    logits, labels = draw(2, 3, 4, 4), classes(2, 4, 4, of=2)  # the third class is seen but not there
    labels[0, 0, 0], labels[1, 0, :2] = 255, -100
    loss, overlap = numbers(objective_of("segmentation"), [(Given({"out": logits}), (0, labels))] * 2)
    counted = (labels >= 0) & (labels < 255)
    expected = F.cross_entropy(logits.movedim(1, -1)[counted], labels[counted])
    assert loss == pytest.approx(expected.item())
    seen, ratios = logits.argmax(1), []
    for number in range(3):
        both = ((seen == number) & (labels == number) & counted).sum()
        either = (((seen == number) | (labels == number)) & counted).sum()
        ratios.append(float(both / either))
    assert overlap == pytest.approx(100 * sum(ratios) / 3)


def test_a_class_that_is_nowhere_does_not_count() -> None:
    logits = torch.tensor([[[[5.0, 0.0]], [[0.0, 5.0]], [[-9.0, -9.0]]]])
    _, overlap = numbers(objective_of("segmentation"), [(Given(logits), (0, torch.tensor([[[0, 1]]])))] * 2)
    assert overlap == 100


@pytest.mark.parametrize("form", [lambda z, loss: {"logits": z, "loss": loss}, Answer])
def test_a_model_with_a_loss_of_its_own(form: Callable[[Tensor, Tensor], Any]) -> None:
    logits, labels = draw(4, 3), classes(4, of=3)
    own = torch.tensor(0.25, requires_grad=True)
    batch = {"x": draw(4, 2), "labels": labels}
    objective = objective_for(batch)
    assert objective.metric is METRICS["accuracy"]
    loss, metric = objective.tallies(Prediction(Given(form(logits, own)), batch))
    assert metric is not None
    assert (loss.mean.item(), loss.items, loss.mean.requires_grad) == (0.25, 4, True)
    assert float(metric.mean) == pytest.approx(100 * float((logits.argmax(1) == labels).float().mean()))


def test_what_a_batch_is_made_for() -> None:
    token, plain = torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2)
    assert objective_for((0, plain)) is OBJECTIVES["classification"]
    assert objective_for({"labels": token}).metric is METRICS["perplexity"]
    assert objective_for({"labels": plain}) is objective_for({"x": plain}) is OBJECTIVES["own"]


def test_own_loss_of_tokens_weighs_batches_by_their_tokens() -> None:
    labels = torch.tensor([[1, 2, -100], [-100, -100, 4]])
    loss, _ = objective_for({"labels": labels}).tallies(
        Prediction(Given({"loss": torch.tensor(2.0)}), {"labels": labels})
    )
    assert (loss.items, float(loss.total)) == (3, 6.0)


def test_functions_of_model_and_batch() -> None:
    x, y = draw(6, 2), draw(6, 2, seed=4).detach()
    model = nn.Linear(2, 2)

    def absolute(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return (model(batch[0]) - batch[1]).abs()

    every, mean = objective_of(absolute), objective_of(lambda m, b: absolute(m, b).mean(), "root-mean-squared-error")
    assert (every.name, every.metric) == ("absolute", None)
    for objective in (every, mean):
        parts = [objective.tallies(Prediction(model, (x[part], y[part])))[0] for part in (slice(2), slice(2, 6))]
        torch.testing.assert_close((parts[0] + parts[1]).mean, (model(x) - y).abs().mean())
    every(model, (x, y)).backward()
    assert model.weight.grad is not None
    assert float(model.weight.grad.abs().sum()) > 0


def test_objectives_named_as_package_module_function() -> None:
    pair = (torch.ones(3, 1), torch.zeros(3, 1))
    assert float(objective_of("tests.oracles.test_objectives:squared")(nn.Identity(), pair)) == 1
    assert objective_of("tests.oracles.test_objectives:MINE") == MINE
    assert objective_of("own", "tests.oracles.test_objectives:squared").metric is not None


def squared(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


MUCH: Any = lambda model, batch: "much"  # noqa: E731
MINE = replace(OBJECTIVES["regression"], name="mine")


def test_kept_tallies_are_wide_and_without_gradients() -> None:
    kept = Tally(draw(3).sum().to(torch.bfloat16), torch.tensor(3)).kept()
    assert (kept.total.dtype, kept.total.requires_grad) == (torch.float64, False)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: objective_of("classificaton"), r"unknown objective 'classificaton', did you mean 'classification'\?"),
        (lambda: objective_of("own", "acuracy"), r"unknown metric 'acuracy', did you mean 'accuracy'\?"),
        (lambda: objective_of(METRICS["perplexity"]), r"'perplexity' is read off a loss and cannot be the loss itself"),
        (lambda: Objective("x", METRICS["perplexity"]), r"'perplexity' is read off a loss"),
        (lambda: objective_of(MUCH)(nn.Identity(), torch.ones(2)), r"'<lambda>' returned a str, but"),
        (lambda: objective_of("own")(Given(torch.ones(2)), (1, 2)), r"Given gives no loss of its own on a batch of"),
        (lambda: objective_of("classification")(Given(draw(2, 3)), draw(2, 3)), r"batches of \(inputs, labels\), got"),
        (
            lambda: objective_of("classification")(Given(draw(2, 3)), (0, classes(3, of=3))),
            r"one label per example, got float32 \(2, 3\) for labels of shape \(3,\)",
        ),
        (lambda: objective_of("language-model")(Given(draw(2, 3)), classes(2, 3, of=3)), r"needs batches of tokens"),
        (lambda: objective_of("regression")(Given(draw(2, 3)), (0, draw(2))), r"labels of shape \(2,\)"),
        (lambda: objective_of("segmentation")(Given(draw(2, 3)), (0, classes(2, of=3))), r"a label per pixel, got"),
        (
            lambda: objective_of("classification")(Given((draw(2, 3),)), (0, classes(2, of=3))),
            r"the model returns a tuple of Tensor, but one tensor of logits was expected",
        ),
    ],
)
def test_what_does_not_fit_is_said(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        call()


def test_a_measure_of_a_function_says_which_way_is_better() -> None:
    assert not Measure.of(squared).higher_is_better
    metric = objective_of("own", squared).metric
    assert metric is not None
    assert metric.higher_is_better
