"""Layers whose weight is packed: linear ones, and convolutions that see one pixel at a time."""

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from reticket.errors import MaskError
from reticket.packed.formats import FORMATS, Product, compressed
from reticket.packed.pattern import KeptEntries

MANY = 8  # samples from which gathering bags of the transposed matrix beats its compressed rows


class Gradients:
    """The gradients of a product with a packed matrix: of its entries alone, and of its inputs.

    Args:
        entries: the places of the kept entries.
    """

    def __init__(self, entries: KeptEntries) -> None:
        self._entries = entries
        self._few, self._many = (FORMATS[name].build(entries.transposed) for name in ("csr", "condensed"))

    def of_inputs(self, values: Tensor, slope: Tensor) -> Tensor:
        """Return the gradient by the inputs.

        Args:
            values: the kept entries.
            slope: gradient by the outputs, one row a sample.
        """
        product = self._few if len(slope) < MANY else self._many
        order = self._entries.order
        return product(torch.index_select(values.detach(), 0, order), slope)  # a quarter of the time of values[order]

    def of_values(self, slope: Tensor, x: Tensor) -> Tensor:
        """Return the gradient by the kept entries, of which no other product of the two is computed where it can be.

        Args:
            slope: gradient by the outputs, one row a sample.
            x: the inputs.
        """
        entries = self._entries
        zeros = compressed(entries, slope.new_zeros(entries.count))
        try:
            return torch.sparse.sampled_addmm(zeros, slope.T.contiguous(), x, beta=0.0).values()
        except RuntimeError:  # a build of torch without it
            return torch.take(slope.T @ x, entries.flat)


class MaskedWeight(nn.Module):
    """What holds a weight that is masked and not packed: a parametrization under which it is 0 where it is pruned.

    Args:
        kept: True for what is kept.
    """

    kept: Tensor

    def __init__(self, kept: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", kept, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with zeros where it is pruned."""
        return weight * self.kept


class _Multiply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, x: Tensor, product: Product, gradients: Gradients) -> Tensor:
        ctx.save_for_backward(values, x)
        ctx.gradients = gradients
        return product(values, x)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (values, x), (slope,) = ctx.saved_tensors, slopes
        by_values = ctx.gradients.of_values(slope, x) if ctx.needs_input_grad[0] else None
        by_inputs = ctx.gradients.of_inputs(values, slope) if ctx.needs_input_grad[1] else None
        return by_values, by_inputs, None, None


class PackedLinear(nn.Module):
    """A linear layer that holds the kept entries of its weight alone, and computes with them in one format.

    Args:
        weight: of shape (outputs, inputs); what is not kept is not looked at.
        kept: of the same shape, True for what is kept.
        bias: of shape (outputs,), or None.
        format: a name of `FORMATS`.

    >>> weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> layer = PackedLinear(weight, torch.tensor([[True, False], [False, True]]), None, "csr")
    >>> layer(torch.tensor([[1.0, 10.0]])).tolist(), layer
    ([[1.0, 40.0]], PackedLinear(2 -> 2, 2 of 4 weights, csr))
    """

    def __init__(self, weight: Tensor, kept: Tensor, bias: Tensor | None, format: str) -> None:  # noqa: A002
        super().__init__()
        self.entries = KeptEntries(kept.reshape(kept.shape[:2]).to(weight.device))
        self.values = nn.Parameter(self.entries.values_of(weight))
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self.use(format)

    def use(self, format: str) -> None:  # noqa: A002
        """Compute in another format from now on.

        Args:
            format: a name of `FORMATS`.

        Raises:
            InputError: when there is none, or this weight cannot have it.
        """
        self._product, self.format = FORMATS.named(format).build(self.entries), format
        self._gradients = Gradients(self.entries)

    def load(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take the kept entries, and the bias, of another initialisation; the places stay.

        Args:
            weight: of the shape that was packed.
            bias: likewise.
        """
        with torch.no_grad():
            self.values.copy_(self.entries.values_of(weight))
            if self.bias is not None and bias is not None:
                self.bias.copy_(bias)

    @property
    def weight(self) -> Tensor:
        """Return the whole weight, with zeros where nothing is kept."""
        return self.entries.dense(self.values)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - some models call torch's layers by this keyword
        """Return the outputs.

        Args:
            input: of shape (..., inputs).
        """
        rows = input.reshape(-1, input.shape[-1])
        if torch.is_grad_enabled():
            y = _Multiply.apply(self.values, rows, self._product, self._gradients)
        else:
            y = self._product(self.values, rows)
        y = y if self.bias is None else y + self.bias
        return y.reshape(*input.shape[:-1], y.shape[-1])

    def get_extra_state(self) -> Tensor:
        """Return what tells the places of the kept entries from others; it stands in the `state_dict`."""
        digest = hashlib.sha256(self.entries.flat.cpu().numpy().tobytes()).digest()
        return torch.tensor(list(digest), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse the entries of another mask, which may be as many.

        Raises:
            MaskError: when these are not of the same places.
        """
        if not torch.equal(state.cpu(), self.get_extra_state()):
            raise MaskError(
                "these weights were packed by another mask, in which other entries are kept; pack by that mask"
            )

    def extra_repr(self) -> str:
        """Return what it is in words."""
        outputs, inputs = self.entries.shape
        return f"{inputs} -> {outputs}, {self.entries.count} of {outputs * inputs} weights, {self.format}"


class PackedConvolution(PackedLinear):
    """A convolution of kernels of one pixel, which is a linear layer of every pixel.

    Args:
        weight: of shape (outputs, inputs, 1, 1).
        kept: of the same shape.
        bias: of shape (outputs,), or None.
        format: a name of `FORMATS`.
        stride: pixels between two that are looked at, of each axis.
    """

    def __init__(
        self,
        weight: Tensor,
        kept: Tensor,
        bias: Tensor | None,
        format: str,  # noqa: A002
        stride: tuple[int, ...],
    ) -> None:
        super().__init__(weight, kept, bias, format)
        self.stride = stride

    @property
    def weight(self) -> Tensor:
        """Return the whole weight, with zeros where nothing is kept."""
        whole = super().weight
        return whole.reshape(*whole.shape, *(1 for _ in self.stride))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as above
        """Return the outputs.

        Args:
            input: of shape (samples, inputs, height, width), or without the first axis.
        """
        pixels = input[(..., *(slice(None, None, step) for step in self.stride))]
        channels = pixels.dim() - len(self.stride) - 1
        return super().forward(pixels.movedim(channels, -1)).movedim(-1, channels)
