"""BatchNorm over the whole batch of a model that several processes train, each on its own part."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reticket.errors import TrainingError
from reticket.ranks import Ranks

PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def synchronise(model: nn.Module, ranks: Ranks) -> nn.Module:
    """Return the model with every BatchNorm taking its statistics over all processes; names and parameters stay.

    On a GPU that is `torch.nn.SyncBatchNorm`; torch has none for the CPU, so there it is `SharedBatchNorm`.

    Args:
        model: changed.
        ranks: who trains together.

    Raises:
        TrainingError: for a BatchNorm with a `forward` of its own, which cannot be replaced without changing the model.
    """
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and type(module) not in (*PLAIN, nn.SyncBatchNorm):
            raise TrainingError(
                f"'{name}' is a {type(module).__name__}, a BatchNorm with rules of its own: its statistics over "
                f"{ranks.world} processes are not known; train this model in one process"
            )
    if next(model.parameters()).device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return _replaced(model, ranks)


def _replaced(module: nn.Module, ranks: Ranks) -> nn.Module:
    if type(module) in PLAIN:
        return SharedBatchNorm(module, ranks)  # type: ignore[arg-type]
    for name, child in list(module.named_children()):
        setattr(module, name, _replaced(child, ranks))
    return module


class SharedBatchNorm(nn.Module):
    """A BatchNorm in train mode whose mean and variance are those of the inputs of all processes together.

    With N the values of a channel in all processes, `mean = sum x / N`, `var = sum (x - mean)^2 / N`, both
    differentiated through the sums; the running variance is the unbiased one, as in torch. A process may have no input.

    Args:
        original: its parameters and buffers are taken over, not copied.
        ranks: who trains together.
    """

    def __init__(self, original: _BatchNorm, ranks: Ranks) -> None:
        super().__init__()
        self._parameters, self._buffers = original._parameters, original._buffers
        self._eps, self._momentum, self._ranks = original.eps, original.momentum, ranks
        self._updates = original.track_running_stats

    def forward(self, x: Float[Tensor, "n c ..."]) -> Float[Tensor, "n c ..."]:
        """Return the normalised inputs and bring the running statistics forward."""
        axes = [axis for axis in range(x.dim()) if axis != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        count = x.new_full((1,), x.numel() / max(1, x.shape[1]))
        total = torch.cat([x.sum(axes), count])
        total = _Sum.apply(total, self._ranks)
        n, mean = total[-1].detach(), total[:-1] / total[-1].detach()
        centred = x - mean.view(shape)
        var = _Sum.apply(centred.square().sum(axes), self._ranks) / n
        if self._updates:
            self._update(mean.detach(), var.detach() * n / (n - 1))
        y = centred * torch.rsqrt(var + self._eps).view(shape)
        weight, bias = self._parameters["weight"], self._parameters["bias"]
        return y if weight is None or bias is None else y * weight.view(shape) + bias.view(shape)

    @torch.no_grad()
    def _update(self, mean: Tensor, var: Tensor) -> None:
        seen, running_mean, running_var = (
            self._buffers[name] for name in ("num_batches_tracked", "running_mean", "running_var")
        )
        assert seen is not None
        assert running_mean is not None
        assert running_var is not None
        seen += 1
        share = self._momentum if self._momentum is not None else 1 / seen
        running_mean.lerp_(mean, share)
        running_var.lerp_(var, share)


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of the gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        total = x.clone()
        ranks.all_reduce_(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].clone()
        ctx.ranks.all_reduce_(total)
        return total, None
