"""Movement: what the steps of a training say of which weights move away from 0."""

from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from reticket.lookup import as_names
from reticket.tickets.by_name import weights_of
from reticket.tickets.gradients import parameters_named


class Movement(Mapping[str, Tensor]):
    """Gather -sum_t w_t g_t over the steps of an optimizer, the scores of the criterion "movement" (Sanh et al. 2020).

    The gradient is the one that stands in `grad` when a step begins: clipped, unscaled and accumulated as it is for the
    step, without weight decay. A value that is positive has moved away from 0.

    Args:
        model: the model that is trained.
        names: of the weights, as `prunable` gives them.
        optimizer: whose steps are watched until the block ends.

    Raises:
        MaskError: when the model has no such parameter.

    >>> net = nn.Linear(1, 1, bias=False)
    >>> sgd = torch.optim.SGD(net.parameters(), lr=0.5)
    >>> with Movement(net, "weight", sgd) as movement:
    ...     _ = net.weight.data.fill_(2.0)
    ...     net(torch.ones(1, 1)).sum().backward()
    ...     sgd.step()
    >>> movement["weight"], net.weight.data
    (tensor([[-2.]]), tensor([[1.5000]]))
    """

    def __init__(self, model: nn.Module, names: Iterable[str], optimizer: Optimizer) -> None:
        self._weights = parameters_named(model, weights_of(model, as_names(names)))
        self._scores = {name: torch.zeros_like(weight.detach()) for name, weight in self._weights.items()}
        self._hook = optimizer.register_step_pre_hook(self._gather)

    @torch.no_grad()
    def _gather(self, *_: Any) -> None:
        for name, weight in self._weights.items():
            if weight.grad is not None:
                score = self._scores[name].to(weight.device)
                self._scores[name] = score.sub_(weight.detach() * weight.grad)

    def __enter__(self) -> "Movement":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._hook.remove()

    def __getitem__(self, name: str) -> Tensor:
        return self._scores[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scores)

    def __len__(self) -> int:
        return len(self._scores)
