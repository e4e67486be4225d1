"""Operators that rearrange, join, cut and address tensors."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.operators.case import BATCH, Case, Operator, shaped, table
from tests.operators.pointwise import integers


def heads(x: Tensor) -> Tensor:
    """Units as two heads of three."""
    return x.unflatten(-1, (2, 3)).softmax(-1)


def bins(x: Tensor) -> Tensor:
    """Two rows to add to, which differ."""
    return torch.tensor([[1.0], [2.0]], dtype=x.dtype).repeat(x.shape[0], 1, x.shape[2])


VIEWS = table(
    {
        "Tensor.view": Case(lambda x: x.view(-1, 3, 2, 3).softmax(-1), sizes=(3, 6)),
        "torch.reshape": [
            lambda x: torch.reshape(x, (-1, 15)),
            Case(lambda x: x.reshape(-1, 3, 3, 2).softmax(2).reshape(-1, 3, 6), sizes=(3, 6)),
        ],
        "torch.flatten": lambda x: torch.flatten(x, 1),
        "torch.unflatten": Case(lambda x: heads(x), sizes=(3, 6)),
        "torch.ravel": Case(lambda x: torch.ravel(x[0]), batch=False),
        "torch.permute": lambda x: torch.permute(x, (0, 2, 1)),
        "torch.transpose": lambda x: torch.transpose(x, 1, 2),
        "torch.swapaxes": lambda x: torch.swapaxes(x, 1, 2),
        "torch.movedim": lambda x: torch.movedim(x, 2, 1),
        "torch.adjoint": torch.adjoint,
        "torch.squeeze": lambda x: torch.squeeze(x.unsqueeze(1), 1),
        "torch.unsqueeze": lambda x: torch.unsqueeze(x, 1) * x.unsqueeze(2),
        "Tensor.expand": lambda x: x.sum(-1, keepdim=True).expand(-1, -1, 4),
        "Tensor.expand_as": lambda x: x.sum(-1, keepdim=True).expand_as(x) * x,
        "torch.broadcast_to": lambda x: torch.broadcast_to(x.sum(1, keepdim=True), x.shape) + x,
        "Tensor.repeat": lambda x: x.repeat(1, 1, 2),
        "torch.tile": lambda x: torch.tile(x, (2, 1)),
        "torch.repeat_interleave": lambda x: torch.repeat_interleave(x, 2, 1),
        "torch.atleast_2d": Case(lambda x: torch.atleast_2d(x[0, 0]), batch=False),
        "torch.clone": torch.clone,
        "Tensor.contiguous": lambda x: x.mT.contiguous(),
        "Tensor.to": lambda x: x.to(torch.float64),
        "torch.zeros_like": lambda x: torch.zeros_like(x) + x,
        "torch.arange": lambda x: x * torch.arange(5),
        "torch.rand_like": lambda x: x * torch.rand_like(x),
        "torch.bernoulli": lambda x: torch.bernoulli(x.sigmoid()) * x,
    }
)

JOINS = table(
    {
        "torch.cat": lambda x, y: torch.cat([x, y], 1)[:, :, :],
        "torch.stack": lambda x, y: torch.stack([x, y], 1),
        "torch.hstack": lambda x, y: torch.hstack([x, y]),
        "torch.vstack": Case(lambda x, y: torch.vstack([x[0], y[0]]), operands=2, sizes=(2, 3), batch=False),
        "torch.dstack": lambda x, y: torch.dstack([x, y]),
        "torch.column_stack": Case(
            lambda x, y: torch.column_stack([x[0], y[0]]), operands=2, sizes=(2, 3), batch=False
        ),
    },
    operands=2,
    sizes=(2, 3),
)

CUTS = table(
    {
        "torch.split": [lambda x: torch.split(x, [2, 3], -1)[::-1], lambda x: torch.cat(x.split(2, -1)[::-1], -1)],
        "torch.chunk": lambda x: torch.chunk(x, 2, -1),
        "torch.tensor_split": lambda x: torch.tensor_split(x, 2, -1),
        "torch.hsplit": Case(lambda x: torch.hsplit(x, 2), sizes=(4, 3)),
        "torch.dsplit": Case(lambda x: torch.dsplit(x, 2), sizes=(3, 4)),
        "torch.unbind": lambda x: torch.unbind(x, 1),
        "torch.narrow": lambda x: [torch.narrow(x, -1, 1, 3), x[..., :1], x[..., 4:]],
        "torch.select": lambda x: torch.select(x, 1, 1) * x.sum(1),
        "Tensor.__getitem__": [lambda x: x[:, 1:] * x[:, :1], lambda x: x[..., ::2] + x.sum(-1, keepdim=True)],
        "Tensor.unfold": lambda x: x.unfold(1, 2, 1),
        "torch.flip": lambda x: torch.flip(x, (-1,)),
        "torch.fliplr": torch.fliplr,
        "torch.roll": lambda x: torch.roll(x, 1, -1),
        "torch.rot90": lambda x: torch.rot90(x, 1, (1, 2)),
        "torch.tril": lambda x: torch.tril(x.mT @ x),
        "torch.triu": lambda x: torch.triu(x),
        "torch.as_strided": Case(lambda x: torch.as_strided(x.sin().contiguous(), (BATCH, 15), (15, 1))),
        "F.pad": [
            lambda x: F.pad(x, (0, 0, 1, 0), value=0.5),
            lambda x: F.pad(x, (1, 1), mode="reflect"),
            lambda x: F.pad(x, (1, 1), mode="circular"),
        ],
        "F.pixel_shuffle": Case(lambda x: F.pixel_shuffle(x.mT[..., None], 2), sizes=(3, 8)),
        "F.pixel_unshuffle": Case(lambda x: F.pixel_unshuffle(x.unsqueeze(1), 2), sizes=(4, 6)),
        "F.channel_shuffle": [
            Case(lambda x: F.channel_shuffle(x.mT[..., None], 2), sizes=(3, 6)),
            Case(
                lambda x, w: F.conv2d(F.channel_shuffle(x.mT[..., None], 2), w, groups=2),
                sizes=(2, 6),
                further=((4, 3, 1, 1),),
            ),
        ],
        "F.unfold": lambda x: F.unfold(x.unsqueeze(-1), (2, 1)),
        "F.fold": Case(lambda x: F.fold(x.mT, (4, 1), (2, 1)), sizes=(3, 6)),
        "torch.combinations": Case(lambda x: torch.combinations(x[0].sum(0), 2), batch=False),
    }
)

INDEXED = table(
    {
        "torch.index_select": lambda x: torch.index_select(x, 1, torch.tensor([2, 0])),
        "torch.gather": lambda x: torch.gather(x, 2, integers(x.sum(-1, keepdim=True)) % 5),
        "torch.take": Case(lambda x: torch.take(x[0], torch.tensor([0, 4, 7, 9])), batch=False),
        "torch.take_along_dim": lambda x: torch.take_along_dim(x, integers(x.sum(-1, keepdim=True)) % 5, 2),
        "torch.scatter": [
            lambda x: torch.scatter(x, 2, integers(x.sum(-1, keepdim=True)) % 5, 0.5),
            lambda x: torch.zeros_like(x).scatter(1, x.argmax(1, keepdim=True), 0.5),
        ],
        "torch.scatter_add": lambda x: bins(x).scatter_add(1, integers(x) % 2, x),
        "torch.scatter_reduce": lambda x: bins(x).scatter_reduce(1, integers(x) % 2, x, "amax"),
        "torch.index_add": [
            lambda x: x.index_add(1, torch.tensor([0, 2]), x[:, :2].sin()),
            lambda x: bins(x).index_add(1, integers(x[0].sum(-1)) % 2, x),
        ],
        "torch.index_copy": lambda x: x.index_copy(1, torch.tensor([0, 2]), x[:, :2].sin()),
        "torch.index_fill": lambda x: torch.index_fill(x, 1, torch.tensor([1]), 0.5) * x[:, 1:2],
        "torch.index_put": lambda x: x.index_put((torch.tensor([0, 2]),), x[:2].sin()),
        "torch.masked_scatter": lambda x: x.masked_scatter(x.sum(-1, keepdim=True) > 0, x.sin()),
        "torch.slice_scatter": lambda x: torch.slice_scatter(x, x[..., :2].sin() * x[..., 3:], -1, 3),
        "torch.select_scatter": lambda x: torch.select_scatter(x, x[:, 1].sin(), 1, 1),
        "torch.diagonal_scatter": lambda x: torch.diagonal_scatter(x.mT @ x, x.sum(1), 0, 1, 2),
        "F.grid_sample": [
            lambda x: F.grid_sample(x.unsqueeze(-1), x[:, :2, :4].mT.unsqueeze(1).tanh(), align_corners=False),
            shaped(
                lambda x, g: F.grid_sample(x.unsqueeze(-1), g.tanh().expand(BATCH, 2, 4, 2), align_corners=False),
                (4, 2),
            ),
        ],
    }
)

OPERATORS: list[Operator] = [*VIEWS, *JOINS, *CUTS, *INDEXED]
