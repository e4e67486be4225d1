"""What a model gives for a batch, and sums over the items of batches.

A batch is what a loader gives: a pair of inputs and labels, a mapping that holds `labels`, or tokens alone. A model
gives a tensor, or a mapping or an object that holds `logits` and, where it computes one, `loss`, as models of
transformers do.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from reticket.dense import dense
from reticket.errors import InputError, ReticketError
from reticket.nested import applied, described, inputs_of

LOGITS = ("logits", "out")  # what transformers and torchvision call them among a model's outputs


@dataclass(frozen=True)
class Tally:
    """A sum over the items of a batch (examples, tokens, pixels), and how many these are; tallies add up.

    Args:
        total: the sum, one number or several that are summed side by side.
        items: how many were summed, one number or as many.

    >>> (Tally(torch.tensor(6.0), 2) + Tally(torch.tensor(3.0), 1)).mean
    tensor(3.)
    """

    total: Tensor
    items: int | Tensor

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.total + other.total, self.items + other.items)

    @property
    def mean(self) -> Tensor:
        """The sum over the number of items; it carries gradients where the sum does."""
        return self.total / self.items

    def kept(self) -> "Tally":
        """Return the tally in float64 on the CPU, without gradients: one that millions can be added to."""
        items = self.items.detach().cpu() if isinstance(self.items, Tensor) else self.items
        return Tally(self.total.detach().cpu().double(), items)


class Prediction:
    """What a model gives for a batch: computed when first asked for, and once.

    Args:
        model: any module.
        batch: what the loader gave.
        run: from model and batch to the output; by default the model takes the first element of a tuple or list, and
            all of anything else.
        dtype: the logits are turned into, where they are floating; None for what they are.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: object,
        run: Callable[[nn.Module, Any], object] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.model, self.batch, self._run, self._dtype = model, batch, run, dtype

    @cached_property
    def output(self) -> object:
        """All that the model gives."""
        return applied(self.model, inputs_of(self.batch)) if self._run is None else self._run(self.model, self.batch)

    @cached_property
    def logits(self) -> Tensor:
        """The model's logits, or whatever its one tensor is.

        Raises:
            InputError: when the output is neither a tensor nor holds `logits`.
        """
        logits = dense(logits_of(self.output, InputError))
        return logits if self._dtype is None or not logits.is_floating_point() else logits.to(self._dtype)

    @cached_property
    def own_loss(self) -> Tensor:
        """The loss that the model computed itself.

        Raises:
            InputError: when it gave none.
        """
        loss = held_in(self.output, "loss")
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise InputError(
                f"{type(self.model).__name__} gives no loss of its own on a batch of {described(self.batch)}; put "
                f"'labels' into the batch, or say how to judge it with loss="
            )
        return loss.reshape(())

    @cached_property
    def targets(self) -> Tensor:
        """The labels of the batch, where the logits are: the last element of a tuple or list, or `labels`.

        Raises:
            InputError: when the batch holds none.
        """
        found = labels_of(self.batch)
        if found is None:
            raise InputError(
                f"an objective needs batches of (inputs, labels), got {described(self.batch)}; give pairs, dicts with "
                f"'labels', or a function of model and batch as loss="
            )
        return found.to(self.logits.device)


def logits_of(output: object, error: type[ReticketError]) -> Tensor:
    """Return a model's logits: its output where that is a tensor, or what it holds as `logits`.

    Args:
        output: of a model.
        error: the class raised.

    Raises:
        ReticketError: of the class `error`, for any other: which part of a tuple are the logits is not guessed.
    """
    if isinstance(output, Tensor):
        return output
    found = next((part for name in LOGITS if isinstance(part := held_in(output, name), Tensor)), None)
    if found is not None:
        return found
    parts = output if isinstance(output, tuple | list) else ()
    inside = output.keys() if isinstance(output, Mapping) else [type(part).__name__ for part in parts]
    of = f" of {', '.join(map(str, inside))}" if inside else ""
    raise error(
        f"the model returns a {type(output).__name__}{of}, but one tensor of logits was expected; wrap it in a module "
        f"whose forward returns the logits alone"
    )


def held_in(output: object, name: str) -> object:
    """Return what a model's output holds under a name, None where it holds no such thing."""
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def labels_of(batch: object) -> Tensor | None:
    """Return the labels of a batch: `labels` of a mapping, the last element of a pair; None where there are none."""
    found = batch.get("labels") if isinstance(batch, Mapping) else None
    if isinstance(batch, tuple | list) and len(batch) >= 2:
        found = batch[-1]
    return found if isinstance(found, Tensor) else None
