"""Reductions, order statistics and normalisations."""

import torch
import torch.nn.functional as F

from tests.operators.case import Case, Operator, shaped, table

SYMMETRIC = table(
    {
        "torch.sum": [lambda x: x.sum(-1), lambda x: x.sum(1, keepdim=True) * x, torch.sum],
        "torch.mean": [lambda x: x.mean(-1), lambda x: x.mean((1, 2))],
        "torch.var": lambda x: x.var(-1),
        "torch.std": lambda x: torch.std(x, 1, keepdim=True) + x,
        "torch.var_mean": lambda x: torch.var_mean(x, -1),
        "torch.std_mean": lambda x: torch.std_mean(x, 1),
        "torch.amax": lambda x: torch.amax(x, (1, 2)),
        "torch.amin": lambda x: torch.amin(x, -1),
        "torch.aminmax": lambda x: torch.aminmax(x, dim=-1),
        "torch.max": [lambda x: torch.max(x, -1).values, lambda x: torch.max(x), lambda x: torch.max(x, 1)],
        "torch.min": lambda x: torch.min(x, 1).values,
        "torch.argmax": lambda x: torch.argmax(x, -1),
        "torch.argmin": lambda x: torch.argmin(x, 1),
        "torch.prod": lambda x: torch.prod(x, -1),
        "torch.all": lambda x: torch.all(x > -0.8, -1),
        "torch.any": lambda x: torch.any(x > 1.5, -1),
        "torch.logsumexp": lambda x: torch.logsumexp(x, 1),
        "torch.norm": [lambda x: torch.norm(x, dim=-1), lambda x: torch.norm(x, p=1), lambda x: x.norm(3, 1)],
        "torch.linalg.vector_norm": lambda x: torch.linalg.vector_norm(x, 3, dim=1),
        "torch.linalg.matrix_norm": lambda x: torch.linalg.matrix_norm(x),
        "torch.linalg.norm": lambda x: torch.linalg.norm(x, dim=(1, 2)),
        "torch.median": [lambda x: torch.median(x, -1).values, lambda x: torch.median(x)],
        "torch.nanmedian": lambda x: torch.nanmedian(x, -1).values,
        "torch.nanmean": lambda x: torch.nanmean(x, -1),
        "torch.nansum": lambda x: torch.nansum(x, 1),
        "torch.count_nonzero": lambda x: torch.count_nonzero(x.relu(), -1),
        "torch.mode": lambda x: torch.mode(x, -1).values,
        "torch.quantile": [lambda x: torch.quantile(x, 0.3, dim=-1), lambda x: x - torch.quantile(x, 0.5, 1, True)],
        "torch.nanquantile": lambda x: torch.nanquantile(x, 0.3, dim=-1),
        "torch.kthvalue": [lambda x: torch.kthvalue(x, 2, -1).values, lambda x: x - x.kthvalue(2, 1, True).values],
        "torch.topk": [
            lambda x: torch.topk(x, 2, -1).values,
            lambda x: torch.zeros_like(x).scatter(-1, torch.topk(x, 2, -1).indices, 1.0) * x,
        ],
        "torch.sort": [lambda x: torch.sort(x, -1).values, lambda x: x + torch.sort(x, 1, descending=True).values],
        "torch.msort": lambda x: torch.msort(x.movedim(1, 0)).movedim(0, 1),
        "torch.argsort": lambda x: torch.argsort(x, -1),
        "torch.cumsum": lambda x: torch.cumsum(x, -1),
        "torch.cumprod": lambda x: torch.cumprod(x, 1),
        "torch.cummax": lambda x: torch.cummax(x, -1).values,
        "torch.logcumsumexp": lambda x: torch.logcumsumexp(x, -1),
        "torch.diff": lambda x: torch.diff(x, dim=-1),
        "torch.trapezoid": lambda x: torch.trapezoid(x, dim=-1),
        "torch.cumulative_trapezoid": lambda x: torch.cumulative_trapezoid(x, dim=-1),
        "torch.histc": Case(lambda x: torch.histc(x, 4, -2, 2), batch=False),
        "torch.bucketize": lambda x: torch.bucketize(x, torch.linspace(-2, 2, 9, dtype=x.dtype)),
        "torch.searchsorted": shaped(lambda x, s: torch.searchsorted(s.exp().cumsum(0), 4 * x.exp()), (4,)),
        "F.one_hot": [
            lambda x: F.one_hot(x.argmax(-1), 5) * x,
            lambda x: F.one_hot(torch.bucketize(x, torch.linspace(-1, 1, 3, dtype=x.dtype)), 4),
        ],
        "torch.bincount": Case(
            lambda x: torch.bincount(torch.bucketize(x, torch.linspace(-1, 1, 3, dtype=x.dtype)).flatten(), None, 4),
            batch=False,
        ),
    }
)

NORMALISATION = table(
    {
        "F.softmax": [lambda x: F.softmax(x, -1), lambda x: F.softmax(x, 1)],
        "F.softmin": lambda x: F.softmin(x, -1),
        "F.log_softmax": lambda x: F.log_softmax(x, -1),
        "F.normalize": [lambda x: F.normalize(x, dim=-1), lambda x: F.normalize(x, p=1, dim=1)],
        "F.layer_norm": [
            shaped(lambda x, w, b: F.layer_norm(x, (3,), w, b), (3,), (3,), sizes=(2, 3)),
            shaped(lambda x, w: F.layer_norm(x, (2, 3), w), (2, 3), sizes=(2, 3)),
        ],
        "F.rms_norm": shaped(lambda x, w: F.rms_norm(x, (5,), w), (5,)),
        "F.batch_norm": [
            shaped(lambda x, m, v, w: F.batch_norm(x, m, v * v, w), (3,), (3,), (3,), sizes=(3, 2)),
            lambda x: F.batch_norm(x.mT, None, None, training=True),
        ],
        "F.instance_norm": shaped(lambda x, w: F.instance_norm(x, weight=w), (3,)),
        "F.group_norm": [
            shaped(lambda x, w: F.group_norm(x.mT, 2, w), (4,), sizes=(2, 4)),
            shaped(lambda x, w: F.group_norm(x, 3, w), (3,)),
        ],
        "F.local_response_norm": lambda x: F.local_response_norm(x, 3),
        "torch._weight_norm": shaped(
            lambda x, v, g: F.linear(x, torch._weight_norm(v, g)),  # pyright: ignore
            (2, 3),
            (2, 1),
            sizes=(2, 3),
        ),
        "torch.renorm": lambda x: torch.renorm(x, 2, 1, 1.0),
        "torch.corrcoef": lambda x: torch.corrcoef(x[0]) * x[:, :, :1],
        "torch.cov": lambda x: torch.stack([torch.cov(one) for one in x]),
    }
)

OPERATORS: list[Operator] = [*SYMMETRIC, *NORMALISATION]
