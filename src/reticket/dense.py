"""Tensors that are no plain block of numbers: sparse ones (COO, CSR and their kin), quantised ones, nested ones.

None of their axes is ever permuted and none of their values pruned. On the line between two networks sparse tensors are
mixed like any other; quantised ones are those of the nearer end.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def is_dense(tensor: Tensor) -> bool:
    """Whether a tensor is a block of numbers, with one place in memory for every position.

    >>> is_dense(torch.eye(2)), is_dense(torch.eye(2).to_sparse())
    (True, False)
    """
    return tensor.layout is torch.strided and not tensor.is_nested and not tensor.is_quantized


def described(tensor: Tensor) -> str:
    """Return what kind of tensor one is that is not dense.

    >>> described(torch.eye(2).to_sparse())
    'a sparse tensor (torch.sparse_coo)'
    """
    if tensor.is_nested:
        return "a nested tensor"
    return f"a quantised tensor ({tensor.dtype})" if tensor.is_quantized else f"a sparse tensor ({tensor.layout})"


def dense(tensor: Tensor) -> Tensor:
    """Return the values of a tensor that is not nested as a block of numbers."""
    if tensor.is_quantized:
        return tensor.dequantize()
    return tensor if tensor.layout is torch.strided else tensor.to_dense()


def same_stored(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one kind that are not dense store the same numbers in the same places.

    >>> same_stored(torch.eye(2).to_sparse(), torch.eye(2).to_sparse())
    True
    """
    pairs = zip(_stored(a), _stored(b), strict=False)
    return (a.layout, a.shape) == (b.layout, b.shape) and all(
        x.shape == y.shape and torch.equal(x, y) for x, y in pairs
    )


def _stored(tensor: Tensor) -> list[Tensor]:
    if tensor.layout is torch.sparse_coo:
        tensor = tensor.coalesce()
        return [tensor.indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return [tensor]


def mixed(shares: Sequence[tuple[float, Tensor]], like: Tensor) -> Tensor:
    """Return the weighted sum of sparse tensors, in the layout of `like`.

    >>> eye = torch.eye(2).to_sparse()
    >>> mixed([(0.75, eye), (0.25, eye * 0)], like=eye).to_dense()
    tensor([[0.7500, 0.0000],
            [0.0000, 0.7500]])
    """
    first, *others = (tensor.to_sparse().to(like.dtype) * weight for weight, tensor in shares)
    total = sum(others, start=first)
    blocked = like.layout in (torch.sparse_bsr, torch.sparse_bsc)
    return total.coalesce().to_sparse(layout=like.layout, blocksize=like.values().shape[-2:] if blocked else None)
