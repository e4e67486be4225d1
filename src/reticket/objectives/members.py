"""The objectives and metrics that come with the package."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from reticket.errors import InputError
from reticket.nested import described, examples_in, inputs_of
from reticket.objectives.measures import Measure, Objective
from reticket.objectives.prediction import Prediction, Tally, labels_of
from reticket.objectives.registry import METRICS, OBJECTIVES

IGNORED = -100  # the label of what does not count, as in torch and transformers
VOID = 255  # and that of pixels that belong to no class, as in the data sets of segmentation


def _classified(seen: Prediction) -> tuple[Tensor, Tensor]:
    """Return logits of shape (n, classes), and n labels or as many rows of probabilities."""
    logits, labels = seen.logits, seen.targets
    soft = labels.is_floating_point() and labels.shape == logits.shape
    if logits.dim() != 2 or not (soft or labels.shape == logits.shape[:1]):
        raise InputError(
            f"classification needs a model that gives (examples, classes) and one label per example, got "
            f"{described(logits)} for labels of shape {tuple(labels.shape)}; name another objective with loss="
        )
    return logits, labels.to(logits.dtype) if soft else labels.to(torch.int64)


def _cross_entropy(seen: Prediction) -> Tally:
    logits, labels = _classified(seen)
    return Tally(F.cross_entropy(logits, labels, reduction="sum"), len(labels))


def _accuracy(seen: Prediction) -> Tally:
    logits, labels = _classified(seen)
    labels = labels.argmax(dim=1) if labels.is_floating_point() else labels
    return Tally(100.0 * (logits.argmax(dim=1) == labels).sum(), len(labels))


def _next_tokens(seen: Prediction) -> tuple[Tensor, Tensor]:
    """Return logits of shape (n, tokens), and the n tokens that follow.

    The labels of a pair stand where they are predicted; those of a mapping, and tokens alone, are the text itself.
    """
    batch, labels = seen.batch, labels_of(seen.batch)
    if labels is None:
        labels = batch.get("input_ids") if isinstance(batch, Mapping) else inputs_of(batch)
    logits = seen.logits
    if not isinstance(labels, Tensor) or logits.dim() != 3 or labels.shape != logits.shape[:2]:
        raise InputError(
            f"language-model needs batches of tokens and a model that gives (examples, tokens, vocabulary), got "
            f"{described(logits)} for {described(batch)}"
        )
    if isinstance(batch, Mapping) and "labels" not in batch and "attention_mask" in batch:
        labels = labels.masked_fill(batch["attention_mask"] == 0, IGNORED)
    if not isinstance(batch, tuple | list) or len(batch) == 1:
        logits, labels = logits[:, :-1], labels[:, 1:]
    return logits.flatten(0, 1), labels.to(logits.device, torch.int64).flatten()


def _token_entropy(seen: Prediction) -> Tally:
    logits, tokens = _next_tokens(seen)
    return Tally(F.cross_entropy(logits, tokens, reduction="sum", ignore_index=IGNORED), (tokens != IGNORED).sum())


def _squared_error(seen: Prediction) -> Tally:
    found, wanted = seen.logits, seen.targets
    if found.dim() == wanted.dim() + 1 and found.shape[-1] == 1:
        found = found.squeeze(-1)
    if found.shape != wanted.shape:
        raise InputError(
            f"regression needs a model that gives what the labels are, got {described(found)} for labels of shape "
            f"{tuple(wanted.shape)}"
        )
    return Tally((found - wanted.to(found.dtype)).square().sum(), wanted.numel())


def _pixels(seen: Prediction) -> tuple[Tensor, Tensor]:
    """Return logits of shape (n, classes, ...) and the class of each of their places, `IGNORED` where there is none."""
    logits, labels = seen.logits, seen.targets.to(torch.int64)
    if logits.dim() < 3 or labels.shape != (logits.shape[0], *logits.shape[2:]):
        raise InputError(
            f"segmentation needs a model that gives (examples, classes, height, width) and a label per pixel, got "
            f"{described(logits)} for labels of shape {tuple(labels.shape)}"
        )
    return logits, labels.masked_fill(labels == VOID, IGNORED) if logits.shape[1] <= VOID else labels


def _pixel_entropy(seen: Prediction) -> Tally:
    logits, labels = _pixels(seen)
    return Tally(F.cross_entropy(logits, labels, reduction="sum", ignore_index=IGNORED), (labels != IGNORED).sum())


def _overlap(seen: Prediction) -> Tally:
    """Return for each class in how many pixels it is both seen and there, and in how many it is either."""
    logits, labels = _pixels(seen)
    classes, counted = logits.shape[1], labels != IGNORED
    found, wanted = (F.one_hot(p[counted], classes).bool() for p in (logits.argmax(dim=1), labels))
    return Tally((found & wanted).sum(dim=0), (found | wanted).sum(dim=0))


def _mean_overlap(tally: Tally) -> float:
    return 100.0 * float(tally.mean.nanmean())  # a class that is nowhere has 0 of 0


def _own_loss(seen: Prediction) -> Tally:
    labels = labels_of(seen.batch)
    whole = labels is not None and not labels.is_floating_point()
    items = int((labels != IGNORED).sum()) if labels is not None and whole else examples_in(seen.batch)
    return Tally(seen.own_loss * items, items)


def _right_classes(seen: Prediction) -> tuple[Tensor, Tensor | None]:
    logits, labels = _classified(seen)
    return logits, labels.argmax(dim=1) if labels.is_floating_point() else labels


def _right_tokens(seen: Prediction) -> tuple[Tensor, Tensor | None]:
    logits, tokens = _next_tokens(seen)
    return logits[tokens != IGNORED], tokens[tokens != IGNORED]


def _right_pixels(seen: Prediction) -> tuple[Tensor, Tensor | None]:
    logits, labels = _pixels(seen)
    return logits.movedim(1, -1)[labels != IGNORED], labels[labels != IGNORED]


def _own_classes(seen: Prediction) -> tuple[Tensor, Tensor | None]:
    """Return what a model of transformers tells apart: of tokens, not whether they are those here or the next."""
    if seen.targets.dim() == 1:
        return _right_classes(seen)
    if seen.logits.dim() != 3 or seen.targets.shape != seen.logits.shape[:2]:
        raise InputError(
            f"a model of its own loss needs logits for each example or token to compare classes, got "
            f"{described(seen.logits)} for labels of shape {tuple(seen.targets.shape)}; name an objective with loss="
        )
    return seen.logits[seen.targets != IGNORED], None


for _metric in (
    Measure(
        "accuracy",
        _accuracy,
        unit="%",
        higher_is_better=True,
        description="share of examples whose largest logit is the label's",
    ),
    Measure("perplexity", None, lambda tally: float(tally.mean.exp()), description="e to the mean loss in nats"),
    Measure(
        "root-mean-squared-error",
        None,
        lambda tally: float(tally.mean.sqrt()),
        description="root of the mean loss, in the unit of the labels",
    ),
    Measure(
        "mean-intersection-over-union",
        _overlap,
        _mean_overlap,
        unit="%",
        higher_is_better=True,
        description="mean over classes of the pixels that are both over those that are either",
    ),
):
    METRICS.add(_metric.name, _metric)

for _objective in (
    Objective(
        "classification",
        Measure("cross-entropy", _cross_entropy, unit="nats"),
        METRICS["accuracy"],
        "cross-entropy of one label, or one row of probabilities, per example",
        _right_classes,
    ),
    Objective(
        "language-model",
        Measure("cross-entropy", _token_entropy, unit="nats"),
        METRICS["perplexity"],
        "cross-entropy of the next token, in nats per token",
        _right_tokens,
    ),
    Objective(
        "regression",
        Measure("mean-squared-error", _squared_error),
        METRICS["root-mean-squared-error"],
        "mean squared difference of output and labels",
    ),
    Objective(
        "segmentation",
        Measure("cross-entropy", _pixel_entropy, unit="nats"),
        METRICS["mean-intersection-over-union"],
        "cross-entropy of one label per pixel",
        _right_pixels,
    ),
    Objective(
        "own",
        Measure("loss", _own_loss),
        description="the loss that the model computes itself, as those of transformers do",
        classes=_own_classes,
    ),
):
    OBJECTIVES.add(_objective.name, _objective)
