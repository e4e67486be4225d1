"""A weight as the product of two numbers, whose imbalance decides how fast it can change its sign."""

from jaxtyping import Float
from torch import Tensor


def as_product(values: Float[Tensor, "..."], beta: float = 1.0) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Return m > 0 and w with `m w = value` and `m^2 - w^2 = beta`.

    `m = sqrt((sqrt(4 value^2 + beta^2) + beta) / 2)` and `w = value / m`, which has the sign (arXiv 2504.12801).

    Args:
        values: what is to be a product.
        beta: the imbalance, above 0.

    >>> import torch
    >>> m, w = as_product(torch.tensor([-2.0, 0.0, 0.5]), beta=1.0)
    >>> (m * w).tolist(), [round(value, 5) for value in (m**2 - w**2).tolist()]
    ([-2.0, 0.0, 0.5], [1.0, 1.0, 1.0])
    """
    larger = ((4 * values.square() + beta**2).sqrt_() + beta).div_(2).sqrt_()
    return larger, values / larger
